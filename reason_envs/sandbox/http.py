"""The sandbox that runs programs on a server with SandboxFusion's ``/run_code`` interface."""

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from reason_envs.errors import EngineError, OptionError
from reason_envs.sandbox.base import Outcome, Program, Sandbox, SandboxConfig
from reason_envs.sandbox.remote import unwrap, wrap
from reason_envs.validation import limited


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
        if urlsplit(self.url).scheme not in ("http", "https"):
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
        result = reply.get("run_result")
        if reply.get("status") == "SandboxError" or not isinstance(result, dict):
            raise EngineError(f"The sandbox server {self.config.url} failed: {str(reply.get('message'))[:300]!r}.")
        stdout, stderr = (str(result.get(name) or "") for name in ("stdout", "stderr"))
        took = result.get("execution_time")
        seconds = float(took) if isinstance(took, float | int) and 0 <= took < 1e6 else 0.0
        if result.get("status") == "TimeLimitExceeded":
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
        data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        problem: Exception | None = None
        for attempt in range(self.config.attempts):
            if attempt:
                time.sleep(self.config.wait_seconds * 2 ** (attempt - 1))
            request = urllib.request.Request(address, data, headers)
            try:
                with urllib.request.urlopen(request, timeout=limit) as response:
                    answer = response.read(max_bytes + 1)
                reply = json.loads(answer) if len(answer) <= max_bytes else None
            except urllib.error.HTTPError as error:
                error.close()  # it is an open response
                problem = error
                if error.code not in (429, 500, 502, 503, 504):
                    break
            except (OSError, ValueError, RecursionError, HTTPException) as error:
                problem = error
            else:
                if reply is None or isinstance(reply, dict):
                    return reply
                problem = ValueError(f"not a JSON object: {reply!r:.80}")
        raise EngineError(
            f"The sandbox server {address} did not answer ({problem}). Check that SandboxFusion runs there, and that "
            "the option url is correct."
        ) from problem
