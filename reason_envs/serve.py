"""Serve an environment with OpenEnv: ``python -m reason_envs.serve ReasonTree-v0 --port 8000``."""

import argparse
import asyncio
import contextlib
import hmac
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from reason_envs.core import Environment
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import ENGINES
from reason_envs.registration import make_environment
from reason_envs.registry import command_parser, parse_options
from reason_envs.validation import at_least, require, within

TOKEN = "REASON_ENVS_TOKEN"
"""Environment variable with the token; an argument would be visible to every user of the machine."""
MAX_MESSAGE_BYTES = 1 << 20
"""Maximum size of a client's message in bytes."""
REQUEST_SECONDS = 10
"""Maximum time in seconds to send the body of a request."""
REFUSALS = {
    401: "Wrong or missing token.\n",
    403: "Web pages are refused.\n",
    408: f"The body did not arrive within {REQUEST_SECONDS} seconds.\n",
    413: f"The body has more than {MAX_MESSAGE_BYTES} bytes.\n",
}
"""Answer to a refused request by HTTP status."""
SHUTDOWN_SECONDS = 1
"""Seconds for which a stopping server waits for HTTP requests. Sessions are closed at once."""


class Guard:
    """Accepts small requests that contain the token. Without a token, it accepts those that no other web page has sent.

    Otherwise a web page in a browser on this machine could reach a server on loopback. Browsers mark such requests with
    the header ``Origin``. Clients send the token as ``Authorization: Bearer TOKEN``; if it is empty, none is needed.
    """

    def __init__(self, app: Any, token: str) -> None:
        self.app = app
        self.expected = f"Bearer {token}".encode() if token else b""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it before a session starts."""
        # Only a stopping server cancels, and uvicorn would print a traceback for each running step.
        with contextlib.suppress(asyncio.CancelledError):
            status = 0
            if scope["type"] != "lifespan" and not self.admits(dict(scope["headers"])):
                status = 401 if self.expected else 403
            elif scope["type"] == "http":
                receive, status = await _with_body(receive)
            if not status:
                await self.app(scope, receive, send)
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close"})  # before it is accepted: the client gets status 403
            else:
                from starlette.responses import PlainTextResponse

                await PlainTextResponse(REFUSALS[status], status, {"connection": "close"})(scope, receive, send)

    def admits(self, headers: dict[bytes, bytes]) -> bool:
        """Whether a request with these headers is accepted. Every wrong token takes the same time."""
        if not self.expected:  # another host is a web page's name for this machine (DNS rebinding)
            host = headers.get(b"host", b"localhost").decode("latin-1")
            own = headers.get(b"origin") in (None, b"http://" + headers.get(b"host", b""))  # the server's page at /web
            return own and _is_loopback((host.rpartition(":")[0] or host).strip("[]"))
        return hmac.compare_digest(headers.get(b"authorization", b""), self.expected)


async def _with_body(receive: Any) -> tuple[Any, int]:
    """Receive a request's body within the limits; return a function that replays it, and a refusal's status or 0."""
    body, message = b"", {"type": "http.request", "more_body": True}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REQUEST_SECONDS):
            while message.get("more_body") and len(body) <= MAX_MESSAGE_BYTES:
                message = await receive()
                body += message.get("body", b"")
    if len(body) > MAX_MESSAGE_BYTES:
        return receive, 413
    if message["type"] != "http.request" or message.get("more_body"):
        return receive, 408
    messages = [{"type": "http.request", "body": body}]

    async def replay() -> Any:
        return messages.pop() if messages else await receive()

    return replay, 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = command_parser(__file__, "serve.yaml").parse_args(arguments)
    token = os.environ.get(TOKEN, "")
    try:  # a wrong value, a missing package or an unprotected server is found before a model is loaded
        within(options, port=(0, 65535))
        at_least(options, max_sessions=1, session_timeout=1)
        require("Serving", "openenv")
        if not token and not _is_loopback(options.host):
            raise ReasonEnvsError(
                f"--host {options.host} allows other machines to run your models: set {TOKEN} to a secret that clients "
                "send as 'Authorization: Bearer SECRET', or use --host 127.0.0.1."
            )
        with _bind(options.host, options.port) as listener:
            engine = engine_options(options.engine) if options.engine else []
            environment = make_environment(options.environment, **parse_options([*engine, *options.option]))
            _serve(environment, listener, options, token)
    except ReasonEnvsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while a model was loaded
        return 130
    return 0


def engine_options(name: str) -> list[str]:
    """Convert ``--engine`` to options: the name of an engine, or a model for the transformers engine."""
    return [f"engine.name={name}"] if name in ENGINES.names() else ["engine.name=transformers", f"engine.model={name}"]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bind(host: str, port: int) -> socket.socket:
    """Bind the address before a model is loaded. Clients cannot connect yet."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ReasonEnvsError(
            f"Cannot serve on --host {host} --port {port}: {error.strerror}. Choose another port (0 for a free one) or "
            "an address of this machine."
        ) from error
    return listener


def _serve(environment: Environment, listener: socket.socket, options: argparse.Namespace, token: str) -> None:
    import uvicorn

    from reason_envs.adapters.connections import LimitedProtocol
    from reason_envs.adapters.openenv import make_app

    app = Guard(make_app(environment, options.max_sessions, options.session_timeout), token)
    config = uvicorn.Config(
        app,
        http=LimitedProtocol,
        log_level="warning",
        ws_max_size=MAX_MESSAGE_BYTES,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    listener.listen(config.backlog)  # clients may connect as soon as they read the line below
    server = uvicorn.Server(config)
    for number in (signal.SIGINT, signal.SIGTERM):  # before uvicorn handles them, and when it passes them on
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    host, port = listener.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    print(f"Serving {options.environment} on http://{address}:{port} ({options.max_sessions} sessions)", flush=True)
    try:
        server.run(sockets=[listener])
    finally:
        environment.close()


if __name__ == "__main__":
    sys.exit(main())
