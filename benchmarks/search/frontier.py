"""Is a trained search policy better than the search baselines at equal tokens? All methods and budgets in one plot.

This command does everything. It continues after an interruption:

    python benchmarks/search/frontier.py runs=[runs/a,runs/b,runs/c]

All methods use the embedded generator, the step reward model and the grader of the run, and the same held-out problems.
The baselines may grow larger trees than the policies. The constant of MCTS is tuned on training problems. Without
``runs`` only the baselines are compared.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from agents.config.command_line import parse_pairs, report_errors
from agents.config.compose import compose_config
from agents.evaluation.intervals import first_tasks
from agents.search.plans import Plan, plans
from agents.search.results import (
    MethodResult,
    Solved,
    grade,
    record,
    solve_all,
    summarise,
    table,
)
from agents.search.solutions import sample_solutions, score_solutions, submit_solution
from agents.training.build import build, load_run
from agents.training.resolve import resolve
from benchmarks.crossed_bootstrap import crossed_bootstrap
from benchmarks.search.plot import plot_frontier
from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.envs.reason_tree.environment import ReasonTree
from reason_envs.errors import ReasonEnvsError
from reason_envs.resources import replace_file
from reason_envs.tasks.base import Task

ROOMY = ("env=reason_tree", "env.max_nodes=2048", "env.max_branch=64")
SOLUTIONS = (1, 2, 4, 8, 16, 32, 64)
MCTS_BUDGETS = (4, 8, 16, 32, 64)
WIDTHS = (4, 8, 16)
CONSTANTS = (0.5, 1.0, 2.0, 4.0, 8.0)
TUNING_BUDGET = 16
SELECTIONS = (("product", "maximum"), ("min", "maximum"), ("last", "maximum"), ("product", "vote"))
UNDRAWN = ("best_of_n min maximum", "best_of_n last maximum")
"""Methods that are in the table but not in the plot."""
POLICY_PLANS = [
    *plans(["policy"], {"temperature": [0.0]}),
    *plans(["policy"], {"samples": [1, 4]}),
]


@dataclass
class FrontierConfig:
    """Options, as ``name=value``. Keys of ``env.`` and ``reward_model.`` apply to every method."""

    runs: list[str] = field(default_factory=list)
    """Folders of trained policies, the seeds of one experiment. Default: none."""
    problems: int = 1024
    """Number of held-out problems."""
    tuning: int = 256
    """Number of training problems on which the constant of MCTS is tuned."""
    seed: int = 0
    """Seed of the samples."""
    results: str = "runs/benchmark_search"
    """Folder of the answers of every method."""
    report: str = "benchmarks/search/frontier"
    """Folder of table and plot."""


class Results:
    """Results, one file per method and budget."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed

    def path(self, label: str) -> Path:
        """Return the file of a method."""
        return self.folder / f"{label.replace('/', '_').replace(' ', '__')}.json"

    def has(self, label: str) -> bool:
        """Return whether a method has been evaluated."""
        return self.path(label).exists()

    def add(self, family: str, label: str, solved: Sequence[Solved], seconds: float) -> None:
        """Save the answers of a method and print its metrics."""
        result = summarise(family, label, solved, seconds, self.seed)
        replace_file(self.path(label), json.dumps(record(result, solved)) + "\n")
        print(table([result]).splitlines()[-1], flush=True)

    def load(self, label: str) -> tuple[MethodResult, dict[str, Any]]:
        """Return the metrics of a method and its columns for all problems."""
        content = json.loads(self.path(label).read_text())
        return MethodResult(**content["result"]), content["problems"]


def main() -> None:
    """Evaluate missing results and report."""
    arguments = sys.argv[1:]
    overrides = [a for a in arguments if a.startswith(("env.", "reward_model.", "reward_model="))]
    config = parse_pairs(FrontierConfig, [a for a in arguments if a not in overrides], __doc__ or "")
    results = Results(Path(config.results), config.seed)
    labels = search_everything(config, overrides, results)
    policies = [evaluate_policy(config, overrides, results, folder) for folder in config.runs]
    report(results, labels, policies, Path(config.report))


