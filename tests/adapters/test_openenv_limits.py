"""Clients that send too much, too little or nonsense: each is refused in time, and good clients are still answered."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import socket
import time
from urllib.parse import urlparse

import pytest
from openenv_toys import serving

if importlib.util.find_spec("openenv") is None:
    pytest.skip("openenv is not installed (extra [openenv])", allow_module_level=True)

SECONDS = 60.0
"""Maximum time in seconds until a bad client is cut off, also on a busy machine. The server's limits are 10 seconds."""
TOKEN = "a long secret"


@pytest.fixture(scope="module")
def server():
    with serving("single_turn_math") as url:
        yield urlparse(url).hostname, urlparse(url).port


@pytest.fixture(scope="module")
def guarded():
    with serving("served_toys:SlowToy-v0", REASON_ENVS_TOKEN=TOKEN) as url:
        yield urlparse(url).hostname, urlparse(url).port


def send(address, *parts, seconds=SECONDS):
    """Send the parts of a request; return status and text of the answer, or 0 if the server ended the connection."""
    with socket.create_connection(address, timeout=seconds) as connection:
        with contextlib.suppress(ConnectionError):  # the server does not wait for the rest
            for part in parts:
                connection.sendall(part)
        received = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65536):
                received += piece
                head, _, body = received.partition(b"\r\n\r\n")
                if f"content-length: {len(body)}\r\n".encode() in head.lower() + b"\r\n":
                    break
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body.decode()


def post(path, body=b"{}", *headers, length=None):
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body) if length is None else length}", "", ""]).encode() + body


def is_served(address, *headers):
    start = time.monotonic()
    status, body = send(address, post("/reset", b'{"seed": 1}', *headers))
    return status == 200 and bool(json.loads(body)["observation"]["messages"]) and time.monotonic() - start < SECONDS


HALVES = {
    "nothing": b"",
    "half a line": b"POST /res",
    "half a head": b"POST /reset HTTP/1.1\r\nHost: localhost\r\n",
    "half a body": post("/reset", b'{"se', length=1000),
    "half a chunk": post("/reset", b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"5\r\n{",
    "half a second request": post("/reset") + b"POST /reset HTT",
    "half a websocket": b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
}


def test_half_requests_are_cut_off(server):
    opened = {name: socket.create_connection(server, timeout=SECONDS) for name in HALVES}
    for name, connection in opened.items():
        connection.sendall(HALVES[name])
    assert is_served(server)
    for connection in opened.values():
        with contextlib.suppress(ConnectionError):
            while connection.recv(65536):
                pass  # an answer
        connection.close()
    assert is_served(server)


def test_half_requests_without_a_token_are_cut_off(guarded):
    for half in (HALVES["half a head"], HALVES["half a body"]):
        assert send(guarded, half)[0] in (0, 401)
    assert send(guarded, post("/reset"))[0] == 401
    assert is_served(guarded, f"Authorization: Bearer {TOKEN}")


@pytest.mark.parametrize("kind", ["announced", "chunked"])
def test_large_bodies_are_refused(server, kind):
    chunk = b"x" * 2**20
    if kind == "announced":
        parts = [post("/reset", b"", length=200 * 2**20), *([chunk] * 200)]
    else:
        head = post("/reset", b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        parts = [head, *([f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n"] * 200), b"0\r\n\r\n"]
    status, text = send(server, *parts)
    assert status in (0, 413)  # 0: the connection ended while the client still wrote
    assert status == 0 or "more than 1048576 bytes" in text
    assert is_served(server)


def test_body_above_the_limit_is_explained(server):
    assert send(server, post("/reset", b" " * (2**20 + 1))) == (413, "The body has more than 1048576 bytes.\n")
    status, _ = send(server, post("/reset", b'{"seed": 1}'.ljust(2**20)))
    assert status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"".join(b"X-Header-%d: value\r\n" % number for number in range(10_000)),
        b"X-Header: " + b"x" * 2**20 + b"\r\n",
        b"a:b\r\n" * 100_000,
    ],
    ids=["many", "long", "short"],
)
def test_long_heads_are_refused(server, head):
    status, _ = send(server, b"POST /reset HTTP/1.1\r\nHost: localhost\r\n", head, b"Content-Length: 2\r\n\r\n{}")
    assert status in (0, 400, 431)
    assert is_served(server)


@pytest.mark.parametrize("count", [300, 700])
def test_idle_connections_do_not_shut_others_out(server, count):
    with contextlib.ExitStack() as stack:
        for number in range(count):
            connection = stack.enter_context(socket.create_connection(server, timeout=SECONDS))
            connection.sendall(HALVES["half a head"] if number % 2 else b"")
        assert is_served(server)


WRONG = {
    "no JSON": b"{",
    "another type": b"[]",
    "not a number": b'{"action": {"action": NaN}}',
    "a lone surrogate": b'{"action": {"text": "\\ud800"}}',
    "bytes": b"\xff\xfe",
    "nested": b"[" * 100_000,
    "a long number": b'{"action": ' + b"9" * 5000 + b"}",
    "an unknown field": b'{"action": {"words": "1"}}',
    "both fields": b'{"action": {"text": "1", "action": 1}}',
    "no fields": b'{"action": {}}',
    "no episode": b'{"action": {"text": "1"}}',
    "no action": b"{}",
    "empty": b"",
    "seed of words": b'{"seed": "one"}',
    "negative seed": b'{"seed": -1}',
    "task without answer": b'{"task": {"question": "1 + 1?"}}',
    "task of a number": b'{"task": 5}',
    "an infinite seed": b'{"seed": 1e400}',
    "a seed that is not a number": b'{"seed": NaN}',
    "an episode of a lone surrogate": b'{"episode_id": "\\ud800"}',
    "a task of a lone surrogate": b'{"task": {"question": "\\ud800", "answer": "1"}}',
    "a nested action": b'{"action": {"action": ' + b"[" * 900 + b"]" * 900 + b"}}",
    "a list with a large number": b'{"action": {"action": [' + b"9" * 400 + b"]}}",
}


@pytest.mark.parametrize("path", ["/reset", "/step", "/mcp"])
@pytest.mark.parametrize("name", WRONG)
def test_errors_carry_a_message(server, path, name):
    status, text = send(server, post(path, WRONG[name]))
    assert status in (200, 400, 422)
    message = json.loads(text)
    assert status == 200 or len(str(message["detail"])) > 10
    assert "Traceback" not in text


@pytest.mark.parametrize("path", ["/reset", "/nothing", "/step"])
def test_refusals_carry_a_message(guarded, path):
    assert send(guarded, post(path)) == (401, "Wrong or missing token.\n")
    assert send(guarded, post(path, b"{}", "Authorization: Bearer guess"))[0] == 401


def test_faults_of_an_environment_carry_a_message(guarded):
    status, text = send(guarded, post("/reset", b'{"seed": 13}', f"Authorization: Bearer {TOKEN}"))
    assert (status, json.loads(text)) == (500, {"detail": "KeyError: 'thirteen'"})
