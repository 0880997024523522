"""saveData files (.mda) of EPICS sscan, as the APS and others write them -> a table for each scan over energies.

Format: documentation/saveData_fileFormat.txt of epics-modules/sscan, in XDR (RFC 4506): numbers are big-endian, and a short
takes four bytes. Nothing in a file is believed before it is known to lie within it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.readers.header import Stated
from data_pipelines.readers.names import role_of
from data_pipelines.readers.text import Table

VERSIONS = tuple(struct.pack(">f", version) for version in (1.2, 1.3, 1.4))
# Of one scan, and of all together: the record has 4 positioners and 85 detectors, and some thousand points.
MOST_COLUMNS, MOST_POINTS, MOST_SCANS, MOST_NUMBERS = 1_000, 1_000_000, 1_000, 20_000_000
DEEPEST = 5


class _Scan(NamedTuple):
    """names, units: of C columns; values: (N, C), the points that were reached; lower: where scans within it begin."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    values: np.ndarray
    lower: list[int]
    note: tuple[str, ...]

    def has_energy(self) -> bool:
        energies = [column for column, name in enumerate(self.names) if role_of(name) == "energy"]
        return len(self.values) > 1 and any(np.ptp(self.values[:, column]) > 0 for column in energies)


class _Xdr:
    """Numbers and texts one after the other. Raises SpectrumError at the end of the file and beyond limits."""

    def __init__(self, content: bytes, name: str):
        self.content, self.name, self.at = content, name, 0

    def _next(self, size: int) -> int:
        start, self.at = self.at, self.at + size
        if self.at > len(self.content):
            raise damaged(self.name, f"it ends at byte {len(self.content):,}, and goes on to {self.at:,}")
        return start

    def whole(self, most: int, what: str) -> int:
        found = int(struct.unpack_from(">i", self.content, self._next(4))[0])
        if not 0 <= found <= most:
            raise damaged(self.name, f"{found:,} {what}")
        return found

    def text(self) -> str:
        """A counted string: its length, and where that is not 0, a string of XDR, which has its own and is padded to 4."""
        if not self.whole(len(self.content), "characters of a name"):
            return ""
        length = self.whole(len(self.content), "characters of a name")
        start = self._next(length + -length % 4)
        return self.content[start : start + length].decode("latin-1").strip()

    def numbers(self, kind: str, count: int) -> np.ndarray:
        kind_of = np.dtype(kind)
        return np.frombuffer(self.content, kind_of, count, self._next(count * kind_of.itemsize)).astype(float)


def damaged(name: str, why: str) -> SpectrumError:
    return SpectrumError("unreadable", f"{name} is no .mda file that is understood: {why}")


def is_mda(content: bytes) -> bool:
    return content[:4] in VERSIONS


def tables(content: bytes, name: str) -> list[tuple[str, Table, Stated]]:
    """(number of the scan, table, what is stated) of each scan over energies; the outermost scan where none has energies."""
    if not is_mda(content):
        raise damaged(name, "versions 1.2 to 1.4 are")
    xdr = _Xdr(content, name)
    xdr.at = 4
    xdr.numbers(">i4", 1)  # number of the scan
    rank = xdr.whole(DEEPEST, "dimensions")
    xdr.numbers(">i4", rank + 2)  # points of each, whether all have so many, and where extra values are
    begin = xdr.at
    found = _over_energies(xdr, begin, rank, "", [0, 0]) or [("", _scan(xdr, begin, rank)[0])]
    found = [("", found[0][1])] if len(found) == 1 else found
    if not any(scan.values.size for _, scan in found):
        raise SpectrumError("empty", f"{name} holds no numbers: no point was reached")
    return [(label, Table((), scan.values, scan.note), _stated(scan)) for label, scan in found]


def _stated(scan: _Scan) -> Stated:
    return Stated(scan.names, scan.units, None, None, None)


def _over_energies(xdr: _Xdr, begin: int, rank: int, label: str, read: list[int]) -> list[tuple[str, _Scan]]:
    """The scan that begins there if it has energies, else those of the scans within it that have. read: how many scans and
    numbers were, so far."""
    scan, own = _scan(xdr, begin, rank)
    read[0], read[1] = read[0] + 1, read[1] + scan.values.size
    if read[0] > MOST_SCANS or read[1] > MOST_NUMBERS:
        raise SpectrumError("too large", f"{xdr.name} has more than {MOST_SCANS:,} scans or {MOST_NUMBERS:,} numbers")
    if scan.has_energy():
        return [(label, scan)]
    found = []
    for number, lower in enumerate(scan.lower, start=1):
        # A scan holds only scans of fewer dimensions: none goes in circles. One that was not reached begins at 0.
        if lower:
            found += _over_energies(xdr, lower, own - 1, f"{label}.{number}" if label else str(number), read)
    return found


def _scan(xdr: _Xdr, begin: int, rank: int) -> tuple[_Scan, int]:
    """The scan that begins there, of at most `rank` dimensions, and how many it has."""
    xdr.at = begin
    own = xdr.whole(rank, "dimensions of a scan")
    points, reached = xdr.whole(MOST_POINTS, "points"), xdr.whole(MOST_POINTS, "points reached")
    if reached > points or own < 1:
        raise damaged(xdr.name, f"{reached:,} of {points:,} points in {own} dimensions")
    lower = xdr.numbers(">i4", points).astype(int).tolist() if own > 1 else []
    if any(not 0 <= each < len(xdr.content) for each in lower):
        raise damaged(xdr.name, "a scan that begins outside of it")
    xdr.text(), xdr.text()  # name of the scan, and its time
    counts = [xdr.whole(MOST_COLUMNS, what) for what in ("positioners", "detectors", "triggers")]
    columns: list[tuple[str, str, str]] = []
    for _ in range(counts[0]):
        xdr.whole(MOST_COLUMNS, "as a number")
        asked, told, _, unit, *readback = (xdr.text() for _ in range(7))
        # The numbers are those read back, where they are.
        columns.append((readback[0], readback[1], readback[2]) if readback[0] else (asked, told, unit))
    for _ in range(counts[1]):
        xdr.whole(MOST_COLUMNS, "as a number")
        columns.append((xdr.text(), xdr.text(), xdr.text()))
    for _ in range(counts[2]):
        xdr.whole(MOST_COLUMNS, "as a number")
        xdr.text(), xdr.numbers(">f4", 1)
    values = [xdr.numbers(">f8", points) for _ in range(counts[0])]
    values += [xdr.numbers(">f4", points) for _ in range(counts[1])]
    table = np.stack(values, axis=1)[:reached] if values else np.empty((0, 0))
    note = (f"the scan was stopped after {reached} of {points} points",) if reached < points else ()
    units = tuple(unit for _, _, unit in columns)
    return _Scan(_named(columns), units, table, lower[:reached], note), own


def _named(columns: list[tuple[str, str, str]]) -> tuple[str, ...]:
    """What a column holds by its description, or where that says nothing, or the same of several, its process variable."""
    said = [told for _, told, _ in columns]
    return tuple(
        told if told and said.count(told) == 1 and (role_of(told) or not role_of(variable)) else variable
        for variable, told, _ in columns
    )
