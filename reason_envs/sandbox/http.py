"""The sandbox that runs programs on a server with SandboxFusion's ``/run_code`` interface."""

import json
import socket
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Timer
from typing import Any
from urllib.parse import SplitResult, urlsplit

from reason_envs.errors import EngineError, OptionError
from reason_envs.sandbox.base import Outcome, Program, Sandbox, SandboxConfig
from reason_envs.sandbox.remote import unwrap, wrap
from reason_envs.sandbox.values import without_surrogates
from reason_envs.validation import HTTP_URL, limited


@dataclass
class HttpConfig(SandboxConfig):
    """Options of ``sandbox=http``."""

    url: str = "http://localhost:8080"
    """Address of the server, without ``/run_code``."""
    workers: int | None = 16
    """Maximum number of requests at the same time; ``None``: the number of processors."""
    overhead_seconds: float = limited(30.0, at_least=0)
    """Additional time per request in seconds, including the wait in the server's queue."""
    attempts: int = limited(4, at_least=1)
    """Maximum number of attempts per request. After the last one, a server that is down or busy is an error."""
    wait_seconds: float = limited(1.0, at_least=0)
    """Wait before the second attempt in seconds. It doubles with each attempt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not HTTP_URL.fullmatch(self.url):
            raise OptionError("url", self.url, "must be the address of the server, such as http://localhost:8080.")


class HttpSandbox(Sandbox):
    """Runs programs on a server, which enforces the limits and isolates the programs."""

    def __init__(self, config: HttpConfig | None = None) -> None:
        self.config = config or HttpConfig()
        super().__init__(self.config.workers, self.config.output_bytes)

    def execute(self, program: Program) -> Outcome:
        """Run a program.

        Raises:
            EngineError: the server cannot be reached or failed. This is never reported as an outcome.
        """
        text, marker = wrap(program)
        body = {
            "code": text,
            "language": "python",
            "run_timeout": program.limits.seconds,
            "memory_limit_MB": program.limits.memory_mb,
        }
        max_bytes = 8 * program.limits.output_bytes + 2**16  # escaped characters, and the other fields
        reply = self._post(body, program.limits.seconds + self.config.overhead_seconds, max_bytes)
        if reply is None:
            return Outcome("output", reason=f"more than {program.limits.output_bytes} bytes of output")
        result = reply["run_result"] if isinstance(reply.get("run_result"), dict) else {}
        is_late = result.get("status") == "TimeLimitExceeded"
        if reply.get("status") == "SandboxError" or not (is_late or isinstance(result.get("stdout"), str)):
            raise EngineError(
                f"The sandbox server {self.config.url} failed: {str(reply.get('message') or reply)[:300]!r}."
            )
        stdout, stderr = (without_surrogates(str(result.get(name) or "")) for name in ("stdout", "stderr"))
        took = result.get("execution_time")
        seconds = float(took) if isinstance(took, float | int) and 0 <= took < 1e6 else 0.0
        if is_late:
            reason = f"more than {program.limits.seconds:g} seconds"
            return Outcome("timeout", stdout[: program.limits.output_bytes], stderr[-2000:], (), seconds, reason)
        incomplete = f"it ended with status {result.get('return_code')} before its results"
        return unwrap(program, marker, stdout, stderr, seconds, incomplete)

    def _post(self, body: dict[str, Any], limit: float, max_bytes: int) -> dict[str, Any] | None:
        """Send a request, and repeat it after a wait while the server is down, is busy, or sends invalid responses.

        Returns:
            The reply; ``None`` if it has more than ``max_bytes`` bytes.
        """
        address = f"{self.config.url.rstrip('/')}/run_code"
        problem: Exception | str = ""
        for attempt in range(self.config.attempts):
            time.sleep(self.config.wait_seconds * 2 ** (attempt - 1) if attempt else 0)
            try:
                status, answer = _exchange(urlsplit(address), json.dumps(body).encode(), limit, max_bytes + 1)
                problem = f"status {status}"
                if status != 200 and status not in (429, 500, 502, 503, 504):
                    break
                if status == 200 and len(answer) > max_bytes:
                    return None
                if status == 200 and isinstance(reply := json.loads(answer), dict):
                    return reply
            except (OSError, ValueError, RecursionError, HTTPException) as error:
                problem = error
        raise EngineError(
            f"The sandbox server {address} did not answer ({problem}; limit {limit:g} s). Check that SandboxFusion "
            "runs there, and that the option url is correct."
        )


def _exchange(address: SplitResult, data: bytes, limit: float, max_bytes: int) -> tuple[int, bytes]:
    """Send one request; return the status and the first bytes of the answer. A slow server is cut off at the limit."""
    kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
    with closing(kind(address.netloc, timeout=limit)) as connection, ExitStack() as stack:
        connection.connect()
        watchdog = Timer(limit, connection.sock.shutdown, [socket.SHUT_RDWR])
        stack.callback(watchdog.cancel)
        watchdog.start()
        connection.request("POST", address.path, data, {"Content-Type": "application/json"})
        response = stack.enter_context(closing(connection.getresponse()))
        return response.status, response.read(max_bytes)
