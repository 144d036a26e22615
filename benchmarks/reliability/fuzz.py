"""Random inputs for every parser of text that models, programs, servers or files contain.

    python -m benchmarks.reliability.fuzz                 # 100,000 inputs per parser
    python -m benchmarks.reliability.fuzz --inputs 1000   # a short form

Inputs are pieces of valid ones, hostile pieces and random characters, joined, cut and repeated. A parser returns or
raises `ReasonEnvsError`, within ``SECONDS`` per input of at most a few thousand characters.
"""

# ruff: noqa: E501  (a table of pieces is easier to read with one kind per line)

from __future__ import annotations

import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from openai_server import choice, completion
from test_damaged_folders import RECORDS

from benchmarks.reliability.common import measure, options
from reason_envs import make_environment
from reason_envs.envs.petting.written_tests import read_written_tests
from reason_envs.envs.workflow.operators import tagged
from reason_envs.envs.workflow.repair import prepare
from reason_envs.errors import ReasonEnvsError, printable
from reason_envs.llm.engines.openai.responses import ServerFailure, decode, read_generations, read_usage
from reason_envs.llm.engines.openai.transport import retry_after
from reason_envs.registry import parse_options
from reason_envs.rewards.code.extract import extract_code
from reason_envs.rewards.code.tests import UnitTests, read_tests, split
from reason_envs.rewards.leak.find import find_leak
from reason_envs.rewards.math import notation
from reason_envs.rewards.math.extract import extract_answer
from reason_envs.sandbox.values import finished, shown
from reason_envs.tasks.files.formats import Fields, read_tasks, reader
from reason_envs.tasks.files.records import read_records
from reason_envs.tasks.games.moves import read_moves
from reason_envs.tasks.games.sudoku_rules import read_cells

SECONDS = 5.0
"""Maximum time of one input in seconds, on a busy machine."""
HOSTILE = (
    *("\x00", "\ud800", "\u202e", "\x1b[2J", "\r\n", "\t", "٣", "²", "½", "𝟗", "é", "e\u0301", "\U0001f600", "\ufeff"),
    *(
        "9" * 400,
        "9" * 4301,
        "1e999",
        "-0.0",
        "nan",
        "1_0",
        "0x1f",
        "{" * 300,
        "(" * 300,
        "[" * 300,
        "\\" * 50,
        '"' * 50,
    ),
    *(
        "```",
        "```python",
        "'''",
        "<think>",
        "</think>",
        "####",
        "\n" * 50,
        " " * 300,
        "\\frac",
        "^" * 30,
        "//",
        "%",
        "$",
    ),
)
PIECES = {
    "mathematics": (r"\boxed{", "}", r"\frac{1}{2}", r"\sqrt{2}", "#### 5", "The answer is ", "1,000", "3.5%", "x=", "5 cm", "^2"),
    "code": ("```python\n", "\n```", "def f(a):\n", "    return a\n", "assert f(1) == 1\n", "class A:\n", "import os\n", "print(", "x = [", "async ", "await ", "lambda: ", "#", "\\\n", "\f"),
    "workflow": ("class Workflow:\n", "    async def __call__(self, problem):\n", "        return await self.custom(input=problem, instruction='x')", "self.llm", "operator.Custom(", "<graph>", "</graph>", "<prompt>", "```", "\n"),
    "JSON": ('{"', '": ', "[", "]", "}", ",", "null", "true", "1.5", "1e400", '"text"', '"choices"', '"usage"', '"message"', '"content"', "\\ud800", "\\u0000", "NaN", "\n"),
    "moves": ("U", "D", "L", "R", r"\boxed{", "}", "[", "]", "up", ", ", "(1, 2)", "1", "0 0 0", "\n", "|", "*"),
    "records": ('["value", ["int", "ff"]]\n', '["ok"]\n', '["error", "x"]', '["dict", []]', '["float", "nan"]', '["opaque", 5]', "\n", "[", "]", '"'),
    "options": ("env=", "env.tasks=", "{name: ", "}", "[", "]", ",", "=", ".", "null", "true", "1e5", "@file", "'", '"', ":", "${x}", "+", "~", "!!python/object:os.system"),
}  # fmt: skip


def text(draw: random.Random, kind: str) -> str:
    """Return a random text of a kind."""
    pieces = [
        draw.choice(HOSTILE)
        if (luck := draw.random()) < 0.15
        else chr(draw.randrange(1 << draw.choice((7, 8, 11, 16))))
        if luck < 0.3
        else draw.choice(PIECES[kind])
        for _ in range(draw.choice((1, 3, 8, 20)))
    ]
    joined = "".join(pieces)
    if draw.random() < 0.1:
        joined *= draw.choice((2, 50))
    return joined[draw.randrange(3) : 6000]


@cache
def environment(name: str) -> Any:
    """Build an environment once."""
    return make_environment(name)


