"""The engine interface: everything that environments and learners may ask of a language model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reason_envs.core import Message
from reason_envs.errors import EngineError, OptionError
from reason_envs.validation import Checked, limited

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FinishReason = Literal["stop", "length", "exhausted"]
"""Why a sample ended: end-of-sequence token or stop string, ``max_tokens`` reached, or no recorded answer left."""

BASE_MODEL = "<base>"
"""Adapter name that selects the engine's full weights without any adapter."""


class ContextLengthError(EngineError):
    """Prompt and response together exceed the model's context length."""


def check_length(prompt: int, response: int, limit: int | None) -> None:
    """Raise `ContextLengthError` if prompt and response have more tokens than a model's context."""
    if limit is not None and prompt + response > limit:
        raise ContextLengthError(
            f"A prompt of {prompt} tokens and max_tokens={response} exceed the engine's context length of {limit}. "
            "Shorten the prompt or reduce max_tokens, or increase engine.max_model_len if vLLM and the model allow it."
        )


class Capability(StrEnum):
    """Something that only some engines can do. Members equal their strings."""

    LOG_PROBS = "log_probs"
    """Generations contain the log-probability of every sampled token."""
    TRAINABLE = "trainable"
    """The engine accepts new weights (see `TrainableEngine.load_weights`)."""
    ADAPTERS = "adapters"
    """The engine keeps LoRA adapters apart from the full weights, and each request may name one."""
    EXTERNAL_ENGINE = "external_engine"
    """Another program computes the log-probabilities, so they differ from the learner's by rounding."""


@dataclass(frozen=True)
class Sampling(Checked):
    """Parameters of token sampling."""

    max_tokens: int = limited(128, at_least=1)
    """Maximum number of tokens per completion, including the end-of-sequence token."""
    temperature: float = limited(1.0, at_least=0)
    """Divisor of the logits. 0 selects the most likely token (greedy decoding)."""
    top_p: float = limited(1.0, above=0, within=(0, 1))
    """Probability mass of the smallest set of tokens to sample from (nucleus sampling). 1 keeps all tokens."""
    top_k: int = limited(0, at_least=0)
    """Number of most likely tokens to sample from. 0 keeps all tokens."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion. They are removed from ``text``; their tokens remain in ``token_ids``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isinstance(self.stop, tuple) and all(self.stop)):
            raise OptionError("stop", self.stop, "must be a tuple of non-empty strings.")


@dataclass(frozen=True)
class GenerationRequest(Checked):
    """A prompt and the parameters of its completions."""

    prompt: list[Message] | list[int]
    """Chat messages, to which the engine applies the model's chat template, or token ids, which are used unchanged."""
    seed: int
    """Seed of the request. Token ``t`` of sample ``i`` is drawn with a random number that depends only on
    ``(seed, i, t)``."""
    sampling: Sampling = field(default_factory=Sampling)
    """Parameters of token sampling."""
    n: int = limited(1, at_least=1)
    """Number of samples."""
    adapter: str | None = None
    """Name of a loaded adapter, or ``BASE_MODEL``. ``None`` uses the engine's current weights."""
    keep_prefix: bool = False
    """Whether to return ``Generation.prefix_cache``, so that later requests can continue the samples faster."""
    prefix_cache: Any = None
    """The ``prefix_cache`` of an earlier generation by the same engine. This prompt must be token ids and must start
    with the tokens that the cache covers. Results differ by rounding at most. Engines without a prefix cache ignore
    it."""


