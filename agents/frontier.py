"""Compare search methods and trained policies on the same held-out problems: accuracy against generated tokens.

``python -m agents.frontier env=reason_tree method=mcts budget=16`` evaluates one search method.
``python -m agents.frontier run=runs/NAME method=[policy,sc,mcts] samples=[1,8] n=[1,8,64] budget=[8,32]`` compares a
trained policy with two of them. An option with several values gives one row per value and applies to the methods that
have it. ``env``, ``engine``, ``reward_model`` and ``policy`` (such as ``reward_model.path=FOLDER``) have the options of
``python -m agents.train``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agents.config.command_line import parse_pairs, report_errors
from agents.config.compose import of_a_run
from agents.evaluation.intervals import first_tasks
from agents.search.plans import Plan, plans
from agents.search.results import MethodResult, Solved, record, solve_all, summarise, table
from reason_envs.envs.reason_tree.environment import ReasonTree
from reason_envs.errors import RunError
from reason_envs.resources import replace_file
from reason_envs.validation import Checked, limited

ONE_VALUE = ("run", "checkpoint", "tasks", "seed", "output_file")
"""Options that take one value. All others take a value or a list."""


@dataclass
class FrontierConfig(Checked):
    """Options of ``python -m agents.frontier``. Null keeps the default of each method."""

    method: list[str] = field(default_factory=list)
    """One of cot, sc, best_of_n, beam, dvts, rebase, mcts, random, always_expand and policy, or a list of them."""
    run: str | None = None
    """Run folder whose environment is used, and whose latest checkpoint acts with ``method=policy``; null: no run."""
    checkpoint: str | None = None
    """Checkpoint folder inside a run folder to use instead; null: the latest checkpoint of ``run``."""
    tasks: int = limited(1024, at_least=1)
    """Maximum number of held-out problems."""
    seed: int = 0
    """Seed of all random draws."""
    output_file: str | None = None
    """Path of a JSON file for the metrics and all answers; null: no file. ``python -m agents.report`` plots
    the files of a run folder."""
    n: list[int] | None = None
    """Number of solutions per problem for the methods sc and best_of_n; null: the default of the method."""
    aggregation: list[str] | None = None
    """Function with which best_of_n aggregates step scores: product, min, last or sum; null: its default."""
    select: list[str] | None = None
    """Rule that chooses a candidate: maximum (value), vote (sum of values) or majority (number); null: its default."""
    width: list[int] | None = None
    """Number of steps drawn per level for the methods beam, dvts and rebase; null: the default of the method."""
    branch: list[int] | None = None
    """Number of continuations per step of beam and dvts, and maximum number of mcts; null: their default."""
    balance: list[float] | None = None
    """Temperature of the softmax with which rebase divides its steps among open paths; null: its default."""
    budget: list[int] | None = None
    """Number of simulations per problem for the method mcts; null: the default of the method."""
    c_puct: list[float] | None = None
    """Exploration constant of the method mcts; null: the default of the method."""
    samples: list[int] | None = None
    """Number of episodes that vote, for the methods policy, random and always_expand; null: the default."""
    temperature: list[float] | None = None
    """Sampling temperature of the policy's actions, 0 for greedy; null: the temperature of its training."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    with report_errors():
        own, of_the_run = of_a_run(sys.argv[1:] if arguments is None else arguments)
        config = parse_pairs(FrontierConfig, [_as_list(argument) for argument in own], __doc__ or "")
        evaluated = _evaluated(_chosen(config), config, of_the_run)
        if config.output_file:
            content = {"config": asdict(config), "run": of_the_run, "methods": [record(*each) for each in evaluated]}
            replace_file(Path(config.output_file), json.dumps(content) + "\n")


def _as_list(argument: str) -> str:
    """Return an argument with its value as a list if its option takes a list."""
    name, equals, value = argument.partition("=")
    several = equals and name not in ONE_VALUE and not value.startswith("[")
    return f"{name}=[{value}]" if several else argument


def _chosen(config: FrontierConfig) -> list[Plan]:
    """Return the methods to evaluate. All mistakes are found here, before a model is loaded."""
    given = asdict(config)
    values = {k: v for k, v in given.items() if k not in (*ONE_VALUE, "method") and v is not None}
    chosen = plans(config.method, values)
    for plan in chosen:
        if plan.method != "policy":
            plan.solver(None)
        elif config.run is None and config.checkpoint is None:
            raise RunError("method=policy evaluates a trained policy: give run=<run folder> or checkpoint=.")
    return chosen


def _evaluated(
    chosen: Sequence[Plan], config: FrontierConfig, overrides: Sequence[str]
) -> list[tuple[MethodResult, list[Solved]]]:
    """Solve the held-out problems with every method, and print one row of the table after each.

    The environment and the policy are those of the run that is given, or of one built from its options alone.
    """
    from agents.training.build import load_run

    evaluated: list[tuple[MethodResult, list[Solved]]] = []
    with closing(load_run(config.run, config.checkpoint, overrides=overrides)) as run:
        if not isinstance(run.environment, ReasonTree):
            raise RunError(
                "method= searches the tree of env=reason_tree, but the environment is "
                f"{run.plan.config.env.name}: set env=reason_tree, or evaluate the policy of a run with python -m "
                "agents.evaluate."
            )
        tasks = first_tasks(run.held_out(), config.tasks)
        for plan in chosen:
            solved, seconds = asyncio.run(solve_all(run.environment, plan.solver(run.policy), tasks, config.seed))
            result = summarise(plan.family, plan.label, solved, seconds, config.seed)
            rows = table([result]).splitlines()
            print("\n".join(rows[-1:] if evaluated else rows), flush=True)
            evaluated.append((result, solved))
    return evaluated


if __name__ == "__main__":
    main()
