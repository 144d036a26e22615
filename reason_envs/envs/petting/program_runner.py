"""Runner of the programs that a role writes: in the sandbox only."""

from dataclasses import dataclass

from reason_envs.rewards.code.grade import extract_code
from reason_envs.sandbox import Program, Sandbox


@dataclass(frozen=True)
class Printed:
    """Output of a role's program."""

    text: str
    """Printed text; empty unless the program ran to its end."""
    trouble: str = ""
    """Reason that there is no output: ``empty``, or the status and reason of the sandbox; empty on success."""
    count: str = ""
    """Counter that the failure increases; empty on success."""


class ProgramRunner:
    """Runs programs with a time limit in seconds. All forks of an environment share it."""

    def __init__(self, sandbox: Sandbox, seconds: float) -> None:
        self.sandbox = sandbox
        self.limits = sandbox.limits_for(seconds)

    async def print_of(self, response: str, preamble: str = "") -> Printed:
        """Run the program in a response after a ``preamble``, lines that define its variables."""
        code = extract_code(response)
        if not code.strip():
            return Printed("", "empty", "unparsable_actions")
        outcome = await self.sandbox.run(Program(f"{preamble}\n{code}", limits=self.limits))
        if outcome.status == "ok":
            return Printed(outcome.stdout)
        timeout = outcome.status == "timeout"
        trouble = "timeout" if timeout else " ".join(f"{outcome.status}: {outcome.reason}".split())
        return Printed("", trouble, "program_timeouts" if timeout else "program_errors")
