"""Runs programs on a server that speaks SandboxFusion's ``/run_code``."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from reason_envs.errors import ReasonEnvsError
from reason_envs.sandbox.base import Outcome, Program, Sandbox
from reason_envs.sandbox.remote import unwrap, wrap


@dataclass
class HttpConfig:
    """Options of the HTTP sandbox."""

    url: str = "http://localhost:8080"
    """Address of the server, without ``/run_code``."""
    workers: int = 16
    """Most requests at once."""
    overhead_seconds: float = 30.0
    """Time that a request may take beyond the program's own, its waiting at the server included."""
    attempts: int = 4
    """How often a request is made before a server that is down or busy is an error."""
    wait_seconds: float = 1.0
    """Wait before the second attempt; it doubles from one to the next."""


class HttpSandbox(Sandbox):
    """General Python on a server, which sees to memory, processes and everything else that seals a program."""

    def __init__(self, config: HttpConfig | None = None) -> None:
        self.config = config or HttpConfig()
        if urlsplit(self.config.url).scheme not in ("http", "https"):
            raise ReasonEnvsError(f"url={self.config.url!r}: write http:// or https:// and the server's address.")
        super().__init__(self.config.workers)

    def execute(self, program: Program) -> Outcome:
        """Run a program; a server that cannot be reached is an error, never a verdict."""
        text, marker = wrap(program)
        body = {
            "code": text,
            "language": "python",
            "run_timeout": program.limits.seconds,
            "memory_limit_MB": program.limits.memory_mb,
        }
        most = 8 * program.limits.output_bytes + 2**16  # escaped characters and the frame of the reply
        reply = self._post(body, program.limits.seconds + self.config.overhead_seconds, most)
        if reply is None:
            return Outcome("output", reason=f"more than {program.limits.output_bytes} bytes of output")
        result = reply.get("run_result")
        if reply.get("status") == "SandboxError" or not isinstance(result, dict):
            raise ReasonEnvsError(f"The sandbox server {self.config.url} failed: {str(reply.get('message'))[:300]!r}.")
        stdout, stderr = (str(result.get(name) or "") for name in ("stdout", "stderr"))
        seconds = float(result.get("execution_time") or 0.0)
        if result.get("status") == "TimeLimitExceeded":
            reason = f"more than {program.limits.seconds:g} seconds"
            return Outcome("timeout", stdout[: program.limits.output_bytes], stderr[-2000:], (), seconds, reason)
        unsaid = f"it ended with status {result.get('return_code')} before its results"
        return unwrap(program, marker, stdout, stderr, seconds, unsaid)

    def _post(self, body: dict[str, Any], limit: float, most: int) -> dict[str, Any] | None:
        """Post a request, again after a wait while the server is down, busy or answers nonsense.

        ``None``: the answer has more than ``most`` bytes.
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
                    answer = response.read(most + 1)
                reply = json.loads(answer) if len(answer) <= most else None
            except urllib.error.HTTPError as error:
                error.close()  # it is an open response
                problem = error
                if error.code not in (429, 500, 502, 503, 504):
                    break
            except (OSError, ValueError) as error:
                problem = error
            else:
                if reply is None or isinstance(reply, dict):
                    return reply
                problem = ValueError(f"no JSON object: {reply!r:.80}")
        raise ReasonEnvsError(
            f"The sandbox server {address} gave no answer ({problem}): is SandboxFusion running there, and is "
            "sandbox.url right?"
        ) from problem
