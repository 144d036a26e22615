"""Text of a workflow: the problem, the program, the calls of its operators, and the reward."""

from collections.abc import Mapping
from typing import Any

from reason_envs.envs.workflow.execution import Outcome
from reason_envs.sandbox.values import shown
from reason_envs.tasks.base import Task

WIDTH = 160
"""Maximum number of characters of a value."""


def draw(task: Task, outcome: Outcome | None, reward: float | None) -> str:
    """Return the current episode as text."""
    lines = [f"Problem: {task.question}"]
    if outcome is None:
        return lines[0]
    lines.append(outcome.program.source or "(no program)")
    lines += [f"repaired: {repair}" for repair in outcome.program.repairs]
    for number, call in enumerate(outcome.calls, 1):
        lines.append(f"{number}. {call.operator}({_values(call.fields)})")
        lines.append(f"   -> {_values(call.outputs)}")
    ended = f"Answer: {_short(outcome.answer)}" if outcome.verdict == "ok" else f"{outcome.verdict}: {outcome.error}"
    used = f"{outcome.executor_calls} executor calls, {outcome.generated_tokens} tokens, cost {outcome.cost:.6f}"
    return "\n".join([*lines, ended, f"Reward: {reward} ({used})"])


def _values(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    text = shown(value, WIDTH + 1, repr)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"
