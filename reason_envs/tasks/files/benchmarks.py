"""Readers for records of public benchmarks that have more than question and answer: HotpotQA, DROP, HumanEval, MBPP.

The metadata has what graders need besides the answer: ``domain`` (``qa`` or ``code``), ``answers`` (every accepted
answer), ``tests`` (see `reason_envs.rewards.code.tests.read_tests`), ``public_tests`` (assertions that a model may see
and run) and ``entry_point``.
"""

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.files.records import Record
from reason_envs.tasks.text import is_blank

Parts = tuple[str, str, dict[str, Any]]
"""Question, answer, metadata."""
_DOCTEST = re.compile(r"^\s*>>> (.+)\n\s*(.+)$", re.MULTILINE)
_DROP_PROMPT = re.compile(r"Passage:\s*(.*?)\s*\n\s*Question:\s*(.*?)\s*(?:\n\s*Answer:\s*)?$", re.DOTALL)


def hotpotqa(record: Record, place: str) -> Parts:
    """Read HotpotQA. The context, a list of (title, sentences), is put before the question if there is one."""
    question, answer = _text(record, "question", place), _text(record, "answer", place)
    context = _paragraphs(record.get("context"))
    metadata = {"domain": "qa", "answers": [answer], **_rest(record, "question", "answer", "context")}
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
    metadata = {"tests": dict(record), "entry_point": name, "public_tests": [e for e in examples if _parses(e)]}
    return prompt, prompt + record.get("canonical_solution", ""), {"domain": "code", **metadata}


def mbpp(record: Record, place: str) -> Parts:
    """Read MBPP. The first assertion is the public test and is part of the question, as is usual."""
    text = record.get("prompt") or record.get("text")
    tests = record.get("test_list")
    if not isinstance(text, str) or not isinstance(tests, list) or not tests:
        raise ReasonEnvsError(f"{place}: an MBPP record needs 'prompt' or 'text', and 'test_list'. {_has(record)}")
    code = _text(record, "code", place)
    functions = [node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)]
    tested = [name for name in functions if re.search(rf"\b{re.escape(name)}\(", tests[0])]
    if not tested:
        raise ReasonEnvsError(f"{place}: {tests[0]!r} must call a function of 'code' ({', '.join(functions)}).")
    metadata = {"tests": dict(record), "entry_point": tested[0], "public_tests": tests[:1]}
    return f"{text.strip()}\n{tests[0]}", code, {"domain": "code", **metadata}


READERS: Mapping[str, Callable[[Record, str], Parts]] = {
    "hotpotqa": hotpotqa,
    "drop": drop,
    "humaneval": humaneval,
    "mbpp": mbpp,
}
"""Readers of complete records by the name of the format."""


def _text(record: Record, name: str, place: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ReasonEnvsError(f"{place}: the field {name!r} is missing or is not text. {_has(record)}")
    return value if name in ("prompt", "test", "code") else value.strip()


def _has(record: Record) -> str:
    return f"The record has {', '.join(map(repr, record)) or 'no fields'}."


def _paragraphs(context: Any) -> str:
    if not context:
        return ""
    if isinstance(context, Mapping):  # on the hub: a list of titles and a list of sentences
        context = list(zip(context["title"], context["sentences"], strict=True))
    return "\n".join(f"{title}: {''.join(sentences).strip()}" for title, sentences in context)


def _rest(record: Record, *used: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in used and key != "supporting_facts"}


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True
