"""HTTP requests to OpenAI-compatible servers: one client per event loop, limits, retries and clear errors."""

import asyncio
import email.utils
import logging
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import openai

from reason_envs.core import derive_seed
from reason_envs.errors import EngineError
from reason_envs.llm.engine import ContextLengthError
from reason_envs.llm.engines.openai.options import OpenAIEngineConfig
from reason_envs.llm.engines.openai.responses import MAX_QUOTE, ServerFailure, decode

T = TypeVar("T")
LOG = logging.getLogger(__name__)
MAX_RESPONSE_BYTES = 1 << 26
"""Maximum size of a response in bytes, so that an endless response cannot fill the memory."""
MAX_BACKOFF_S = 30.0
"""Maximum wait between attempts in seconds, if the server does not ask for a wait."""
MAX_RETRY_AFTER_S = 120.0
"""Maximum wait that a server may ask for in seconds. A longer one makes the request fail at once."""
RETRIED_STATUS = (408, 409, 429)
"""Status codes that are retried, besides all from 500."""
NO_KEY = "no-key-is-set"
"""Placeholder that is sent if the environment variable of the key is not set: local servers need no key."""
CONTEXT_WORDS = ("context_length", "context length", "context size", "max_model_len", "maximum model length")
"""A server's error about too many tokens contains one of these."""
TOO_LONG = "Prompt and max_tokens exceed the model's context length. Shorten the prompt or reduce max_tokens."
REST_S = 0.1
"""Seconds until clients of the running event loop are closed. If it ends at once, it would interrupt their closing;
instead it closes them itself."""
CLOSE_S = 10.0
"""Maximum time in seconds for the event loop of another thread to close its connections."""


def backoff(seed: int, attempt: int, first: float) -> float:
    """Return the seconds to wait after the failed attempt with an index from 0. The wait doubles with each one.

    The jitter keeps between half and all of it. Its seed makes waits the same in every run.
    """
    return min(first * 2**attempt, MAX_BACKOFF_S) * (0.5 + derive_seed(seed, "backoff", attempt) / 2**64)


def retry_after(value: str | None) -> float:
    """Return the seconds of a ``Retry-After`` header (a number or a date); 0 if it is missing or invalid."""
    with suppress(ValueError):
        return max(0.0, float(value or 0))
    with suppress(ValueError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(str(value)).timestamp() - time.time())
    return 0.0


async def _body(request: Any) -> bytes:
    """Send a request; return the body of the response."""
    async with request as response:
        return await _read(response.iter_bytes())


async def _read(pieces: AsyncIterator[bytes]) -> bytes:
    """Return a body, decompressed, up to ``MAX_RESPONSE_BYTES``."""
    data = bytearray()
    while len(data) <= MAX_RESPONSE_BYTES:
        try:
            data += await anext(pieces)
            await asyncio.sleep(0)  # a piece that is there already does not wait, and the time limit must hold
        except StopAsyncIteration:
            return bytes(data)
        except Exception as error:  # noqa: BLE001  (of the HTTP library, whose name depends on the version)
            raise ServerFailure(f"the connection failed ({error})", "Check the server's log.", retry=True) from None
    raise ServerFailure(f"a response of more than {MAX_RESPONSE_BYTES} bytes", "Check base_url.")


@dataclass(eq=False)
class _Connection:
    """The resources of one event loop."""

    client: openai.AsyncOpenAI
    slots: asyncio.Semaphore
    keeper: AsyncGenerator[None, None]
    """Generator that closes the client when it is closed."""


