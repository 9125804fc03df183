"""A page that changes while it is read: served to this machine alone, pushed by server-sent events."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from plates.errors import SettingsError

_KEEP_ALIVE_S = 15.0
_SILENT_S = 30.0  # a client that says nothing for so long is dropped
_MOST_STREAMS = 32

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class LiveServer:
    """Serves one page on 127.0.0.1, read only, to those who know its address.

    The address holds a random token, so that other users and web pages of this machine cannot guess it; requests
    under another host's name are refused, so that no web page reaches it by a name that it controls.

    Parameters
    ----------
    port
        To listen on; 0 takes a free one.

    Raises
    ------
    SettingsError
        The port is taken.
    """

    def __init__(self, *, port: int = 0) -> None:
        self._state = _State(secrets.token_urlsafe(24))
        try:
            self._server = _Server(("127.0.0.1", port), _handler(self._state))
        except OSError as error:
            raise SettingsError(
                f"Port {port} of this machine cannot be listened on: {error.strerror or error}. Give another by "
                "--port, or leave it out to take a free one."
            ) from error
        self.port = int(self._server.server_address[1])
        self._state.hosts = {f"127.0.0.1:{self.port}", f"localhost:{self.port}"}
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="live-page", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """To be opened in a browser of this machine."""
        return f"http://127.0.0.1:{self.port}/{self._state.token}/"

    def show(self, page: str, parts: Mapping[str, str]) -> None:
        """Serve a page from now on, and send its parts to those who look at it.

        Parameters
        ----------
        page
            HTML as it is to be loaded.
        parts
            Identifier of an element of the page -> its HTML.
        """
        self._state.set(page.encode(), json.dumps(dict(parts)).encode())

    def close(self) -> None:
        """Stop serving; open streams end."""
        self._state.end()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is nobody's fault."""


class _State:
    """What is shown now, and a bell for those who wait for the next."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.hosts: set[str] = set()
        self.streams = threading.Semaphore(_MOST_STREAMS)
        self.page, self._parts, self._number, self.ended = b"", b"{}", 0, False
        self._bell = threading.Condition()

    def set(self, page: bytes, parts: bytes) -> None:
        with self._bell:
            self.page, self._parts = page, parts
            self._number += 1
            self._bell.notify_all()

    def end(self) -> None:
        with self._bell:
            self.ended = True
            self._bell.notify_all()

    def after(self, number: int) -> tuple[int, bytes | None]:
        """The state after one that a client has; None where nothing came in time."""
        with self._bell:
            self._bell.wait_for(lambda: self._number != number or self.ended, timeout=_KEEP_ALIVE_S)
            return (self._number, self._parts) if self._number != number else (number, None)


def _handler(state: _State) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "tomoscreen", ""
        timeout = _SILENT_S

        def do_GET(self) -> None:
            if self.headers.get("Host", "") not in state.hosts:
                self._answer(403, b"This page is for this machine only.\n", "text/plain")
                return
            token, _, rest = self.path.removeprefix("/").partition("/")
            if not secrets.compare_digest(token.encode(), state.token.encode()) or rest not in ("", "events"):
                self._answer(404, b"There is nothing here.\n", "text/plain")
            elif rest == "events":
                self._stream()
            else:
                self._answer(200, state.page, "text/html")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self._head(status, kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _head(self, status: int, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            for name, value in _HEADERS.items():
                self.send_header(name, value)

        def _stream(self) -> None:
            if not state.streams.acquire(blocking=False):
                self._answer(503, b"Too many windows show this page.\n", "text/plain")
                return
            try:
                self.close_connection = True
                self._head(200, "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                number = -1  # whoever comes, or comes back, gets the present state at once
                while not state.ended:
                    number, parts = state.after(number)
                    # JSON in ASCII holds no line break, which would end the event
                    self.wfile.write(b": still here\n\n" if parts is None else b"data: " + parts + b"\n\n")
                    self.wfile.flush()
            finally:
                state.streams.release()

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    return Handler
