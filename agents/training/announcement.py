"""The first line of a run: what is trained on what."""

from agents import distributed
from agents.training.build import Run
from reason_envs.sandbox.base import summaries
from reason_envs.tasks.base import TaskSet


def announcement(run: Run, total_steps: int) -> str:
    """Describe a run in one line: algorithm, parameters, problems, steps and folder."""
    config = run.plan.config
    parameters = sum(p.numel() for p in run.policy.parameters())
    policy = f"model {config.policy.model!r}" if run.plan.writes_text else f"a {config.policy.name} policy"
    processes = f" in {distributed.size()} processes" if distributed.size() > 1 else ""
    return (
        f"{config.algo.name} trains {parameters:,} parameters of {policy} on "
        f"{_problems(run.train_tasks)}, {total_steps:,} steps{processes}; held out: {_held_out(run)}. "
        f"Everything goes to {run.plan.folder}" + "".join(f". Programs run in {each}" for each in summaries())
    )


def _problems(tasks: TaskSet) -> str:
    """Return the number of problems, and how many were left out for which reason."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in tasks.left_out.items() if count)
    return f"{len(tasks):,} problems of {tasks.name}" + (f" (left out: {reasons})" if reasons else "")


def _held_out(run: Run) -> str:
    """Return the held-out problems, or the reason why there are none."""
    if run.test_tasks is not None:
        return _problems(run.test_tasks)
    if not run.plan.config.eval_every:
        return "none, because eval_every=0"
    return "none, because all problems are trained on (set env.tasks.holdout=0.1 to hold out a tenth, or set eval_set)"