def search_everything(config: FrontierConfig, overrides: Sequence[str], results: Results) -> list[str]:
    """Run the baselines and return their labels."""
    run = build(resolve(compose_config([*ROOMY, *overrides])))
    assert isinstance(run.environment, ReasonTree)
    assert run.test_tasks is not None
    tasks = first_tasks(run.test_tasks, config.problems)
    labels = list(whole_solutions(run.environment, tasks, results))
    constant = tuned_constant(run.environment, first_tasks(run.train_tasks, config.tuning), results)
    chosen = [
        *plans(["cot", "random", "always_expand"], {}),
        *plans(["beam", "dvts", "rebase"], {"width": WIDTHS}),
        *plans(["mcts"], {"budget": MCTS_BUDGETS, "c_puct": [constant]}),
    ]
    for plan in chosen:
        solve(run.environment, plan, tasks, results)
    run.close()
    return [*labels, *(plan.label for plan in chosen)]


def solve(environment: ReasonTree, plan: Plan, tasks: Sequence[Task], results: Results, policy: Any = None) -> None:
    """Evaluate a method unless it has results."""
    if not results.has(plan.label):
        solved, seconds = asyncio.run(solve_all(environment, plan.solver(policy), tasks, results.seed))
        results.add(plan.family, plan.label, solved, seconds)


def tuned_constant(environment: ReasonTree, tasks: Sequence[Task], results: Results) -> float:
    """Return the constant of MCTS with the best accuracy on training problems, and in a tie the fewest tokens."""
    print(f"MCTS on {len(tasks)} training problems:")
    tuning = Results(results.folder / "tuning", results.seed)
    scores = []
    for plan in plans(["mcts"], {"budget": [TUNING_BUDGET], "c_puct": CONSTANTS}):
        solve(environment, plan, tasks, tuning)
        result, _ = tuning.load(plan.label)
        scores.append((result.accuracy, -result.generated_tokens, plan.options["c_puct"]))
    return max(scores)[2]


def whole_solutions(environment: ReasonTree, tasks: Sequence[Task], results: Results) -> Iterator[str]:
    """Run self-consistency and best-of-N. The solutions of the largest N include those of smaller ones."""
    labels = {f"sc n={n}": ("sc", n, "product", "majority") for n in SOLUTIONS}
    for aggregation, select in SELECTIONS:
        family = f"best_of_n {aggregation} {select}"
        labels |= {f"{family} n={n}": (family, n, aggregation, select) for n in SOLUTIONS}
    yield from labels
    missing = [label for label in labels if not results.has(label)]
    if missing:
        asyncio.run(_choose_among_solutions(environment, tasks, results, {label: labels[label] for label in missing}))


async def _choose_among_solutions(
    environment: ReasonTree, tasks: Sequence[Task], results: Results, labels: dict[str, tuple[str, int, str, str]]
) -> None:
    async def draw(task: Task) -> tuple[list[Any], list[Any]]:
        fork = environment.fork()
        await fork.reset(seed=derive_seed(results.seed, task.id, 0), options={"task": task})
        plain = await sample_solutions(fork.state.tree, fork.grower, max(SOLUTIONS))
        return plain, await score_solutions(fork.state.tree, fork.grower, plain)

    started = perf_counter()
    drawn = await gather(*map(draw, tasks))
    seconds = perf_counter() - started
    for label, (family, n, aggregation, select) in labels.items():
        sets = [(plain if family == "sc" else scored)[:n] for plain, scored in drawn]
        answers = [submit_solution(solutions, aggregation, select) for solutions in sets]
        solved = await grade(environment, tasks, answers, results.seed)
        results.add(family, label, solved, seconds * n / max(SOLUTIONS))


def evaluate_policy(config: FrontierConfig, overrides: Sequence[str], results: Results, folder: str) -> dict[str, str]:
    """Evaluate a trained policy in its environment. Return its label for each plan."""
    name = Path(folder).name
    labels = {plan.label: f"{name} {plan.label}" for plan in POLICY_PLANS}
    if all(map(results.has, labels.values())):
        return labels
    run = load_run(folder, overrides=overrides)
    assert isinstance(run.environment, ReasonTree)
    assert run.test_tasks is not None
    tasks = first_tasks(run.test_tasks, config.problems)
    for plan in POLICY_PLANS:
        if not results.has(labels[plan.label]):
            work = solve_all(run.environment, plan.solver(run.policy), tasks, results.seed)
            solved, seconds = asyncio.run(work)
            results.add(plan.label, labels[plan.label], solved, seconds)
    run.close()
    return labels


