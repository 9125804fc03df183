"""A page that changes while it is read: served to this machine alone, pushed by server-sent events."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping

from screening.loopback import LoopbackServer, Request

_KEEP_ALIVE_S = 15.0
_MOST_STREAMS = 32


class LiveServer:
    """Serves one page to this machine, read only, to those who know its address.

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
        self._state = _State()
        self._server = LoopbackServer(self._respond, port=port)
        self.port = self._server.port

    @property
    def address(self) -> str:
        """To be opened in a browser of this machine."""
        return self._server.address

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
        self._server.close()

    def _respond(self, request: Request, rest: str) -> None:
        if rest == "events" and request.command == "GET":
            self._stream(request)
        elif rest == "":
            request.answer(200, self._state.page, "text/html")
        else:
            request.absent()

    def _stream(self, request: Request) -> None:
        state = self._state
        if not state.streams.acquire(blocking=False):
            request.answer(503, b"Too many windows show this page.\n", "text/plain")
            return
        try:
            request.close_connection = True
            request.head(200, "text/event-stream", {"Connection": "close"})
            number = -1  # whoever comes, or comes back, gets the present state at once
            while not state.ended:
                number, parts = state.after(number)
                # JSON in ASCII holds no line break, which would end the event
                request.wfile.write(b": still here\n\n" if parts is None else b"data: " + parts + b"\n\n")
                request.wfile.flush()
        finally:
            state.streams.release()


class _State:
    """What is shown now, and a bell for those who wait for the next."""

    def __init__(self) -> None:
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
