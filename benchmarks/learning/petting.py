"""Does AT-GRPO teach a team more than GRPO does, or than one agent with the same tools learns, at equal tokens?

One line does everything, and continues where it was interrupted:

    python benchmarks/learning/petting.py

Every arm starts from the embedded Petting model and trains with three seeds. Runs of the full comparison are compared
at the checkpoint before the fewest tokens that any of them generated, all K candidates of a turn counted. The control
is paid by coin flips. Evaluations play one candidate a turn, on held-out problems, at temperature 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from common import SEEDS, correct

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from agents.evaluate import evaluate_policy
from agents.held_out import crossed_bootstrap, first_tasks
from agents.runs import load_run
from agents.train import main as train
from reason_envs.core import Action, AgentId, StepResult, derive_seed
from reason_envs.envs.petting.plan_path import PettingPlanPath, PettingPlanPathConfig
from reason_envs.registration import register

PROBLEMS = 512
"""Held-out problems."""
SAMPLES = 2
"""Episodes of each."""
SHARED = ("save_every=2", "keep_last=1000", "eval_every=4", "eval_tasks=128", "samples_every=0")
"""Options of every run."""
FIRST = "petting_plan_path"
"""Environment of the full comparison."""


class CoinFlips(PettingPlanPath):
    """Pays every decision by a coin flip, whatever it does."""

    async def step(self, actions: Mapping[AgentId, Action]) -> StepResult:
        """Take the decision and pay for it at random."""
        flip = derive_seed(self.state.seed, "coin", self.state.decisions, str(actions)) % 2
        result = await super().step(actions)
        result.rewards = dict.fromkeys(result.rewards, float(flip))
        return result


register("PettingPlanPathCoinFlips-v0", CoinFlips, PettingPlanPathConfig, "petting_plan_path_coin_flips")


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    title: str
    """In the table and the plot."""
    options: tuple[str, ...]
    """``key=value`` for agents.train."""
    colour: str
    """In the plot."""


ARMS = {
    "at_grpo": Arm("AT-GRPO, team", (f"env={FIRST}", "algo=at_grpo"), "#1f6f8b"),
    "grpo": Arm("GRPO, team", (f"env={FIRST}", "algo=grpo"), "#b5651d"),
    "single": Arm("GRPO, single agent", (f"env={FIRST}", "env.roles=single", "algo=grpo"), "#7a9e3b"),
    "control": Arm("AT-GRPO, coin flips", ("env=petting_plan_path_coin_flips", "algo=at_grpo"), "#8a8a8a"),
    "second": Arm("AT-GRPO, team", ("env=petting_sudoku", "algo=at_grpo"), "#6b4c9a"),
}
COMPARED = ("at_grpo", "grpo", "single", "control")
"""Arms of the full comparison, at equal tokens."""


def main() -> None:
    """Train what is missing, evaluate what is missing, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark_petting"), help="run folders")
    parser.add_argument("--report", type=Path, default=Path(__file__).parent / "petting", help="table and plot")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument(
        "--arms", nargs="+", default=list(ARMS), choices=list(ARMS), help="train these; report needs all"
    )
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        sys.argv[1:] = arguments.run
        train()
        return
    for arm in arguments.arms:
        for seed in arguments.seeds:
            run_one(arguments.runs / f"{arm}_{seed}", [f"seed={seed}", *SHARED, *ARMS[arm].options])
    if set(arguments.arms) < set(ARMS):
        return
    results = evaluate_all(arguments.runs, arguments.seeds)
    table = report(results)
    print(table)
    arguments.report.mkdir(parents=True, exist_ok=True)
    (arguments.report / "table.md").write_text(table + "\n")
    plot(arguments.runs, arguments.seeds, arguments.report / "curves.png")


def run_one(folder: Path, overrides: list[str]) -> None:
    """Train one run, or continue it; a finished one is left alone. Its process knows the control's environment."""
    if (folder / "policy_final").is_dir():
        return
    options = [f"resume={folder}"] if (folder / "checkpoints").is_dir() else [f"output_dir={folder}", *overrides]
    subprocess.run([sys.executable, __file__, "--run", *options], check=True)


def evaluate_all(runs: Path, seeds: list[int]) -> dict[str, list[dict[str, Any]]]:
    """Evaluate every run before training and at the tokens at which its arm is compared."""
    fewest = min(tokens_by_step(runs / f"{arm}_{seed}")[-1][1] for arm in COMPARED for seed in seeds)
    results = {}
    for arm in ARMS:
        results[arm] = []
        for seed in seeds:
            folder = runs / f"{arm}_{seed}"
            steps = tokens_by_step(folder)
            reached = [step for step, tokens in steps if tokens <= fewest and step % 2 == 0]
            step = reached[-1] if arm in COMPARED else steps[-1][0]
            before, after = evaluate(folder, 0, seed), evaluate(folder, step, seed)
            results[arm].append({"before": before, "after": after, "step": step, "tokens": dict(steps)[step]})
    return results


