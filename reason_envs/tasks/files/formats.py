"""Conversion of records to tasks: plain, GSM8K-style and MATH-style records, HotpotQA, DROP, HumanEval and MBPP.

The metadata of benchmarks has what graders need besides the answer: ``domain`` (``qa`` or ``code``), ``answers`` (every
accepted answer), ``tests`` (see `reason_envs.rewards.code.tests.read_tests`), ``public_tests`` (assertions that a model
may see and run) and ``entry_point``.
"""

import ast
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

from reason_envs.errors import ReasonEnvsError, reading, unknown_name
from reason_envs.tasks.base import Task
from reason_envs.tasks.files.records import Record
from reason_envs.tasks.text import after_hashes, is_blank, is_python, last_boxed, normalise_number, strip_calculations

QUESTION_FIELDS = ("question", "problem", "input")
ANSWER_FIELDS = ("ground_truth", "answer", "target", "final_answer")
Parts = tuple[str, str, dict[str, Any]]
"""Question, answer, metadata."""
Reader = Callable[[Record, str], Parts]
"""Converts a record. Errors name its place, which is a file and a line. `NoAnswerError`: it has no answer."""
_DOCTEST = re.compile(r"^\s*>>> (.+)\n\s*(.+)$", re.MULTILINE)
_DROP_PROMPT = re.compile(r"Passage:\s*(.*?)\s*\n\s*Question:\s*(.*?)\s*(?:\n\s*Answer:\s*)?$", re.DOTALL)


@dataclass(frozen=True)
class Fields:
    """Names of the fields that are read from a record."""

    question: str | Sequence[str] | None = None
    """Field of the question, or several fields that are joined by line breaks. ``None``: the first of
    ``QUESTION_FIELDS``."""
    answer: str | None = None
    """Field of the answer. ``None``: the first of ``ANSWER_FIELDS``."""
    solution: str | None = None
    """Field of the worked solution in MATH-style records. ``None``: ``solution``."""

    def answer_name(self, record: Record) -> str | None:
        """Return the name of the answer's field, or ``None`` if the record has none."""
        names = _present(record, (self.answer,) if self.answer else ANSWER_FIELDS)
        return next((name for name in names if not _is_empty(record[name])), None)


class NoAnswerError(ReasonEnvsError):
    """A record has no gold answer."""


def reader(format: str, fields: Fields) -> Reader:
    """Return the reader of a format, one of ``FORMATS`` or ``READERS``; ``fields`` are for the former."""
    if format in READERS:
        return READERS[format]
    if format not in FORMATS:
        raise unknown_name("record format", format, [*FORMATS, *READERS])
    return partial(_read_fields, FORMATS[format], fields)


def read_tasks(
    read: Reader, records: Iterable[tuple[str, Record]], prefix: str, skip_missing: bool
) -> tuple[list[Task], int]:
    """Convert (place, record) pairs to tasks with the ids ``prefix/position``.

    ``skip_missing`` leaves out records without an answer and counts them, instead of raising an error.
    """
    tasks, skipped = [], 0
    for position, (place, record) in enumerate(records):
        try:
            with reading(place, "Fix or remove the record."):
                tasks.append(Task(f"{prefix}/{position}", *read(record, place)))
        except NoAnswerError:
            if not skip_missing:
                raise
            skipped += 1
    return tasks, skipped


_Answer = tuple[str, set[str], dict[str, Any]]
"""The answer, the fields that it was read from, and metadata to add."""


def _plain(fields: Fields, record: Record, place: str) -> _Answer:
    name = fields.answer_name(record)
    if name is None:
        raise _no_answer(place, record, (fields.answer,) if fields.answer else ANSWER_FIELDS)
    return _as_text(record[name], name, place), {name}, {}


def _gsm8k(fields: Fields, record: Record, place: str) -> _Answer:
    name = fields.answer or "answer"
    text = record.get(name)
    if not isinstance(text, str):
        raise _no_answer(place, record, (name,))
    answer = after_hashes(text)
    if answer is None or is_blank(answer):
        raise NoAnswerError(f"{place}: {name!r} has no answer after '####': ...{text[-60:]!r}. Add one.")
    solution = strip_calculations(text.rpartition("####")[0]).strip()
    return normalise_number(answer), {name}, {"solution": solution}


def _math(fields: Fields, record: Record, place: str) -> _Answer:
    if fields.answer_name(record) is not None:
        return _plain(fields, record, place)
    solution = fields.solution or "solution"
    if not _present(record, [solution]):
        raise _no_answer(place, record, (*ANSWER_FIELDS, solution))
    answer = last_boxed(str(record[solution]))
    if answer is None or is_blank(answer):
        raise NoAnswerError(
            f"{place}: no answer field and no closed \\boxed{{...}} in {solution!r}. Fix the record, or set "
            "skip_missing=true to leave out such records."
        )
    return answer, set(), {}


FORMATS: Mapping[str, Callable[[Fields, Record, str], _Answer]] = {"plain": _plain, "gsm8k": _gsm8k, "math": _math}
"""Readers of the answer by name: from a field, after ``####``, or from a field or else the solution's last box."""


def _read_fields(
    read_answer: Callable[[Fields, Record, str], _Answer], fields: Fields, record: Record, place: str
) -> Parts:
    """Read question and answer from their fields. Other fields become metadata."""
    question, used = _question(fields.question, record, place)
    answer, answer_used, extra = read_answer(fields, record, place)
    rest = {key: value for key, value in record.items() if key not in {*used, *answer_used}}
    if isinstance(rest.get("metadata"), dict) and set(rest) == {"id", "metadata"}:
        rest = rest["metadata"]  # written by `python -m reason_envs.tasks prepare`
    return question, answer, {**rest, **extra}


