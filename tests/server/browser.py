"""Real Chromium, spoken to over its DevTools protocol: what a page shows, how wide it is, what keys do."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Generator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = count(1)
        self._session = ""

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser for something and wait for its answer."""
        number = next(self._ids)
        asked = {"id": number, "method": method, "params": parameters}
        if self._session:
            asked["sessionId"] = self._session
        self._socket.send(json.dumps(asked))
        while (told := json.loads(self._socket.recv(timeout=30))).get("id") != number:
            pass
        assert "error" not in told, told
        return told["result"]

    def begin(self) -> None:
        """Open the tab."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.send("Page.enable")

    def look(self, *, width: int, dark: bool = False) -> None:
        """As on a screen of this width, light or dark."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def go(self, url: str) -> None:
        """Load a page."""
        self.send("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        told = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        return told["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until this holds; the browser looks at each frame."""
        waiting = (
            "new Promise((ok, no) => { const end = Date.now() + 20000; const look = () => "
            f"{{ if ({condition}) ok(true); else if (Date.now() > end) no('never: '+document.body"
            ".innerText.slice(0,300)); else setTimeout(look, 20); }; look(); })"
        )
        told = self.send(
            "Runtime.evaluate", expression=waiting, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in told, (condition, told)

    def press(self, key: str, code: int) -> None:
        """Press a key."""
        for kind in ("rawKeyDown", "char", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "char" else {}
            if kind == "char" and not text:
                continue
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text
            )

    def picture(self, path: Path) -> None:
        """A screenshot, as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))


@contextlib.contextmanager
def browsing(folder: Path) -> Generator[Page]:
    """A tab of a browser that ends with the block."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        assert "CI" not in os.environ, "CI must have chromium: see .ci/run"
        pytest.skip("no chromium here: the page was tested by its HTML only")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    profile = [f"--user-data-dir={folder}", "--remote-debugging-port=0", "about:blank"]
    with subprocess.Popen(
        [*command, *profile], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        try:
            url = next(
                line.rpartition(" ")[2].strip()
                for line in process.stderr
                if line.startswith("DevTools listening on")
            )
            with connect(url, max_size=None) as socket:
                page = Page(socket)
                page.begin()
                yield page
        finally:
            process.kill()
