"""What the processes of one training tell each other between steps: a signal to stop, how fast each is, who is slow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from data_pipelines.faults import COUNTED

# Steps after which processes hear each other: of about so many seconds, at least and at most so many.
SPAN_SECONDS, FIRST_SPAN, LONGEST_SPAN = 2.0, 16, 4096
# A process is slow that takes so many times what half of the others take, and loses so much of the time by it.
SLOWER, SHARE, IN_A_ROW = 2.0, 0.1, 5
# Side of the matrices whose product tells how fast a device is, and how often it is taken.
PROBE, PROBES = 512, 3


class Word(NamedTuple):
    """Of one process, over the last steps. signal: to stop, 0 none. due: whether it is time for a checkpoint."""

    signal: int
    due: int
    step_seconds: float
    input_seconds: float
    probe_seconds: float


def gathered(word: Word) -> list[Word]:
    """The words of all processes, the same in each."""
    if jax.process_count() == 1:
        return [word]
    rows = multihost_utils.process_allgather(np.array(word, np.float32))
    return [Word(int(row[0]), int(row[1]), *map(float, row[2:])) for row in rows]


def added_up(counts: dict[str, int]) -> dict[str, int]:
    """Numbers of `faults.COUNTED` of all processes together; what there is none of is not in it."""
    own = np.array([counts.get(name, 0) for name in COUNTED], np.int32)
    if jax.process_count() > 1:
        own = multihost_utils.process_allgather(own).sum(axis=0)
    return {name: int(number) for name, number in zip(COUNTED, own, strict=True) if number}


def texts(own: str) -> list[str]:
    """What each process has to say, in all of them."""
    if jax.process_count() == 1:
        return [own]
    content = own.encode()
    lengths = multihost_utils.process_allgather(np.int32(len(content)))
    room = np.zeros(int(lengths.max()), np.uint8)
    room[: len(content)] = np.frombuffer(content, np.uint8)
    rows = multihost_utils.process_allgather(room)
    return [bytes(row[:length]).decode() for row, length in zip(rows, lengths.ravel().tolist(), strict=True)]


def probe() -> float:
    """Seconds that this process's first device takes for a product of matrices, now that it has nothing else to do."""
    matrix = jax.device_put(np.eye(PROBE, dtype=np.float32), jax.local_devices()[0])
    _product(matrix).block_until_ready()
    began = time.perf_counter()
    for _ in range(PROBES):
        _product(matrix).block_until_ready()
    return (time.perf_counter() - began) / PROBES


@jax.jit
def _product(x: jax.Array) -> jax.Array:
    return x @ x


class Processes:
    """All that train together. names: of their machines. tell: gets what a user should know.

    span: steps until they hear each other again, of about SPAN_SECONDS, since devices run empty meanwhile.
    """

    def __init__(self, names: list[str], tell: Callable[[str], None]):
        self._alone, self._slow, self._tell, self.span = len(names) == 1, Slow(names), tell, FIRST_SPAN

    def hear(self, signal: int, due: bool, steps: int, seconds: float, waited: float) -> tuple[int, bool]:
        """signal to stop, and whether a checkpoint is due, of this process -> of any; after so many steps, which took so
        many seconds, of which so many were waiting for data."""
        words = gathered(Word(signal, int(due), seconds / steps, waited, 0.0 if self._alone else probe()))
        for told in self._slow.found(words, seconds):
            self._tell(told)
        pace = max(word.step_seconds for word in words)
        self.span = int(np.clip(SPAN_SECONDS / pace, FIRST_SPAN, LONGEST_SPAN))
        return max(word.signal for word in words), any(word.due for word in words)


class Slow:
    """Finds processes that hold the others up: those that were slow so many spans of steps in a row, each told once."""

    def __init__(self, names: list[str]):
        self._names, self._rows, self._told = names, dict[tuple[int, str], int](), set[tuple[int, str]]()

    def found(self, words: list[Word], seconds: float) -> list[str]:
        """What to tell, after steps that took so many seconds."""
        new = []
        for kind in ("input", "probe") if len(words) > 1 else ():
            each = np.array([getattr(word, f"{kind}_seconds") for word in words])
            for i, own in enumerate(each):
                usual, key = float(np.median(np.delete(each, i))), (i, kind)
                lost = own - usual if kind == "input" else seconds * (1 - usual / max(own, 1e-9))
                slow = own > SLOWER * usual and lost > SHARE * seconds
                self._rows[key] = self._rows.get(key, 0) + 1 if slow else 0
                if self._rows[key] < IN_A_ROW or key in self._told:
                    continue
                self._told.add(key)
                name = f"process {i} ({self._names[i]})"
                if kind == "input":
                    new.append(f"{name} waited {own:.2f} s of {seconds:.2f} s for its input, the others {usual:.2f} s")
                else:
                    times = f"{1e3 * own:.1f} ms for a product that takes the others {1e3 * usual:.1f} ms"
                    new.append(f"{name} is slow: its device takes {times}")
        return new
