"""Inspect task families and write tasks to files: ``python -m reason_envs.tasks list | show | stats | prepare``."""

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from reason_envs.errors import REQUIRED, ReasonEnvsError, printable
from reason_envs.registry import command_parser, parse_options
from reason_envs.tasks.base import Split, TaskSet
from reason_envs.tasks.registry import family, make, names
from reason_envs.tasks.report import overlap, stats
from reason_envs.tasks.task_list import MissingSplitError
from reason_envs.validation import at_least


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = command_parser(__file__, "command.yaml").parse_args(arguments)
    try:
        {"list": _list, "show": _show, "stats": _stats, "prepare": _prepare}[options.command](options)
        sys.stdout.flush()
    except ReasonEnvsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader (head, less) closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


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
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    for split, tasks in splits.items():
        target = output / f"{split}.jsonl"
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
