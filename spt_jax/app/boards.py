"""What was answered, kept in memory while the page is open: a board for each browser, one for the watched folder."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from data_pipelines.errors import UserError
from data_pipelines.readers.measured import Measured
from spt_jax.app.desk import Named
from spt_jax.inference.measured import Corrected
from spt_jax.inference.prediction import Prediction

# Of a browser, and of the folder; one takes some 20 kB.
MOST_ROWS = 5_000
# Browsers; whose last file is oldest is forgotten first.
MOST_SESSIONS = 32


class OnBoard(NamedTuple):
    """number: unlike all others since the program began. spectrum: on the model's energies; None where there is none.
    watched: of the folder. times: it was read so often, a file that grows again and again."""

    number: int
    changed: int
    prediction: Prediction
    spectrum: Measured | None
    watched: bool = False
    times: int = 1


@dataclass(frozen=True)
class News:
    """Since `changed` = an earlier number: what is new, and the numbers of what is there no more."""

    changed: int
    rows: list[OnBoard]
    gone: list[int]


class Boards:
    """All boards; from any thread. A browser is known by a token that is its secret."""

    def __init__(self) -> None:
        self.run = secrets.token_urlsafe(8)  # numbers are of this run of the program
        self._lock = threading.Lock()
        self._clock = 0
        self._folder: dict[str, list[OnBoard]] = {}
        self._sessions: OrderedDict[str, dict[int, OnBoard]] = OrderedDict()
        self._gone: list[tuple[int, int]] = []

    def add(self, token: str, spectra: Sequence[Named], said: Sequence[Prediction]) -> list[OnBoard]:
        """Onto the board of a browser. Raises UserError where it is full."""
        with self._lock:
            own = self._sessions.setdefault(token, {})
            self._sessions.move_to_end(token)
            while len(self._sessions) > MOST_SESSIONS:
                self._forget(self._sessions.popitem(last=False)[1].values())
            if len(own) + len(said) > MOST_ROWS:
                raise UserError(f"this page holds {MOST_ROWS:,} spectra and no more; save them, clear it and go on")
            found = [OnBoard(*self._next(), each, on_scale(one)) for (_, one), each in zip(spectra, said, strict=True)]
            own.update((row.number, row) for row in found)
            return found

    def clear(self, token: str) -> None:
        with self._lock:
            self._forget(self._sessions.pop(token, {}).values())

    def watched(self, file: str, spectra: Sequence[Named], said: Sequence[Prediction]) -> None:
        """In the place of what the same file of the folder held before. The oldest go where there are too many."""
        with self._lock:
            before = {row.prediction.name: row for row in self._folder.get(file, ())}
            found = []
            for (_, one), each in zip(spectra, said, strict=True):
                known = before.pop(each.name, None)
                number, changed = self._next()
                times = known.times + 1 if known else 1
                found.append(OnBoard(known.number if known else number, changed, each, on_scale(one), True, times))
            self._folder[file] = found
            self._forget(before.values())
            while sum(map(len, self._folder.values())) > MOST_ROWS and len(self._folder) > 1:
                self._forget(self._folder.pop(next(iter(self._folder))))

    def news(self, token: str, since: int) -> News:
        with self._lock:
            rows = [row for row in self._all(token) if row.changed > since]
            return News(self._clock, rows, [number for number, at in self._gone if at > since])

    def rows(self, token: str) -> list[OnBoard]:
        """Of the folder and of this browser, in the order in which they came."""
        with self._lock:
            return sorted(self._all(token))

    def row(self, token: str, number: int) -> OnBoard | None:
        with self._lock:
            return next((row for row in self._all(token) if row.number == number), None)

    def _all(self, token: str) -> Iterable[OnBoard]:
        yield from (row for rows in self._folder.values() for row in rows)
        yield from self._sessions.get(token, {}).values()

    def _next(self) -> tuple[int, int]:
        self._clock += 1
        return self._clock, self._clock

    def _forget(self, rows: Iterable[OnBoard]) -> None:
        for row in rows:
            self._clock += 1
            self._gone.append((row.number, self._clock))
        del self._gone[:-MOST_ROWS]


def on_scale(spectrum: Measured | Corrected | UserError) -> Measured | None:
    """As the model was asked about it."""
    if isinstance(spectrum, Corrected):
        return spectrum.spectrum
    return spectrum if isinstance(spectrum, Measured) else None
