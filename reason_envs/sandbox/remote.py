"""Programs for sandboxes elsewhere, which run a text and give back what it printed."""

from __future__ import annotations

import secrets
from pathlib import Path

from reason_envs.sandbox.base import Outcome, Program
from reason_envs.sandbox.values import finished


def wrap(program: Program) -> tuple[str, str]:
    """Return a text that runs a program and prints what it evaluates to after a marker, and the marker.

    The marker only tells printed text and values apart. A program that finds it out can lie about its own values, which
    it can in any case.
    """
    marker = f"--- values {secrets.token_hex(16)} ---"
    runner = Path(__file__).with_name("runner.py").read_text(encoding="utf-8")
    call = f"run_after_marker({program.source!r}, {program.stdin!r}, {list(program.expressions)!r}, {marker!r})"
    return f"{runner}\n\n{call}\n", marker


def unwrap(program: Program, marker: str, stdout: str, stderr: str, seconds: float, why_unsaid: str) -> Outcome:
    """Build the outcome from what a wrapped program printed.

    Args:
        program: what was run.
        marker: what ``wrap`` returned.
        stdout: all of its standard output.
        stderr: its standard error.
        seconds: how long it took.
        why_unsaid: the reason to give where the program did not reach its end.
    """
    printed, _, results = stdout.partition(marker)
    most = program.limits.output_bytes
    if max(len(printed.encode()), len(results.encode())) > most:
        reason = f"more than {most} bytes of output"
        return Outcome("output", printed[:most], stderr[-2000:], (), seconds, reason)
    return finished(results, printed, stderr[-2000:], seconds, why_unsaid)
