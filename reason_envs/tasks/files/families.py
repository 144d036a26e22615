"""Problems from JSON and JSON-lines files: plain, GSM8K- and MATH-style, and other benchmarks by their names.

``path`` is one file, a folder that holds ``train.*`` and/or ``test.*``, or a mapping ``{"train": file, "test": file}``.
A folder or mapping has official splits, which are kept. One file has none, whatever it is called, and is divided by
the hash of the questions (about a fifth is the test split); with ``split_by="none"`` all of it is the train split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path

from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.tasks.base import Split
from reason_envs.tasks.files.formats import Fields, read_tasks
from reason_envs.tasks.files.records import SUFFIXES, read_records
from reason_envs.tasks.task_list import ListTaskSet, MissingSplitError, by_hash, empty_split, first_samples

Source = str | PathLike[str] | Mapping[str, str | PathLike[str]]
_SPLIT_BY = ("hash", "none")
OWN_FILES = (
    ", or give each split a file of its own: path={train: FILE, test: FILE}, in quotes (for agents.train "
    "'env.tasks.path={train: FILE, test: FILE}')"
)
"""What else helps where the hash leaves a split of one file empty."""


_OPTIONS = """
    Args:
        split: ``"train"`` or ``"test"``.
        path: a file, a folder or a mapping of splits to files.
        question_field: the question's field, or several that are joined by line breaks; tried in order by default:
            question, problem, input.
        answer_field: the field with the answer; by default {answer_fields}.
        split_by: how one file is divided: ``"hash"`` (default) or ``"none"`` (all of it is for training).
        skip_missing: leave records without an answer (such as proofs) out and count them in ``skipped``.
        max_samples: at most so many problems, a sample that depends on the texts alone."""


def _family(name: str, format: str, summary: str, answer_fields: str) -> Callable[..., ListTaskSet]:
    def files(
        split: Split,
        *,
        path: Source,
        question_field: str | Sequence[str] | None = None,
        answer_field: str | None = None,
        split_by: str | None = None,
        skip_missing: bool = False,
        max_samples: int | None = None,
    ) -> ListTaskSet:
        fields = Fields(question_field, answer_field)
        return _load(name, format, fields, split, path, split_by, skip_missing, max_samples)

    files.__doc__ = summary + "\n" + _OPTIONS.format(answer_fields=answer_fields)
    return files


json_files = _family(
    "json",
    "plain",
    "JSON or JSON-lines files with a question and an answer.",
    "ground_truth, answer, target, final_answer",
)
gsm8k_files = _family(
    "gsm8k",
    "gsm8k",
    """GSM8K-style files: worked solutions that end in ``#### answer``.

    The answer loses its thousands commas; the solution, without calculator annotations, is in the metadata.""",
    "``answer``, which holds solution and answer",
)


def math_files(
    split: Split,
    *,
    path: Source,
    question_field: str | Sequence[str] | None = None,
    answer_field: str | None = None,
    solution_field: str | None = None,
    split_by: str | None = None,
    skip_missing: bool = False,
    max_samples: int | None = None,
) -> ListTaskSet:
    r"""MATH- or NuminaMath-style files: an answer field, or else the solution's last box.

    Args:
        split: ``"train"`` or ``"test"``.
        path: a file, a folder or a mapping of splits to files.
        question_field: the question's field; by default question, problem, input.
        answer_field: the answer's field; by default ground_truth, answer, target, final_answer.
        solution_field: the field whose last ``\boxed{}`` holds the answer when there is no answer field.
        split_by: how one file is divided: ``"hash"`` (default) or ``"none"`` (all of it is for training).
        skip_missing: leave records without an answer (proofs) out and count them in ``skipped``.
        max_samples: at most so many problems, a sample that depends on the texts alone.
    """
    fields = Fields(question_field, answer_field, solution_field)
    return _load("math", "math", fields, split, path, split_by, skip_missing, max_samples)


def _benchmark(name: str, summary: str) -> Callable[..., ListTaskSet]:
    def files(
        split: Split, *, path: Source, split_by: str | None = None, max_samples: int | None = None
    ) -> ListTaskSet:
        return _load(name, name, Fields(), split, path, split_by, False, max_samples)

    files.__doc__ = f"""{summary}

    Args:
        split: ``"train"`` or ``"test"``.
        path: a file, a folder or a mapping of splits to files.
        split_by: how one file is divided: ``"hash"`` (default) or ``"none"`` (all of it is for training).
        max_samples: at most so many problems, a sample that depends on the texts alone."""
    return files


hotpotqa_files = _benchmark("hotpotqa", "HotpotQA files: a question, its context (if it has one) and an answer.")
drop_files = _benchmark("drop", "DROP files: a passage, a question and the accepted answers.")
humaneval_files = _benchmark("humaneval", "HumanEval files: the head of a function to complete, and tests.")
mbpp_files = _benchmark("mbpp", "MBPP files: a function described in words, and assertions.")


def _load(
    name: str,
    format: str,
    fields: Fields,
    split: Split,
    path: Source,
    split_by: str | None,
    skip_missing: bool,
    max_samples: int | None,
) -> ListTaskSet:
    file, official = locate(path, split)
    _check_split_by(split_by, official)
    if split_by == "none" and split == "test":
        raise MissingSplitError(
            f"split_by='none' makes all of {file} the train split, so nothing is left to test on: give path as "
            "{'train': file, 'test': file}, take split_by='hash', or evaluate on another set."
        )
    prefix = f"{name}/{file.name.partition('.')[0]}"
    tasks, skipped = read_tasks(format, fields, read_records(file), prefix, skip_missing)
    if not official and split_by != "none":
        tasks = by_hash(tasks, split)
    if not tasks:
        raise empty_split(file, split, skipped, OWN_FILES)
    return ListTaskSet(name, split, first_samples(tasks, max_samples), skipped)


def _check_split_by(split_by: str | None, official: bool) -> None:
    if split_by is None:
        return
    if split_by not in _SPLIT_BY:
        raise unknown_name("split_by", split_by, _SPLIT_BY)
    if official:
        raise ReasonEnvsError(
            f"split_by={split_by!r} is for a single file; a folder or mapping has splits of its own. Drop it, or give "
            "the one file as path."
        )


def locate(path: Source, split: Split, suffixes: tuple[str, ...] = SUFFIXES) -> tuple[Path, bool]:
    """Return the file of a split, and whether the split is an official one.

    Args:
        path: a file, a folder or a mapping of splits to files.
        split: ``"train"`` or ``"test"``.
        suffixes: how the files of a folder end.
    """
    if isinstance(path, Mapping):
        unknown = set(path) - {"train", "test"}
        if unknown:
            raise unknown_name("split in path", sorted(map(str, unknown))[0], ("train", "test"))
        if split not in path:
            raise MissingSplitError(f"path names no {split} file; it has {', '.join(map(repr, path)) or 'nothing'}.")
        return Path(path[split]).expanduser(), True
    place = Path(path).expanduser()
    return (_in_folder(place, split, suffixes), True) if place.is_dir() else (place, False)


def _in_folder(folder: Path, split: Split, suffixes: tuple[str, ...]) -> Path:
    for suffix in suffixes:
        if (folder / f"{split}{suffix}").is_file():
            return folder / f"{split}{suffix}"
    held = ", ".join(sorted(item.name for item in folder.iterdir())) or "nothing"
    raise MissingSplitError(
        f"The folder {folder} has no {split} split ({split}{suffixes[0]} or the like); it holds {held}. "
        "Give one file as path to have it divided by hash."
    )
