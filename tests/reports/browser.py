"""Headless Chromium over its DevTools protocol: open a page, ask it things, list its complaints and requests."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClientConnection, websocket_connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
)  # fmt: skip
PATIENCE = 30.0  # seconds


class Tab:
    """One open page: `complaints` are console errors, exceptions and blocked loads, `requests` what it asked for."""

    def __init__(self, loop: IOLoop, socket: WebSocketClientConnection, process: int) -> None:
        self._loop, self._socket, self._number, self._process = loop, socket, 0, process
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer, noting what the page says meanwhile."""
        self._number += 1
        message = json.dumps({"id": self._number, "method": method, "params": parameters})
        self._socket.write_message(message)
        while True:
            told = json.loads(self._loop.run_sync(self._socket.read_message, timeout=PATIENCE))
            if told.get("id") == self._number:
                assert "error" not in told, told
                return dict(told["result"])
            self._note(told)

    def open(self, path: Path, *, width: int = 1366, height: int = 768) -> None:
        """Load a file and wait until its script has run."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("document.readyState === 'complete'")

    def resize(self, width: int, height: int) -> None:
        """Change the window as if dragged."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def ask(self, expression: str) -> Any:
        """Value of a JavaScript expression, promises awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression holds."""
        end = time.monotonic() + PATIENCE
        while not self.ask(expression):
            assert time.monotonic() < end, f"{expression} did not come true in {PATIENCE} s"
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of an element, brought into view first."""
        self.ask(
            f"document.querySelector({json.dumps(selector)}).scrollIntoView({{behavior: 'instant', block: 'center'}})"
        )
        box = self.ask(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        self.click_at(*box)

    def click_at(self, x: float, y: float) -> None:
        """Press and release the mouse at a place of the window."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def hover_at(self, x: float, y: float) -> None:
        """Move the mouse to a place of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key, such as Escape, 27."""
        for kind in ("keyDown", "keyUp"):
            said = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **said)

    def without_scripts(self) -> None:
        """Show the next page as a reader without JavaScript sees it."""
        self.call("Emulation.setScriptExecutionDisabled", value=True)

    def cpu_seconds(self) -> float:
        """Processor time that the browser and all its processes have used since they started."""
        return _processor_time(self._process)

    def settle(self, *, quiet: float = 0.4) -> None:
        """Wait until the browser does nothing any more: next to no processor time in three looks."""
        calm, before, end = 0, self.cpu_seconds(), time.monotonic() + PATIENCE
        while calm < 3 and time.monotonic() < end:
            time.sleep(quiet)
            now = self.cpu_seconds()
            calm = calm + 1 if now - before < 0.02 else 0
            before = now

    def draw_all(self) -> None:
        """Bring every figure into view, one after the other, until all are drawn."""
        for index in range(int(self.ask("document.querySelectorAll('[data-figure]').length"))):
            place = f"document.querySelectorAll('[data-figure]')[{index}]"
            self.ask(f"{place}.scrollIntoView({{behavior: 'instant'}})")
            self.wait_for(f"{place}.dataset.state === 'drawn'")

    def _note(self, told: dict[str, Any]) -> None:
        method, said = told.get("method"), told.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(said["exceptionDetails"])[:600])
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(said["args"])[:600])
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(said["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(said["message"])


@contextmanager
def browser(folder: Path) -> Iterator[Tab]:
    """Start Chromium with an empty profile in the folder and yield its one tab."""
    assert CHROMIUM is not None
    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    loop = IOLoop(make_current=False)
    try:
        port_file = folder / "DevToolsActivePort"
        end = time.monotonic() + PATIENCE
        while not (port_file.exists() and port_file.read_text().count("\n")):
            assert process.poll() is None, "Chromium ended at once"
            assert time.monotonic() < end, "Chromium did not start"
            time.sleep(0.05)
        port = int(port_file.read_text().split("\n")[0])
        with urlopen(Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")) as answer:
            address = json.load(answer)["webSocketDebuggerUrl"]
        socket = loop.run_sync(lambda: websocket_connect(address, max_message_size=1 << 28))
        yield Tab(loop, socket, process.pid)
        socket.close()
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)
        loop.close()


def _processor_time(root: int) -> float:
    """Seconds used by a process and its descendants, those that have ended included, out of /proc."""
    children: dict[int, list[int]] = {}
    spent: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        children.setdefault(int(after_name[1]), []).append(int(folder.name))
        spent[int(folder.name)] = sum(int(ticks) for ticks in after_name[11:15])
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        total += spent.get(process, 0)
        waiting += children.get(process, [])
    return total / os.sysconf("SC_CLK_TCK")
