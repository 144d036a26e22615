"""What a language model looks like from inside an environment: the engine protocol and its request types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from reason_envs.core import Message
from reason_envs.errors import ReasonEnvsError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FinishReason = Literal["stop", "length", "exhausted"]
"""Why a sample ended: by itself or at a stop string, at ``max_tokens``, or because a record holds no more."""


BASE_MODEL = "<base>"
"""As a request's adapter: the engine's full weights, without any adapter."""


class ContextLengthError(ReasonEnvsError):
    """A prompt leaves no room for its response in the model's context."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn."""

    max_tokens: int = 128
    """Most tokens of a completion, the end-of-sequence token included."""
    temperature: float = 1.0
    """Divides the logits; 0 takes the most likely token."""
    top_p: float = 1.0
    """Keep the smallest set of tokens with this probability mass; 1 keeps all."""
    top_k: int = 0
    """Keep this many most likely tokens; 0 keeps all."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion; they are cut from ``text`` but their tokens stay."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn from."""
        for name, holds, rule in (
            ("max_tokens", self.max_tokens >= 1, "be at least 1"),
            ("temperature", self.temperature >= 0, "not be negative (0 is greedy)"),
            ("top_p", 0 < self.top_p <= 1, "lie in (0, 1] (1 keeps all)"),
            ("top_k", self.top_k >= 0, "not be negative (0 keeps all)"),
            ("stop", isinstance(self.stop, tuple) and all(self.stop), "be a tuple of strings that are not empty"),
        ):
            if not holds:
                raise ReasonEnvsError(f"Sampling {name}={getattr(self, name)!r} must {rule}.")


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt and how to continue it."""

    prompt: list[Message] | list[int]
    """Chat messages (the engine applies the model's template) or token ids (taken as they are)."""
    seed: int
    """Keys every random draw of this request: sample ``i`` at position ``t`` depends on ``(seed, i, t)`` alone."""
    sampling: Sampling = field(default_factory=Sampling)
    n: int = 1
    """Number of samples."""
    adapter: str | None = None
    """Name of a loaded adapter, or ``BASE_MODEL``; ``None`` uses the engine's current weights."""
    keep_prefix: bool = False
    """Ask for ``Generation.prefix``, which requests that continue the sample can give back."""
    prefix: Any = None
    """The ``prefix`` of an earlier generation of this engine whose prompt and tokens this prompt (token ids) begins
    with: they need not be read again. It changes nothing but time, and rounding; engines with a cache of their own, and
    those without, ignore it."""

    def __post_init__(self) -> None:
        """Refuse a number of samples below 1."""
        if self.n < 1:
            raise ReasonEnvsError(f"GenerationRequest n={self.n} must be at least 1.")


@dataclass(frozen=True)
class Generation:
    """One sampled completion."""

    text: str
    token_ids: list[int]
    """Every sampled token, the end-of-sequence token included where one was drawn."""
    log_probs: list[float] | None
    """Of each sampled token, at the sampling temperature, uncut by top-p and top-k."""
    finish_reason: FinishReason
    policy_version: int
    """Version of the weights that sampled it (see ``load_weights``)."""
    prompt_ids: list[int]
    usage_tokens: int | None = None
    """Tokens that a server counted for this sample without saying which; ``None``: ``token_ids`` are all of them."""
    stop_string: str | None = None
    """The stop string that ended it; ``None`` where it ended by itself or at ``max_tokens``."""
    prefix: Any = field(default=None, compare=False, repr=False)
    """What ``keep_prefix`` asked for; ``None`` where the engine keeps nothing."""

    @property
    def generated_tokens(self) -> int:
        """Tokens that this sample cost."""
        return len(self.token_ids) if self.usage_tokens is None else self.usage_tokens


@runtime_checkable
class Engine(Protocol):
    """A language model that answers awaited requests, batching those that wait together."""

    capabilities: frozenset[str]
    """Among ``log_probs``, ``hidden_states``, ``adapters``, ``trainable``, ``other_program`` (its log-probabilities
    differ from a learner's by rounding), and ``finite`` (it answers only the seeds for which its ``holds`` is true)."""

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Return ``request.n`` samples."""
        ...

    def close(self) -> None:
        """Free the model; closing again does nothing."""
        ...


@runtime_checkable
class TrainableEngine(Engine, Protocol):
    """An engine whose weights a learner can replace."""

    tokenizer: Any
    dtype: torch.dtype
    """Of the weights that generate."""

    def load_weights(self, source: Mapping[str, Tensor] | Path, version: int) -> None:
        """Replace the weights and set the version that generations report.

        Args:
            source: full weights (adapters merged), or the folder of a LoRA adapter on top of the full weights, which
                only engines whose capabilities include ``adapters`` take.
            version: of the policy that they belong to.
        """
        ...

    async def score(self, token_ids: list[int], prompt_length: int, temperature: float = 1.0) -> list[float]:
        """Return the log-probability of every token after the prompt, under the engine's weights."""
        ...

    def weights_digest(self) -> str | None:
        """Hash the weights, or the adapter, that were loaded last; ``None`` where the engine cannot see them."""
        ...


def closed_error(engine: Engine) -> ReasonEnvsError:
    """What an engine without its model raises."""
    return ReasonEnvsError(
        f"The {type(engine).__name__} is closed, its model is freed: build another with make_engine(...), or close it "
        "only after its last use."
    )


def greedy(sampling: Sampling) -> Sampling:
    """The same sampling without randomness or cuts."""
    return replace(sampling, temperature=0.0, top_p=1.0, top_k=0)
