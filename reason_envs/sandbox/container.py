"""The sandbox that runs programs in containers, with the command line of docker or podman."""

import shutil
import subprocess
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from time import monotonic

from reason_envs.errors import EngineError
from reason_envs.sandbox.base import Outcome, Program, Sandbox, SandboxConfig
from reason_envs.sandbox.remote import unwrap, wrap

COMMANDS = ("docker", "podman")
KILLED = 137
"""Exit status of a container that was killed from outside because of its time or memory."""


@dataclass
class ContainerConfig(SandboxConfig):
    """Options of ``sandbox=container``."""

    image: str = "python:3.11-slim"
    """Image that contains ``python``. It must be pulled beforehand."""
    command: str | None = None
    """Command that runs containers: ``docker``, ``podman``, or a path; ``None``: the first of these on PATH."""
    runtime: str | None = None
    """Container runtime, such as ``runsc`` for gVisor; ``None``: the default of the command."""
    start_seconds: float = 10.0
    """Additional time in seconds for the start and the removal of a container."""


class ContainerSandbox(Sandbox):
    """Runs each program in a new container, with the Python and the packages of the image."""

    def __init__(self, config: ContainerConfig | None = None) -> None:
        self.config = config or ContainerConfig()
        super().__init__(self.config.workers, self.config.output_bytes)

    def execute(self, program: Program) -> Outcome:
        """Run a program. Its time includes the start of the container."""
        text, marker = wrap(program)
        max_bytes = 2 * program.limits.output_bytes + len(marker)
        name = f"reason_envs_{uuid.uuid4().hex}"
        start = monotonic()
        with tempfile.TemporaryFile() as source:
            source.write(text.encode())
            source.seek(0)
            command = self._run_command(name, program)
            process = subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with process, ThreadPoolExecutor(2) as readers:
            # A program that writes more than is read blocks until its time is over.
            outputs = [readers.submit(stream.read, max_bytes) for stream in (process.stdout, process.stderr) if stream]
            is_late = bool(wait(outputs, program.limits.seconds + self.config.start_seconds).not_done)
            if is_late or any(len(output.result()) == max_bytes for output in outputs):
                subprocess.run([self._path, "rm", "-f", name], capture_output=True)
                process.kill()
            stdout, stderr = (output.result().decode("utf-8", "replace") for output in outputs)
            code = process.wait()
        seconds = monotonic() - start
        ending = unwrap(program, marker, stdout, stderr, seconds, f"it ended with status {code} before its results")
        if ending.status != "killed":
            return ending
        if is_late or seconds >= program.limits.seconds:
            return replace(ending, status="timeout", reason=f"more than {program.limits.seconds:g} seconds")
        self._check_image(self._path)  # a stopped service is not the fault of the program
        return replace(ending, status="memory", reason="killed, as for memory") if code == KILLED else ending

    def _run_command(self, name: str, program: Program) -> list[str]:
        limits = program.limits
        options = {
            "name": name,
            "network": "none",
            "memory": f"{limits.memory_mb}m",
            "memory-swap": f"{limits.memory_mb}m",
            "pids-limit": str(limits.processes + 1),
            "cap-drop": "ALL",
            "security-opt": "no-new-privileges",
            "user": "65534:65534",
            "log-driver": "none",
            "env": "PYTHONHASHSEED=0",
            **({"runtime": self.config.runtime} if self.config.runtime else {}),
        }
        flags = [f"--{option}={value}" for option, value in options.items()]
        inside = ["timeout", "-s", "KILL", f"{limits.seconds:g}", "python", "-s", "-P", "-B", "-X", "utf8", "-"]
        return [self._path, "run", "--rm", "-i", "--read-only", *flags, self.config.image, *inside]

    def _check_image(self, path: str) -> None:
        done = subprocess.run([path, "image", "inspect", self.config.image], capture_output=True, text=True)
        if done.returncode:
            raise EngineError(
                f"{path} cannot use the image {self.config.image!r}: {done.stderr.strip()[-300:]} "
                f"Start its service and run '{Path(path).name} pull {self.config.image}'."
            )

    @cached_property
    def _path(self) -> str:
        """Path of the command, which has the image."""
        names = (self.config.command,) if self.config.command else COMMANDS
        found = [path for name in names if (path := shutil.which(name))]
        if not found:
            raise EngineError(
                f"The container sandbox does not find {' or '.join(names)} on PATH. Install it, or use the sandbox "
                "monty or native."
            )
        self._check_image(found[0])
        return found[0]
