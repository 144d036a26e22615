"""Public data sets and benchmarks by the names that papers use, each with its data set on the hub and its fields.

Without a network, set ``path`` to a local copy: a folder with data files or with the output of ``save_to_disk``.
The levels of APPS need the folder of ``train.jsonl`` and ``test.jsonl``.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.base import Split, Task
from reason_envs.tasks.files.formats import Parts
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
    return _from_hub("polaris", split, path, None, _plain("problem", "answer"), max_samples, holdout=holdout)


def aime24(split: Split, *, path: str = "Maxwell-Jia/AIME_2024", max_samples: int | None = None) -> ListTaskSet:
    """AIME 2024: 30 competition problems, for evaluation only."""
    return _from_hub("AIME24", split, path, None, _plain("Problem", "Answer"), max_samples, benchmark=True)


def aime25(split: Split, *, path: str = "yentinglin/aime_2025", max_samples: int | None = None) -> ListTaskSet:
    """AIME 2025: 30 competition problems, for evaluation only."""
    return _from_hub("AIME25", split, path, None, _plain("problem", "answer"), max_samples, benchmark=True)


def olympiad_bench(split: Split, *, path: str = "Hothan/OlympiadBench", max_samples: int | None = None) -> ListTaskSet:
    """OlympiadBench: English competition mathematics with one final answer, for evaluation only."""
    config = "OE_TO_maths_en_COMP"
    return _from_hub("OlympiadBench", split, path, config, _one_final_answer, max_samples, benchmark=True)


def code_contests(split: Split, *, path: str = "deepmind/code_contests", max_samples: int | None = None) -> ListTaskSet:
    """CodeContests: programs that read standard input and print; problems with a correct Python 3 solution."""
    return _from_hub("code_contests", split, path, None, _code_contest, max_samples)


def introductory(split: Split, *, path: str = "codeparrot/apps", max_samples: int | None = None) -> ListTaskSet:
    """APPS, introductory level: programs that read standard input and print; problems with a solution."""
    return _apps("introductory", split, path, max_samples)


def interview(split: Split, *, path: str = "codeparrot/apps", max_samples: int | None = None) -> ListTaskSet:
    """APPS, interview level: programs that read standard input and print; problems with a solution."""
    return _apps("interview", split, path, max_samples)


def competition(split: Split, *, path: str = "codeparrot/apps", max_samples: int | None = None) -> ListTaskSet:
    """APPS, competition level: programs that read standard input and print; problems with a solution."""
    return _apps("competition", split, path, max_samples)


def _from_hub(
    name: str,
    split: Split,
    path: str,
    config: str | None,
    convert: Callable[[Record], Parts | None],
    max_samples: int | None,
    *,
    benchmark: bool = False,
    holdout: float = 0.0,
) -> ListTaskSet:
    if benchmark and split == "train":
        raise MissingSplitError(f"{name} is a benchmark and has no train split: set eval_set={name} or split=test.")
    loaded = load_hub(path, config)
    source, shared = choose_split(path, split, list(loaded), None)
    records = (dict(record) for record in loaded[source])
    return _task_set(name, split, records, convert, max_samples, official=not shared or benchmark, holdout=holdout)


def _task_set(
    name: str,
    split: Split,
    records: Iterable[Record],
    convert: Callable[[Record], Parts | None],
    max_samples: int | None,
    *,
    official: bool = True,
    holdout: float = 0.0,
) -> ListTaskSet:
    """Build the task set from the records that can be graded, and count the others."""
    tasks, skipped = [], 0
    for row, record in enumerate(records):
        parts = convert(record)
        if parts is None:
            skipped += 1
        else:
            tasks.append(Task(f"{name}/{split}/{row}", *parts))
    return split_tasks(
        name, split, tasks, name, official=official, holdout=holdout, skipped=skipped, max_samples=max_samples
    )


def _apps(level: str, split: Split, path: str, max_samples: int | None) -> ListTaskSet:
    file = _apps_file(path, f"{split}.jsonl")
    records = (record for _, record in read_records(file) if _field(record, "difficulty") == level)
    return _task_set(level, split, records, _apps_program, max_samples)


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


def _plain(question: str, answer: str) -> Callable[[Record], Parts | None]:
    def convert(record: Record) -> Parts | None:
        rest = {key: value for key, value in record.items() if key not in (question, answer)}
        return str(_field(record, question)).strip(), str(_field(record, answer)).strip(), rest

    return convert


def _one_final_answer(record: Record) -> Parts | None:
    answers = _field(record, "final_answer") or []
    if len(answers) != 1:
        return None
    return str(_field(record, "question")).strip(), answers[0].strip().strip("$"), {}


def _code_contest(record: Record) -> Parts | None:
    solutions = _field(record, "solutions")
    pairs = zip(solutions["language"], solutions["solution"], strict=True)
    right = next((code for language, code in pairs if language == PYTHON_3), None)
    tests = [_field(record, name) for name in ("public_tests", "private_tests")]
    inputs, outputs = ([text for test in tests for text in test[name]] for name in ("input", "output"))
    return _program(_field(record, "description"), inputs, outputs, right)


def _apps_program(record: Record) -> Parts | None:
    solutions = json.loads(record.get("solutions") or "[]")
    tests = json.loads(record.get("input_output") or "{}")
    if "fn_name" in tests:  # tests that call a function, not a program
        return None
    inputs, outputs = tests.get("inputs", []), tests.get("outputs", [])
    return _program(_field(record, "question"), inputs, outputs, next(iter(solutions), None))


def _program(question: str, inputs: list[Any], outputs: list[Any], right: str | None) -> Parts | None:
    texts = all(isinstance(text, str) for text in (*inputs, *outputs))
    if right is None or not inputs or len(inputs) != len(outputs) or not texts:
        return None
    return question.strip(), right, {"inputs": inputs, "outputs": outputs}


def _field(record: Record, name: str) -> Any:
    if name not in record:
        raise ReasonEnvsError(f"A record has no field {name!r}, only {', '.join(map(repr, record)) or 'none'}.")
    return record[name]
