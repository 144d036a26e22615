"""An engine for OpenAI-compatible servers: ``vllm serve``, ``transformers serve``, or a hosted API.

Some server behaviour cannot be changed by a request:

* ``vllm serve`` takes parameters that a request leaves out (``top_k``, penalties) from the model's
  ``generation_config.json``, unless it is started with ``--generation-config vllm``. It reduces ``max_tokens`` to the
  room that is left in the context.
* ``transformers serve`` samples only if the model's ``generation_config.json`` sets ``do_sample``. Otherwise every
  response is greedy at any temperature. It returns no log-probabilities and one choice per request.
* Only ``vllm serve`` reports which stop string ended a sample. With other servers ``Generation.stop_string`` is
  ``None``.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.errors import EngineError, OptionError
from reason_envs.llm.engine import Capability, Engine, Generation, GenerationRequest
from reason_envs.llm.engines.openai.responses import read_generations, read_usage
from reason_envs.validation import above, at_least, one_of

SEED_BITS = 31
"""Number of bits of the seeds that are sent. Servers store seeds in at least 32 bits."""
MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")
ENGINE_FIELDS = (
    "model",
    "messages",
    "prompt",
    "n",
    "seed",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "logprobs",
    *MAX_TOKENS_FIELDS,
)
"""Fields of a request that the engine sets."""


@dataclass
class OpenAIEngineConfig:
    """Options of ``engine=openai``."""

    model: str = ""
    """Name of the model on the server. Required."""
    base_url: str = "http://localhost:8000/v1"
    """Address of the API, such as ``https://api.openai.com/v1`` for OpenAI's own."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable with the API key, which is sent to ``base_url``. If it is not set, no key is sent."""
    max_concurrency: int = 64
    """Maximum number of simultaneous requests per event loop."""
    timeout_s: float = 300.0
    """Maximum duration of one attempt in seconds."""
    max_retries: int = 4
    """Maximum number of retries after a refused connection, a timeout, status 429 or at least 500, or an incomplete
    response."""
    backoff_s: float = 0.5
    """Wait before the first retry in seconds. It doubles with each retry and has random jitter. If the server sends a
    longer ``Retry-After``, that applies."""
    request_log_probs: bool = False
    """Whether to request log-probabilities. A response without them is then an error. vLLM returns them at the sampling
    temperature only if it is started with ``--logprobs-mode processed_logprobs``."""
    max_tokens_field: str = "max_tokens"
    """Name of the request field for the token limit: ``max_tokens``, or ``max_completion_tokens`` for hosted reasoning
    models."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Additional fields of each request, such as ``{return_token_ids: true}``, with which vLLM returns token ids."""

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if url.username or url.password:
            raise OptionError("base_url", "***", "must not contain a user or password: use api_key_env for the key.")
        if url.scheme not in ("http", "https") or not url.hostname:
            raise OptionError("base_url", self.base_url, "must be a URL such as http://localhost:8000/v1.")
        one_of(self, max_tokens_field=MAX_TOKENS_FIELDS)
        at_least(self, max_concurrency=1, max_retries=0, backoff_s=0)
        above(self, timeout_s=0)
        if reserved := sorted(set(ENGINE_FIELDS) & set(self.extra_body)):
            raise OptionError("extra_body", self.extra_body, f"must not set {', '.join(reserved)}: the engine does.")


class OpenAIEngine(Engine):
    """A model on a server, accessed over HTTP.

    Requests are sent at once, because the server batches them: chat messages to ``/chat/completions``, token ids to
    ``/completions``. Whether equal seeds give equal samples depends on the server. vLLM repeats samples within
    rounding; hosted models often do not. The weights cannot be replaced, so the engine cannot be trained.

    Args:
        config: the options. ``None`` builds them from ``overrides``.
        overrides: fields of the configuration.
    """

    def __init__(self, config: OpenAIEngineConfig | None = None, **overrides: Any) -> None:
        from reason_envs.llm.engines.openai.transport import Transport

        self.config = config or OpenAIEngineConfig(**overrides)
        if not self.config.model:
            raise OptionError("model", "", "must be the model's name on the server (GET /models lists the names).")
        self.capabilities = frozenset({Capability.LOG_PROBS} if self.config.request_log_probs else ())
        self.model_name = self.config.model
        self.generated_tokens = 0
        """Number of sampled tokens that the server reported, including those of discarded responses."""
        self.prompt_tokens = 0
        """Number of prompt tokens that the server reported."""
        self.transport = Transport(
            base_url=self.config.base_url,
            api_key_env=self.config.api_key_env,
            max_concurrency=self.config.max_concurrency,
            timeout_s=self.config.timeout_s,
            max_retries=self.config.max_retries,
            backoff_s=self.config.backoff_s,
        )
        self._lock = threading.Lock()

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Return ``request.n`` samples. If a response has fewer, the others are requested one by one.

        Raises:
            EngineError: the server cannot be reached, refuses the request, or sends an invalid response.
        """
        if request.adapter:
            raise EngineError(
                f"The engine openai cannot select the adapter {request.adapter!r} per request. A server offers an "
                "adapter under its own model name: set the option model to that name."
            )
        if not request.prompt:
            raise EngineError("The prompt is empty: give at least one message or token.")
        # Servers refuse several greedy samples in one request.
        samples = await self._ask(request, 0, request.n if request.sampling.temperature else 1)
        rest = await gather(*(self._ask(request, i, 1) for i in range(len(samples), request.n)))
        return samples + [generation for (generation,) in rest]

    async def _ask(self, request: GenerationRequest, first: int, n: int) -> list[Generation]:
        """Request samples ``first`` to ``first + n - 1``. At least one is returned."""
        seed = derive_seed(request.seed, first)

        def read(body: dict[str, Any]) -> list[Generation]:
            usage = read_usage(body)
            with self._lock:  # before the other checks: discarded responses are counted as well
                self.generated_tokens += usage.completion_tokens
                self.prompt_tokens += usage.prompt_tokens
            return read_generations(body, usage, n=n, log_probs=self.config.request_log_probs)

        return await self.transport.post(self._body(request, seed, n), seed, read)

    def _body(self, request: GenerationRequest, seed: int, n: int) -> dict[str, Any]:
        """Return the request. Fields that some servers do not know are set only if they have an effect."""
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self.config.model,
            "seed": seed >> (63 - SEED_BITS),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self.config.max_tokens_field: sampling.max_tokens,
            **self.config.extra_body,
        }
        chat = not isinstance(request.prompt[0], int)
        body["messages" if chat else "prompt"] = request.prompt
        if n > 1:
            body["n"] = n
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if self.config.request_log_probs:
            body["logprobs"] = True if chat else 1
        return body

    def close(self) -> None:
        """Close the connections. The server keeps running."""
        self.transport.close()
