"""A module that verifiers can load: our tasks, our environment, and a chat loop inside the process of the test."""

import httpx
import verifiers.v1 as vf

from reason_envs.adapters.verifiers import EpisodeEnv, Episodes

__all__ = ["EpisodeEnv", "Episodes", "InProcess"]


class InProcess(vf.Harness[vf.HarnessConfig]):
    """Sends the whole conversation to the model in each turn."""

    APPENDS_SYSTEM_PROMPT = SUPPORTS_RESUME = True
    NEEDS_CONTAINER = EXECUTES_CODE = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data):
        system, prompt = self.resolve_prompt(data)
        messages = [{"role": "system", "content": system}] if system else []
        messages += [{"role": m.role, "content": m.content} for m in prompt]
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.post(
                f"{endpoint}/chat/completions",
                json={"model": ctx.model, "messages": messages},
                headers={"Authorization": f"Bearer {secret}"},
            )
        return vf.ProgramResult(exit_code=0 if answer.is_success else 1, stdout="", stderr=answer.text)
