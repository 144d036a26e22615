"""Servers that answer nonsense or break the connection, and random damage to valid answers.

    python -m benchmarks.reliability.servers --inputs 500

Each request ends in an answer or an `EngineError`, never in another exception, within its limit of 2 seconds plus 4,
for a busy machine.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from functools import partial
from typing import Any

import test_broken_connections as connections
import test_odd_servers as answers
from openai_server import Server, choice, completion, reply

from benchmarks.reliability.common import measure, options
from reason_envs.errors import EngineError
from reason_envs.llm.engines.openai.engine import OpenAIEngine

SECONDS = connections.LIMIT + 4
VALID = json.dumps(completion(choice(logprobs={"content": [{"token": "ok", "logprob": -0.1, "top_logprobs": []}]})))
PIECES = (
    "null",
    "{}",
    "[]",
    '"x"',
    "-1",
    "1e400",
    "9" * 5000,
    "\\ud800",
    "true",
    "[" * 2000,
    "",
    "NaN",
    ",",
    "}",
    "\x00",
)


def outcome(engine: OpenAIEngine) -> str:
    """Return how a request ended, or its fault."""
    start = time.monotonic()
    try:
        asyncio.run(engine.generate(answers.REQUEST))
        ended = "read"
    except EngineError as error:
        ended = "refused" if len(str(error)) < 1000 else "a long message"
    except Exception as error:  # noqa: BLE001
        ended = repr(error)[:200]
    return ended if time.monotonic() - start < SECONDS else f"{ended} after {time.monotonic() - start:.1f} s"


def counted(outcomes: dict[str, str]) -> dict[str, Any]:
    """Count the outcomes by kind."""
    ends = list(outcomes.values())
    bad = [f"{name}: {end}" for name, end in outcomes.items() if end not in ("read", "refused")]
    return {"kinds": len(ends), "read": ends.count("read"), "refused": ends.count("refused"), "bad": bad[:20]}


def broken_connections() -> dict[str, Any]:
    """Break the connection or HTTP in each way."""
    outcomes = {}
    for name, script in connections.FAULTS.items():
        server = connections.BrokenServer(script)
        engine = OpenAIEngine(model="m", base_url=server.url, max_retries=0, timeout_s=connections.LIMIT)
        outcomes[name] = outcome(engine)
        engine.close()
        server.close()
    return counted(outcomes)


def answered(bodies: dict[str, Any], log_probs: bool) -> dict[str, Any]:
    """Answer with each body, or status, body and headers."""
    server = Server()
    options = {"model": "m", "base_url": server.url, "max_retries": 0, "timeout_s": connections.LIMIT}
    engine = OpenAIEngine(**options, request_log_probs=log_probs)
    outcomes = {}
    for name, body in bodies.items():
        sent = reply(*body) if isinstance(body, tuple) else reply(body=body)
        server.script = lambda *_, sent=sent: sent
        outcomes[name] = outcome(engine)
    engine.close()
    server.close()
    return counted(outcomes)


def damaged(count: int, seed: int) -> dict[str, str]:
    """Return valid answers with random damage."""
    draw, bodies = random.Random(seed), {}
    for number in range(count):
        body = VALID
        for _ in range(draw.choice((1, 1, 2, 4))):
            start = draw.randrange(len(body) + 1)
            body = body[:start] + draw.choice(PIECES) + body[start + draw.choice((0, 1, 4, 20)) :]
        bodies[f"{number}: {body[:200]!r}"] = body
    return bodies


def main() -> int:
    """Ask every server."""
    given = options(__doc__, inputs=500)
    odd = {**{name: body for name, (body, _) in answers.READ.items()}, **answers.REFUSED, **answers.STATUS}
    probabilities = {name: completion(choice(logprobs=value)) for name, value in answers.LOG_PROBS.items()}
    damage = damaged(given.inputs, given.seed)
    cells = {
        "connections that break": broken_connections,
        "odd answers, statuses and headers": partial(answered, odd, log_probs=False),
        "odd log-probabilities": partial(answered, probabilities, log_probs=True),
        "random damage": partial(answered, damage, log_probs=False),
        "random damage, with log-probabilities": partial(
            answered, damaged(given.inputs, given.seed + 1), log_probs=True
        ),
    }
    return measure("servers", given.seed, cells)


if __name__ == "__main__":
    sys.exit(main())
