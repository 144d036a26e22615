"""Servers that break the connection or HTTP itself: each request ends in time, in an answer or an `EngineError`."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import resource
import socket
import threading
import time

import pytest
from openai_server import completion
from test_odd_servers import REQUEST

from reason_envs.errors import EngineError
from reason_envs.llm.engines.openai import transport
from reason_envs.llm.engines.openai.engine import OpenAIEngine
from reason_envs.sandbox import Limits, Program, make_sandbox

LIMIT = 2.0
"""Limit of a request in seconds."""
BODY = json.dumps(completion()).encode()
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
ANSWER = GOOD % (len(BODY), BODY)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WAIT, RESET, PAUSE = object(), object(), object()
"""Steps of a script: the server sends nothing more but keeps the connection; it resets the connection; it waits a
second."""


class Endless(bytes):
    """Bytes that are sent again and again."""


FAULTS = {
    "closed at once": [],
    "reset at once": [RESET],
    "never an answer": [WAIT],
    "half a status line": [b"HTTP/1.1 20", WAIT],
    "half a head": [HEAD, WAIT],
    "closed in the head": [HEAD],
    "half a body": [GOOD % (len(BODY), BODY[:20]), WAIT],
    "closed in the body": [GOOD % (len(BODY), BODY[:20])],
    "reset in the body": [GOOD % (len(BODY), BODY[:20]), RESET],
    "half a chunk": [CHUNKED + b"%x\r\n%s" % (len(BODY), BODY[:20]), WAIT],
    "a chunk without size": [CHUNKED + b"zz\r\nabc\r\n"],
    "a negative chunk": [CHUNKED + b"-5\r\nabc\r\n"],
    "a chunk of 10^30 bytes": [CHUNKED + b"f" * 30 + b"\r\nabc", WAIT],
    "no last chunk": [CHUNKED + b"%x\r\n%s\r\n" % (len(BODY), BODY)],
    "a length that is too short": [GOOD % (len(BODY) - 3, BODY)],
    "a length that is too long": [GOOD % (len(BODY) + 3, BODY)],
    "a length of words": [HEAD + b"Content-Length: many\r\n\r\n" + BODY],
    "a negative length": [HEAD + b"Content-Length: -1\r\n\r\n" + BODY],
    "two lengths": [HEAD + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\n" + BODY],
    "not HTTP": [b"SSH-2.0-OpenSSH_9.6\r\n"],
    "binary": [bytes(range(256)) * 4],
    "an unknown version": [ANSWER.replace(b"HTTP/1.1", b"HTTP/7.3")],
    "a status of words": [ANSWER.replace(b"200 OK", b"fine")],
    "status 999": [ANSWER.replace(b"200 OK", b"999 Odd")],
    "switching protocols": [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", WAIT],
    "continue for ever": [Endless(b"HTTP/1.1 100 Continue\r\n\r\n")],
    "10,000 headers": [HEAD + b"X: y\r\n" * 10_000 + b"\r\n"],
    "headers for ever": [HEAD, Endless(b"X-Header: value\r\n")],
    "a header of 1 MB": [HEAD + b"X: " + b"y" * 2**20 + b"\r\n\r\n"],
    "a header without a colon": [HEAD + b"nonsense\r\n\r\n" + BODY],
    "a body for ever": [HEAD + b"\r\n", Endless(b"x" * 65536)],
    "chunks for ever": [CHUNKED, Endless(b"10000\r\n" + b" " * 65536 + b"\r\n")],
    "spaces for ever": [HEAD + b"\r\n", Endless(b" " * 65536)],
    "a bomb": [HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b" " * 2**27, 1)],
    "half a compressed body": [HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(BODY)[:20]],
    "an unknown encoding": [HEAD + b"Content-Encoding: magic\r\n\r\n" + b"\xff\xfe" + BODY],
    "an answer for another": [ANSWER.replace(b"200 OK", b"204 No Content")],
}


class BrokenServer:
    """Reads a request on each connection, and then follows the next script of ``scripts``; the last one repeats."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/v1"
        self.closed = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while not self.closed.is_set():
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
            threading.Thread(target=self._follow, args=(connection, script), daemon=True).start()

    def _follow(self, connection, script):
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            received = b""
            while b"\r\n\r\n" not in received or not received.rstrip().endswith(b"}"):
                received += connection.recv(65536)
            for step in script:
                if step is WAIT:
                    self.closed.wait(30)
                elif step is PAUSE:
                    self.closed.wait(1)
                elif step is RESET:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                else:
                    connection.sendall(step)
                    while isinstance(step, Endless) and not self.closed.is_set():
                        connection.sendall(step)

    def close(self):
        self.closed.set()
        self.listening.close()


def ask(*scripts, retries=0):
    """Send one request; return the answer or the error, the seconds that it took, and the memory in MB."""
    server = BrokenServer(*scripts)
    engine = OpenAIEngine(model="m", base_url=server.url, max_retries=retries, backoff_s=0.0, timeout_s=LIMIT)
    peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    try:
        answer = asyncio.run(engine.generate(REQUEST))[0].text
    except EngineError as error:
        answer = error
    finally:
        seconds = time.monotonic() - start
        engine.close()
        server.close()
    return answer, seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024


@pytest.mark.parametrize("name", FAULTS)
def test_broken_connections_are_engine_errors(name):
    ask([ANSWER])  # imports and caches
    answer, seconds, memory = ask(FAULTS[name])
    assert isinstance(answer, EngineError) or answer == "ok"
    assert len(str(answer)) < 1000
    assert seconds < 2 * LIMIT + 10  # on a busy machine
    assert memory < 300


@pytest.mark.parametrize("name", ["a body for ever", "chunks for ever", "spaces for ever", "a bomb"])
def test_responses_without_end_are_cut(name, monkeypatch):
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", 10**6)
    answer, seconds, _ = ask(FAULTS[name])
    assert "a response of more than 1000000 bytes" in str(answer)
    assert seconds < LIMIT


@pytest.mark.parametrize("status", [b"500 Oops", b"404 Not Found", b"401 Who", b"308 Elsewhere\r\nLocation: /"])
@pytest.mark.parametrize("name", ["a body for ever", "a bomb"])
def test_errors_and_redirections_without_end_are_cut(name, status, monkeypatch):
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", 10**6)
    answer, seconds, _ = ask([FAULTS[name][0].replace(b"200 OK", status), *FAULTS[name][1:]])
    assert "a response of more than 1000000 bytes" in str(answer)
    assert seconds < LIMIT


@pytest.mark.parametrize("name", [*FAULTS, "a byte per second"])
def test_broken_connections_of_a_sandbox_server_end_in_time(name):
    server = BrokenServer([HEAD, *([b"X", PAUSE] * 30)] if name == "a byte per second" else FAULTS[name])
    sandbox = make_sandbox("http", url=server.url.removesuffix("/v1"), attempts=1, overhead_seconds=0.5)
    start = time.monotonic()
    with contextlib.suppress(EngineError), contextlib.closing(sandbox), contextlib.closing(server):
        assert sandbox.execute(Program("", limits=Limits(seconds=0.5))).status == "output"
    assert time.monotonic() - start < 10  # on a busy machine


@pytest.mark.parametrize("name", ["closed at once", "reset in the body", "half a body", "a chunk without size"])
def test_servers_that_recover_are_asked_again(name):
    assert ask(FAULTS[name], [ANSWER], retries=2)[0] == "ok"