def report(results: Results, labels: Sequence[str], policies: Sequence[dict[str, str]], folder: Path) -> None:
    """Write the table, the comparisons and the plot."""
    check_same_problems(results, [*labels, *(label for policy in policies for label in policy.values())])
    points = [results.load(label)[0] for label in labels]
    each = [results.load(label)[0] for policy in policies for label in policy.values()]
    text = table([*points, *each])
    if policies:
        text += "\n\n" + "\n".join(line for plan in POLICY_PLANS for line in compare(results, plan, policies, points))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(text + "\n")
    print("\n" + text)
    seeds = [over_seeds(results, plan, policies) for plan in POLICY_PLANS] if policies else []
    title = f"ReasonTree-v0, {points[0].problems} held-out problems"
    plot_frontier([p for p in points if p.method not in UNDRAWN] + seeds, folder / "frontier.png", title)


def check_same_problems(results: Results, labels: Sequence[str]) -> None:
    """Raise if two methods answered different problems."""
    expected = results.load(labels[0])[1]["task"]
    for label in labels:
        if results.load(label)[1]["task"] != expected:
            raise ReasonEnvsError(
                f"{results.path(label)} has other problems than {results.path(labels[0])}: choose another folder "
                "(results=FOLDER), or delete the file."
            )


def columns(results: Results, plan: Plan, policies: Sequence[dict[str, str]], name: str) -> np.ndarray:
    """Return a column for all seeds, [seeds, problems]."""
    return np.array([results.load(policy[plan.label])[1][name] for policy in policies], dtype=float)


def over_seeds(results: Results, plan: Plan, policies: Sequence[dict[str, str]]) -> MethodResult:
    """Return one result for all seeds of a policy, with a bootstrap interval over seeds and problems."""
    correct = columns(results, plan, policies, "correct")
    low, high = crossed_bootstrap(correct)
    found = [results.load(policy[plan.label])[0] for policy in policies]
    tokens = float(np.mean([result.generated_tokens for result in found]))
    return replace(
        found[0],
        method="policy, greedy" if "temperature" in plan.options else "policy, sampled",
        accuracy=float(correct.mean()),
        accuracy_low=low,
        accuracy_high=high,
        generated_tokens=tokens,
    )


def compare(
    results: Results, plan: Plan, policies: Sequence[dict[str, str]], points: Sequence[MethodResult]
) -> Iterator[str]:
    """Compare a plan with the controls, with MCTS, and with the curves at equal tokens."""
    correct = columns(results, plan, policies, "correct")
    tokens = float(columns(results, plan, policies, "generated_tokens").mean())
    yield f"**{plan.label}**, {len(policies)} seeds: {correct.mean():.1%} at {tokens:.1f} tokens"
    for control in ("random", "always_expand"):
        gain = correct - np.array(results.load(control)[1]["correct"], dtype=float)
        low, high = crossed_bootstrap(gain)
        yield f"* above {control} by {100 * gain.mean():+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
    mcts = sorted((p for p in points if p.method.startswith("mcts")), key=lambda p: p.generated_tokens)
    enough = next(p for p in mcts if p.accuracy >= max(q.accuracy for q in mcts) - 0.01)
    gain = correct - np.array(results.load(enough.label)[1]["correct"], dtype=float)
    low, high = crossed_bootstrap(gain)
    yield (
        f"* against {enough.label} ({enough.accuracy:.1%}): {100 * gain.mean():+.1f} points "
        f"({100 * low:+.1f} to {100 * high:+.1f}) at {tokens / enough.generated_tokens:.2f} of its tokens"
    )
    for family in dict.fromkeys(p.method for p in points):
        curve = [p for p in points if p.method == family]
        if len(curve) > 1:
            yield f"* above {family} at equal tokens by {100 * (correct.mean() - at_tokens(curve, tokens)):+.1f} points"


def at_tokens(curve: Sequence[MethodResult], tokens: float) -> float:
    """Return the accuracy of a method at a number of tokens.

    It is interpolated linearly in the logarithm of the tokens, and constant outside of the budgets.
    """
    points = sorted((p.generated_tokens, p.accuracy) for p in curve)
    return float(np.interp(np.log(tokens), np.log([t for t, _ in points]), [a for _, a in points]))


if __name__ == "__main__":
    with report_errors():
        main()
