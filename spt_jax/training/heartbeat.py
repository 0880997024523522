"""A sign of life of each process that trains together, so that the others stop with a word and not wait for ever.

RUN/beats/<process>.json  host, pid, step and what the process is doing, every few seconds

Where one process is gone, stopped or stuck, all others wait in the next exchange between devices, which has no end of
its own. A thread of each process writes and watches: the first process all others, they the first. Times are those of
the one who watches, so clocks need not agree.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

import jax
import numpy as np
from jax.experimental import multihost_utils

from data_pipelines.errors import LostError, UserError, line_of
from data_pipelines.files import read_json, write_atomic
from data_pipelines.places import Place

FOLDER = "beats"
REMEDY = "run the same command again in all processes; the run goes on at its last checkpoint"
DONE = "done"
# What a process can be stuck in by itself; all else is waiting for others, or work of the devices.
OWN = ("input", "checkpoint")
log = logging.getLogger(__name__)


def stop(told: str) -> None:
    """End this process at once, whatever its other threads wait for."""
    print(f"spt-jax: error: {told}; {REMEDY}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(LostError.status)


@contextmanager
def exchanging(gone: Callable[[], str] = lambda: "another process is gone") -> Iterator[None]:
    """An exchange between processes that fails is the end of one of them: raises LostError with what `gone` says of it."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # gloo's come as ValueError, with the name of a status
        if jax.process_count() == 1 or not re.match("[A-Z_]{4,}: ", str(error)):
            raise
        log.info("%s", error)
        raise LostError(f"{gone()}; {REMEDY}") from None


class Heartbeat:
    """Of one process among several; of one alone it does nothing.

    silence: seconds without a sign of life, or at one own piece of work, after which a process counts as lost.
    """

    def __init__(self, out: Place, silence: float, lost: Callable[[str], None] = stop):
        self._folder, self._silence, self._lost = out / FOLDER, silence, lost
        self.every = min(max(silence / 8, 0.25), 5.0)
        self._own, self._count = jax.process_index(), jax.process_count()
        self._step, self._doing, self._since = 0, "start", time.monotonic()
        self._watched = list(range(1, self._count)) if self._own == 0 else [0]
        self._seen: dict[int, tuple[int, float, dict]] = {}
        self._over, self._thread = threading.Event(), threading.Thread(target=self._run, daemon=True)
        self._beat, self._verdict = 0, ""

    def __enter__(self) -> Self:
        if self._count > 1:
            # Signs of life of an earlier attempt say nothing: all of this one have its number.
            with exchanging():
                self._attempt = int(multihost_utils.broadcast_one_to_all(np.int32(time.time() % 2**31)))
            self._folder.mkdir(parents=True, exist_ok=True)
            self._began = time.monotonic()
            self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._over.set()
        if not self._thread.is_alive():
            return
        self._thread.join()
        told = DONE
        if error and not isinstance(error, KeyboardInterrupt):
            told = self._verdict or f"{_named(self._identity())} stopped: {line_of(error)}"
        with suppress(OSError, UserError):
            self._write(told)
        if told != DONE:
            self._let_others_go()

    def doing(self, what: str, step: int | None = None) -> None:
        """input, checkpoint, or what is not this process's own to end: devices, validation. step: where it is new."""
        self._doing, self._step, self._since = what, self._step if step is None else step, time.monotonic()

    def gone(self) -> str:
        """Which process fell silent, as far as can be told within a few beats; after an exchange has failed."""
        self._watched = [number for number in range(self._count) if number != self._own]
        last = {number: count for number, (count, _, _) in self._look().items()}
        time.sleep(3 * self.every)
        silent = [each for number, (count, _, each) in self._look().items() if count == last.get(number)]
        self._verdict = ", ".join(f"{_named(each)} is gone" for each in silent) or "another process is gone"
        return self._verdict

    def _run(self) -> None:
        while not self._over.wait(self.every):
            told = self._stuck() or self._silent()
            with suppress(OSError, UserError):  # a store that does not answer for a moment
                self._write(told)
            if told and not self._over.is_set():
                self._let_others_go()
                self._lost(told)
                return

    def _let_others_go(self) -> None:
        """The first process leaves last: without it JAX ends the others before they have said a word."""
        if self._own == 0:
            time.sleep(3 * self.every)

    def _identity(self) -> dict:
        return {"process": self._own, "host": socket.gethostname(), "pid": os.getpid()}

    def _write(self, gone: str) -> None:
        self._beat += 1
        own = {**self._identity(), "attempt": self._attempt}
        own |= {"beat": self._beat, "step": self._step, "doing": self._doing, "gone": gone}
        write_atomic(self._folder / f"{self._own}.json", json.dumps(own) + "\n")

    def _stuck(self) -> str:
        """Of this process itself: its main thread has been at one thing for too long."""
        doing, since = self._doing, time.monotonic() - self._since
        if doing not in OWN or since < self._silence:
            return ""
        what = "waits for its input" if doing == "input" else "writes a checkpoint"
        return f"{_named(self._identity())} {what} since {since:.0f} s, at step {self._step}"

    def _look(self) -> dict[int, tuple[int, float, dict]]:
        """The signs of life of others: their number, when it was first seen, and what they say."""
        now = time.monotonic()
        for number in self._watched:
            with suppress(UserError, OSError, ValueError):
                found = read_json(self._folder / f"{number}.json")
                known = self._seen.get(number)
                if found["attempt"] == self._attempt and (known is None or known[0] != found["beat"]):
                    self._seen[number] = (found["beat"], now, found)
        return dict(self._seen)

    def _silent(self) -> str:
        """Another process that says that one is lost, or the one that is silent for longest, if for too long."""
        now, seen = time.monotonic(), self._look()
        said = [found["gone"] for _, _, found in seen.values() if found["gone"] not in ("", DONE)]
        if said:
            return said[0]
        since = {number: now - at for number, (_, at, found) in seen.items() if found["gone"] != DONE}
        since |= {number: now - self._began for number in self._watched if number not in seen}
        longest = max(since, key=lambda number: since[number], default=None)
        if longest is None or since[longest] < self._silence:
            return ""
        if longest not in seen:
            return f"process {longest} never gave a sign of life in {self._folder}: it is gone, or has another folder there"
        found = seen[longest][2]
        return f"{_named(found)} is silent since {since[longest]:.0f} s, after step {found['step']} ({found['doing']})"


def _named(found: dict) -> str:
    return f"process {found['process']} ({found['host']}, pid {found['pid']})"
