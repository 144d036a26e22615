"""What a server of the OpenAI API answers, read and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reason_envs.llm.engine import FinishReason, Generation

SHOWN = 300
"""Characters of a server's text that an error message quotes."""


class ServerFailure(Exception):
    """One exchange with the server failed.

    Args:
        what: what happened.
        fix: what to do about it.
        quote: what the server said.
        retry: whether the same request may succeed later.
        wait: seconds the server asks to wait before that.
        too_long: whether the prompt did not fit into the model's context.
    """

    def __init__(
        self,
        what: str,
        fix: str,
        *,
        quote: str = "",
        retry: bool = False,
        wait: float = 0.0,
        too_long: bool = False,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix
        self.quote = quote
        self.retry = retry
        self.wait = wait
        self.too_long = too_long

    def describe(self, secret: str) -> str:
        """One message for the user; servers may quote the secret they were sent, so it is blotted out."""
        quote = self.quote.replace(secret, "***")
        said = f": {quote[:SHOWN] + '...' * (len(quote) > SHOWN)!r}" if quote else ""
        return f"{self.what.replace(secret, '***')}{said}. {self.fix}"


@dataclass(frozen=True)
class Usage:
    """Tokens that an answer cost, all of its choices together."""

    prompt_tokens: int
    completion_tokens: int


def decode(content: bytes) -> dict[str, Any]:
    """Parse a response body; anything but a whole JSON object is a failure worth a retry."""
    try:
        body = json.loads(content)
    except ValueError:
        raise _malformed("is no complete JSON", content) from None
    if not isinstance(body, dict):
        raise _malformed("is no JSON object", content)
    return body


def read_usage(body: Mapping[str, Any]) -> Usage:
    """Return the token counts; a server that gives none cannot be accounted for."""
    if "choices" not in body:
        raise _malformed("is no completion", json.dumps(body).encode())
    match body.get("usage"):
        case {"prompt_tokens": int(prompt), "completion_tokens": int(completion)}:
            return Usage(prompt, completion)
    raise ServerFailure(
        "the answer has no token counts (`usage`), so what it cost is unknown", "Use a server that reports usage."
    )


def read_generations(body: Mapping[str, Any], usage: Usage, *, n: int, log_probs: bool) -> list[Generation]:
    """Turn the choices into at most ``n`` generations.

    Token ids are taken where the server gives them (vLLM's ``return_token_ids``). Else a sample's tokens are those of
    the usage: exact for one choice, else shared by the number of log-probs or characters, so that the sum is exact.
    """
    try:
        return _generations(body, usage, log_probs)[:n]
    except (AttributeError, KeyError, TypeError):  # a field is missing or of another type
        raise _malformed("is no completion", json.dumps(body).encode()) from None


def _generations(body: Mapping[str, Any], usage: Usage, log_probs: bool) -> list[Generation]:
    if not body["choices"]:
        raise _malformed("has no choices", json.dumps(body).encode())
    choices = sorted(body["choices"], key=lambda choice: choice["index"])
    texts = [_text(choice) for choice in choices]
    scores = [_log_probs(choice) if log_probs else None for choice in choices]
    lengths = [len(text if score is None else score) for text, score in zip(texts, scores, strict=True)]
    counts = share(usage.completion_tokens, lengths)
    return [
        Generation(
            text=text,
            token_ids=choice.get("token_ids") or [],
            log_probs=score,
            finish_reason=_finish_reason(choice),
            policy_version=0,
            prompt_ids=choice.get("prompt_token_ids") or body.get("prompt_token_ids") or [],
            usage_tokens=None if choice.get("token_ids") else count,
            stop_string=_stop_string(choice),
        )
        for choice, text, score, count in zip(choices, texts, scores, counts, strict=True)
    ]


def share(total: int, weights: Sequence[int]) -> list[int]:
    """Split a total by weight into integers that sum to it (largest remainders get the rest)."""
    if not sum(weights):
        weights = [1] * len(weights)
    parts = [total * weight // sum(weights) for weight in weights]
    remainders = [total * weight % sum(weights) for weight in weights]
    order = sorted(range(len(weights)), key=lambda i: -remainders[i])
    for i in order[: total - sum(parts)]:
        parts[i] += 1
    return parts


def _text(choice: Mapping[str, Any]) -> str:
    """The text of a chat or a plain completion; a model cut while it still reasons has none."""
    return (choice["message"]["content"] if "message" in choice else choice["text"]) or ""


def _log_probs(choice: Mapping[str, Any]) -> list[float]:
    given = choice.get("logprobs") or {}
    values = [token["logprob"] for token in given.get("content") or []] or given.get("token_logprobs")
    tokens = choice.get("token_ids")
    if not values or (tokens and len(tokens) != len(values)):
        raise ServerFailure(
            "log-probabilities were asked for (engine.request_log_probs=true), but the answer does not have one for "
            "each token: this server or model does not give them",
            "Set engine.request_log_probs=false.",
        )
    return values


def _finish_reason(choice: Mapping[str, Any]) -> FinishReason:
    reason = choice.get("finish_reason")
    if reason not in ("stop", "length"):
        raise ServerFailure(
            f"a sample ended with finish_reason={reason!r}, which must be 'stop' or 'length': the server cut it off (a "
            "content filter, an abort)",
            "Look at the server's log, or use another prompt or model.",
        )
    return reason


def _stop_string(choice: Mapping[str, Any]) -> str | None:
    """The stop string that vLLM names; it gives the number of a stop token, and other servers give nothing."""
    reason = choice.get("stop_reason")
    return reason if isinstance(reason, str) else None


def _malformed(what: str, content: bytes) -> ServerFailure:
    return ServerFailure(
        f"the answer {what}",
        "Check that engine.base_url is an OpenAI-compatible API (it usually ends in /v1) and that nothing between cuts "
        "its answers.",
        quote=content.decode(errors="replace") or "(empty)",
        retry=True,
    )
