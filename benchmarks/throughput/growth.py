"""How do seconds and memory of a training step grow with its size? One curve per environment family and size.

    python -m benchmarks.throughput.growth             # half an hour on two quiet cores; resumable
    python -m benchmarks.throughput.growth --report    # measure nothing, make table and plot from the rows

Each point is a process with one thread, which takes 3 training steps of the embedded model and keeps the median of the
last 2. Trees are grown without training, 8 at once: a simulated generator, whose steps all differ, a real reward model
and the graph policy, whose choices are replaced by actions that add nodes. A curve is fitted by ``fixed + factor *
size ** exponent`` with the least relative error. An exponent of 1 means that twice the size costs twice as much.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).with_suffix("")
ROWS = FOLDER / "rows.jsonl"
SAMPLES = (8, 16, 32, 64, 128, 256, 512)
TREES = 8
"""Number of trees that grow at once."""
GRPO = ("algo=grpo", "algo.samples_per_task=8")
TASKS = "algo.tasks_per_step=SIZE"
COINS = "env.reward.name=random"
"""Random rewards, so that almost every group has a gradient."""
ENDLESS = "policy.model=ENDLESS"
TEAM = ("env=petting_plan_path", "algo=at_grpo")
Row = dict[str, Any]


@dataclass(frozen=True)
class Axis:
    """One curve: what is trained, and at which sizes."""

    sizes: tuple[int, ...]
    """Sizes of the points."""
    options: tuple[str, ...]
    """Options of `agents.train`. SIZE stands for the size, and ENDLESS for the folder of `endless_model`."""
    per_task: int = 1
    """SIZE is divided by this number."""

    def at(self, size: int, endless: Path) -> list[str]:
        """Return the options for a size."""
        words = {"SIZE": size // self.per_task, "ENDLESS": endless}
        pairs = (option.partition("=") for option in self.options)
        return [f"{key}={words.get(value, value)}" for key, _, value in pairs]


AXES: dict[str, Axis] = {
    "math: samples": Axis(SAMPLES, ("env=single_turn_math", *GRPO, TASKS, COINS), 8),
    "planner-solver: samples": Axis(SAMPLES, ("env=planner_solver", *GRPO, TASKS, COINS), 8),
    "workflow: samples": Axis(SAMPLES, ("env=workflow", *GRPO, TASKS, "env.reward=random"), 8),
    "team: samples": Axis(SAMPLES, (*TEAM, TASKS), 4),
    "tree: episodes": Axis(SAMPLES, ("env=reason_tree", "algo=ppo", TASKS)),
    "math: tokens per response": Axis(
        (32, 64, 128, 256, 512, 1024, 2048),
        ("env=single_turn_math", *GRPO, "algo.tasks_per_step=1", COINS, "policy.max_tokens=SIZE", ENDLESS),
    ),
    "team: turns": Axis(
        (2, 4, 8, 16, 32),
        (*TEAM, "algo.tasks_per_step=2", "env.max_turns=SIZE", "policy.max_tokens=16", ENDLESS),
    ),
    "tree: nodes": Axis((16, 32, 64, 128, 256, 512, 1024), ()),
}


def endless_model(folder: Path) -> None:
    """Save the embedded model with a logit of 0 for the token that ends responses, so that it is hardly ever drawn."""
    import torch

    from reason_envs.llm.loading import load_model, load_tokenizer

    model = load_model("embedded", device=torch.device("cpu"), dtype=torch.float32)
    tokenizer = load_tokenizer("embedded")
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.eos_token_id] = 0
    model.config.max_position_embeddings = 4096
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def trained(axis: Axis, size: int, folder: Path) -> Row:
    """Train in a process; return the seconds, MiB and tokens of a step."""
    if ENDLESS in axis.options:
        endless_model(folder / "model")
    fixed = (
        f"output_dir={folder}/run",
        "seed=0",
        "steps=3",
        "eval_every=0",
        "save_every=0",
        "algo.optimizer.learning_rate=1e-9",
    )
    options = axis.at(size, folder / "model")
    subprocess.run([sys.executable, "-m", "agents.train", *fixed, *options], check=True, stdout=subprocess.DEVNULL)
    rows = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()][1:]
    tokens = np.diff([row["tokens"] for row in rows])
    return {
        "seconds": median(row["time/step"] for row in rows),
        "mib": rows[-1]["memory/peak_mb"] * 1e6 / 2**20,
        "tokens": float(tokens.mean()),
    }


def grown(size: int) -> Row:
    """Grow trees; return the seconds, MiB and tokens."""
    from agents.config.compose import compose_config
    from agents.rollout.episodes import grouped, play
    from agents.training.build import build
    from agents.training.resolve import resolve
    from benchmarks.throughput.prefix_memory import Growing
    from benchmarks.throughput.turns import KINDS, SimulatedEngine
    from reason_envs import make_environment

    class Watched(Growing):
        """Lets the graph policy read each observation, without using its choice."""

        def observe(self, environment: Any, observation: Any) -> Any:
            nodes[environment] = int(observation["node_mask"].sum())
            return super().observe(environment, observation), graph.observe(environment, observation)

        async def act(self, observations: Any, seeds: Any, sampling: Any = None, *, agents: Any = ()) -> Any:
            names, graphs = zip(*observations, strict=True)
            await graph.act(graphs, seeds, agents=agents)
            return await super().act(names, seeds, agents=agents)

    limits = {"max_nodes": size, "max_steps": 4 * size, "max_branch": 1000}
    engine = SimulatedEngine(KINDS["tree"], seconds_per_token=0.0, lockstep=True)
    environment = make_environment("reason_tree", engine=engine, **limits)
    environment.max_decisions = 4 * size
    words = [f"env.{key}={value}" for key, value in limits.items()]
    run = build(resolve(compose_config(["env=reason_tree", "algo=ppo", *words])))
    nodes: dict[Any, int] = {}
    graph, tasks = run.policy, [environment.tasks[i] for i in range(TREES)]
    start = time.perf_counter()
    played = asyncio.run(play(environment, Watched(), grouped(tasks, 1, seed=0)))
    seconds = time.perf_counter() - start
    if min(nodes.values()) < size - 1:  # the last node ends the episode
        raise RuntimeError(f"a tree has {min(nodes.values())} nodes instead of {size}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "mib": peak, "tokens": sum(each.generated_tokens for each in played)}


def measured(name: str, size: int) -> Row:
    """Measure a point in a process with one thread."""
    command = [sys.executable, "-m", "benchmarks.throughput.growth", "--child", name, str(size)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return {"axis": name, "size": size, **json.loads(done.stdout.splitlines()[-1])}


def fit(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float, float]:
    """Return fixed cost, factor and exponent of the curve with the least relative error. None of them is negative."""
    x, y = np.array(sizes, float), np.array(costs)
    best = (np.inf, (0.0, 0.0, 0.0))
    for exponent in np.arange(0.1, 2.51, 0.01):
        terms = np.stack([np.ones_like(x), (x / x[-1]) ** exponent], axis=1) / y[:, None]
        solution = np.linalg.lstsq(terms, np.ones_like(y), rcond=None)[0]
        if solution[0] < 0:
            solution = np.array([0.0, terms[:, 1].sum() / (terms[:, 1] ** 2).sum()])
        error = float(((terms @ solution - 1) ** 2).sum())
        best = min(best, (error, (float(solution[0]), float(solution[1] / x[-1] ** exponent), float(exponent))))
    return best[1]


def table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of a markdown table: the costs at both ends of each curve, and the exponents."""
    lines = ["| curve | sizes | tokens | seconds | exponent | MiB | exponent |", "|---|---|---|---|---|---|---|"]
    for name in AXES:
        points = sorted((row for row in rows if row["axis"] == name), key=lambda row: row["size"])
        if len(points) > 2:
            sizes, first, last = [row["size"] for row in points], points[0], points[-1]
            powers = {key: fit(sizes, [row[key] for row in points])[2] for key in ("seconds", "mib")}
            lines.append(
                f"| {name} | {first['size']} to {last['size']} | {first['tokens']:,.0f} to {last['tokens']:,.0f} "
                f"| {first['seconds']:.2f} to {last['seconds']:.2f} | {powers['seconds']:.2f} "
                f"| {first['mib']:,.0f} to {last['mib']:,.0f} | {powers['mib']:.2f} |"
            )
    return lines


