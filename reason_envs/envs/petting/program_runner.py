"""Running the programs that a role writes, on copies and in the sandbox only."""

from __future__ import annotations

from dataclasses import dataclass

from reason_envs.rewards.code.grade import extract_code
from reason_envs.sandbox import Limits, Program, Sandbox


@dataclass(frozen=True)
class Printed:
    """What became of a role's program."""

    text: str
    """What it printed; nothing unless it ran to its end."""
    trouble: str = ""
    """Why it has no result: ``empty``, or the sandbox's status and reason."""
    count: str = ""
    """What the trouble counts as."""


class ProgramRunner:
    """Runs programs with a time limit; shared by all forks of an environment."""

    def __init__(self, sandbox: Sandbox, seconds: float) -> None:
        """Store where and how long programs run.

        Args:
            sandbox: sandbox that runs the programs.
            seconds: maximum time of a program.
        """
        self.sandbox = sandbox
        self.limits = Limits(seconds=seconds)

    async def print_of(self, response: str, given: str = "") -> Printed:
        """Run the program of a response after ``given``, the lines that define what it may use."""
        code = extract_code(response)
        if not code.strip():
            return Printed("", "empty", "unparsable_actions")
        outcome = await self.sandbox.run(Program(f"{given}\n{code}", limits=self.limits))
        if outcome.status == "ok":
            return Printed(outcome.stdout)
        timeout = outcome.status == "timeout"
        trouble = "timeout" if timeout else " ".join(f"{outcome.status}: {outcome.reason}".split())
        return Printed("", trouble, "program_timeouts" if timeout else "program_errors")
