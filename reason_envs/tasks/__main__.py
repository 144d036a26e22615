"""Inspect task families and write tasks to files: ``python -m reason_envs.tasks list | show | stats | prepare``."""

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from reason_envs.errors import REQUIRED, ReasonEnvsError, printable
from reason_envs.registry import parse_options
from reason_envs.tasks.base import Split, TaskSet
from reason_envs.tasks.registry import family, make, names
from reason_envs.tasks.report import overlap, stats
from reason_envs.tasks.task_list import MissingSplitError
from reason_envs.validation import at_least

EXAMPLES = Path(__file__).with_name("examples.txt")
"""Examples of the command, for its help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except ReasonEnvsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader (head, less) closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reason_envs.tasks",
        description="Inspect task families and write their tasks to files.",
        epilog=EXAMPLES.read_text(encoding="utf-8"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="list | show | stats | prepare")
    listing = commands.add_parser("list", help="list all families, or the options of one family")
    listing.add_argument("name", nargs="?", help="name of a family, to list its options")
    listing.set_defaults(run=_list)
    show = _add_command(commands, "show", "print a few tasks", _show)
    show.add_argument("--count", type=int, default=3, help="number of tasks (default 3)")
    _add_command(commands, "stats", "print counts, lengths, kinds of answers, duplicates and overlap", _stats)
    prepare = _add_command(commands, "prepare", "write train.jsonl and test.jsonl", _prepare)
    prepare.add_argument("--output", type=Path, required=True, help="output folder")
    return parser


def _add_command(commands: Any, name: str, description: str, run: Any) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=description, description=description.capitalize() + ".")
    command.add_argument("name", help="name of a family; `list` prints all")
    command.add_argument("options", nargs="*", metavar="key=value", help="options; `list NAME` prints them")
    command.add_argument("--split", choices=get_args(Split), help="use only one split (default: both)")
    command.set_defaults(run=run)
    return command


def _list(options: argparse.Namespace) -> None:
    if options.name is None:
        families = [family(name) for name in names()]
        for title, generated in (("built-in families", False), ("generators of reasoning-gym", True)):
            print(f"== {title}")
            for entry in (one for one in families if one.generated == generated):
                print(f"  {entry.name:26} {textwrap.shorten(entry.summary, 90, placeholder='...')}")
        return
    chosen = family(options.name)
    print(f"{chosen.name}: {chosen.summary}")
    for option, default in chosen.options.items():
        print(f"  {option:28} {'(required)' if default is REQUIRED else repr(default)}")


def _show(options: argparse.Namespace) -> None:
    at_least(options, count=1)
    for tasks in _splits(options).values():
        print(f"== {options.name} / {tasks.split}: {len(tasks)} tasks")
        for index in range(min(options.count, len(tasks))):
            task = tasks[index]
            answer = task.answer or "(no gold answer)"
            print(printable(f"\n[{task.id}]\n{textwrap.indent(task.question, '  ')}\n  -> {answer}"))
            for key, value in task.metadata.items():
                print(printable(f"     {key}: {textwrap.shorten(str(value), 90, placeholder='...')}"))
        print()


def _stats(options: argparse.Namespace) -> None:
    splits = _splits(options)
    for tasks in splits.values():
        print(f"== {options.name} / {tasks.split}")
        for label, value in stats(tasks).items():
            if value:
                print(f"  {label:20} {value}")
    if len(splits) == 2:
        shared = overlap(splits["train"], splits["test"])
        print(f"overlap of train and test: {shared}{' (test results will be too high)' if shared else ''}")


def _prepare(options: argparse.Namespace) -> None:
    splits = _splits(options)
    options.output.mkdir(parents=True, exist_ok=True)
    for split, tasks in splits.items():
        target = options.output / f"{split}.jsonl"
        with target.open("w", encoding="utf-8") as file:
            for task in tasks:
                record = {"id": task.id, "question": task.question, "answer": task.answer}
                # values that are not JSON (sets, fractions) are written as text
                line = json.dumps({**record, "metadata": dict(task.metadata)}, ensure_ascii=False, default=str)
                file.write(line + "\n")
        print(f"wrote {len(tasks)} tasks to {target}")


def _splits(options: argparse.Namespace) -> dict[Split, TaskSet]:
    """Build the chosen split, or all splits of the source without ``--split``."""
    spec = {"name": options.name, **parse_options(options.options)}
    if options.split:
        return {options.split: make(spec, options.split)}
    splits: dict[Split, TaskSet] = {}
    missing: MissingSplitError | None = None
    for split in get_args(Split):
        try:
            tasks = make(spec, split)
            if splits and not tasks.disjoint:
                raise MissingSplitError("the train split has every problem. Set holdout=0.2 to hold out a fifth.")
            splits[split] = tasks
        except MissingSplitError as error:
            missing = error
            print(f"no {split} split: {error}", file=sys.stderr)
    if not splits and missing is not None:
        raise missing
    return splits


if __name__ == "__main__":
    sys.exit(main())
