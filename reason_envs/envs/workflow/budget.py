"""What a workflow has used, and the end of it when it has used too much."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import monotonic

from reason_envs.core import derive_seed
from reason_envs.envs.workflow.config import WorkflowConfig
from reason_envs.envs.workflow.executors import Executor
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.chat import encode_prompt
from reason_envs.llm.engine import GenerationRequest, Sampling


class EndedError(Exception):
    """A workflow is over, whatever its program makes of it."""

    def __init__(self, verdict: str, error: str) -> None:
        super().__init__(error)
        self.verdict, self.error = verdict, error


@dataclass
class Budget:
    """Asks executors for one workflow, and counts."""

    config: WorkflowConfig
    """Has the limits."""
    seed: int
    """The episode's; keys the executors' draws."""
    calls: int = 0
    """Of executors."""
    generated_tokens: int = 0
    """By executors."""
    prompt_tokens: int = 0
    """Read by executors."""
    cost: float = 0.0
    """By the executors' prices."""
    _started: float = field(default_factory=monotonic)

    async def ask(self, executor: Executor, prompt: str, address: tuple[int | str, ...]) -> str:
        """Return an executor's answer.

        Args:
            executor: who is asked.
            prompt: the message.
            address: of the call within the workflow; keys the draw.

        Raises:
            EndedError: the executor failed, the prompt is too long, or the budget is spent.
        """
        config = self.config
        if self.calls >= config.max_calls:
            raise EndedError("calls", f"The workflow wants more than max_calls={config.max_calls} calls.")
        room = config.max_executor_tokens - self.generated_tokens
        if room <= 0:
            raise EndedError("tokens", f"The workflow used max_executor_tokens={config.max_executor_tokens}.")
        self.calls += 1
        old = executor.sampling
        sampling = Sampling(min(old.max_tokens, room), old.temperature, old.top_p, old.top_k, old.stop)
        messages = [{"role": "user", "content": prompt}]
        _check_length(executor, prompt, sampling.max_tokens)
        request = GenerationRequest(messages, derive_seed(self.seed, "executor", *address), sampling)
        try:
            async with asyncio.timeout(self.seconds_left()):
                (generation,) = await executor.engine.generate(request)
        except TimeoutError:
            raise self._late() from None
        except ReasonEnvsError as error:
            raise EndedError("executor_error", str(error)) from None
        prompt_tokens = len(generation.prompt_ids)
        self.generated_tokens += generation.generated_tokens
        self.prompt_tokens += prompt_tokens
        self.cost += executor.cost(prompt_tokens, generation.generated_tokens)
        return clean(generation.text)

    def seconds_left(self) -> float:
        """Return how long the workflow may still take; ends it where that is nothing."""
        left = self._started + self.config.execution_timeout - monotonic()
        if left <= 0:
            raise self._late()
        return left

    def _late(self) -> EndedError:
        return EndedError("timeout", f"The workflow took more than execution_timeout={self.config.execution_timeout:g}")


def clean(text: str) -> str:
    """Replace what is no Unicode text (lone surrogates), which programs and sandboxes do not take."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _check_length(executor: Executor, prompt: str, max_tokens: int) -> None:
    """Refuse a prompt that an engine in this process has no room for: it would fail the whole batch."""
    positions, tokenizer = executor.engine.context_length, executor.engine.tokenizer
    if positions is None or tokenizer is None:
        return
    length = len(encode_prompt(tokenizer, [{"role": "user", "content": prompt}]))
    if length + max_tokens > positions:
        raise EndedError(
            "prompt_too_long",
            f"An operator's prompt has {length} tokens; with {max_tokens} for the answer the executor's {positions} "
            "positions are too few.",
        )
