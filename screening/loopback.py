"""Serving this machine alone, read only: at an address that cannot be guessed, under this machine's own name."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from plates.errors import SettingsError

_SILENT_S = 30.0  # a client that says nothing for so long is dropped

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Request(BaseHTTPRequestHandler):
    """One request of somebody who knows the address; GET and HEAD are all there is."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "tomoscreen", ""
    timeout = _SILENT_S

    def answer(self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer; text is UTF-8."""
        self.head(status, kind, {"Content-Length": str(len(body)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def absent(self) -> None:
        """Say that there is nothing here."""
        self.answer(404, b"There is nothing here.\n", "text/plain")

    def head(self, status: int, kind: str, headers: Mapping[str, str]) -> None:
        """Send what precedes a body."""
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)
        for name, value in (_HEADERS | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


class LoopbackServer:
    """Listens on 127.0.0.1 and answers those who know its address.

    The address holds a random token, so that other users and web pages of this machine cannot guess it; requests
    under another host's name are refused, so that no web page reaches it by a name that it controls.

    Parameters
    ----------
    respond
        Called, on a thread of its own, with the request and what follows the token in its path, as it came.
    port
        To listen on; 0 takes a free one.

    Raises
    ------
    SettingsError
        The port is taken.
    """

    def __init__(self, respond: Callable[[Request, str], None], *, port: int = 0) -> None:
        self._token, self._hosts = secrets.token_urlsafe(24), set[str]()
        try:
            self._server = _Server(("127.0.0.1", port), self._handler(respond))
        except OSError as error:
            raise SettingsError(
                f"Port {port} of this machine cannot be listened on: {error.strerror or error}. Give another by "
                "--port, or leave it out to take a free one."
            ) from error
        self.port = int(self._server.server_address[1])
        self._hosts |= {f"127.0.0.1:{self.port}", f"localhost:{self.port}"}
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="loopback", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """To be opened in a browser of this machine."""
        return f"http://127.0.0.1:{self.port}/{self._token}/"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self, respond: Callable[[Request, str], None]) -> type[Request]:
        token, hosts = self._token.encode(), self._hosts

        class Handler(Request):
            def do_GET(self) -> None:
                if self.headers.get("Host", "") not in hosts:
                    self.answer(403, b"This page is for this machine only.\n", "text/plain")
                    return
                given, slash, rest = self.path.removeprefix("/").partition("/")
                if secrets.compare_digest(given.encode(), token) and slash:
                    respond(self, rest)
                else:
                    self.absent()

            do_HEAD = do_GET

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is nobody's fault."""
