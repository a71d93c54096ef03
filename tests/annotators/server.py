"""A chat server with scripted replies that counts its requests."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

PATIENCE = 120
"""Seconds that a test waits for what must come, on a machine with other work."""
KEY = "sk-test-7c1f9a3e5b"
USAGE = {"prompt_tokens": 1000, "completion_tokens": 50}

Reply = tuple[int, Any, dict[str, str]]
"""Status, body (text as it is, anything else as JSON), headers."""

Behaviour = Callable[[str, int], Reply | None]
"""Reply to the n-th request (from 1) about an image, named by its colour; None for a good one."""


def completion(content: Any, finish: str = "stop", usage: Any = USAGE) -> Reply:
    text = content if isinstance(content, str) else json.dumps(content)
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    return 200, {"choices": [{**choice, "finish_reason": finish}], "usage": usage}, {}


def good(name: str) -> Reply:
    return completion({"turns": [{"question": f"What is {name}?", "answer": f"It is {name}."}]})


class ChatServer:
    """Attributes: asked, times each image was asked for; bodies; most, requests at a time."""

    def __init__(self, behaviour: Behaviour | None = None, seconds: float = 0.0) -> None:
        self.behaviour = behaviour or (lambda name, n: None)
        self.seconds = seconds
        self.asked: Counter[str] = Counter()
        self.answered = 0
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.at_once = self.most = 0
        self.lock = threading.Lock()
        self.under_way, self.idle = 0, threading.Condition()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.keys.add(self.headers.get("Authorization"))
                status, reply, headers = server.take(self.path, body)
                content = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128  # a connection beyond it would be tried again a second later

            def process_request(self, *connection: Any) -> None:
                with server.idle:
                    server.under_way += 1
                super().process_request(*connection)

            def process_request_thread(self, *connection: Any) -> None:
                super().process_request_thread(*connection)
                with server.idle:
                    server.under_way -= 1
                    server.idle.notify_all()

            def handle_error(self, *_: Any) -> None:
                """Ignore clients that were killed or timed out."""

        self.http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def settle(self) -> None:
        """Wait until it has taken, and ended, every request of clients that are gone."""
        with socket.create_connection(("127.0.0.1", self.http.server_port), PATIENCE) as last:
            last.sendall(b"GET / HTTP/1.0\r\n\r\n")
            last.recv(1)  # connections are taken in their order: those before are under way by now
        with self.idle:
            assert self.idle.wait_for(lambda: not self.under_way, PATIENCE)

    def take(self, path: str, body: dict[str, Any]) -> Reply:
        assert path == "/v1/chat/completions"
        name = image_name(body)
        with self.lock:
            self.bodies.append(body)
            self.asked[name] += 1
            number = self.asked[name]
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(self.seconds)
        reply = self.behaviour(name, number) or good(name)
        with self.lock:
            self.at_once -= 1
            self.answered += 1
        return reply


def image_name(body: dict[str, Any]) -> str:
    """Name of the image that was sent, identified by its color."""
    url = body["messages"][-1]["content"][0]["image_url"]["url"]
    kind, data = url.split(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        red, green, _ = image.getpixel((4, 4))  # type: ignore[misc]
    return f"image-{round(red / 20) * 13 + round(green / 20)}"


def colour(number: int) -> tuple[int, int, int]:
    """Colour of an image of the tests."""
    return number // 13 * 20, number % 13 * 20, 120


@contextmanager
def serving(behaviour: Behaviour | None = None, seconds: float = 0.0) -> Iterator[ChatServer]:
    server = ChatServer(behaviour, seconds)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()