def evaluate(folder: Path, step: int, seed: int) -> dict[str, Any]:
    """Evaluate a checkpoint, or the model before training (step 0); what was evaluated is read."""
    path = folder / f"evaluation_{step}.json"
    if not path.exists():
        chosen = {"run": str(folder)} if step == 0 else {"run": None, "checkpoint_folder": checkpoint(folder, step)}
        run = load_run(**chosen, untrained=step == 0)
        tasks = first_tasks(run.test_tasks, PROBLEMS)
        _, played = asyncio.run(evaluate_policy(run.environment, run.policy, tasks, samples=SAMPLES, seed=seed))
        run.close()
        success = np.array([correct(trajectory) for trajectory in played]).reshape(-1, SAMPLES).mean(axis=1)
        tokens = [sum(len(d.choice.token_ids) for d in trajectory.decisions) for trajectory in played]
        path.write_text(json.dumps({"success": success.tolist(), "tokens": float(np.mean(tokens))}) + "\n")
    return json.loads(path.read_text())


def checkpoint(folder: Path, step: int) -> str:
    """Return the folder of a checkpoint."""
    return str(folder / "checkpoints" / f"step_{step}")


def tokens_by_step(folder: Path) -> list[tuple[int, int]]:
    """Return each training step with the tokens that were generated up to it."""
    return [(line["step"], line["tokens"]) for line in metrics(folder) if "tokens" in line]


def metrics(folder: Path) -> Iterator[dict[str, Any]]:
    """Iterate over what a run wrote down."""
    yield from map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())


def report(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return the table; intervals resample seeds and problems."""
    lines = [
        "| environment | trained by | tokens generated | success before | after | gain in points (95 % interval) "
        "| each seed | AT-GRPO is ahead by (95 % interval) | tokens of an episode |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    best = _success(results["at_grpo"], "after")
    for arm, runs in results.items():
        before, after = _success(runs, "before"), _success(runs, "after")
        ahead = _points(best - after) if arm in COMPARED[1:] else ""
        each = ", ".join(f"{100 * gain:+.1f}" for gain in (after - before).mean(axis=1))
        tokens = [np.mean([run[when]["tokens"] for run in runs]) for when in ("before", "after")]
        environment = next(o for o in ARMS[arm].options if o.startswith("env=")).removeprefix("env=petting_")
        lines.append(
            f"| {environment.removesuffix('_coin_flips')} | {ARMS[arm].title} "
            f"| {np.mean([run['tokens'] for run in runs]):,.0f} | {before.mean():.1%} | {after.mean():.1%} "
            f"| {_points(after - before)} | {each} | {ahead} | {tokens[0]:.0f} -> {tokens[1]:.0f} |"
        )
    return "\n".join(lines)


def _success(runs: list[dict[str, Any]], when: str) -> np.ndarray:
    return np.array([run[when]["success"] for run in runs])


def _points(values: np.ndarray) -> str:
    low, high = crossed_bootstrap(values)
    return f"{100 * values.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def plot(runs: Path, seeds: list[int], path: Path) -> None:
    """Draw held-out success against the tokens generated, for every run."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for name, arm in ARMS.items():
        axes = panels[name not in COMPARED]
        for seed in seeds:
            tokens = {0: 0, **dict(tokens_by_step(runs / f"{name}_{seed}"))}
            points = [(tokens[m["step"]], m["eval/accuracy"]) for m in metrics(runs / f"{name}_{seed}") if _is_eval(m)]
            spent, success = zip(*points, strict=True)
            label = arm.title if seed == seeds[0] else None
            axes.plot(np.array(spent) / 1000, 100 * np.array(success), color=arm.colour, alpha=0.85, label=label)
    for axes, title in zip(panels, ("PettingPlanPath-v0", "PettingSudoku-v0"), strict=True):
        axes.set(xlabel="tokens generated, thousands", ylim=(0, 100), title=f"{title}, {len(seeds)} seeds")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    panels[0].set_ylabel("held-out success, one candidate a turn, %")
    figure.savefig(path, dpi=130)


def _is_eval(line: dict[str, Any]) -> bool:
    return "eval/accuracy" in line


if __name__ == "__main__":
    main()
