"""Does a team learn more with AT-GRPO than with GRPO, or than a single agent with the same tools, at equal tokens?

This command does everything. It continues after an interruption:

    python benchmarks/learning/petting.py

Every arm starts from the embedded Petting model and trains with three seeds until it has generated the maximum number
of tokens at which the arms are compared. All candidates of a turn count. A step of AT-GRPO plays 16 tasks with four
candidates per turn, and a step of GRPO plays four episodes of 8 tasks. Both generate about as many tokens, so equal
tokens mean about equal numbers of updates. Advantages are scaled by the standard deviation of the rewards in the step
or, as in the papers, in the group. The rewards of the control are coin flips. The learning rate is the default or half
of it. Evaluations play one candidate per turn on held-out problems at temperature 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from common import SEEDS, correct

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from agents.evaluation.intervals import first_tasks
from agents.train import main as train
from benchmarks.crossed_bootstrap import crossed_bootstrap
from reason_envs import registration
from reason_envs.core import Action, AgentId, StepResult, derive_seed
from reason_envs.envs.petting.sudoku import PettingSudoku, PettingSudokuConfig
from reason_envs.registration import register

PROBLEMS = 512
"""Number of held-out problems, one episode each."""
TOKENS = (20_000, 40_000, 80_000)
"""Numbers of generated tokens at which arms are compared, each with its nearest checkpoint."""
AT_GRPO = ("algo=at_grpo", "algo.tasks_per_step=16")
TEAM = registration.ENVIRONMENTS["petting_math"].recommends
"""The model of the Petting environments and the learning rate that suits it."""
GRPO = ("algo=grpo", "algo.tasks_per_step=8", "algo.samples_per_task=4")
BATCH, GROUP = ("algo.scale=batch",), ("algo.scale=std",)
FAST, SLOW = (f"algo.optimizer.learning_rate={float(TEAM['learning_rate']) / part}" for part in (1, 2))
ARMS = {
    "at_grpo": ("AT-GRPO, team", (*AT_GRPO, *BATCH, FAST), "#1f6f8b"),
    "at_grpo_std": ("AT-GRPO, team, scaled by the group", (*AT_GRPO, *GROUP, FAST), "#5fb3c9"),
    "at_grpo_low": ("AT-GRPO, team, half the rate", (*AT_GRPO, *BATCH, SLOW), "#123f50"),
    "grpo": ("GRPO, team", (*GRPO, *BATCH, FAST), "#b5651d"),
    "grpo_std": ("GRPO, team, scaled by the group", (*GRPO, *GROUP, FAST), "#dba56f"),
    "grpo_low": ("GRPO, team, half the rate", (*GRPO, *BATCH, SLOW), "#6b3a0e"),
    "single": ("GRPO, single agent", (*GRPO, *BATCH, FAST, "env.roles=single"), "#7a9e3b"),
    "control": ("AT-GRPO, random rewards", (*AT_GRPO, *BATCH, FAST), "#8a8a8a"),
}
"""Title, options of agents.train and colour of each arm."""
GAMES = {"sudoku": tuple(ARMS), "plan_path": tuple(ARMS)[:-1], "sokoban": ("at_grpo",)}
"""Arms of each environment."""


class CoinFlips(PettingSudoku):
    """Rewards every decision with a coin flip."""

    async def step(self, actions: Mapping[AgentId, Action]) -> StepResult:
        """Make the decision and replace its rewards by a coin flip."""
        flip = derive_seed(self.state.seed, "coin", self.state.decisions, str(actions)) % 2
        result = await super().step(actions)
        result.rewards.update(dict.fromkeys(result.rewards, float(flip)))
        return result


register("PettingSudokuCoinFlips-v0", CoinFlips, PettingSudokuConfig)


def main() -> None:
    """Train missing runs, evaluate missing results, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark_petting"), help="folder of the runs")
    parser.add_argument(
        "--report", type=Path, default=Path(__file__).parent / "petting", help="folder of tables and plots"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="seeds of the runs")
    parser.add_argument("--games", nargs="+", default=list(GAMES), choices=list(GAMES), help="environments")
    parser.add_argument("--train", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        sys.argv[1:] = arguments.train
        return train()
    arguments.report.mkdir(parents=True, exist_ok=True)
    for game in arguments.games:
        results = {arm: [one_run(arguments.runs, game, arm, seed) for seed in arguments.seeds] for arm in GAMES[game]}
        table = report(results)
        print(table)
        (arguments.report / f"{game}.md").write_text(table + "\n")
        plot(game, results, arguments.report / f"{game}.png")
    return None


def one_run(runs: Path, game: str, arm: str, seed: int) -> list[dict[str, Any]]:
    """Train a run to the maximum number of tokens. Evaluate it before training and at each number of tokens."""
    folder = runs / f"{game}_{arm}_{seed}"
    environment = f"petting_{game}_coin_flips" if arm == "control" else f"petting_{game}"
    options = [f"env={environment}", *ARMS[arm][1], f"policy.model={TEAM['model']}"]
    options += ["save_every=1", "keep_last=1000"]
    steps = 20
    while not (folder / "policy_final").is_dir() or spent(folder)[-1] < TOKENS[-1]:
        known = (folder / "checkpoints").is_dir()
        start = [f"resume={folder}"] if known else [f"output_dir={folder}", f"seed={seed}", *options, "eval_every=0"]
        subprocess.run([sys.executable, __file__, "--train", *start, f"steps={steps}"], check=True)
        steps = len(spent(folder)) + 10
    tokens = np.array(spent(folder))
    chosen = [0, *(int(np.abs(tokens - wanted).argmin()) for wanted in TOKENS)]
    untrained = runs / f"{game}_{'single' if arm == 'single' else 'team'}_{seed}_before.json"  # equal for all arms
    paths = [untrained, *(folder / f"evaluation_{step}.json" for step in chosen[1:])]
    return [
        {**evaluate(folder, step, seed, path), "spent": int(tokens[step])}
        for step, path in zip(chosen, paths, strict=True)
    ]


def spent(folder: Path) -> list[int]:
    """Return the number of tokens generated up to each step, from step 0 on."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [0, *(line["tokens"] for line in lines if "tokens" in line)]


def evaluate(folder: Path, step: int, seed: int, path: Path) -> dict[str, Any]:
    """Evaluate a checkpoint, or the model before training (step 0), unless ``path`` has its results."""
    from agents.evaluation.evaluate_policy import evaluate_policy
    from agents.training.build import load_run  # both load torch, which --help does not need

    if not path.exists():
        run = (
            load_run(None, str(folder / "checkpoints" / f"step_{step}"))
            if step
            else load_run(str(folder), untrained=True)
        )
        tasks = first_tasks(run.test_tasks, PROBLEMS)
        options = {"samples": 1, "seed": seed, "sampling": run.policy.sampling}
        _, played = asyncio.run(evaluate_policy(run.environment, run.policy, tasks, **options))
        run.close()
        success = [correct(trajectory) for trajectory in played]
        length = float(np.mean([trajectory.metrics["episode_length"] for trajectory in played]))
        path.write_text(json.dumps({"success": success, "turns": length}) + "\n")
    return json.loads(path.read_text())


def report(results: dict[str, list[list[dict[str, Any]]]]) -> str:
    """Return the table with paired bootstrap intervals over seeds and problems."""
    wanted = [f"at {tokens // 1000}k tokens" for tokens in TOKENS]
    lines = [
        f"| trained by | before | {' | '.join(wanted)} | gain (95 % interval) | each seed | lead of the first arm at "
        f"{' / '.join(wanted).replace('at ', '').replace(' tokens', '')} (95 % intervals) | turns |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    ours, *_ = results
    first = success(results[ours])
    for arm, runs in results.items():
        rates = success(runs)
        gain = rates[:, -1] - rates[:, 0]
        ahead = " / ".join(points(first[:, i] - rates[:, i]) for i in (1, 2, 3)) if arm != ours else ""
        turns = [np.mean([run[i]["turns"] for run in runs]) for i in (0, -1)]
        lines.append(
            f"| {ARMS[arm][0]} | {' | '.join(f'{rate:.1%}' for rate in rates.mean(axis=(0, 2)))} | {points(gain)} "
            f"| {', '.join(f'{100 * one:+.1f}' for one in gain.mean(axis=1))} | {ahead} "
            f"| {turns[0]:.1f} -> {turns[1]:.1f} |"
        )
    return "\n".join(lines)


def success(runs: list[list[dict[str, Any]]]) -> np.ndarray:
    """Return the success of every episode, [seeds, evaluations, problems]."""
    return np.array([[one["success"] for one in run] for run in runs])


def points(values: np.ndarray) -> str:
    """Return the mean of values [seeds, problems] in points with its interval."""
    low, high = crossed_bootstrap(values)
    return f"{100 * values.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def plot(game: str, results: dict[str, list[list[dict[str, Any]]]], path: Path) -> None:
    """Plot held-out success against generated tokens: thin lines for seeds, markers for their mean."""
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    for arm, runs in results.items():
        title, _, colour = ARMS[arm]
        tokens = np.array([[one["spent"] / 1000 for one in run] for run in runs])
        rates = 100 * success(runs).mean(axis=2)
        for seed in range(len(runs)):
            axes.plot(tokens[seed], rates[seed], color=colour, alpha=0.3, linewidth=0.9)
        axes.plot(tokens.mean(axis=0), rates.mean(axis=0), "o-", color=colour, markersize=4, label=title)
    axes.set(xlabel="tokens generated in training, thousands", ylabel="held-out success, %", ylim=(0, 100))
    axes.set_title(f"petting_{game}, {len(runs)} seeds")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
