"""A headless Chromium, spoken to through a pipe in its own protocol (CDP): no library, no driver, no port."""

import base64
import fcntl
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless=new --remote-debugging-pipe --no-first-run --disable-gpu --no-sandbox --disable-dev-shm-usage "
    "--hide-scrollbars --disable-background-networking --disable-component-update"
).split()
PATIENCE = 20.0


class Browser:
    """One page. Messages end with a zero byte; the browser reads from its descriptor 3 and writes to 4."""

    def __init__(self, folder: Path):
        (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
        # From 10 on, so that none is in the way of the two numbers that they must have.
        high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 10) for each in (theirs_in, theirs_out)]
        os.close(theirs_in)
        os.close(theirs_out)
        quiet = [(os.POSIX_SPAWN_OPEN, each, os.devnull, os.O_RDWR, 0) for each in (1, 2)]
        pipes = [(os.POSIX_SPAWN_DUP2, each, number) for number, each in enumerate(high, start=3)]
        line = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}"]
        self._process = os.posix_spawn(CHROMIUM, line, os.environ, file_actions=quiet + pipes)
        for each in high:
            os.close(each)
        self._out, self._in = os.fdopen(ours_out, "wb", 0), os.fdopen(ours_in, "rb")
        self._number, self._session = 0, None
        self.complaints: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        self._out.close()
        os.kill(self._process, signal.SIGTERM)
        os.waitpid(self._process, 0)
        self._in.close()

    def send(self, method: str, **params: Any) -> dict:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._read())
            if answer.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(answer["params"]["exceptionDetails"])[:500])
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
                self.complaints.append(answer["params"]["entry"]["text"])
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self) -> bytes:
        found = bytearray()
        while (byte := self._in.read(1)) != b"\0":
            assert byte, "the browser is gone"
            found += byte
        return bytes(found)

    def open(self, address: str, width: int = 1400, height: int = 900) -> None:
        self.size(width, height)
        self.send("Page.navigate", url=address)

    def size(self, width: int, height: int = 900) -> None:
        phone = {"deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, **phone)

    def run(self, script: str) -> Any:
        """The value of an expression; a promise is waited for."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script: str, patience: float = PATIENCE) -> Any:
        """Waits until an expression is true, and gives it."""
        deadline = time.monotonic() + patience
        while not (found := self.run(script)):
            assert time.monotonic() < deadline, (
                f"not within {patience} s: {script}; {self.run('document.body.innerText')}"
            )
            time.sleep(0.03)
        return found

    def give(self, *files: Path) -> None:
        """As if they were chosen in the page's field for files."""
        document = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=document, selector="input[type=file]")["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def picture(self, path: Path) -> None:
        """All of the page as PNG."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        found = self.send("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(found["data"]))
