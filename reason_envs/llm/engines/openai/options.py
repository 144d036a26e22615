"""Options of ``engine=openai``."""

from dataclasses import dataclass, field
from typing import Any

from reason_envs.errors import OptionError
from reason_envs.validation import HTTP_URL, Checked, limited

MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")
ENGINE_FIELDS = (
    *("model", "messages", "prompt", "n", "seed", "temperature", "top_p", "stop", "logprobs"),
    *MAX_TOKENS_FIELDS,
)
"""Fields of a request that the engine sets."""


@dataclass
class OpenAIEngineConfig(Checked):
    """Options of ``engine=openai``."""

    model: str = ""
    """Name of the model on the server. Required."""
    base_url: str = "http://localhost:8000/v1"
    """Address of the API, such as ``https://api.openai.com/v1`` for OpenAI's own."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable with the API key, which is sent to ``base_url``. If it is not set, no key is sent."""
    max_concurrency: int = limited(64, at_least=1)
    """Maximum number of simultaneous requests per event loop."""
    timeout_s: float = limited(300.0, above=0)
    """Maximum duration of one attempt in seconds."""
    max_retries: int = limited(4, at_least=0)
    """Maximum number of retries after a refused connection, a timeout, status 429 or 5xx, or an incomplete response."""
    backoff_s: float = limited(0.5, at_least=0)
    """Wait before the first retry in seconds. It doubles with each retry and has random jitter. If the server sends a
    longer ``Retry-After``, that applies."""
    request_log_probs: bool = False
    """Whether to request log-probabilities. A response without them is then an error. vLLM returns them at the sampling
    temperature only if it is started with ``--logprobs-mode processed_logprobs``."""
    max_tokens_field: str = limited("max_tokens", one_of=MAX_TOKENS_FIELDS)
    """Request field for the token limit: ``max_tokens``, or ``max_completion_tokens`` for hosted reasoning models."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Additional fields of each request, such as ``{return_token_ids: true}``, with which vLLM returns token ids."""

    def __post_init__(self) -> None:
        if "@" in self.base_url.partition("://")[2].partition("/")[0]:
            raise OptionError("base_url", "***", "must not contain a user or password: use api_key_env for the key.")
        if not HTTP_URL.fullmatch(self.base_url):
            raise OptionError("base_url", self.base_url, "must be a URL such as http://localhost:8000/v1.")
        super().__post_init__()
        if reserved := sorted(set(ENGINE_FIELDS) & set(self.extra_body)):
            raise OptionError("extra_body", self.extra_body, f"must not set {', '.join(reserved)}: the engine does.")
