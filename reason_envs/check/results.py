"""What a check of an environment says."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Status = Literal["pass", "FAIL", "n/a"]


@dataclass(frozen=True)
class CheckResult:
    """The verdict of one check."""

    name: str
    """Which check."""
    status: Status
    """``pass``, ``FAIL``, or ``n/a`` where the environment has nothing to check."""
    detail: str
    """What was seen."""
    fix: str = ""
    """What to do about a failure."""


class CheckFailure(Exception):
    """A promise that an environment does not keep.

    Args:
        detail: what was seen.
        fix: what to do about it; by default what the check itself advises.
    """

    def __init__(self, detail: str, fix: str = "") -> None:
        super().__init__(detail)
        self.detail, self.fix = detail, fix


class NotApplicable(Exception):
    """A check has nothing to look at; its text says why."""


def verdict(name: str, results: Sequence[CheckResult]) -> str:
    """Write results for people: one line a check, what to do below a failure, and the sum."""
    width = max(len(result.name) for result in results)
    lines = [name]
    for result in results:
        lines.append(_paragraph(f"{result.status:4}  {result.name:{width}}  ", result.detail))
        if result.fix:
            lines.append(_paragraph(" " * (width + 8) + "fix: ", result.fix))
    failed = [result.name for result in results if result.status == "FAIL"]
    passed = sum(result.status == "pass" for result in results)
    lines.append(f"{len(failed)} failed ({', '.join(failed)})" if failed else f"all {passed} that apply passed")
    return "\n".join(lines)


def _paragraph(start: str, text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 120, initial_indent=start, subsequent_indent=" " * len(start))
