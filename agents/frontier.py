"""Searches and trained policies on the same held-out problems: accuracy against everything that they generate.

``python -m agents.frontier env=reason_tree method=mcts budget=16`` evaluates a search method,
``python -m agents.frontier run=runs/NAME method=[policy,sc,mcts] samples=[1,8] n=[1,8,64] budget=[8,32]`` a trained
policy beside others. An option with several values makes a row of each; it goes to the methods that have it. Keys of
``env``, ``engine``, ``reward_model`` and ``policy`` (``reward_model.path=FOLDER``) are those of ``agents.train``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from agents.config.command_line import parse_pairs, report_errors
from agents.config.compose import compose_config
from agents.config.schema import GROUPS
from agents.evaluation.intervals import first_tasks
from agents.search.plans import Plan, plans
from agents.search.plot import plot_frontier
from agents.search.results import MethodResult, Solved, record, solve_all, summarise, table, write_json
from agents.training.build import Run, build, load_run
from agents.training.resolve import resolve
from reason_envs.envs.reason_tree.environment import ReasonTree
from reason_envs.errors import ReasonEnvsError

RUN_KEYS = (*GROUPS, "placement", "eval_set", "experiment")
"""First words of the keys that a run's configuration has."""
ONE_VALUE = ("run", "checkpoint", "tasks", "seed", "output_file")
"""The options that take one value; every other takes a list too."""


@dataclass
class SearchEvaluateConfig:
    """Options of ``python -m agents.frontier``; those without a default go to the methods that have them."""

    method: list[str] = field(default_factory=list)
    """One of cot, sc, best_of_n, beam, dvts, rebase, mcts, random, always_expand and policy, or a list of them."""
    run: str | None = None
    """Run folder: its environment, and its latest checkpoint for ``method=policy``."""
    checkpoint: str | None = None
    """A checkpoint folder inside a run folder instead."""
    tasks: int = 1024
    """Held-out problems."""
    seed: int = 0
    """Keys the draws."""
    output_file: str | None = None
    """Where to write figures and answers as JSON; the frontier goes beside it as a PNG."""
    n: list[int] | None = None
    """Solutions of sc and best_of_n."""
    aggregation: list[str] | None = None
    """How best_of_n makes a value of step scores: product, min, last or sum."""
    select: list[str] | None = None
    """How one of several candidates is chosen: maximum, vote or majority."""
    width: list[int] | None = None
    """Steps a level of beam, dvts and rebase."""
    branch: list[int] | None = None
    """Continuations of a step in beam and dvts; steps drawn under a node at most in mcts."""
    balance: list[float] | None = None
    """Temperature at which rebase shares its budget."""
    budget: list[int] | None = None
    """Simulations of mcts."""
    c_puct: list[float] | None = None
    """Weight of exploration in mcts."""
    samples: list[int] | None = None
    """Episodes of policy, random and always_expand; several vote."""
    temperature: list[float] | None = None
    """Of the policy's actions; 0 is greedy; by default as it trained."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    with report_errors():
        _run(sys.argv[1:] if arguments is None else arguments)


def _run(arguments: Sequence[str]) -> None:
    of_the_run = [a for a in arguments if a.partition("=")[0].lstrip("+~").partition(".")[0] in RUN_KEYS]
    own = [_as_list(a) for a in arguments if a not in of_the_run]
    config = parse_pairs(SearchEvaluateConfig, own, __doc__ or "")
    chosen = _chosen(config)
    run = _load(config, of_the_run)
    try:
        evaluated = _evaluate(run, chosen, config)
    finally:
        run.close()
    if config.output_file:
        path = Path(config.output_file)
        methods = [record(result, solved) for result, solved in evaluated]
        write_json(path, {"config": asdict(config), "run": of_the_run, "methods": methods})
        plot_frontier([result for result, _ in evaluated], path.with_suffix(".png"))


def _as_list(argument: str) -> str:
    """Write one value of an option that takes several as a list of one."""
    name, equals, value = argument.partition("=")
    several = equals and name not in ONE_VALUE and not value.startswith("[")
    return f"{name}=[{value}]" if several else argument


def _chosen(config: SearchEvaluateConfig) -> list[Plan]:
    """Return what to evaluate; every error comes before a model is loaded."""
    if config.tasks < 1:
        raise ReasonEnvsError(f"tasks={config.tasks} must be at least 1.")
    given = asdict(config)
    values = {k: v for k, v in given.items() if k not in (*ONE_VALUE, "method") and v is not None}
    chosen = plans(config.method, values)
    for plan in chosen:
        if plan.method != "policy":
            plan.solver(None)
        elif config.run is None and config.checkpoint is None:
            raise ReasonEnvsError("method=policy evaluates a trained policy: give run=<run folder> or checkpoint=.")
    return chosen


def _load(config: SearchEvaluateConfig, overrides: Sequence[str]) -> Run:
    """Build the run that is named, or one from its options alone."""
    if config.run is None and config.checkpoint is None:
        composed = compose_config(overrides)
        run = build(resolve(replace(composed, eval_every=composed.eval_every or 1)))
    else:
        run = load_run(config.run, config.checkpoint, overrides=overrides)
    if not isinstance(run.environment, ReasonTree):
        raise ReasonEnvsError(
            f"method= searches the tree of env=reason_tree, and the environment is {run.plan.config.env.name}: set "
            "env=reason_tree, or evaluate a run's policy with python -m agents.evaluate."
        )
    return run


def _evaluate(
    run: Run, chosen: Sequence[Plan], config: SearchEvaluateConfig
) -> list[tuple[MethodResult, list[Solved]]]:
    """Solve the held-out problems by every method, printing a row of the table after each."""
    assert isinstance(run.environment, ReasonTree)  # checked when it was loaded
    assert run.test_tasks is not None  # every loaded run holds problems out
    tasks = first_tasks(run.test_tasks, config.tasks)
    evaluated: list[tuple[MethodResult, list[Solved]]] = []
    for plan in chosen:
        solved, seconds = asyncio.run(solve_all(run.environment, plan.solver(run.policy), tasks, config.seed))
        result = summarise(plan.family, plan.label, solved, seconds, config.seed)
        rows = table([result]).splitlines()
        print("\n".join(rows[-1:] if evaluated else rows), flush=True)
        evaluated.append((result, solved))
    return evaluated


if __name__ == "__main__":
    main()
