"""RUN/attempts.jsonl: what happened to a run, and when. Unlike the log of epochs it is never rewound.

Every line has "at" (unix seconds), "attempt" (0, 1, ...) and "event":

start  epoch, step: where it goes on. processes, devices, device, hosts. ready: seconds since the process was started
steps  epoch, step: reached. seconds: what the time since the line before went into
told   text: what a user should know
stop   step, why; missing after a kill
"""

from __future__ import annotations

import json

from data_pipelines.files import write_atomic
from data_pipelines.places import Place, RemotePath

ATTEMPTS = "attempts.jsonl"


def append_attempt(out: Place, line: dict) -> None:
    """Of several processes the first alone writes."""
    path, text = out / ATTEMPTS, json.dumps(line) + "\n"
    if isinstance(path, RemotePath):  # an object is put as a whole
        write_atomic(path, (path.read_text() if path.exists() else "") + text)
        return
    with open(path, "a+b") as file:
        file.seek(0, 2)
        if file.tell() and (file.seek(-1, 2), file.read(1))[1] != b"\n":  # a kill in mid-write left half a line
            file.write(b"\n")
        file.write(text.encode())


def read_attempts(out: Place) -> list[dict]:
    """All whole lines; none where there is no file, as of a run of an older version."""
    path, lines = out / ATTEMPTS, []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
            line["attempt"] + 0, line["at"] + 0, line["event"] + ""
        except (ValueError, KeyError, TypeError):
            continue
        lines.append(line)
    return lines
