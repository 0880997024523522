"""What became of the time of an attempt to train, written down while it passes: RUN/attempts.jsonl."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import jax

from data_pipelines.errors import UserError, line_of
from data_pipelines.places import Place
from spt_jax.runs.attempts import append_attempt, read_attempts
from spt_jax.training.together import texts

PARTS = ("compile", "compute", "input", "checkpoint", "validation")
# Seconds between lines within an epoch: in an object store each is a whole file.
SELDOM = 60.0
COMPILED = "backend_compile_duration"


class Account:
    """Of one attempt, in which the first process writes for all. step: that it goes on at."""

    def __init__(self, out: Place, epoch: int, step: int):
        self._out, self._first = out, jax.process_index() == 0
        earlier = read_attempts(out)
        self._attempt = max((line["attempt"] for line in earlier), default=-1) + 1
        self._spent, self._compiled = dict.fromkeys(PARTS, 0.0), 0.0
        self._step = step
        self.hosts = texts(socket.gethostname())
        device = jax.devices()[0]
        began = {"epoch": epoch, "step": step, "processes": jax.process_count(), "devices": jax.device_count()}
        self._write("start", **began, device=device.device_kind, hosts=self.hosts, ready=round(_age(), 3))

    def __enter__(self) -> Self:
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: TracebackType | None) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)
        if isinstance(error, UserError):
            self.ended(str(error))
        else:
            self.ended("done" if error is None else getattr(error, "name", "") or line_of(error).rstrip(": "))

    def ended(self, why: str) -> None:
        self._write("stop", step=self._step, why=why, seconds=self._taken())

    def _listen(self, event: str, seconds: float, **_) -> None:
        if event.endswith(COMPILED):
            self._compiled += seconds

    @contextmanager
    def at(self, part: str) -> Iterator[None]:
        """What is done here is this part of the time, but for what it compiles."""
        began, compiled = time.perf_counter(), self._compiled
        try:
            yield
        finally:
            new = self._compiled - compiled
            self._spent[part] += max(time.perf_counter() - began - new, 0.0)
            self._spent["compile"] += new

    def waited(self, seconds: float) -> None:
        """Of the steps that were run last, so much was waiting for data."""
        self._spent["compute"] -= min(seconds, self._spent["compute"])
        self._spent["input"] += seconds

    def reached(self, epoch: int, step: int, now: bool = True) -> None:
        """Write down what the time since the last line went into. now: else only if that was long ago."""
        self._step = step
        if now or time.monotonic() - self._written > SELDOM:
            self._write("steps", epoch=epoch, step=step, seconds=self._taken())

    def _taken(self) -> dict[str, float]:
        spent, self._spent = self._spent, dict.fromkeys(PARTS, 0.0)
        return {part: round(each, 4) for part, each in spent.items()}

    def told(self, text: str) -> None:
        self._write("told", text=text)

    def _write(self, event: str, **said) -> None:
        self._written = time.monotonic()
        if self._first:
            append_attempt(self._out, {"at": round(time.time(), 3), "attempt": self._attempt, "event": event, **said})


def _age() -> float:
    """Seconds since this process was started."""
    if sys.platform != "linux":
        return time.process_time()
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")
