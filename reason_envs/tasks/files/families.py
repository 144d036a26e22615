"""Tasks from JSON and JSON-lines files: plain, GSM8K-style and MATH-style files, and other benchmarks by name.

``path`` is one file, a folder with ``train.*`` or ``test.*`` or both, or a mapping ``{"train": file, "test": file}``.
A folder and a mapping have official splits, which are kept. One file has no splits, whatever its name is: all of it is
used, for training or as the set of an evaluation. ``holdout=0.2`` holds out a fifth, by the hash of the questions.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from reason_envs.errors import unknown_name
from reason_envs.tasks.base import Split
from reason_envs.tasks.files.formats import Fields, read_tasks, reader
from reason_envs.tasks.files.records import SUFFIXES, read_records
from reason_envs.tasks.task_list import ListTaskSet, MissingSplitError, split_tasks

Source = str | PathLike[str] | Mapping[str, str | PathLike[str]]

_FIELD_OPTIONS = ("question_field", "answer_field", "solution_field", "skip_missing")


def read_files(
    name: str,
    format: str,
    split: Split,
    *,
    path: Source,
    question_field: str | Sequence[str] | None = None,
    answer_field: str | None = None,
    solution_field: str | None = None,
    holdout: float = 0.0,
    skip_missing: bool = False,
    max_samples: int | None = None,
) -> ListTaskSet:
    r"""Read a task set from files. A family has the options that its format uses.

    Args:
        name: name of the family.
        format: format of the records.
        split: ``"train"`` or ``"test"``.
        path: a file, a folder or a mapping of splits to files.
        question_field: field of the question, or several fields that are joined by line breaks. ``None``: the first of
            question, problem, input.
        answer_field: field of the answer; for GSM8K it has the solution and the answer, and ``None`` means ``answer``.
            ``None`` elsewhere: the first of ground_truth, answer, target, final_answer.
        solution_field: field whose last ``\boxed{}`` has the answer if there is no answer field. ``None``: solution.
        holdout: share of a single file that is for testing, by the hash of the question. 0: both splits have all of it.
        skip_missing: whether to leave out records without an answer, such as proofs, and count them in ``skipped``.
        max_samples: maximum number of tasks; they are chosen by the hash of their question. ``None``: all.
    """
    file, official = locate(path, split)
    prefix = f"{name}/{file.name.partition('.')[0]}"
    read = reader(format, Fields(question_field, answer_field, solution_field))
    tasks, skipped = read_tasks(read, read_records(file), prefix, skip_missing)
    return split_tasks(
        name, split, tasks, file, official=official, holdout=holdout, skipped=skipped, max_samples=max_samples
    )


def _family(name: str, format: str, summary: str, *unused: str) -> Callable[..., ListTaskSet]:
    """Return a function ``(split, **options)`` with the options of `read_files` except the ``unused`` ones."""

    def files(split: Split, **options: Any) -> ListTaskSet:
        return read_files(name, format, split, **options)

    parameters = inspect.signature(read_files).parameters.values()
    used = [parameter for parameter in parameters if parameter.name not in ("name", "format", *unused)]
    files.__signature__ = inspect.Signature(used)  # type: ignore[attr-defined]
    files.__annotations__ = read_files.__annotations__
    files.__doc__ = summary
    return files


_GSM8K = "GSM8K-style files: worked solutions that end in ``#### answer``, with or without thousands separators."
_MATH = "MATH-style or NuminaMath-style files: a field with the answer, or the last box of the solution."
_HOTPOTQA = "HotpotQA files: a question, an optional context and an answer."
json_files = _family("json", "plain", "JSON or JSON-lines files with a question and an answer.", "solution_field")
gsm8k_files = _family("gsm8k", "gsm8k", _GSM8K, "solution_field")
math_files = _family("math", "math", _MATH)
hotpotqa_files = _family("hotpotqa", "hotpotqa", _HOTPOTQA, *_FIELD_OPTIONS)
drop_files = _family("drop", "drop", "DROP files: a passage, a question and the accepted answers.", *_FIELD_OPTIONS)
humaneval_files = _family(
    "humaneval", "humaneval", "HumanEval files: a function to complete, and its tests.", *_FIELD_OPTIONS
)
mbpp_files = _family("mbpp", "mbpp", "MBPP files: a function described in words, and its assertions.", *_FIELD_OPTIONS)


def locate(path: Source, split: Split, suffixes: tuple[str, ...] = SUFFIXES) -> tuple[Path, bool]:
    """Return the file of a split, and whether the split is official. Files in a folder end with a suffix."""
    if isinstance(path, Mapping):
        unknown = set(path) - {"train", "test"}
        if unknown:
            raise unknown_name("split in path", sorted(map(str, unknown))[0], ("train", "test"))
        if split not in path:
            raise MissingSplitError(f"path has {', '.join(map(repr, path)) or 'no split'} only: add {split!r}: FILE.")
        return Path(path[split]).expanduser(), True
    place = Path(path).expanduser()
    if not place.is_dir():
        return place, False
    for suffix in suffixes:
        if (place / f"{split}{suffix}").is_file():
            return place / f"{split}{suffix}", True
    found = ", ".join(sorted(item.name for item in place.iterdir())) or "no files"
    raise MissingSplitError(
        f"The folder {place} has no {split} split ({' or '.join(split + suffix for suffix in suffixes)}). It contains "
        f"{found}. To use one file whole, or to hold out a part of it, set path to that file."
    )
