"""Records of held-out episodes for the report of a run. All environments share one schema."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from agents.trajectory import Decision, Trajectory
from reason_envs.resources import replace_file
from reason_envs.tasks.base import Task
from reason_envs.views import EpisodeView, TurnView

FOLDER = "validate"
"""Subfolder of a run folder with one file ``step_N.json`` per evaluation."""
MAX_CHARS = 20_000
"""Maximum length of a recorded text in characters. The end of a longer text is cut."""


def record(trajectory: Trajectory, task: Task) -> dict[str, Any]:
    """Return the record of an episode. ``docs/reports.md`` lists its entries."""
    view, path = trajectory.view or EpisodeView(), trajectory.path
    turns = [*view.turns, *[TurnView()] * (len(path) - len(view.turns))]
    return {
        "task": task.id,
        "question": task.question,
        "answer": task.answer,
        "correct": trajectory.metrics.get("correct"),
        "reward": trajectory.total_reward,
        "tokens": trajectory.generated_tokens,
        "truncated": trajectory.truncated,
        "turns": [_turn(decision, turn) for decision, turn in zip(path, turns, strict=False)],
        "facts": {name: text for name, text in trajectory.facts.items() if name != "task_id"},
        "tree": view.tree,
        "grid": view.grid,
        "program": view.program,
        "calls": view.calls,
    }


def _turn(decision: Decision, view: TurnView) -> dict[str, Any]:
    choice = decision.choice
    return {
        "agent": decision.agent,
        "prompt": decision.messages,
        "response": choice.text,
        "reward": decision.reward,
        "tokens": choice.generated_tokens,
        "cut_off": choice.finish_reason == "length",
        "outcome": view.outcome,
        "grid": view.grid,
    }


def evaluation_record(
    step: int, trajectories: Sequence[Trajectory], tasks: Sequence[Task], samples: int, max_episodes: int
) -> dict[str, Any]:
    """Return the record of an evaluation after ``step`` training steps.

    The episodes are ``samples`` in a row for each task. The record has the ``step``, ``correct`` (mean grade of each
    task), and ``episodes`` (see `record`): the first episodes of the first ``max_episodes`` tasks.
    """
    groups = [trajectories[i : i + samples] for i in range(0, len(trajectories), samples)]
    shown = list(zip(groups, tasks, strict=True))[:max_episodes]
    return {
        "step": step,
        "correct": [fmean([t.metrics["correct"] for t in group if not t.failure] or [0.0]) for group in groups],
        "episodes": [plain(record(group[0], task)) for group, task in shown],
    }


def plain(value: Any) -> Any:
    """Convert a record to JSON types. Long texts are cut, and empty entries are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, str):
        return value if len(value) <= MAX_CHARS else f"{value[:MAX_CHARS]}… ({len(value):,} characters)"
    if isinstance(value, Mapping):
        parts = {str(name): plain(part) for name, part in value.items()}
        return {name: part for name, part in parts.items() if part not in (None, "", [], {})}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else str(value)


def write_evaluation(folder: Path, evaluation: Mapping[str, Any]) -> None:
    """Write the record of an evaluation into a run folder. The file is replaced atomically."""
    text = json.dumps(evaluation, ensure_ascii=False, allow_nan=False)
    replace_file(folder / FOLDER / f"step_{evaluation['step']}.json", text)


def recorded(folder: Path) -> dict[int, Path]:
    """Return the files of the recorded evaluations of a run folder by step, in order."""
    files = [(path.stem.removeprefix("step_"), path) for path in (folder / FOLDER).glob("step_*.json")]
    return dict(sorted((int(step), path) for step, path in files if step.isdecimal()))
