"""Exchanges with a server of the OpenAI API: one client for each event loop, limits, retries and clear errors."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import openai

from reason_envs.core import derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import ContextLengthError
from reason_envs.llm.engines.openai.responses import ServerFailure, decode

T = TypeVar("T")
LOG = logging.getLogger(__name__)
MAX_BACKOFF_S = 30.0
"""Longest wait between tries that this side chooses."""
MAX_RETRY_AFTER_S = 120.0
"""Longest wait that a server may ask for; beyond it the request fails at once."""
RETRIED_STATUS = (408, 409, 429)
"""Besides every status from 500."""
NO_KEY = "no-key-is-set"
"""Sent where the key's environment variable is not set: servers at home ask for no key."""
CONTEXT_WORDS = ("context_length", "context length", "max_model_len", "maximum model length")
"""One of these is in a server's complaint about too many tokens."""
TOO_LONG = "Prompt and max_tokens exceed the model's context: shorten the prompt or lower max_tokens."
CLOSE_S = 10.0
"""Seconds that another thread's event loop gets to close its connections."""


def backoff(seed: int, attempt: int, first: float) -> float:
    """Seconds to wait after failed try ``attempt`` (from 0): doubling, and a draw keyed by the seed keeps half to all.

    Drawn by address and not from a global generator, so a run's waits are the same from run to run.
    """
    draw = derive_seed(seed, "backoff", attempt) / 2**63
    return min(first * 2**attempt, MAX_BACKOFF_S) * (0.5 + 0.5 * draw)


def retry_after(value: str | None) -> float:
    """Read a ``Retry-After`` header (seconds or a date); 0 where there is none or it makes no sense."""
    if value is None:
        return 0.0
    try:
        return float(value) if float(value) > 0 else 0.0
    except ValueError:
        date = email.utils.parsedate_tz(value)
    return max(email.utils.mktime_tz(date) - time.time(), 0.0) if date else 0.0


@dataclass(eq=False)
class _Connection:
    """What belongs to one event loop."""

    client: openai.AsyncOpenAI
    slots: asyncio.Semaphore
    keeper: AsyncGenerator[None, None]
    """Waits at its only yield; closing it closes the client."""