def plot(rows: Sequence[Row]) -> None:
    """Plot seconds and memory of all curves against their sizes."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for side, (key, unit) in zip(axes, (("seconds", "seconds per step"), ("mib", "peak MiB")), strict=True):
        for name in AXES:
            points = sorted((row["size"], row[key]) for row in rows if row["axis"] == name)
            side.loglog(*zip(*points, strict=True), "o-", label=name, markersize=4) if points else None
        side.set(xlabel="size", ylabel=unit)
        side.grid(alpha=0.25, which="both")
    axes[0].legend(frameon=False, fontsize="small")
    figure.savefig(FOLDER / "growth.png", dpi=110)
    plt.close(figure)


def main() -> None:
    """Measure missing points, and make table and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--child", nargs=2, metavar=("CURVE", "SIZE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, size = arguments.child[0], int(arguments.child[1])
        with tempfile.TemporaryDirectory(prefix="reason_envs_benchmark_") as folder:
            print(json.dumps(trained(AXES[name], size, Path(folder)) if AXES[name].options else grown(size)))
        return
    FOLDER.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []
    done = {(row["axis"], row["size"]) for row in rows}
    wanted = [(name, size) for name, axis in AXES.items() for size in axis.sizes if (name, size) not in done]
    for name, size in () if arguments.report else wanted:
        rows.append(measured(name, size))
        with ROWS.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(rows[-1], flush=True)
    print("\n".join(table(rows)))
    plot(rows)


if __name__ == "__main__":
    main()
