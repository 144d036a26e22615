"""Public data sets and benchmarks by the names that papers use, each with its data set on the hub and its fields.

Without a network, set ``path`` to a local copy: a folder with data files or with the output of ``save_to_disk``.
The levels of APPS need the folder of ``train.jsonl`` and ``test.jsonl``.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.base import Split
from reason_envs.tasks.files.formats import NoAnswerError, Parts, Reader, read_tasks
from reason_envs.tasks.files.hub import choose_split, load_hub
from reason_envs.tasks.files.records import Record, read_records
from reason_envs.tasks.task_list import ListTaskSet, MissingSplitError, split_tasks

PYTHON_3 = 3
"""Code of the language Python 3 in ``deepmind/code_contests``."""


def polaris(
    split: Split,
    *,
    path: str = "POLARIS-Project/Polaris-Dataset-53K",
    holdout: float = 0.0,
    max_samples: int | None = None,
) -> ListTaskSet:
    """POLARIS: 53,000 competition problems. ``holdout`` is the share of the test split, chosen by hash; 0: none."""
    records, official = _from_hub(split, path)
    return _task_set("polaris", split, records, _plain("problem", "answer"), max_samples, official, holdout)


def code_contests(split: Split, *, path: str = "deepmind/code_contests", max_samples: int | None = None) -> ListTaskSet:
    """CodeContests: programs that read standard input and print; problems with a correct Python 3 solution."""
    records, official = _from_hub(split, path)
    return _task_set("code_contests", split, records, _code_contest, max_samples, official)


def _from_hub(split: Split, path: str, config: str | None = None) -> tuple[Iterable[Record], bool]:
    """Return the records of a split of a data set, and whether the split is official."""
    loaded = load_hub(path, config)
    source, shared = choose_split(path, split, list(loaded), None)
    return (dict(record) for record in loaded[source]), not shared


def _task_set(
    name: str,
    split: Split,
    records: Iterable[Record],
    read: Reader,
    max_samples: int | None,
    official: bool = True,
    holdout: float = 0.0,
) -> ListTaskSet:
    """Build the task set from the records that can be graded, and count the others."""
    tasks, skipped = read_tasks(read, ((name, record) for record in records), f"{name}/{split}", skip_missing=True)
    return split_tasks(
        name, split, tasks, name, official=official, holdout=holdout, skipped=skipped, max_samples=max_samples
    )


def _benchmark(
    name: str, summary: str, source: str, read: Reader, config: str | None = None
) -> Callable[..., ListTaskSet]:
    """Return the family of a data set that is for evaluation only."""

    def benchmark(split: Split, *, path: str = source, max_samples: int | None = None) -> ListTaskSet:
        if split == "train":
            raise MissingSplitError(f"{name} is a benchmark and has no train split: set eval_set={name} or split=test.")
        return _task_set(name, split, _from_hub(split, path, config)[0], read, max_samples)

    benchmark.__doc__ = f"{summary}, for evaluation only."
    return benchmark


def _apps(level: str) -> Callable[..., ListTaskSet]:
    """Return the family of a level of APPS."""

    def apps(split: Split, *, path: str = "codeparrot/apps", max_samples: int | None = None) -> ListTaskSet:
        file = _apps_file(path, f"{split}.jsonl")
        records = (record for _, record in read_records(file) if _field(record, "difficulty") == level)
        return _task_set(level, split, records, _apps_program, max_samples)

    apps.__doc__ = f"APPS, {level} level: programs that read standard input and print; problems with a solution."
    return apps


def _apps_file(path: str, name: str) -> Path:
    """Return the file in a local folder, or download only this file of a data set from the hub."""
    if Path(path).expanduser().is_dir():
        return Path(path).expanduser() / name
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(path, name, repo_type="dataset"))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise ReasonEnvsError(
            f"Cannot load {name} of the data set {path!r}: the hub cannot be reached or has no such file ({error}). "
            "Without a network, set path to the folder of a local copy."
        ) from error


# --- conversion of records


def _plain(question: str, answer: str) -> Reader:
    def convert(record: Record, place: str) -> Parts:
        rest = {key: value for key, value in record.items() if key not in (question, answer)}
        return str(_field(record, question)).strip(), str(_field(record, answer)).strip(), rest

    return convert


def _one_final_answer(record: Record, place: str) -> Parts:
    answers = _field(record, "final_answer") or []
    if len(answers) != 1:
        raise NoAnswerError(f"{place}: {len(answers)} final answers")
    return str(_field(record, "question")).strip(), answers[0].strip().strip("$"), {}


def _code_contest(record: Record, place: str) -> Parts:
    solutions = _field(record, "solutions")
    pairs = zip(solutions["language"], solutions["solution"], strict=True)
    right = next((code for language, code in pairs if language == PYTHON_3), None)
    tests = [_field(record, name) for name in ("public_tests", "private_tests")]
    inputs, outputs = ([text for test in tests for text in test[name]] for name in ("input", "output"))
    return _program(_field(record, "description"), inputs, outputs, right, place)


def _apps_program(record: Record, place: str) -> Parts:
    solutions = json.loads(record.get("solutions") or "[]")
    tests = json.loads(record.get("input_output") or "{}")
    # tests with a name call a function, not a program
    inputs, outputs = ([] if "fn_name" in tests else tests.get(name, []) for name in ("inputs", "outputs"))
    return _program(_field(record, "question"), inputs, outputs, next(iter(solutions), None), place)


def _program(question: str, inputs: list[Any], outputs: list[Any], right: str | None, place: str) -> Parts:
    texts = all(isinstance(text, str) for text in (*inputs, *outputs))
    if right is None or not inputs or len(inputs) != len(outputs) or not texts:
        raise NoAnswerError(f"{place}: no right program, or no tests of text")
    return question.strip(), right, {"inputs": inputs, "outputs": outputs}


def _field(record: Record, name: str) -> Any:
    if name not in record:
        raise ReasonEnvsError(f"A record has no field {name!r}, only {', '.join(map(repr, record)) or 'none'}.")
    return record[name]


aime24 = _benchmark(
    "AIME24", "AIME 2024: 30 competition problems", "Maxwell-Jia/AIME_2024", _plain("Problem", "Answer")
)
aime25 = _benchmark("AIME25", "AIME 2025: 30 competition problems", "yentinglin/aime_2025", _plain("problem", "answer"))
_OLYMPIAD = "OlympiadBench: English competition mathematics with one final answer"
olympiad_bench = _benchmark(
    "OlympiadBench", _OLYMPIAD, "Hothan/OlympiadBench", _one_final_answer, "OE_TO_maths_en_COMP"
)
introductory, interview, competition = map(_apps, ("introductory", "interview", "competition"))
