"""The first line of a run: what is trained on what."""

from agents import distributed
from agents.training.build import Run


def announcement(run: Run, total_steps: int) -> str:
    """Describe a run in one line: algorithm, parameters, problems, steps and folder."""
    config = run.plan.config
    parameters = sum(p.numel() for p in run.policy.parameters())
    policy = f"model {config.policy.model!r}" if run.plan.writes_text else f"a {config.policy.name} policy"
    held_out = f"; held out: {len(run.test_tasks):,} problems of {run.test_tasks.name}" if run.test_tasks else ""
    processes = f" in {distributed.size()} processes" if distributed.size() > 1 else ""
    return (
        f"{config.algo.name} trains {parameters:,} parameters of {policy} on {len(run.train_tasks):,} problems of "
        f"{run.train_tasks.name}, {total_steps:,} steps{processes}{held_out}. Everything goes to {run.plan.folder}"
    )
