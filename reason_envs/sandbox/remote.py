"""Wrapping of programs for sandboxes that run a source text and return only its output."""

import secrets

from reason_envs.resources import read_text
from reason_envs.sandbox.base import Outcome, Program
from reason_envs.sandbox.values import finished


def wrap(program: Program) -> tuple[str, str]:
    """Wrap a program so that its values are printed after a marker.

    The marker separates printed text from values. A program that finds the marker can forge its values, but it can
    forge its own values in any case.

    Returns:
        The source text to run, and the marker.
    """
    marker = f"--- values {secrets.token_hex(16)} ---"
    runner = read_text(__file__, "runner.py")
    call = f"run_after_marker({program.source!r}, {program.stdin!r}, {list(program.expressions)!r}, {marker!r})"
    return f"{runner}\n\n{call}\n", marker


def unwrap(program: Program, marker: str, stdout: str, stderr: str, seconds: float, why_incomplete: str) -> Outcome:
    """Return the outcome of a wrapped program from its output and the marker that `wrap` returned.

    ``why_incomplete`` is the reason of the outcome if the results are incomplete.
    """
    printed, _, results = stdout.partition(marker)
    limit = program.limits.output_bytes
    if max(len(printed.encode()), len(results.encode())) > limit:
        return Outcome("output", printed[:limit], stderr[-2000:], (), seconds, f"more than {limit} bytes of output")
    return finished(results, printed, stderr[-2000:], seconds, why_incomplete)
