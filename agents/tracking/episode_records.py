"""Episodes as a run keeps them for people: one schema whatever the environment, and the same as text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from agents.trajectory import Decision, Trajectory
from reason_envs.core import Message
from reason_envs.tasks.base import Task
from reason_envs.views import CallView, GridView, TreeView, TurnView

FOLDER = "validate"
"""Where a run keeps them: ``step_N.json`` for each evaluation."""
MOST_CHARS = 20_000
"""Longest text that is kept whole."""


@dataclass(frozen=True)
class TurnRecord:
    """One decision."""

    agent: str
    """Who decided."""
    prompt: list[Message]
    """What a language policy read; empty for others."""
    response: str
    """What was chosen, as text."""
    reward: float
    """What it earned."""
    tokens: int
    """Tokens that were generated for it."""
    cut_off: bool
    """Whether the response was longer than allowed."""
    outcome: str
    """What came of it, where the environment tells."""
    grid: GridView | None
    """The picture after it, where there is one and it changed."""


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode."""

    task: str
    """The problem's id."""
    question: str
    """The problem."""
    answer: str
    """Its right answer."""
    correct: float | None
    """1 where it was solved; between 0 and 1 where that is a share; ``None`` where the environment does not tell."""
    reward: float
    """What all agents earned."""
    tokens: int
    """Every token that was generated for it."""
    truncated: bool
    """Whether a limit cut it off."""
    turns: list[TurnRecord]
    """The decisions of its path."""
    facts: dict[str, str]
    """What else the environment told in the end."""
    tree: TreeView | None
    """The search tree, where there is one."""
    grid: GridView | None
    """The picture before the first decision, where there is one."""
    program: str
    """The program that was run, where it is not the response itself."""
    calls: list[CallView]
    """Calls of frozen models and operators."""


def record(trajectory: Trajectory, task: Task) -> EpisodeRecord:
    """Return an episode as it is kept."""
    view, path = trajectory.view, trajectory.path
    told = list(view.turns) if view is not None else []
    told += [TurnView()] * (len(path) - len(told))
    return EpisodeRecord(
        task=task.id,
        question=task.question,
        answer=task.answer,
        correct=trajectory.metrics.get("correct"),
        reward=trajectory.total_reward,
        tokens=trajectory.generated_tokens,
        truncated=trajectory.truncated,
        turns=[_turn(decision, turn) for decision, turn in zip(path, told, strict=False)],
        facts={name: text for name, text in trajectory.facts.items() if name != "task_id"},
        tree=view.tree if view is not None else None,
        grid=view.grid if view is not None else None,
        program=view.program if view is not None else "",
        calls=view.calls if view is not None else [],
    )


def _turn(decision: Decision, told: TurnView) -> TurnRecord:
    choice = decision.choice
    return TurnRecord(
        agent=decision.agent,
        prompt=decision.messages,
        response=choice.text,
        reward=decision.reward,
        tokens=choice.generated_tokens,
        cut_off=choice.finish_reason == "length",
        outcome=told.outcome,
        grid=told.grid,
    )


def evaluation_record(
    step: int, trajectories: Sequence[Trajectory], tasks: Sequence[Task], samples: int, most: int
) -> dict[str, Any]:
    """Return what a run keeps of an evaluation.

    Args:
        step: training steps before it.
        trajectories: its episodes, ``samples`` in a row for each task.
        tasks: the problems.
        samples: episodes a task.
        most: episodes to keep, one of each of the first tasks.

    Returns:
        ``step``, ``correct`` (the share of right samples of every task), and ``episodes`` (see ``EpisodeRecord``).
    """
    groups = [trajectories[i : i + samples] for i in range(0, len(trajectories), samples)]
    return {
        "step": step,
        "correct": [fmean(t.metrics["correct"] for t in group) for group in groups],
        "episodes": [plain(record(group[0], task)) for group, task in list(zip(groups, tasks, strict=True))[:most]],
    }


def plain(episode: EpisodeRecord) -> dict[str, Any]:
    """Return a record as JSON holds it: long texts are cut, what is empty is left out."""
    whole: dict[str, Any] = _plain(asdict(episode))
    return whole


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MOST_CHARS else f"{value[:MOST_CHARS]}… ({len(value):,} characters)"
    if isinstance(value, Mapping):
        parts = {str(name): _plain(part) for name, part in value.items()}
        return {name: part for name, part in parts.items() if part not in (None, "", [], {})}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else str(value)


def write_evaluation(folder: Path, evaluation: Mapping[str, Any]) -> None:
    """Write an evaluation into a run's folder, whole or not at all."""
    path = folder / FOLDER / f"step_{evaluation['step']}.json"
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    text = json.dumps(evaluation, ensure_ascii=False, allow_nan=False)
    # Lone surrogates, which some decoders leave, cannot be written to a file.
    partial.write_bytes(text.encode("utf-8", "replace"))
    partial.replace(path)


def recorded(folder: Path) -> dict[int, Path]:
    """Return the files of the evaluations that a run's folder holds, by their steps."""
    named = [(path.stem.removeprefix("step_"), path) for path in (folder / FOLDER).glob("step_*.json")]
    return dict(sorted((int(step), path) for step, path in named if step.isdecimal()))
