"""An engine behind an OpenAI-compatible server: ``vllm serve``, ``transformers serve``, or a hosted one.

What servers do on their own, and a request cannot undo:

* ``vllm serve`` fills what a request leaves out (``top_k``, penalties) from the model's ``generation_config.json``,
  unless it is started with ``--generation-config vllm``. It cuts ``max_tokens`` to the room left in the context.
* ``transformers serve`` samples only where the model's ``generation_config.json`` says ``do_sample``: else every answer
  is the greedy one, whatever the temperature. It gives no log-probs and one choice a request.
* Only ``vllm serve`` says which stop string ended a sample; elsewhere ``Generation.stop_string`` is always ``None``.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.llm.engine import Capability, Engine, Generation, GenerationRequest
from reason_envs.llm.engines.openai.responses import read_generations, read_usage

SEED_BITS = 31
"""Of the seeds that are sent: servers store them in 32 bits or more."""
MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")
SENT = (
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
"""Fields of a request that the engine itself writes."""


@dataclass
class OpenAIEngineConfig:
    """Options of ``engine=openai``."""

    model: str = ""
    """Name of the model on the server."""
    base_url: str = "http://localhost:8000/v1"
    """Address of the API; a hosted one is ``https://api.openai.com/v1``."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key, which is sent to ``base_url``. Not set: no key is sent."""
    max_concurrency: int = 64
    """Most requests under way at once (in each event loop)."""
    timeout_s: float = 300.0
    """Seconds that one try may take."""
    max_retries: int = 4
    """Further tries after a refused connection, a timeout, status 429 or 500 and above, or an answer cut short."""
    backoff_s: float = 0.5
    """Wait before the first retry; it doubles with each one (with jitter). A server's ``Retry-After`` is honoured."""
    request_log_probs: bool = False
    """Ask for log-probs, as the server computes them (vLLM: at the sampling temperature only with
    ``--logprobs-mode processed_logprobs``); an answer without them is an error."""
    max_tokens_field: str = "max_tokens"
    """The field that carries the limit: ``max_tokens``, or ``max_completion_tokens`` (hosted reasoning models)."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Further fields of each request, such as ``{return_token_ids: true}`` (vLLM: fills ``token_ids``)."""

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ReasonEnvsError(f"engine.base_url={self.base_url!r} must be like http://localhost:8000/v1.")
        if url.username or url.password:
            raise ReasonEnvsError("engine.base_url holds a user or password: put the key in engine.api_key_env.")
        if self.max_tokens_field not in MAX_TOKENS_FIELDS:
            raise unknown_name("engine.max_tokens_field", self.max_tokens_field, MAX_TOKENS_FIELDS)
        for name, holds, rule in (
            ("max_concurrency", self.max_concurrency >= 1, "be at least 1"),
            ("timeout_s", self.timeout_s > 0, "be above 0"),
            ("max_retries", self.max_retries >= 0, "not be negative"),
            ("backoff_s", self.backoff_s >= 0, "not be negative"),
            ("extra_body", not set(SENT) & set(self.extra_body), f"name none of {', '.join(SENT)}"),
        ):
            if not holds:
                raise ReasonEnvsError(f"engine.{name}={getattr(self, name)!r} must {rule}.")


class OpenAIEngine(Engine):
    """A model on a server, asked over HTTP.

    Requests go out as they come, since the server batches them. Chat messages go to ``/chat/completions``, token ids to
    ``/completions``. Whether a seed repeats a sample is the server's affair: vLLM does within rounding, hosted models
    often do not. Its weights are out of reach, so nothing can be trained with it.
    """

    def __init__(self, config: OpenAIEngineConfig | None = None, **overrides: Any) -> None:
        from reason_envs.llm.engines.openai.transport import Transport

        self.config = config or OpenAIEngineConfig(**overrides)
        if not self.config.model:
            raise ReasonEnvsError("engine.model='' must be the model's name on the server (GET /models lists them).")
        self.capabilities = frozenset({Capability.LOG_PROBS} if self.config.request_log_probs else ())
        self.model_name = self.config.model
        self.generated_tokens = 0
        """Every token that the server reports to have sampled, those of answers thrown away included."""
        self.prompt_tokens = 0
        """Every prompt token that the server reports."""
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
        """Return ``request.n`` samples; what a server leaves out of a request for several is asked for one by one.

        Raises:
            ReasonEnvsError: the server cannot be reached, refuses the request, or answers something else.
        """
        if request.adapter:
            raise ReasonEnvsError(
                f"engine=openai cannot choose the adapter {request.adapter!r} for one request: a server has it under a "
                "model name of its own, so set engine.model to that."
            )
        if not request.prompt:
            raise ReasonEnvsError("The prompt is empty: give at least one message or token.")
        # Servers refuse several greedy samples in one request.
        samples = await self._ask(request, 0, request.n if request.sampling.temperature else 1)
        rest = await gather(*(self._ask(request, i, 1) for i in range(len(samples), request.n)))
        return samples + [generation for (generation,) in rest]

    async def _ask(self, request: GenerationRequest, first: int, n: int) -> list[Generation]:
        """Ask for samples ``first`` to ``first + n - 1``; at least one comes."""
        seed = derive_seed(request.seed, first)

        def read(body: dict[str, Any]) -> list[Generation]:
            usage = read_usage(body)
            with self._lock:  # before the rest is checked: an answer thrown away has been paid for, too
                self.generated_tokens += usage.completion_tokens
                self.prompt_tokens += usage.prompt_tokens
            return read_generations(body, usage, n=n, log_probs=self.config.request_log_probs)

        return await self.transport.post(self._body(request, seed, n), seed, read)

    def _body(self, request: GenerationRequest, seed: int, n: int) -> dict[str, Any]:
        """Write the request; fields that not every server knows appear only where they change something."""
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
        """Close the connections; the server runs on."""
        self.transport.close()
