"""An HTTP server on loopback with scripted answers."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from reason_envs.llm.engines.openai.engine import CHECK


def choice(text="ok", index=0, finish_reason="stop", **fields):
    return {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason, **fields}


def completion(*choices, prompt_tokens=5, completion_tokens=3, **fields):
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return {"choices": list(choices) or [choice()], "usage": usage, **fields}


def reply(status=200, body=None, headers=None, cut=None):
    """Return an answer. ``cut``: number of bytes that are sent of the announced body."""
    raw = body.encode() if isinstance(body, str) else json.dumps(completion() if body is None else body).encode()
    return status, raw, headers or {}, cut


class Server:
    """Calls ``script(body, number)`` for each POST, with ``number`` from 0, and records the requests.

    The engine's check of two samples per request is answered by ``several`` and not recorded.
    """

    def __init__(self, port=0):
        self.script = lambda body, number: reply()
        self.several = lambda: reply(body=completion(choice(), choice(index=1), prompt_tokens=0, completion_tokens=2))
        self.models = ["served"]
        self.bodies, self.paths, self.headers = [], [], []
        self.max_simultaneous = 0
        self._simultaneous = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                entries = [{"id": m, "object": "model", "created": 0, "owned_by": "us"} for m in server.models or ()]
                self._send(200 if server.models else 404, json.dumps({"object": "list", "data": entries}).encode())

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                checks = body.get("n") == 2 and body.get("messages") == CHECK.prompt
                self._send(*(server.several() if checks else self._answer(body)))

            def _answer(self, body):
                with server._lock:
                    number = len(server.bodies)
                    server.bodies.append(body)
                    server.paths.append(self.path)
                    server.headers.append(self.headers)
                    server._simultaneous += 1
                    server.max_simultaneous = max(server.max_simultaneous, server._simultaneous)
                try:
                    return server.script(body, number)
                finally:
                    with server._lock:
                        server._simultaneous -= 1

            def _send(self, status, raw, headers=None, cut=None):
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw[:cut])
                if cut is not None:
                    self.close_connection = True

            def log_message(self, *args):
                pass

            def handle(self):
                with contextlib.suppress(ConnectionError):  # a client that gave up waiting
                    super().handle()

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
