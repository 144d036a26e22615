"""Task families by name: built-in families, those of reasoning-gym, and those of other packages."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from reason_envs.errors import OptionError, ReasonEnvsError, unknown_name
from reason_envs.registry import Part, Registry
from reason_envs.tasks.base import Split, TaskSet
from reason_envs.tasks.task_list import split_tasks


class TaskRegistry(Registry[TaskSet]):
    """Task families by name. A family of reasoning-gym is used only if no other family has its name."""

    def names(self) -> list[str]:
        """Return the name of every task family, sorted."""
        from reason_envs.tasks.generated import reasoning_gym

        return sorted({*super().names(), *reasoning_gym.FAMILY_NAMES})

    def find(self, name: str) -> Part | None:
        """Return the family with a name, or ``None``."""
        if name in self.parts:
            return self.parts[name]
        from reason_envs.tasks.generated import reasoning_gym

        return Part(reasoning_gym.family(name)) if name in reasoning_gym.FAMILY_NAMES else None

    def make(self, spec: Any, /, *arguments: Any, **options: Any) -> TaskSet:
        """Build a task set. ``spec`` can also be records: a list, a ``datasets.Dataset`` or a ``pandas.DataFrame``."""
        if isinstance(spec, str | Mapping | TaskSet) or not isinstance(spec, Iterable):
            return super().make(spec, *arguments, **options)
        from reason_envs.tasks.files.formats import Fields, read_tasks, reader

        frame: Any = spec
        rows = frame.to_dict("records") if type(spec).__name__ == "DataFrame" else spec
        records = [(f"tasks, record {number}", row) for number, row in enumerate(rows, start=1)]
        for place, row in records:
            if not isinstance(row, Mapping):
                raise ReasonEnvsError(f"{place}: must be a mapping with a question and an answer, not {row!r:.80}.")
        tasks, _ = read_tasks(reader("plain", Fields()), records, "records", False)
        return split_tasks("records", arguments[0], tasks, Path("tasks"), official=False)

    def unknown(self, name: str, others: Sequence[str] = ()) -> ReasonEnvsError:
        """Build the error for an unknown family. For a file it names the family that reads files."""
        path = name if Path(name).suffix else f"FILE.{name}" if name in ("csv", "jsonl", "parquet") else ""
        if path:
            return ReasonEnvsError(
                f"{name!r} is not a task family; for a file write {{name: json, path: {path}}}, with quotes in Python."
            )
        return super().unknown(name, others)

    def build(self, part: Part, owner: str, options: dict[str, Any], /, *arguments: Any, **keywords: Any) -> TaskSet:
        """Check the options of a family and build its tasks."""
        if "path" in options and "path" not in part.options(positional=1):
            rule = f"is not an option of {owner}, which reads no file: name a family that does, such as json."
            raise OptionError("path", options["path"], rule)
        return super().build(part, owner, options, *arguments, **keywords)


TASKS = TaskRegistry("task family", "reason_envs.tasks", Part.built_in("reason_envs", "reason_envs.tasks"), TaskSet)
"""Registered task families; `register` adds one."""


@dataclass(frozen=True)
class Family:
    """Description of a task family."""

    name: str
    """Name of the family for `make`."""
    summary: str
    """Description of the tasks in one line."""
    options: Mapping[str, Any]
    """Default of each option; ``reason_envs.errors.REQUIRED`` if it must be given."""
    generated: bool
    """Whether a generator of reasoning-gym makes its tasks."""


def make(spec: TaskSet | str | Mapping[str, Any], split: str = "train") -> TaskSet:
    """Build a task set.

    Args:
        spec: name of a family (``"chain_sum"``), mapping with ``name`` and options (``{"name": "chain_sum",
            "min_terms": 3}``), records with a question and an answer in a list, a ``datasets.Dataset`` or a
            ``pandas.DataFrame``, or task set, which is returned unchanged.
        split: ``"train"`` or ``"test"``.

    Raises:
        ReasonEnvsError: the name, split or an option is unknown, an option is missing, or the family refuses a value.
    """
    if split not in get_args(Split):
        raise unknown_name("split", split, get_args(Split))
    return TASKS.make(spec, split)


def register(name: str, factory: Callable[..., TaskSet] | str) -> None:
    """Add a task family.

    A package that calls this from a function in the entry-point group ``reason_envs.tasks`` need not be imported first.

    Args:
        name: name that is not registered yet.
        factory: function that is called as ``factory(split, **options)``, or its import path ``"package.module:name"``.
            Its keyword parameters are the options of the family.
    """
    TASKS.register(name, factory)


def names() -> list[str]:
    """Return the name of every task family, sorted."""
    return TASKS.names()


def family(name: str) -> Family:
    """Return the description of a task family. ``module:`` before the name imports the module first."""
    from reason_envs.tasks.generated import reasoning_gym

    part = TASKS[name]
    summary = (inspect.getdoc(part.load()) or "").split("\n")[0]
    options = {option: declared.default for option, declared in part.options(positional=1).items()}
    return Family(name, summary, options, name not in TASKS.parts and name in reasoning_gym.FAMILY_NAMES)