def _question(given: str | Sequence[str] | None, record: Record, place: str) -> tuple[str, list[str]]:
    """Return the question and the names of its fields."""
    names = [given] if isinstance(given, str) else list(given or _present(record, QUESTION_FIELDS)[:1])
    if empty := [] if names else [name for name in QUESTION_FIELDS if name in record]:
        raise ReasonEnvsError(f"{place}: the question field {empty[0]!r} is empty. Fix or remove the record.")
    if not names:
        wanted = " or ".join(repr(name) for name in QUESTION_FIELDS)
        raise ReasonEnvsError(f"{place}: no field {wanted} for the question. {_has(record)} Set question_field.")
    for name in names:
        if not isinstance(record.get(name), str) or not record[name].strip():
            raise ReasonEnvsError(f"{place}: the question field {name!r} is missing or is not text. {_has(record)}")
    return "\n".join(record[name].strip() for name in names), names


def _as_text(value: Any, name: str, place: str) -> str:
    if isinstance(value, str):
        return value.strip()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise ReasonEnvsError(f"{place}: the answer in {name!r} must be text or a finite number, not {value!r:.80}.")
    if value == int(value):
        return str(int(value))
    return format(Decimal(repr(value)), "f")


def _present(record: Record, names: Iterable[str]) -> list[str]:
    return [name for name in names if record.get(name) is not None and record[name] != ""]


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and is_blank(value))


def _no_answer(place: str, record: Record, wanted: Iterable[str]) -> NoAnswerError:
    listed = " or ".join(repr(name) for name in wanted)
    return NoAnswerError(
        f"{place}: no answer in a field {listed}. {_has(record)} Set answer_field, or set skip_missing=true to leave "
        "out such records."
    )


def _has(record: Record) -> str:
    shown = [f"{name!r}{' (empty)' if _is_empty(value) else ''}" for name, value in record.items()]
    return f"The record has {', '.join(shown) or 'no fields'}."


def hotpotqa(record: Record, place: str) -> Parts:
    """Read HotpotQA. The context, a list of (title, sentences), is put before the question if there is one."""
    question, answer = _text(record, "question", place), _text(record, "answer", place)
    paragraphs = record.get("context") or []
    if isinstance(paragraphs, Mapping):  # on the hub: a list of titles and a list of sentences
        paragraphs = zip(paragraphs["title"], paragraphs["sentences"], strict=True)
    context = "\n".join(f"{title}: {''.join(sentences).strip()}" for title, sentences in paragraphs)
    used = ("question", "answer", "context", "supporting_facts")
    rest = {key: value for key, value in record.items() if key not in used}
    metadata = {"domain": "qa", "answers": [answer], **rest}
    return (f"{context}\n\n{question}" if context else question), answer, metadata


def drop(record: Record, place: str) -> Parts:
    """Read DROP: ``passage``, ``question`` and ``answers_spans``, or a prompt in ``context`` with ``ref_text``."""
    if "ref_text" in record:
        found = _DROP_PROMPT.search(_text(record, "context", place))
        passage, question = found.groups() if found else ("", _text(record, "context", place))
        answers = [answer.strip() for answer in _text(record, "ref_text", place).split("|")]
    else:
        passage, question = _text(record, "passage", place), _text(record, "question", place)
        spans = record.get("answers_spans", record.get("answers", []))
        answers = list(spans["spans"] if isinstance(spans, Mapping) else spans or ())
    answers = list(dict.fromkeys(answer for answer in answers if answer and not is_blank(answer)))
    if not answers:
        raise ReasonEnvsError(f"{place}: no answer. Add one in a field 'answers_spans', 'answers' or 'ref_text'.")
    return f"{passage}\n\n{question}".strip(), answers[0], {"domain": "qa", "answers": answers}


def humaneval(record: Record, place: str) -> Parts:
    """Read HumanEval. The examples in the docstring of the prompt are the public tests."""
    prompt, name = _text(record, "prompt", place), _text(record, "entry_point", place)
    _text(record, "test", place)
    examples = [f"assert {call} == {value}" for call, value in _DOCTEST.findall(prompt) if call.startswith(f"{name}(")]
    metadata = {"tests": dict(record), "entry_point": name, "public_tests": [e for e in examples if is_python(e)]}
    return prompt, prompt + record.get("canonical_solution", ""), {"domain": "code", **metadata}


def mbpp(record: Record, place: str) -> Parts:
    """Read MBPP. The first assertion is the public test and is part of the question, as is usual."""
    text = record.get("prompt") or record.get("text")
    tests = record.get("test_list")
    if not isinstance(text, str) or not isinstance(tests, list) or not tests:
        raise ReasonEnvsError(f"{place}: an MBPP record needs 'prompt' or 'text', and 'test_list'. {_has(record)}")
    code = _text(record, "code", place)
    if not is_python(code):
        raise ReasonEnvsError(f"{place}: the field 'code' is not valid Python. Fix or remove the record.")
    functions = [node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)]
    tested = [name for name in functions if re.search(rf"\b{re.escape(name)}\(", tests[0])]
    if not tested:
        raise ReasonEnvsError(f"{place}: {tests[0]!r} must call a function of 'code' ({', '.join(functions)}).")
    metadata = {"tests": dict(record), "entry_point": tested[0], "public_tests": tests[:1]}
    return f"{text.strip()}\n{tests[0]}", code, {"domain": "code", **metadata}


READERS: Mapping[str, Reader] = {"hotpotqa": hotpotqa, "drop": drop, "humaneval": humaneval, "mbpp": mbpp}
"""Readers of complete records by the name of the format."""


def _text(record: Record, name: str, place: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ReasonEnvsError(f"{place}: the field {name!r} is missing or is not text. {_has(record)}")
    return value if name in ("prompt", "test", "code") else value.strip()
