"""Train a policy in an environment: ``python -m agents.train [KEY=VALUE ...]``.

Examples:
  python -m agents.train
  python -m agents.train policy.model=MODEL steps=200
  python -m agents.train env=single_turn_math algo=grpo policy.lora_rank=16
  python -m agents.train +experiment=grpo_math_lora policy.model=MODEL
  python -m agents.train 'env.tasks={name: json, path: data.json}'
  python -m agents.train env=reason_tree --help
  python -m agents.train resume=runs/20260101-120000
"""

import logging
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from agents.config.command_line import HELP, list_first, list_options, parse_pairs, print_help, report_errors, wrapped
from agents.training.start import train
from reason_envs.errors import RunError

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456",
    "MALLOC_ARENA_MAX": "1",
}
"""Settings with which glibc keeps large buffers, in one place for all threads, instead of returning them to the kernel
after every operation."""

FIRST = (
    *("policy.model", "env", "env.tasks", "env.reward", "steps", "policy.max_tokens", "env.max_turns", "env.max_steps"),
    *("algo", "algo.tasks_per_step", "algo.samples_per_task", "algo.optimizer.learning_rate", "policy.lora_rank"),
    *("engine", "output_dir"),
)
"""Options that ``--help`` lists first: what is trained on what, for how long, at which rate, and where it is saved."""


@dataclass
class ResumeConfig:
    """Options that can be given with ``resume=``."""

    resume: str = ""
    """Folder of the run to continue."""
    steps: int | None = None
    """Maximum number of training steps, counted from the start of the run; null: the run's own value."""
    epochs: float | None = None
    """Maximum number of passes over the training tasks since the run's start; null: the run's own value."""
    max_minutes: float | None = None
    """Minutes of training after which the run saves and stops; null: the run's own value."""


def main() -> None:
    """Run the command line."""
    if not HELP & set(sys.argv):
        if sys.stderr.isatty() and not ALLOCATOR.items() <= os.environ.items():  # otherwise it has restarted
            print("Loading PyTorch, the model and the problems ...", file=sys.stderr, flush=True)
        # glibc's allocator reads its thresholds at start, so the process restarts once: 1.7 times faster steps.
        if sys.platform == "linux" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **ALLOCATOR})
    status: Any = 0
    try:
        _run(sys.argv[1:])
    except SystemExit as end:
        status = end.code
    if "vllm" in sys.modules:  # its native threads sometimes abort a regular interpreter exit
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(status or 0))
    if status:
        raise SystemExit(status)


def _run(arguments: Sequence[str]) -> None:
    with report_errors():
        flags = [a for a in arguments if a.startswith("-") and a not in HELP]
        if flags:
            raise RunError(f"Unknown flag {flags[0]!r}: options are written key=value. --help shows all of them.")
        if HELP & set(arguments):
            _print_help([a for a in arguments if a not in HELP])
        elif any(a.startswith("resume=") for a in arguments):
            resume(arguments)
        else:
            from agents.config.compose import compose_config

            train(compose_config(arguments), command=_typed())


def resume(arguments: Sequence[str]) -> None:
    """Continue ``resume=<run folder>`` with its configuration. Only the options of `ResumeConfig` can change.

    Raises:
        RunError: another option is given, or the folder does not hold a run.
    """
    from agents.training.folder import read_config

    valid = [field.name for field in fields(ResumeConfig)]
    given = [a.partition("=")[0] for a in arguments]
    others = sorted(set(given) - set(valid))
    if others:
        raise RunError(
            f"resume= continues a run with its configuration: {', '.join(others)} cannot be given with it, only "
            f"{', '.join(valid[1:])}. To change other options, start a new run with init_from=<checkpoint folder>."
        )
    asked = parse_pairs(ResumeConfig, arguments, "")
    limits = {name: getattr(asked, name) for name in given if name != "resume"}
    train(replace(read_config(Path(asked.resume)), output_dir=asked.resume, **limits), resuming=True, command=_typed())


def _print_help(overrides: Sequence[str]) -> None:
    """Print all choices, and the options of the chosen parts with their meanings."""
    from agents.config.compose import CONF_DIR, composed
    from agents.config.schema import GROUPS

    options = composed(overrides)
    choices = {group: names() for group, (names, _) in GROUPS.items()}
    choices["+experiment"] = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml"))
    parts = [f"{group}: {', '.join(names)}" for group, names in choices.items()]
    print_help(
        *((__doc__ or "").replace("``", ""), "== First options ==", list_first(options, FIRST)),
        "\n== Parts (choose with part=name) ==",
        *map(wrapped, parts),
        *("\n== All options (a.b=value sets the option b below a) ==", list_options(options)),
    )


def _typed() -> str:
    """Return the command line as the user typed it."""
    return shlex.join(["python", "-m", "agents.train", *sys.argv[1:]])


if __name__ == "__main__":
    main()
