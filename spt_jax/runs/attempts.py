"""RUN/attempts.jsonl: what happened to a run, and when. Unlike the log of epochs it is never rewound.

Every line has "at" (unix seconds), "attempt" (0, 1, ...) and "event":

start  epoch, step: where it goes on. processes, devices, device, hosts. ready: seconds since the process was started
steps  epoch, step: reached. seconds: what the time since the line before went into
told   text: what a user should know
stop   step, why; missing after a kill
"""

from __future__ import annotations

import json
import math

from data_pipelines.files import write_atomic
from data_pipelines.places import Place, RemotePath

ATTEMPTS = "attempts.jsonl"
# What a line of an event must have to be of use, by its type.
NEEDED: dict[str, dict[str, type]] = {
    "start": {"step": int},
    "steps": {"step": int, "seconds": dict},
    "told": {"text": str},
    "stop": {"why": str},
}


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
    """All whole lines of known events; none where there is no file, as of a run of an older version."""
    path, lines = out / ATTEMPTS, []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
            if not _whole(line):
                continue
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        lines.append(line)
    return lines


def _whole(line: dict) -> bool:
    """Whether it has what its event needs. Raises KeyError, TypeError or AttributeError for what is no such line at all."""
    times = [line["at"], line.get("ready", 0.0), *line.get("seconds", {}).values()]
    known = all(isinstance(line[name], kind) for name, kind in NEEDED[line["event"]].items())
    return known and isinstance(line["attempt"], int) and all(map(math.isfinite, times))
