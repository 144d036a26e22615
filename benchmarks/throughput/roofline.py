"""The limit of a machine: the seconds that the matrix products of a training step need at least.

A token costs 2 floating-point operations per parameter in a forward pass. A backward pass costs twice the forward pass
if all weights are trained, and once if only an adapter is trained. A prompt that several responses share counts once,
and the head counts at response tokens only. The speed is that of a large matrix product, measured in the same process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch

SIZE = 2048
"""Rows and columns of the matrices whose product is measured."""
REPEATS = 10


def matrix_speed(dtype: str) -> float:
    """Return the floating-point operations per second of the fastest of several large matrix products."""
    left, right = (torch.ones(SIZE, SIZE, dtype=getattr(torch, dtype)) for _ in range(2))
    fastest = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        torch.mm(left, right)
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * SIZE**3 / fastest


def limits(policy: Any, trajectories: Sequence[Any], speed: float) -> dict[str, float]:
    """Return the shortest possible seconds of each section of a step, keyed ``limit of SECTION``."""
    choices = [decision.choice for trajectory in trajectories for decision in trajectory.decisions]
    prompts = sum(map(len, {tuple(choice.prompt_ids) for choice in choices}))
    responses = sum(len(choice.token_ids) for choice in choices)
    head = policy.model.get_output_embeddings().weight.numel()
    inputs = policy.model.get_input_embeddings().weight.numel()
    tied = policy.model.get_output_embeddings().weight is policy.model.get_input_embeddings().weight
    decoder = sum(p.numel() for p in policy.model.parameters()) - inputs - (0 if tied else head)
    forward = 2 * (decoder * (prompts + responses) + head * responses) / speed
    backward = forward if policy.uses_lora else 2 * forward
    return {
        "limit of generation": forward,
        "limit of log-probs": forward,
        "limit of loss and backward": backward,
        "teraflops": speed / 1e12,
    }


def roofline_table(rows: Sequence[dict[str, Any]], sections: Sequence[str]) -> str:
    """Return the shortest possible seconds and the fraction of the limit of each section, as a markdown table."""
    if not rows:
        return ""
    measured = (part for s in sections for part in (f"{s}: limit (s)", "fraction"))
    columns = ("lengths", "train", "side", "teraflop/s", *measured)
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        limit = [statistics.median(step[f"limit of {s}"] for step in row["steps"]) for s in sections]
        fraction = [statistics.median(step[f"limit of {s}"] / step[s] for step in row["steps"]) for s in sections]
        cells = [f"{part:.2f}" for pair in zip(limit, fraction, strict=True) for part in pair]
        speed = statistics.median(step["teraflops"] for step in row["steps"])
        lines.append(f"| {row['lengths']} | {row['train']} | {row['side']} | {speed:.3f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
