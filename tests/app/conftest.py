"""One program for all tests: the page, with a folder that it watches."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra `app`")
pytest.importorskip("uvicorn", reason="needs the extra `app`")


@dataclass
class Running:
    """address: of the page, with a slash. folder: that is watched."""

    address: str
    folder: Path

    def ask(
        self, where: str, body: Any = None, headers: dict[str, str] | None = None, method: str | None = None
    ) -> tuple[int, Any]:
        """(status, answer). body: JSON, or files as {name: content}."""
        headers = dict(headers or {})
        if isinstance(body, dict) and body and all(isinstance(each, bytes) for each in body.values()):
            mark = uuid.uuid4().hex
            parts = [
                f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
                + content
                + b"\r\n"
                for name, content in body.items()
            ]
            body, headers["Content-Type"] = (
                b"".join(parts) + f"--{mark}--\r\n".encode(),
                f"multipart/form-data; boundary={mark}",
            )
        elif body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(self.address + where, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                self.headers, status, text = answer.headers, answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        return status, json.loads(text) if text[:1] in ("{", "[") else text


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """At its end it is asked to stop, and must do so as one that did what it should."""
    folder = tmp_path_factory.mktemp("measured")
    line = [sys.executable, "-c", "from spt_jax.cli import main; main()", "app", "--port", "0", "--watch", str(folder)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)
    lines = []
    while not (lines and lines[-1].startswith("http")):
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    yield Running(lines[-1].split()[0] + "/", folder)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0].splitlines()[-1] == "stopped"
    assert process.returncode == 0
