"""An engine for OpenAI-compatible servers: ``vllm serve``, ``transformers serve``, or a hosted API.

Some server behaviour cannot be changed by a request:

* ``vllm serve`` takes parameters that a request leaves out (``top_k``, penalties) from the model's
  ``generation_config.json``, unless it is started with ``--generation-config vllm``. It reduces ``max_tokens`` to the
  room that is left in the context.
* ``transformers serve`` samples only if the model's ``generation_config.json`` sets ``do_sample``. Otherwise every
  response is greedy at any temperature. It returns no log-probabilities and one choice per request.
* llama.cpp's server counts the tokens of one sample only, and other servers ignore ``n`` or refuse it. The engine finds
  this before its first request for several samples, and then requests them one by one.
* llama.cpp's server samples from the 40 most likely tokens, of which it drops those below 5 % of the best one. The
  engine recognises it by its first response, and then asks again with `LLAMA_CPP`. Ollama, LM Studio and others have
  such defaults as well (``extra_body``). llama.cpp returns one log-probability for all tokens of a character.
* Only ``vllm serve`` reports which stop string ended a sample. With other servers ``Generation.stop_string`` is
  ``None``.
"""

import asyncio
import logging
import threading
from typing import Any
from weakref import WeakKeyDictionary

from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.errors import EngineError, OptionError
from reason_envs.llm.engine import Capability, Engine, Generation, GenerationRequest, Sampling
from reason_envs.llm.engines.openai.options import OpenAIEngineConfig
from reason_envs.llm.engines.openai.responses import read_generations, read_usage

LOG = logging.getLogger(__name__)
SEED_BITS = 31
"""Number of bits of the seeds that are sent. Servers store seeds in at least 32 bits."""
LLAMA_CPP = {"top_k": 0, "min_p": 0.0}
"""Fields with which llama.cpp's server samples from all tokens."""
CHECK_S = 60
"""Time limit of the check of a server, in seconds."""
CHECK = GenerationRequest([{"role": "user", "content": "Count from one to one hundred."}], 0, Sampling(max_tokens=16))
"""Request that checks a server. Its responses normally have the maximum length."""


class OpenAIEngine(Engine):
    """A model on a server, accessed over HTTP.

    Requests are sent at once, because the server batches them: chat messages to ``/chat/completions``, token ids to
    ``/completions``. Whether equal seeds give equal samples depends on the server. vLLM repeats samples within
    rounding; hosted models often do not. The weights cannot be replaced, so the engine cannot be trained.
    """

    continuous = True

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
        self.transport = Transport(self.config)
        self._lock = threading.Lock()
        self._checks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
        self._several: bool | None = None
        self._defaults: dict[str, Any] = {}

    async def generate(self, request: GenerationRequest) -> list[Generation]:
        """Return ``request.n`` samples. If the server cannot give or count several, they are requested one by one.

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
        together = request.n > 1 and request.sampling.temperature > 0 and await self._gives_several()
        samples = await self._ask(request, 0, request.n if together else 1)
        rest = await gather(*(self._ask(request, i, 1) for i in range(len(samples), request.n)))
        return samples + [generation for (generation,) in rest]

    async def check_server(self) -> None:
        """Request a few tokens, which finds a wrong address, key or model, and whether several samples work."""
        try:
            async with asyncio.timeout(CHECK_S):
                await self.generate(CHECK)
                await self._gives_several()
        except TimeoutError:
            raise EngineError(
                f"{self.config.base_url} did not answer a short request within {CHECK_S} s: check the server."
            ) from None

    async def _gives_several(self) -> bool:
        """Return whether one request can have several samples. Asks the server once."""
        async with self._checks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if self._several is None:
                fault = await self._fault_of_several()
                self._several = not fault
                if fault:
                    LOG.warning("%s %s, so samples are requested one by one.", self.config.base_url, fault)
            return self._several

    async def _fault_of_several(self) -> str:
        """Return what the server does wrong when one request asks for several samples; "" if nothing."""
        try:
            samples = await self._ask(CHECK, 0, 2)
        except EngineError:
            await self._ask(CHECK, 0, 1)  # an error here is one of the server, not of the number of samples
            return "refuses several samples per request"
        if len(samples) < 2:
            return "ignores the number of samples per request"
        held = sum(CHECK.sampling.max_tokens if each.finish_reason == "length" else 1 for each in samples)
        counted = sum(each.generated_tokens for each in samples)
        return "does not count the tokens of all samples of a request" if counted < held else ""

    async def _ask(self, request: GenerationRequest, first: int, n: int) -> list[Generation]:
        """Request samples ``first`` to ``first + n - 1``. At least one is returned."""
        seed = derive_seed(request.seed, first)

        def read(body: dict[str, Any]) -> list[Generation] | None:
            usage = read_usage(body)
            with self._lock:  # before the other checks: discarded responses are counted as well
                self.prompt_tokens += usage[0]
                self.generated_tokens += usage[1]
            if "timings" in body and not is_llama_cpp:
                return None
            return read_generations(body, usage, n=n, log_probs=self.config.request_log_probs)

        is_llama_cpp = bool(self._defaults)
        samples = await self.transport.post(self._body(request, seed, n), seed, read)
        if samples is None:
            self._defaults = LLAMA_CPP
            return await self._ask(request, first, n)
        return samples

    def _body(self, request: GenerationRequest, seed: int, n: int) -> dict[str, Any]:
        """Return the request. Fields that some servers do not know are set only if they have an effect."""
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self.config.model,
            "seed": seed >> (63 - SEED_BITS),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self.config.max_tokens_field: sampling.max_tokens,
            **self._defaults,
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
