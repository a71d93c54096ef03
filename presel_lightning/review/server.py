"""The page's server: this machine only, one address with a secret, JSON in and out."""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from presel_lightning.errors import PreselError
from presel_lightning.review.session import SIDES, Session

Json = dict[str, Any]

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
"""Names by which a browser of this machine reaches the server."""
MOST = 1 << 20
"""Bytes of a request's body."""
FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
}
"""Files of the page, by address."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; script-src 'self'; "
    "style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address holds the secret
    "X-Content-Type-Options": "nosniff",
}


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: HTTP status.
        message: one line for the person.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class ReviewServer(ThreadingHTTPServer):
    """Serves the page of one session to browsers of this machine.

    Only requests whose address begins with the secret are answered, and only under a name of this
    machine, so that neither another user nor a page of another site reaches it.

    Args:
        session: the run.
        port: port to listen on; 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, session: Session, port: int = 0) -> None:
        self.session = session
        self.token = secrets.token_urlsafe(24)
        super().__init__((HOST, port), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - base class
        """Print the error of a request, unless the browser has gone away meanwhile."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def address(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    @staticmethod
    def admits(host: str | None) -> bool:
        """Whether a header `Host` names this machine; a tunnel may come from any port."""
        name, _, port = (host or "").partition(":")
        return name in NAMES and (port.isdigit() or not port)


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: ReviewServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        """Serve a file of the page, a list, or an image."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Store a decision or an instruction."""
        self._answer(self._post)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: addresses hold the secret."""

    def _answer(self, serve: Callable[[str], None]) -> None:
        try:
            serve(self._admitted())
        except Refusal as refusal:
            self._refuse(str(refusal), refusal.status)
        except (KeyError, IndexError):
            self._refuse("this image is not in the run", HTTPStatus.NOT_FOUND)
        except PreselError as error:
            self._refuse(str(error), HTTPStatus.CONFLICT)
        except (ValueError, TypeError, AttributeError):
            self._refuse("the request cannot be read", HTTPStatus.BAD_REQUEST)

    def _admitted(self) -> str:
        """Return the part of the address behind the secret.

        Raises:
            Refusal: the request is not for this page.
        """
        if not self.server.admits(self.headers.get("Host")):
            raise Refusal(HTTPStatus.MISDIRECTED_REQUEST, "open the address that was printed")
        _, token, *rest = [*urlsplit(self.path).path.split("/", 2), ""]
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            raise Refusal(HTTPStatus.NOT_FOUND, "open the address that was printed")
        return rest[0]

    def _get(self, name: str) -> None:
        query: dict[str, Any] = dict(parse_qsl(urlsplit(self.path).query))
        session = self.server.session
        if name in FILES:
            file, kind = FILES[name]
            content = resources.files(__package__).joinpath("page", file).read_bytes()
            self._send(content, kind)
        elif name == "state":
            self._send_json(session.state())
        elif name == "items":
            where: Json = {key: int(query[key]) for key in ("start", "before") if key in query}
            where |= {key: query.get(key, "") for key in ("show", "task", "find")}
            self._send_json(session.page(**where))
        elif name == "item":
            self._send_json(session.detail(query["uid"]))
        elif name == "image":
            side = SIDES["full" in query]
            self._send_image(session.picture(query["uid"], max(0, int(query.get("n", 0))), side))
        else:
            raise Refusal(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _post(self, name: str) -> None:
        given, session = self._body(), self.server.session
        if name == "decide":
            self._send_json(session.decide(given["uid"], given["decision"]))
        elif name == "answer":
            turns = [(str(turn["question"]), str(turn["answer"])) for turn in given["turns"]]
            self._send_json(session.answer(given["uid"], turns))
        else:
            raise Refusal(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _body(self) -> Json:
        """Read the JSON object of a request.

        Raises:
            Refusal: it is of another type, too large, or comes from another site.
        """
        origin = self.headers.get("Origin")
        if origin not in (None, f"http://{self.headers.get('Host')}"):
            raise Refusal(HTTPStatus.FORBIDDEN, "this page takes requests from itself alone")
        if self.headers.get_content_type() != "application/json":
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send application/json")
        length = int(self.headers.get("Content-Length") or -1)
        if not 0 <= length <= MOST:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"send up to {MOST} bytes")
        given = json.loads(self.rfile.read(length))
        if not isinstance(given, dict) or not isinstance(given.get("uid"), str):
            raise TypeError("not an object with a uid")
        return given

    def _refuse(self, message: str, status: HTTPStatus) -> None:
        """Send why a request is not answered, and drop what is unread of its body.

        A browser sends a body to its end before it reads the reply, and a connection that is closed
        with data unread is reset: the reply would be lost.
        """
        self.close_connection = True
        self._send_json({"error": message}, status)
        with suppress(OSError):  # the browser may be gone
            self.connection.shutdown(socket.SHUT_WR)
            while self.rfile.read1(MOST):
                pass

    def _send_image(self, content: bytes | None) -> None:
        if content is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "this image cannot be opened")
        self._send(content, "image/webp", cache="private, max-age=3600")

    def _send_json(self, value: Json, status: HTTPStatus = HTTPStatus.OK) -> None:
        content = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        self._send(content, "application/json; charset=utf-8", status)

    def _send(
        self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, cache: str = "no-store"
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", cache)
        if self.close_connection:
            self.send_header("Connection", "close")
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
