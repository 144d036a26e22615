"""Results of checks, and their presentation."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Status = Literal["pass", "FAIL", "n/a"]


@dataclass(frozen=True)
class CheckResult:
    """Result of one check."""

    name: str
    """Name of the check."""
    status: Status
    """Outcome: ``pass``, ``FAIL``, or ``n/a`` if the check does not apply to the environment."""
    detail: str
    """Observed behaviour, in one sentence."""
    fix: str = ""
    """Sentence that says how to fix a failure; empty if there is none."""


class CheckFailure(Exception):
    """An environment breaks a rule; an empty ``fix`` stands for the general fix of the check."""

    def __init__(self, detail: str, fix: str = "") -> None:
        super().__init__(detail)
        self.detail, self.fix = detail, fix


class NotApplicable(Exception):
    """A check does not apply; the message gives the reason."""


def verdict(name: str, results: Sequence[CheckResult]) -> str:
    """Format results: a line per check, the fix below a failure, and a summary."""
    width = max(len(result.name) for result in results)
    lines = [name]
    for result in results:
        lines.append(_paragraph(f"{result.status:4}  {result.name:{width}}  ", result.detail))
        if result.fix:
            lines.append(_paragraph(" " * (width + 8) + "fix: ", result.fix))
    failed = [result.name for result in results if result.status == "FAIL"]
    passed = sum(result.status == "pass" for result in results)
    lines.append(f"{len(failed)} failed ({', '.join(failed)})" if failed else f"all {passed} checks that apply passed")
    return "\n".join(lines)


def _paragraph(start: str, text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 120, initial_indent=start, subsequent_indent=" " * len(start))
