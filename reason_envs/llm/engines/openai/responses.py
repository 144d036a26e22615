"""Parsing and validation of responses of OpenAI-compatible servers."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from reason_envs.llm.engine import FinishReason, Generation

T = TypeVar("T")
MAX_TOKENS = 10**9
"""Maximum number of tokens of a response that is believed."""
MAX_QUOTE = 300
"""Maximum number of characters of a server's text in an error message."""


@dataclass(eq=False)
class ServerFailure(Exception):
    """One request to the server failed."""

    cause: str
    """Description of what happened."""
    fix: str
    """Advice for the user."""
    quote: str = ""
    """Text of the server."""
    retry: bool = False
    """Whether the same request may succeed later."""
    wait: float = 0.0
    """Seconds that the server asks to wait before a retry."""
    too_long: bool = False
    """Whether the prompt exceeds the model's context length."""

    def describe(self, secret: str) -> str:
        """Return the message for the user. Servers may quote the secret that they received, so it is masked."""
        quote = self.quote.replace(secret, "***")
        quoted = f": {quote[:MAX_QUOTE] + '...' * (len(quote) > MAX_QUOTE)!r}" if quote else ""
        return f"{self.cause.replace(secret, '***')}{quoted}. {self.fix}"


def decode(content: bytes, read: Callable[[dict[str, Any]], T]) -> T:
    """Parse the body of a response, and read it. If that is not possible, it is a failure that can be retried."""
    cause = "is not complete JSON"
    try:
        body = json.loads(content)
        cause = "is not a completion"
        return read(body)
    except (AttributeError, KeyError, TypeError, ValueError):  # a field is missing or of another type
        raise malformed(cause, content) from None
    except RecursionError:
        raise malformed("is nested too deeply", b"") from None


def read_usage(body: Mapping[str, Any]) -> tuple[int, int]:
    """Return the number of prompt tokens and of sampled tokens of a response, all choices together.

    Raises:
        ServerFailure: the response has no token counts.
    """
    if "choices" not in body:
        raise malformed("is not a completion", json.dumps(body).encode())
    match body.get("usage"):
        case {"prompt_tokens": int(prompt), "completion_tokens": int(completion)}:
            if not (0 <= prompt <= MAX_TOKENS and 0 <= completion <= MAX_TOKENS):
                raise malformed("has impossible token counts", json.dumps(body).encode())
            return prompt, completion
    raise ServerFailure(
        "the response has no token counts (`usage`), so its cost is unknown", "Use a server that reports usage."
    )


def read_generations(body: Mapping[str, Any], usage: tuple[int, int], *, n: int, log_probs: bool) -> list[Generation]:
    """Convert the choices of a response to at most ``n`` generations.

    Token ids are taken from the response if the server returns them (``return_token_ids`` of vLLM). Otherwise the
    number of tokens of a sample comes from the usage. Several choices share the total in proportion to their
    log-probabilities or characters, so that the sum is exact.
    """
    if not body["choices"]:
        raise malformed("has no choices", json.dumps(body).encode())
    choices = sorted(body["choices"], key=lambda choice: choice["index"])
    texts = [_text(choice) for choice in choices]
    scores = [_log_probs(choice) if log_probs else None for choice in choices]
    lengths = [len(text if score is None else score) for text, score in zip(texts, scores, strict=True)]
    prompt_tokens, completion_tokens = usage
    counts = share(completion_tokens, lengths)
    return [
        Generation(
            text=text,
            token_ids=_token_ids(choice.get("token_ids")),
            log_probs=score,
            finish_reason=_finish_reason(choice),
            policy_version=0,
            prompt_ids=_token_ids(choice.get("prompt_token_ids") or body.get("prompt_token_ids")),
            usage_tokens=None if choice.get("token_ids") else count,
            usage_prompt_tokens=prompt_tokens,
            # Only vLLM reports it. For a stop token it reports a number.
            stop_string=reason if isinstance(reason := choice.get("stop_reason"), str) else None,
        )
        for choice, text, score, count in zip(choices, texts, scores, counts, strict=True)
    ][:n]


def share(total: int, weights: Sequence[int]) -> list[int]:
    """Split a total in proportion to weights into integers with the same sum (largest remainder method)."""
    if not sum(weights):
        weights = [1] * len(weights)
    parts = [total * weight // sum(weights) for weight in weights]
    remainders = [total * weight % sum(weights) for weight in weights]
    order = sorted(range(len(weights)), key=lambda i: -remainders[i])
    for i in order[: total - sum(parts)]:
        parts[i] += 1
    return parts


def _text(choice: Mapping[str, Any]) -> str:
    """Return the text of a chat or plain completion. It is empty if the model was cut off during its reasoning."""
    text = (choice["message"]["content"] if "message" in choice else choice["text"]) or ""
    if isinstance(text, list):  # parts, of which some hold the model's reasoning
        text = "".join(part["text"] for part in text if part["type"] == "text")
    if not isinstance(text, str):
        raise TypeError("the text of a choice is not a string")
    return text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates break tokenizers


def _token_ids(value: Any) -> list[int]:
    if not all(type(token) is int and 0 <= token <= MAX_TOKENS for token in value or []):
        raise TypeError("token ids are not numbers")
    return list(value or [])


def _log_probs(choice: Mapping[str, Any]) -> list[float]:
    given = choice.get("logprobs") or {}
    values = [token["logprob"] for token in given.get("content") or []] or given.get("token_logprobs")
    tokens = choice.get("token_ids")
    if not values or (tokens and len(tokens) != len(values)):
        raise ServerFailure(
            "log-probabilities were requested (request_log_probs=true), but the response does not have one per token: "
            "this server or model does not return them",
            "Set request_log_probs=false.",
        )
    if not all(isinstance(value, float | int) and -math.inf < value < 1 for value in values):
        raise TypeError("a log-probability is not a number")
    return [float(value) for value in values]


def _finish_reason(choice: Mapping[str, Any]) -> FinishReason:
    reason = choice.get("finish_reason")
    if reason not in ("stop", "length"):
        raise ServerFailure(
            f"a sample ended with finish_reason={reason!r:.80} instead of 'stop' or 'length': the server cut it off "
            "(content filter, abort)",
            "Check the server's log, or use another prompt or model.",
        )
    return reason


def malformed(cause: str, content: bytes) -> ServerFailure:
    """Return the failure for a response that breaks the protocol."""
    return ServerFailure(
        f"the response {cause}",
        "Check that base_url is the address of an OpenAI-compatible API (it usually ends in /v1) and that no proxy "
        "cuts off responses.",
        quote=content.decode(errors="replace") or "(empty)",
        retry=True,
    )
