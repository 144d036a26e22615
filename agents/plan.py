"""Plan the memory of a run: ``python -m agents.plan [KEY=VALUE ...]``.

It takes the options of ``python -m agents.train``. Of the model only config.json is read. Prompts count with
``policy.max_prompt_tokens``, responses with ``policy.max_tokens``. ``plan.NAME=VALUE`` describes the machine, as in
``plan.gpus=8 plan.memory_gb=80``.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace

from agents.config.cluster import Machine
from agents.config.command_line import parse_pairs, report_errors
from agents.config.compose import compose_config
from reason_envs.errors import RunError
from reason_envs.validation import mounted


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    given = sys.argv[1:] if arguments is None else arguments
    with report_errors():
        with mounted("plan"):
            own = [argument.removeprefix("plan.") for argument in given if argument.startswith(("plan.", "-"))]
            machine = parse_pairs(Machine, own, __doc__ or "")
        plan(machine, [argument for argument in given if not argument.startswith("plan.")])


def plan(machine: Machine, overrides: Sequence[str]) -> None:
    """Print the memory that a run needs on each GPU, or on the computer, in lines of at most 80 columns.

    Raises:
        RunError: the run does not fit.
    """
    from agents.training.memory import peak, plan_memory, require_room
    from agents.training.resolve import resolve

    run = resolve(compose_config(overrides))
    if run.config.cluster.address is not None and not machine.gpus:
        machine = replace(machine, gpus=run.config.cluster.learner.gpus)
    if not run.writes_text:
        raise RunError(f"policy={run.config.policy.name} is a small network: only language models are planned.")
    needs = plan_memory(run.config, machine)
    for phase, parts in needs.items():
        for what, size in parts.items():
            print(f"{phase:<12}{what:<50}{size:>8.2f} GiB")
    size, phase = peak(needs)
    print(f"{'peak':<12}{f'while {phase}, of {machine.gib:.1f} GiB':<50}{size:>8.2f} GiB")
    require_room(needs, run.config, machine)


if __name__ == "__main__":
    main()