class Transport:
    """Sends requests to one server. The key is read when an event loop first connects.

    The retries of the openai client are off: their jitter comes from a global random generator, and they do not cover
    incomplete responses.
    """

    def __init__(self, config: OpenAIEngineConfig) -> None:
        self.config = config
        self.requests = 0
        """Number of requests sent, including retries."""
        self._connections: dict[asyncio.AbstractEventLoop, _Connection] = {}

    async def post(self, body: dict[str, Any], seed: int, read: Callable[[dict[str, Any]], T]) -> T:
        """Send a request, a chat completion if it has ``messages``, until ``read`` accepts the response.

        ``read`` converts the decoded response to the result, or raises `ServerFailure`. The seed is that of the jitter.

        Raises:
            EngineError: all attempts failed. A `ContextLengthError` if the prompt is too long.
        """
        connection = await self._connection()
        key = connection.client.api_key
        async with connection.slots:
            for attempt in range(self.config.max_retries + 1):
                try:
                    return await self._exchange(connection.client, body, read)
                except ServerFailure as failure:
                    if not failure.retry or attempt == self.config.max_retries:
                        raise self._error(failure, key, attempt + 1) from None
                    wait = max(failure.wait, backoff(seed, attempt, self.config.backoff_s))
                    LOG.info("Retrying in %.1f s: %s", wait, failure.describe(key))
                await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _exchange(
        self, client: openai.AsyncOpenAI, body: dict[str, Any], read: Callable[[dict[str, Any]], T]
    ) -> T:
        self.requests += 1
        fields = dict(body)
        model = fields.pop("model")
        try:
            async with asyncio.timeout(self.config.timeout_s):
                if "messages" in fields:
                    chat = client.chat.completions.with_streaming_response
                    raw = await _body(chat.create(model=model, messages=fields.pop("messages"), extra_body=fields))
                else:
                    plain = client.completions.with_streaming_response
                    raw = await _body(plain.create(model=model, prompt=fields.pop("prompt"), extra_body=fields))
        except TimeoutError:
            raise ServerFailure(
                f"no response within timeout_s={self.config.timeout_s:g}",
                f"Increase it, reduce max_concurrency={self.config.max_concurrency}, or request fewer tokens.",
                retry=True,
            ) from None
        except (openai.APIConnectionError, ServerFailure) as error:
            failure = error.__cause__ or error  # some versions of openai wrap every exception
            if not isinstance(failure, ServerFailure):
                advice = "Start the server, or correct base_url."
                failure = ServerFailure(f"the connection failed ({failure})", advice, retry=True)
            raise (await self._not_found(client, model) if failure.cause == "status 404" else failure) from None
        return decode(raw, read)

    async def _refuse(self, response: Any) -> None:
        """Raise the failure for an error or a redirection, whose body the HTTP library would read without a limit."""
        if (status := response.status_code) < 300:
            return
        text, cause = (await _read(response.aiter_bytes())).decode(errors="replace"), f"status {status}"
        if status in (401, 403):
            state = "is not set" if self._key() == NO_KEY else "was refused"
            raise ServerFailure(
                f"{cause}: the server requires a key, and the environment variable {self.config.api_key_env} {state}",
                "Set this variable, or name another one with api_key_env.",
            )
        if status == 429 and "insufficient_quota" in text:
            raise ServerFailure(cause, "The account has no quota left. A retry would fail as well.", quote=text)
        if status in RETRIED_STATUS or status >= 500:
            wait = retry_after(response.headers.get("retry-after"))
            cause += f" (wait {wait:g} s)" if wait else ""
            fix = "reduce max_concurrency" if status == 429 else "check the server's log"
            allowed = wait <= MAX_RETRY_AFTER_S
            raise ServerFailure(cause, f"If it persists, {fix}.", quote=text, retry=allowed, wait=wait)
        too_long = any(words in text.lower() for words in CONTEXT_WORDS)
        fix = "The server refuses this request: correct extra_body or the sampling parameters that it names."
        if too_long:
            fix = TOO_LONG
        elif status < 400:
            fix = "The server redirects the request: set base_url to the address to which it redirects."
        elif "max_completion_tokens" in text.lower():
            fix = "Set max_tokens_field=max_completion_tokens."
        raise ServerFailure(cause, fix, quote=text, too_long=too_long)

    async def _not_found(self, client: openai.AsyncOpenAI, model: str) -> ServerFailure:
        try:
            async with asyncio.timeout(self.config.timeout_s):
                raw = await _body(client.models.with_streaming_response.list())
            served = decode(raw, lambda body: [str(entry["id"]) for entry in body["data"]])
        except (openai.OpenAIError, ServerFailure, TimeoutError):
            return ServerFailure(
                f"status 404: the server has neither the model {model!r} nor a list of models",
                "Check the options model and base_url. The address of an API usually ends in /v1.",
            )
        if model in served:
            return ServerFailure(
                f"status 404: the server has the model {model!r} but not this path",
                "Prompts of token ids need /completions, which vLLM offers. Use chat messages, or the engine "
                "transformers.",
            )
        return ServerFailure(
            f"status 404: the server does not have the model {model!r}",
            f"Set the option model to one of: {', '.join(served)[:MAX_QUOTE] or '(the server has no models)'}.",
        )

    def _error(self, failure: ServerFailure, key: str, attempts: int) -> EngineError:
        times = "" if attempts == 1 else f" ({attempts} attempts)"
        kind = ContextLengthError if failure.too_long else EngineError
        return kind(f"{self.config.base_url}{times}: {failure.describe(key)}")

    def _key(self) -> str:
        key = os.environ.get(self.config.api_key_env, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise EngineError(
                f"The environment variable {self.config.api_key_env} contains characters that are not printable "
                "ASCII, so it is not a valid key. Copy the key again."
            )
        return key or NO_KEY

    async def _connection(self) -> _Connection:
        loop = asyncio.get_running_loop()
        if loop not in self._connections:
            for ended in [other for other in self._connections if other.is_closed()]:
                del self._connections[ended]
            http = openai.DefaultAsyncHttpxClient(timeout=None, event_hooks={"response": [self._refuse]})
            client = openai.AsyncOpenAI(
                base_url=self.config.base_url, api_key=self._key(), max_retries=0, http_client=http
            )
            connection = _Connection(client, asyncio.Semaphore(self.config.max_concurrency), _keep(client))
            self._connections[loop] = connection
            await anext(connection.keeper)
        return self._connections[loop]

    def close(self) -> None:
        """Close each client in its event loop. An event loop that is shut down closes its client itself."""
        connections, self._connections = self._connections, {}
        current = None
        with suppress(RuntimeError):
            current = asyncio.get_running_loop()
        for loop, connection in connections.items():
            if loop is current:
                loop.call_later(REST_S, loop.create_task, connection.keeper.aclose())
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(connection.keeper.aclose(), loop).result(CLOSE_S)
            elif current is None and not loop.is_closed():
                loop.run_until_complete(connection.keeper.aclose())


async def _keep(client: openai.AsyncOpenAI) -> AsyncGenerator[None, None]:
    """Close the client when this generator is closed. Event loops close their generators when they are shut down."""
    try:
        yield
    finally:
        await client.close()