class Transport:
    """Posts requests to one server.

    The client's own retries are off: its jitter comes from a global generator, and it does not retry an answer that is
    cut short.

    Args:
        base_url: address of the API.
        api_key_env: environment variable with the key, read when an event loop first connects.
        max_concurrency: most requests under way in one event loop.
        timeout_s: limit of one try, from sending to the last byte.
        max_retries: further tries after the first.
        backoff_s: wait before the first retry; it doubles with each one.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key_env: str,
        max_concurrency: int,
        timeout_s: float,
        max_retries: int,
        backoff_s: float,
    ) -> None:
        self.requests = 0
        """Exchanges begun, retries included."""
        self.retries = 0
        """Exchanges that repeated a failed one."""
        self._base_url = base_url
        self._api_key_env = api_key_env
        self._max_concurrency = max_concurrency
        self._timeout_s = timeout_s
        self._max_retries = max_retries
        self._backoff_s = backoff_s
        self._connections: dict[asyncio.AbstractEventLoop, _Connection] = {}

    async def post(self, body: dict[str, Any], seed: int, read: Callable[[dict[str, Any]], T]) -> T:
        """Send a request (chat if it has ``messages``) until ``read`` accepts the answer.

        Args:
            body: the request, ``model`` included.
            seed: keys the jitter of the waits.
            read: turns the decoded answer into the result, or raises ``ServerFailure``.

        Raises:
            ReasonEnvsError: no try succeeded; a ``ContextLengthError`` where the prompt is too long.
        """
        connection = await self._connection()
        key = connection.client.api_key
        async with connection.slots:
            for attempt in range(self._max_retries + 1):
                try:
                    return await self._exchange(connection.client, body, read)
                except ServerFailure as failure:
                    if not failure.retry or attempt == self._max_retries:
                        raise self._error(failure, key, attempt + 1) from None
                    wait = max(failure.wait, backoff(seed, attempt, self._backoff_s))
                    LOG.info("Retrying in %.1f s: %s", wait, failure.describe(key))
                self.retries += 1
                await asyncio.sleep(wait)
        raise AssertionError("the last try returns or raises")

    async def _exchange(
        self, client: openai.AsyncOpenAI, body: dict[str, Any], read: Callable[[dict[str, Any]], T]
    ) -> T:
        self.requests += 1
        fields = dict(body)
        model = fields.pop("model")
        raw: Any
        try:
            async with asyncio.timeout(self._timeout_s):
                if "messages" in fields:
                    chat = client.chat.completions.with_raw_response
                    raw = await chat.create(model=model, messages=fields.pop("messages"), extra_body=fields)
                else:
                    plain = client.completions.with_raw_response
                    raw = await plain.create(model=model, prompt=fields.pop("prompt"), extra_body=fields)
        except TimeoutError:
            raise ServerFailure(
                f"no answer within engine.timeout_s={self._timeout_s:g}",
                f"Raise it, lower engine.max_concurrency={self._max_concurrency}, or ask for fewer tokens.",
                retry=True,
            ) from None
        except openai.APIStatusError as error:
            raise await self._status_failure(client, error, body) from None
        except openai.APIConnectionError as error:
            raise ServerFailure(
                f"the connection failed ({error.__cause__})",
                "Start the server, or correct engine.base_url.",
                retry=True,
            ) from None
        return read(decode(raw.http_response.content))

    async def _status_failure(
        self, client: openai.AsyncOpenAI, error: openai.APIStatusError, body: dict[str, Any]
    ) -> ServerFailure:
        """Explain a status of 400 and above."""
        status, text = error.status_code, error.response.text
        what = f"status {status}"
        if status in (401, 403):
            state = "is not set" if client.api_key == NO_KEY else "is refused"
            return ServerFailure(
                f"{what}: the server wants a valid key, and the environment variable {self._api_key_env} {state}",
                "Set that variable, or name another with engine.api_key_env.",
            )
        if status == 404:
            return await self._not_found(client, body["model"])
        if status == 429 and "insufficient_quota" in text:
            return ServerFailure(what, "The account has no quota left: waiting does not help.", quote=text)
        if status in RETRIED_STATUS or status >= 500:
            wait = retry_after(error.response.headers.get("retry-after"))
            what += f" (wait {wait:g} s)" if wait else ""
            rule = "lower engine.max_concurrency" if status == 429 else "look at the server's log"
            allowed = wait <= MAX_RETRY_AFTER_S
            return ServerFailure(what, f"If it persists, {rule}.", quote=text, retry=allowed, wait=wait)
        too_long = any(words in text.lower() for words in CONTEXT_WORDS)
        return ServerFailure(what, TOO_LONG if too_long else _advice(text), quote=text, too_long=too_long)

    async def _not_found(self, client: openai.AsyncOpenAI, model: str) -> ServerFailure:
        try:
            async with asyncio.timeout(self._timeout_s):
                served = [entry.id async for entry in client.models.list()]
        except (openai.OpenAIError, TimeoutError):
            return ServerFailure(
                f"status 404: neither the model {model!r} nor a list of models is there",
                "Check engine.model, and that engine.base_url ends as the server's API does (usually in /v1).",
            )
        if model in served:
            return ServerFailure(
                f"status 404: the server has the model {model!r} but not this path",
                "Prompts of token ids need /completions (vLLM has it): give chat messages, or use engine=transformers.",
            )
        return ServerFailure(
            f"status 404: no model {model!r} there",
            f"Set engine.model to one of: {', '.join(served) or '(none served)'}.",
        )

    def _error(self, failure: ServerFailure, key: str, tries: int) -> ReasonEnvsError:
        times = "" if tries == 1 else f" (tried {tries} times)"
        kind = ContextLengthError if failure.too_long else ReasonEnvsError
        return kind(f"{self._base_url}{times}: {failure.describe(key)}")

    def _key(self) -> str:
        key = os.environ.get(self._api_key_env, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ReasonEnvsError(
                f"The environment variable {self._api_key_env} must hold a key of printable ASCII characters; it holds "
                "others. Copy the key again."
            )
        return key or NO_KEY

    # --- one client for each event loop

    async def _connection(self) -> _Connection:
        loop = asyncio.get_running_loop()
        if loop not in self._connections:
            for ended in [other for other in self._connections if other.is_closed()]:
                del self._connections[ended]
            client = openai.AsyncOpenAI(
                base_url=self._base_url,
                api_key=self._key(),
                max_retries=0,
                timeout=None,
            )
            connection = _Connection(client, asyncio.Semaphore(self._max_concurrency), _keep(client))
            self._connections[loop] = connection
            await anext(connection.keeper)
        return self._connections[loop]

    def close(self) -> None:
        """Close every client in its own event loop; a loop that is shut down closes its client itself."""
        connections, self._connections = self._connections, {}
        current = _running_loop()
        for loop, connection in connections.items():
            if loop is current:
                loop.create_task(connection.keeper.aclose())
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(connection.keeper.aclose(), loop).result(CLOSE_S)
            elif current is None and not loop.is_closed():
                loop.run_until_complete(connection.keeper.aclose())


async def _keep(client: openai.AsyncOpenAI) -> AsyncGenerator[None, None]:
    """Close the client when this generator is closed; an event loop closes its generators when it is shut down."""
    try:
        yield
    finally:
        await client.close()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _advice(text: str) -> str:
    """What to change about a request that the server refuses."""
    if "max_completion_tokens" in text.lower():
        return "Set engine.max_tokens_field=max_completion_tokens."
    return "The server does not take this request: correct engine.extra_body or the sampling parameters it names."
