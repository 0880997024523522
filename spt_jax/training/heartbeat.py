"""A sign of life of each process that trains together, so that the others stop with a word and not wait for ever.

RUN/beats/<process>.json  host, pid, step and what the process is doing, every few seconds

Where one process is gone, stopped or stuck, all others wait in the next exchange between devices, which has no end of
its own. A thread of each process writes and watches: the first process all others, they the first. Times are those of
the one who watches, so clocks need not agree.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import jax
import numpy as np
from jax.experimental import multihost_utils

from data_pipelines.errors import UserError
from data_pipelines.files import read_json, write_atomic
from data_pipelines.places import Place

FOLDER = "beats"
# Exit status of a process that stopped since another did, as sysexits.h has it: try again.
AGAIN = 75
REMEDY = "run the same command again in all processes; the run goes on at its last checkpoint"
# What a process can be stuck in by itself; all else is waiting for others, or work of the devices.
OWN = ("input", "checkpoint")


def stop(told: str) -> None:
    """End this process at once, whatever its other threads wait for."""
    print(f"spt-jax: error: {told}; {REMEDY}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(AGAIN)


class Heartbeat:
    """Of one process among several; of one alone it does nothing.

    silence: seconds without a sign of life, or at one own piece of work, after which a process counts as lost.
    """

    def __init__(self, out: Place, silence: float, lost: Callable[[str], None] = stop):
        self._folder, self._silence, self._lost = out / FOLDER, silence, lost
        self.every = min(max(silence / 8, 0.25), 5.0)
        self._own, self._count = jax.process_index(), jax.process_count()
        self._step, self._doing, self._since = 0, "start", time.monotonic()
        self._seen: dict[int, tuple[int, float, dict]] = {}
        self._over, self._thread = threading.Event(), threading.Thread(target=self._run, daemon=True)
        self._beat = 0

    def __enter__(self) -> Self:
        if self._count > 1:
            # Signs of life of an earlier attempt say nothing: all of this one have its number.
            self._attempt = int(multihost_utils.broadcast_one_to_all(np.int32(time.time() % 2**31)))
            if self._own == 0:
                self._folder.mkdir(parents=True, exist_ok=True)
            self._began = time.monotonic()
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
            with suppress(OSError, UserError):
                self._write("" if sys.exc_info()[0] else "done")

    def doing(self, what: str, step: int | None = None) -> None:
        """input, checkpoint, or what is not this process's own to end: devices, validation. step: where it is new."""
        self._doing, self._step, self._since = what, self._step if step is None else step, time.monotonic()

    def gone(self) -> str:
        """Which process fell silent, as far as can be told within a few beats; after an exchange has failed."""
        last = {number: count for number, (count, _, _) in self._look().items()}
        time.sleep(3 * self.every)
        silent = [each for number, (count, _, each) in self._look().items() if count == last.get(number)]
        return ", ".join(_named(each) for each in silent) or "another process"

    def _run(self) -> None:
        while not self._over.wait(self.every):
            with suppress(OSError, UserError):  # a store that does not answer for a moment
                told = self._stuck() or self._silent()
                self._write(told)
                if told and not self._over.is_set():
                    self._lost(told)
                    return

    def _write(self, gone: str) -> None:
        self._beat += 1
        own = {"process": self._own, "host": socket.gethostname(), "pid": os.getpid(), "attempt": self._attempt}
        own |= {"beat": self._beat, "step": self._step, "doing": self._doing, "gone": gone}
        write_atomic(self._folder / f"{self._own}.json", json.dumps(own) + "\n")

    def _stuck(self) -> str:
        """Of this process itself: its main thread has been at one thing for too long."""
        doing, since = self._doing, time.monotonic() - self._since
        if doing not in OWN or since < self._silence:
            return ""
        whole = {"process": self._own, "host": socket.gethostname(), "pid": os.getpid()}
        what = "waits for its input" if doing == "input" else "writes a checkpoint"
        return f"{_named(whole)} {what} since {since:.0f} s, at step {self._step}"

    def _look(self) -> dict[int, tuple[int, float, dict]]:
        """The signs of life of others: their number, when it was first seen, and what they say."""
        now = time.monotonic()
        for number in range(1, self._count) if self._own == 0 else (0,):
            with suppress(UserError, OSError, ValueError):
                found = read_json(self._folder / f"{number}.json")
                known = self._seen.get(number)
                if found["attempt"] == self._attempt and (known is None or known[0] != found["beat"]):
                    self._seen[number] = (found["beat"], now, found)
        return dict(self._seen)

    def _silent(self) -> str:
        """Another process that is lost, or says that one is."""
        now, seen = time.monotonic(), self._look()
        for number in range(1, self._count) if self._own == 0 else (0,):
            if number not in seen:
                if now - self._began > self._silence:
                    return f"process {number} never gave a sign of life in {self._folder}: it is gone, or another folder there"
                continue
            _, at, found = seen[number]
            if found["gone"] == "done":
                continue
            if found["gone"]:
                return found["gone"]
            if now - at > self._silence:
                return (
                    f"{_named(found)} is silent since {now - at:.0f} s, after step {found['step']} ({found['doing']})"
                )
        return ""


def _named(found: dict) -> str:
    return f"process {found['process']} ({found['host']}, pid {found['pid']})"
