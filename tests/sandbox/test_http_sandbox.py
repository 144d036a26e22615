"""The HTTP sandbox against a small server on loopback."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engines.openai.options import OpenAIEngineConfig
from reason_envs.sandbox import Limits, Program, make_sandbox


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append((self.path, body))
        status, answer = self.server.script.pop(0) if self.server.script else (200, run(body))
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


def run(body):
    try:
        done = subprocess.run(
            [sys.executable, "-c", body["code"]], capture_output=True, text=True, timeout=body["run_timeout"], env={}
        )
    except subprocess.TimeoutExpired:
        return {"status": "Failed", "run_result": {"status": "TimeLimitExceeded", "stdout": "before", "stderr": ""}}
    result = {"status": "Finished", "execution_time": 0.1, "return_code": done.returncode}
    return {"status": "Success", "run_result": {**result, "stdout": done.stdout, "stderr": done.stderr}}


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.bodies, server.script = [], []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def sandbox(server):
    sandbox = make_sandbox("http", url=f"http://127.0.0.1:{server.server_port}/", workers=2, wait_seconds=0.01)
    yield sandbox
    sandbox.close()


def test_http_prints_reads_and_evaluates(sandbox, server):
    limits = Limits(seconds=20, memory_mb=100)
    outcome = sandbox.execute(Program("print(input())\nx = {1: (2,)}", "one\n", ("x",), limits))
    assert (outcome.status, outcome.stdout, outcome.value, outcome.seconds) == ("ok", "one\n", {1: (2,)}, 0.1)
    path, body = server.bodies[0]
    assert path == "/run_code"
    assert (body["language"], body["run_timeout"], body["memory_limit_MB"]) == ("python", 20, 100)


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("1 / 0", "error"),
        ("while True: pass", "timeout"),
        ("import os\nos._exit(0)", "killed"),
        ("print('x' * 10**6)", "output"),
    ],
)
def test_http_returns_an_outcome_for_every_end(sandbox, source, status):
    limits = Limits(seconds=1 if status == "timeout" else 30)
    assert sandbox.execute(Program(source, limits=limits)).status == status


@pytest.mark.parametrize("trouble", [(429, b""), (500, b"no"), (503, b""), (200, b"{"), (200, [1])])
def test_http_retries_temporary_failures(sandbox, server, trouble):
    server.script = [trouble, trouble]
    assert sandbox.execute(Program("", expressions=("1",), limits=Limits(seconds=30))).value == 1
    assert len(server.bodies) == 3


@pytest.mark.parametrize(
    ("trouble", "requests", "words"),
    [
        ((500, b""), 4, "did not answer"),
        ((404, b""), 1, "404"),
        ((200, {"status": "SandboxError", "message": "full"}), 1, "full"),
        ((200, b"null"), 4, "did not answer"),
        ((200, b'{"run_result": [1]}'), 1, "failed"),
        ((200, b'{"run_result": {"status": "Error"}}'), 1, "failed.*Error"),
        ((200, b'{"run_result": {"status": "Finished", "stdout": [1]}}'), 1, "failed"),
    ],
)
def test_http_raises_on_permanent_failures(sandbox, server, trouble, requests, words):
    server.script = [trouble] * 10
    with pytest.raises(ReasonEnvsError, match=words):
        sandbox.execute(Program(""))
    assert len(server.bodies) == requests


@pytest.mark.parametrize("status", ["Finished", "TimeLimitExceeded"])
def test_http_replaces_characters_that_are_not_valid(sandbox, server, status):
    server.script = [(200, {"run_result": {"status": status, "stdout": "a\ud800", "stderr": "\udfff"}})]
    outcome = sandbox.execute(Program(""))
    assert (outcome.stdout, outcome.stderr) == ("a?", "?")


def test_http_refuses_a_missing_server():
    sandbox = make_sandbox("http", url="http://127.0.0.1:9", wait_seconds=0.01)
    with pytest.raises(ReasonEnvsError, match="did not answer"):
        sandbox.execute(Program(""))
    with pytest.raises(ReasonEnvsError, match=r"^url='localhost:8080' must be the address"):
        make_sandbox("http", url="localhost:8080")


URLS = [
    "http://[::1",
    "http://localhost:99999",
    "http://localhost:x",
    "http://",
    "http://\0",
    "http://\ud800",
    "http://a b",
]


@pytest.mark.parametrize("url", [*URLS, "file:///etc/passwd", "", "http://localhost:8080\r\nX: y"])
def test_addresses_of_servers_are_checked(url):
    with pytest.raises(ReasonEnvsError, match="must be the address"):
        make_sandbox("http", url=url)
    with pytest.raises(ReasonEnvsError, match="must be a URL"):
        OpenAIEngineConfig(base_url=url)


@pytest.mark.parametrize(
    "url", ["http://localhost:8080", "https://a-b.example/v1/", "HTTP://[::1]:65535/v1", "http://a_b:1"]
)
def test_addresses_of_servers_are_accepted(url):
    make_sandbox("http", url=url).close()
    assert OpenAIEngineConfig(base_url=url).base_url == url
