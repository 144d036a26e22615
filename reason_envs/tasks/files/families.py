"""Tasks from JSON and JSON-lines files: plain, GSM8K-style and MATH-style files, and other benchmarks by name.

``path`` is one file, a folder with ``train.*`` or ``test.*`` or both, or a mapping ``{"train": file, "test": file}``.
A folder and a mapping have official splits, which are kept. One file has no splits, whatever its name is: all of it is
used, for training or as the set of an evaluation. ``holdout=0.2`` holds out a fifth, by the hash of the questions.
"""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path

from reason_envs.errors import unknown_name
from reason_envs.tasks.base import Split
from reason_envs.tasks.files.formats import Fields, read_tasks
from reason_envs.tasks.files.records import SUFFIXES, read_records
from reason_envs.tasks.task_list import ListTaskSet, MissingSplitError, split_tasks

Source = str | PathLike[str] | Mapping[str, str | PathLike[str]]


_OPTIONS = """
    Args:
        split: ``"train"`` or ``"test"``.
        path: a file, a folder or a mapping of splits to files.
        question_field: field of the question, or several fields that are joined by line breaks. ``None``: the first of
            question, problem, input.
        answer_field: field of the answer. ``None``: {answer_fields}.
        holdout: share of a single file that is for testing, by the hash of the question. 0: both splits have all of it.
        skip_missing: whether to leave out records without an answer, such as proofs, and count them in ``skipped``.
        max_samples: maximum number of tasks; they are chosen by the hash of their question. ``None``: all."""


def _family(name: str, format: str, summary: str, answer_fields: str) -> Callable[..., ListTaskSet]:
    def files(
        split: Split,
        *,
        path: Source,
        question_field: str | Sequence[str] | None = None,
        answer_field: str | None = None,
        holdout: float = 0.0,
        skip_missing: bool = False,
        max_samples: int | None = None,
    ) -> ListTaskSet:
        fields = Fields(question_field, answer_field)
        return _load(name, format, fields, split, path, holdout, skip_missing, max_samples)

    files.__doc__ = summary + "\n" + _OPTIONS.format(answer_fields=answer_fields)
    return files


json_files = _family(
    "json",
    "plain",
    "JSON or JSON-lines files with a question and an answer.",
    "the first of ground_truth, answer, target, final_answer",
)
gsm8k_files = _family(
    "gsm8k",
    "gsm8k",
    """GSM8K-style files: worked solutions that end in ``#### answer``.

    Thousands separators are removed from the answer. The metadata has the solution without calculator annotations.""",
    "``answer``, which has the solution and the answer",
)


def math_files(
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
    r"""MATH-style or NuminaMath-style files: a field with the answer, or the last box of the solution.

    Args:
        split: ``"train"`` or ``"test"``.
        path: a file, a folder or a mapping of splits to files.
        question_field: field of the question. ``None``: the first of question, problem, input.
        answer_field: field of the answer. ``None``: the first of ground_truth, answer, target, final_answer.
        solution_field: field whose last ``\boxed{}`` has the answer if there is no answer field. ``None``: solution.
        holdout: share of a single file that is for testing, by the hash of the question. 0: both splits have all of it.
        skip_missing: whether to leave out records without an answer, such as proofs, and count them in ``skipped``.
        max_samples: maximum number of tasks; they are chosen by the hash of their question. ``None``: all.
    """
    fields = Fields(question_field, answer_field, solution_field)
    return _load("math", "math", fields, split, path, holdout, skip_missing, max_samples)


def _benchmark(name: str, summary: str) -> Callable[..., ListTaskSet]:
    def files(split: Split, *, path: Source, holdout: float = 0.0, max_samples: int | None = None) -> ListTaskSet:
        return _load(name, name, Fields(), split, path, holdout, False, max_samples)

    files.__doc__ = f"""{summary}

    Args:
        split: ``"train"`` or ``"test"``.
        path: a file, a folder or a mapping of splits to files.
        holdout: share of a single file that is for testing, by the hash of the question. 0: both splits have all of it.
        max_samples: maximum number of tasks; they are chosen by the hash of their question. ``None``: all."""
    return files


hotpotqa_files = _benchmark("hotpotqa", "HotpotQA files: a question, an optional context and an answer.")
drop_files = _benchmark("drop", "DROP files: a passage, a question and the accepted answers.")
humaneval_files = _benchmark("humaneval", "HumanEval files: a function to complete, and its tests.")
mbpp_files = _benchmark("mbpp", "MBPP files: a function described in words, and its assertions.")


def _load(
    name: str,
    format: str,
    fields: Fields,
    split: Split,
    path: Source,
    holdout: float,
    skip_missing: bool,
    max_samples: int | None,
) -> ListTaskSet:
    file, official = locate(path, split)
    prefix = f"{name}/{file.name.partition('.')[0]}"
    tasks, skipped = read_tasks(format, fields, read_records(file), prefix, skip_missing)
    return split_tasks(
        name, split, tasks, file, official=official, holdout=holdout, skipped=skipped, max_samples=max_samples
    )


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
    return (_in_folder(place, split, suffixes), True) if place.is_dir() else (place, False)


def _in_folder(folder: Path, split: Split, suffixes: tuple[str, ...]) -> Path:
    for suffix in suffixes:
        if (folder / f"{split}{suffix}").is_file():
            return folder / f"{split}{suffix}"
    found = ", ".join(sorted(item.name for item in folder.iterdir())) or "no files"
    raise MissingSplitError(
        f"The folder {folder} has no {split} split ({' or '.join(split + suffix for suffix in suffixes)}). It contains "
        f"{found}. To use one file whole, or to hold out a part of it, set path to that file."
    )