LOG_PROB = {"token": "ok", "logprob": -0.1}
COMPLETION = json.dumps(completion(choice(logprobs={"content": [LOG_PROB]}, token_ids=[5]), prompt_token_ids=[1]))
VALUE = re.compile(r'(?:(?<=: )|(?<=\[))(?:"(?:[^"\\]|\\.)*"|-?[\d.]+)')


def damaged(valid: str, given: str) -> bytes:
    """Return valid JSON in which a text replaces one value, or damages one place."""
    values = [match.span() for match in VALUE.finditer(valid)]
    first, last = values[len(given) % len(values)]
    if len(given) % 3 == 0:
        first = last = len(given) % len(valid)
    value = json.dumps(given) if len(given) % 3 == 1 else given
    return (valid[:first] + value + valid[last:]).encode("utf-8", "surrogatepass")


def answer(body: str) -> None:
    """Read a server's response."""
    decode(damaged(COMPLETION, body), lambda fields: read_generations(fields, read_usage(fields), n=1, log_probs=True))


def unit_tests(code: str) -> None:
    """Read the tests of a task and split them."""
    tests = read_tests(
        {"test_list": ["assert f(1) == 1", *code.split("\n")], "code": f"def f(a):\n    return 1\n{code}"}
    )
    if isinstance(tests, UnitTests):
        split(tests)


FILE = Path(tempfile.gettempdir()) / "reason_envs_fuzz.jsonl"


def records(content: str) -> None:
    """Read the tasks of a file of problems."""
    family, record = list(RECORDS.items())[len(content) // 3 % len(RECORDS)]
    FILE.write_bytes(damaged(json.dumps(record), content))
    read_tasks(reader(family, Fields()), read_records(FILE), "", skip_missing=False)


PARSERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "answers": ("mathematics", lambda t: extract_answer(t, ("####", "last_number"))),
    "numbers": ("mathematics", notation.read_number),
    "leaks": ("mathematics", lambda t: find_leak(t, "What is 20 + 7?", "27")),
    "control characters": ("mathematics", printable),
    "code in responses": ("code", extract_code),
    "written tests": ("code", lambda t: read_written_tests(t, "f")),
    "tests of tasks": ("code", unit_tests),
    "workflow programs": ("workflow", prepare),
    "tags": ("workflow", lambda t: tagged(t, "graph")),
    "responses of servers": ("JSON", answer),
    "Retry-After": ("JSON", retry_after),
    "files of problems": ("JSON", records),
    "results of programs": ("records", lambda t: [shown(v, 100, repr) for v in finished(t, "", "", 0.0, "").values]),
    "moves": ("moves", lambda t: read_moves(t, 20)),
    "sudoku cells": ("moves", lambda t: read_cells(t, 4)),
    "options": ("options", lambda t: parse_options([t])),
    **{
        f"actions of {name}": (kind, lambda t, name=name: environment(name).parse_action(t))  # type: ignore[misc]
        for kind, name in (
            ("moves", "petting_plan_path"),
            ("moves", "petting_sokoban"),
            ("moves", "petting_sudoku"),
            ("code", "petting_code"),
            ("mathematics", "petting_math"),
            ("mathematics", "single_turn_math"),
            ("mathematics", "reason_tree"),
            ("workflow", "workflow"),
        )
    },
}


def attempt(parse: Callable[[str], Any], given: str) -> tuple[float, str]:
    """Return the seconds that a parser takes for an input, and how it ends."""
    start, ending = time.perf_counter(), "read"
    try:
        parse(given)
    except (ReasonEnvsError, ServerFailure):
        ending = "refused"
    except Exception as error:  # noqa: BLE001
        ending = f"{error!r:.200}"
    return time.perf_counter() - start, ending


def fuzz(name: str, inputs: int, seed: int) -> dict[str, Any]:
    """Give a parser random inputs; return the results."""
    kind, parse = PARSERS[name]
    draw, longest, refused, bad = random.Random(f"{seed} {name}"), 0.0, 0, []
    with suppress(ReasonEnvsError, ServerFailure):
        parse("a=1")  # what is built once
    for _ in range(inputs):
        given = text(draw, kind)
        seconds, ending = attempt(parse, given)
        if seconds > SECONDS:  # a stall of the machine does not repeat
            seconds, ending = attempt(parse, given)
        longest, refused = max(longest, seconds), refused + (ending == "refused")
        if seconds > SECONDS or ending not in ("read", "refused"):
            bad.append(f"{given[:200]!r}: {ending} after {seconds:.1f} s")
    return {"inputs": inputs, "refused": refused, "longest (s)": round(longest, 3), "bad": bad[:20]}


def main() -> int:
    """Fuzz every parser."""
    given = options(__doc__, inputs=100_000)
    return measure("fuzz", given.seed, {name: partial(fuzz, name, given.inputs, given.seed) for name in PARSERS})


if __name__ == "__main__":
    sys.exit(main())