@dataclass(frozen=True)
class Generation:
    """One sampled completion."""

    text: str
    """The completion without special tokens, cut before the stop string."""
    token_ids: list[int]
    """All sampled tokens, including the end-of-sequence token and those of the stop string."""
    log_probs: list[float] | None
    """Log-probability of each sampled token at the sampling temperature, before top-p and top-k. ``None``: unknown."""
    finish_reason: FinishReason
    """Why the completion ended."""
    policy_version: int
    """Version of the weights that sampled the completion (see `TrainableEngine.load_weights`)."""
    prompt_ids: list[int]
    """Token ids of the prompt. Empty if the engine does not return them."""
    usage_tokens: int | None = None
    """Number of sampled tokens that a server reported without their ids. ``None``: ``token_ids`` is complete."""
    usage_prompt_tokens: int | None = None
    """Number of prompt tokens that a server reported. ``None``: ``prompt_ids`` is complete."""
    stop_string: str | None = None
    """The stop string that ended the completion. ``None``: it ended for another reason, or the engine cannot tell."""
    embedding: list[float] | None = None
    """The model's hidden state at the end of the sample, in [-1, 1], [embedding_size]. ``None``: the engine's
    ``embedding_size`` is 0."""
    prefix_cache: Any = field(default=None, compare=False, repr=False)
    """Cached state of the prompt and the completion, for requests that continue both. ``None``: nothing is cached."""
    prompt_prefix_cache: Any = field(default=None, compare=False, repr=False)
    """Cached state of the prompt alone, for further requests with the same prompt. ``None``: nothing is cached."""

    @property
    def generated_tokens(self) -> int:
        """Number of sampled tokens."""
        return len(self.token_ids) if self.usage_tokens is None else self.usage_tokens

    @property
    def prompt_tokens(self) -> int:
        """Number of tokens of the prompt."""
        return len(self.prompt_ids) if self.usage_prompt_tokens is None else self.usage_prompt_tokens


class Engine(ABC):
    """A language model that answers awaited requests and batches those that wait together.

    A subclass must define `generate`. All other members have defaults; attributes may be set on the class or in
    ``__init__``. Register an engine with ``ENGINES.register(name, engine, config)``, or pass an instance.
    Built-in engines take their ``config``, or its fields as keyword arguments.
    """

    capabilities: frozenset[Capability] = frozenset()
    """Abilities of the engine besides generating text. Empty: none."""
    tokenizer: Any = None
    """The model's tokenizer (Hugging Face interface). ``None``: the engine does not expose one."""
    context_length: int | None = None
    """Maximum number of tokens of prompt and response together. ``None``: unknown or unlimited."""
    embedding_size: int = 0
    """Length of `Generation.embedding`. 0: the engine returns none."""
    continuous: bool = False
    """Whether a request joins those that run already. Otherwise, requests that wait at the same time run together."""
    model_name: str = ""
    """Name of the model in records and model cards. Empty: the name of the class is used."""
    reread_tokens: int = 0
    """Number of prompt tokens that were read again since the engine was built, because kept prefixes were freed."""

    @abstractmethod
    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Return ``request.n`` samples."""

    def can_answer(self, seed: int) -> bool:
        """Return whether the engine can answer a request with this seed. Only replayed records may return False."""
        return True

    async def check_server(self) -> None:  # noqa: B027  (optional)
        """Raise `EngineError` if the engine's server does not answer. Engines without a server do nothing."""

    def weights_digest(self, adapter: str | None = None) -> str | None:
        """Return a hash of the weights, or of the named adapter, as loaded last. ``None``: the engine cannot tell."""
        return None

    def close(self) -> None:  # noqa: B027  (optional)
        """Free the model. Further calls have no effect."""


class TrainableEngine(Engine):
    """An engine whose weights a learner can replace."""

    dtype: torch.dtype
    """Data type of the weights."""

    @abstractmethod
    def load_weights(self, source: Mapping[str, Tensor] | Path, version: int, adapter: str | None = None) -> None:
        """Replace the weights.

        Args:
            source: the full weights with all adapters merged, or the folder of a LoRA adapter. Folders require
                `Capability.ADAPTERS`.
            version: policy version of these weights, reported by later generations.
            adapter: name under which requests select the adapter in ``source``. ``None``: it becomes the engine's
                current weights.
        """

    def share_weights(self, source: Mapping[str, Tensor]) -> None:
        """Sample with the learner's own tensors to save memory, if possible. No request runs while they change."""

    @abstractmethod
    async def score(
        self, token_ids: list[int], prompt_length: int, temperature: float = 1.0, adapter: str | None = None
    ) -> list[float]:
        """Return the log-probability of each token after the prompt.

        Args:
            token_ids: prompt and response.
            prompt_length: number of prompt tokens.
            temperature: divisor of the logits.
            adapter: name of a loaded adapter, or ``BASE_MODEL``. ``None`` uses the current weights.
        """


def closed_error(model: object) -> EngineError:
    """Return the error for a request to a closed engine or step reward model."""
    return EngineError(f"The {type(model).__name__} is closed. Build a new one, or close this one after its last use.")


def greedy(sampling: Sampling) -> Sampling:
    """Return the same parameters for greedy decoding, without top-p and top-k."""
    return replace(sampling, temperature=0.0, top_p=1.0, top_k=0)
