"""Data of the page of a run, read from its folder."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from agents.config.schema import flat
from agents.evaluation.intervals import share_interval
from agents.tracking.episode_records import FOLDER, recorded
from agents.tracking.metrics_file import Row, read_rows, series
from agents.tracking.run_record import read_record
from reason_envs.errors import ReasonEnvsError, reading

MAX_POINTS = 1000
"""Approximate maximum number of points of a curve. Longer curves show every k-th point."""
MAX_RECORDINGS = 5
"""Maximum number of evaluations with episodes. Of more, the first, the last and some between are shown."""


def run_data(folder: Path) -> dict[str, Any]:
    """Return the data of the page of a run.

    Raises:
        ReasonEnvsError: the folder is not a run folder, or a file in it cannot be read.
    """
    metrics = folder / "metrics.jsonl"
    if not metrics.is_file():
        started = " The run ended before its first metrics: see train.log." if (folder / "train.log").exists() else ""
        raise ReasonEnvsError(
            f"{folder} is not a run folder: metrics.jsonl is missing. Give a folder that agents.train wrote.{started}"
        )
    with reading(folder, "Fix or delete the damaged file there: config.yaml, or the JSON file of an evaluation."):
        rows = read_rows(metrics)
        config_file = folder / "config.yaml"
        # A full disk may leave an empty file.
        config = (yaml.safe_load(config_file.read_text(encoding="utf-8")) if config_file.is_file() else None) or {}
        recordings = [_read(path) for path in recorded(folder).values()]
        results = _results(folder)
        shown = np.linspace(0, len(recordings) - 1, min(len(recordings), MAX_RECORDINGS))
        return {
            "name": folder.resolve().name,
            "facts": _facts(config, rows),
            "starts": read_record(folder).get("starts", []),
            "config": {key: str(value) for key, value in flat(config).items()} if config else {},
            "metrics": {name: _curve(rows, name) for name in dict.fromkeys(chain(*rows)) if name != "step"},
            "broken": dict(Counter(name for row in rows for name, value in row.items() if value is None)),
            "evaluations": _evaluations(rows, results),
            "gain": difference(*recordings[:: len(recordings) - 1]) if len(recordings) > 1 else None,
            "frontier": _frontier(results),
            "recordings": [recordings[i] for i in shown.round().astype(int)],
        }


def _facts(config: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Return environment, algorithm, policy, engine, model, seed, steps, seconds and tokens of a run."""
    named = {group: config[group]["name"] for group in ("env", "algo", "policy", "engine") if config.get(group)}
    model = config.get("policy", {}).get("model")
    seconds = sum(series(rows, "time/step")[1])
    tokens = series(rows, "tokens")[1]
    return {
        **named,
        **({"model": model} if model else {}),
        "seed": config.get("seed"),
        "steps": int(max((row["step"] or 0 for row in rows), default=0)),
        "planned": config.get("steps"),
        "seconds": round(seconds, 1),
        "tokens": tokens[-1] if tokens else None,
    }


def _curve(rows: Sequence[Row], name: str) -> list[list[float]]:
    """Return the steps and values of a metric. Of too many, every k-th and the last are kept."""
    steps, values = series(rows, name)
    stride = -(-len(steps) // MAX_POINTS)
    kept = sorted({*range(0, len(steps), max(1, stride)), len(steps) - 1} - {-1})
    return [[steps[i] for i in kept], [float(f"{values[i]:.6g}") for i in kept]]


def _evaluations(rows: Sequence[Row], results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the evaluations of the run, and those of policies that ``agents.evaluate`` wrote."""
    evaluated = [row for row in rows if row.get("eval/accuracy") is not None]
    own = [_evaluation(row["step"], {name.removeprefix("eval/"): row[name] for name in row}) for row in evaluated]
    found = {name: content.get("result") for name, content in results.items()}
    return own + [_evaluation(None, each, name) for name, each in found.items() if isinstance(each, Mapping)]


def _evaluation(step: float | None, metrics: Mapping[str, Any], label: str = "") -> dict[str, Any]:
    names = ("tasks", "samples", "accuracy", "accuracy_low", "accuracy_high", "greedy_accuracy", "pass_at_n", "reward")
    more = ("episode_length", "frac_no_answer", "mean_tokens")
    found = {name: metrics[name] for name in (*names, *more) if metrics.get(name) is not None}
    return {"step": step, "label": label, **found}


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the change in accuracy between two evaluations of the same problems, with its 95 % interval.

    Returns:
        ``mean``, ``low`` and ``high`` of the change, the number of ``tasks``, and the steps ``from`` and ``to``.
        ``None`` if the problems differ.
    """
    names = [[episode["task"] for episode in recording.get("episodes", ())] for recording in (before, after)]
    if len(before["correct"]) != len(after["correct"]) or any(a != b for a, b in zip(*names, strict=False)):
        return None
    change = np.array(after["correct"], float) - np.array(before["correct"], float)
    if change.any():
        # Changes are mapped to [0, 1], so that the interval has a width even if all problems changed by the same.
        low, high = (2 * end - 1 for end in share_interval((change + 1) / 2, seed=0))
    else:
        high = share_interval(change, seed=0)[1]
        low = -high
    ends = {"from": before["step"], "to": after["step"]}
    return {"mean": float(change.mean()), "low": low, "high": high, "tasks": len(change), **ends}


def _results(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Read the results that ``agents.evaluate`` wrote into the run folder, by file name."""
    evaluations = set(recorded(folder).values())
    paths = [*sorted(folder.glob("*.json")), *sorted((folder / FOLDER).glob("*.json"))]
    read = {path.stem: _read(path) for path in paths if path not in evaluations}
    return {name: content for name, content in read.items() if isinstance(content, Mapping)}


def _frontier(results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one curve per search method, from the results of ``agents.frontier output_file=...``."""
    found = [m["result"] for content in results.values() for m in content.get("methods", ())]
    curves: dict[str, list[dict[str, Any]]] = {}
    names = ("label", "accuracy", "accuracy_low", "accuracy_high", "generated_tokens")
    for result in sorted(found, key=lambda result: float(result["generated_tokens"])):
        curves.setdefault(result["method"], []).append({name: result[name] for name in names})
    return [{"name": name, "points": points} for name, points in curves.items()]


def _read(path: Path) -> Any:
    with reading(path, "It must be JSON: fix or delete the file."):
        return json.loads(path.read_text(encoding="utf-8"))
