"""Where each spectrum of a series stands: by its name, by x or a voltage in its name or header, by time, or as a table says."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from data_pipelines.errors import SpectrumError, UserError

Order = Literal["name", "x", "voltage", "time"]
ORDERS: tuple[Order, ...] = get_args(Order)

# x0.25, x=0.25, x_0p25; 4.80V, 4p8V, 4.3_V, 4300mV. A letter or a digit before x, or behind V, makes it part of a word.
_NUMBER = r"(\d+(?:[.p]\d+)?)"
IN_NAME = {
    "x": re.compile(rf"(?<![A-Za-z0-9])x[=_ -]?{_NUMBER}", re.IGNORECASE),
    "voltage": re.compile(rf"(?<![\d.]){_NUMBER}[_ ]?(m?)V(?![A-Za-z0-9])"),
}
IN_HEADER = {
    "x": re.compile(r"^\W*(?:sample\.)?(?:x|composition)\s*[:=]\s*(\d+(?:\.\d+)?)\s*$", re.IGNORECASE),
    "voltage": re.compile(
        r"^\W*(?:(?:sample|cell)[._ ])?(?:voltage|potential)\s*[:=]\s*(\d+(?:\.\d+)?)\s*(m?)V?\b", re.IGNORECASE
    ),
}
EXAMPLES = {"x": "x0.25", "voltage": "4.80V or 4p8V"}
# Of a file this much is looked at for a header, bytes.
HEAD = 65_536
_MONTHS = {name: i for i, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), start=1)}
_CLOCK = r"(\d{1,2}):(\d\d)(?::(\d\d))?"
_ISO = re.compile(rf"(\d{{4}})[-/](\d\d)[-/](\d\d)[T ]+{_CLOCK}")
_WORDS = re.compile(rf"\b({'|'.join(_MONTHS)})[a-z]*\s+(\d{{1,2}})\s+{_CLOCK}\s+(\d{{4}})")


class Place(NamedTuple):
    """value: on the axis; of time seconds since 1970. note: where it was found; "" where that is plain."""

    value: float
    note: str = ""


@dataclass(frozen=True)
class Axis:
    """(N,) `place` of N spectra in order. label: what is drawn along it, with its unit. order: how it was asked for."""

    order: Order
    label: str
    place: np.ndarray

    @property
    def unit(self) -> str:
        """Of a place."""
        return self.label.partition("(")[2].rstrip(")") or self.label

    def said(self, place: float) -> str:
        """A place with its unit, as a name."""
        return f"{place:.4g} {self.unit}" if "(" in self.label else f"{self.unit} {place:.4g}"


def natural(name: str) -> tuple[object, ...]:
    """A key by which scan2 comes before scan10.

    >>> sorted(["scan10", "scan2", "Scan1"], key=natural)
    ['Scan1', 'scan2', 'scan10']
    """
    parts = re.split(r"(\d+)", name.casefold())
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts))


def places(names: Sequence[str], order: Order, values: Path | None = None) -> dict[str, Place | UserError]:
    """By name, FILE or FILE#RECORD, where each spectrum stands, or why that is not known. values: a table that says it."""
    if values is not None:
        return _of_table(names, values)
    if order == "name":
        return {name: Place(float(i)) for i, name in enumerate(sorted(names, key=natural), start=1)}
    find = _time if order == "time" else lambda name: _number(name, order)
    found: dict[str, Place | UserError] = {}
    for name in names:
        try:
            found[name] = find(name)
        except UserError as error:
            found[name] = error
    return found


def axis_of(order: Order, place: np.ndarray) -> Axis:
    """(N,) ascending places as they were found -> the axis; time counts from the first, in a unit that suits."""
    if order != "time":
        return Axis(order, {"name": "spectrum", "x": "x", "voltage": "voltage (V)"}[order], place)
    since = place - place[0]
    unit, seconds = next(
        (u, s) for u, s in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)) if since[-1] > 3 * s or s == 1
    )
    return Axis(order, f"time ({unit})", since / seconds)


def _of_table(names: Sequence[str], values: Path) -> dict[str, Place | UserError]:
    try:
        with open(values, newline="", encoding="utf-8-sig") as opened:
            rows = list(csv.DictReader(opened, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{values}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not rows or not {"file", "value"} <= set(rows[0]):
        raise UserError(f"{values}: a table with the columns file,value is needed, a row for each spectrum")
    told: dict[str, float] = {}
    for line, row in enumerate(rows, start=2):
        file = (row["file"] or "").strip()
        try:
            number = float(row["value"] or "")
        except ValueError:
            number = np.nan
        if not np.isfinite(number):
            raise UserError(f"{values}, line {line}: {row['value']!r} is not a number")
        if told.setdefault(file, number) != number:
            raise UserError(f"{values}, line {line}: {file} has two values, {told[file]:g} and {number:g}")
    found: dict[str, Place | UserError] = {}
    for name in names:
        own = next((each for each in (name, Path(name).name) if each in told), None)
        missing = SpectrumError("no place in the series", f"{name} is not in {values}")
        found[name] = Place(told[own]) if own is not None else missing
    return found


def _number(name: str, order: Order) -> Place:
    """x or voltage of a spectrum: in the name of its record, of its file, of the folders about it, in its header."""
    file, record = _parted(name)
    pattern = IN_NAME[order]
    for text, what in ((record, "record's name"), (file.name, "file's name"), (file.parent.name, "folder's name")):
        if found := {_read(match) for match in pattern.finditer(text)}:
            if len(found) > 1:
                told = " and ".join(f"{each:g}" for each in sorted(found))
                raise SpectrumError(
                    "no place in the series", f"{name}: {order} {told} in the {what}; say which with --values"
                )
            return Place(found.pop(), f"{order} from the {what}")
    for line in _header(file, record):
        if match := IN_HEADER[order].search(line):
            return Place(_read(match), f"{order} from the header")
    raise SpectrumError(
        "no place in the series",
        f"{name}: no {order} in its name (as {EXAMPLES[order]}) or header; say it with --values FILE.csv",
    )


def _read(match: re.Match[str]) -> float:
    value = float(match[1].lower().replace("p", "."))
    return value / 1000 if match.re.groups > 1 and match[2] else value


def _time(name: str) -> Place:
    """When it was measured: a date in the header, one that is said to be of the start before others."""
    file, record = _parted(name)
    dated = [(line, date) for line in _header(file, record) if (date := _date(line))]
    for line, date in sorted(dated, key=lambda each: "start" not in each[0].lower()):
        return Place(date.timestamp(), f"time from the header, {line.strip(' #;')[:60]}")
    try:
        return Place(
            file.stat().st_mtime, "no date as 2024-03-05 10:00 in its header: time is that of the file's last change"
        )
    except OSError as error:
        raise SpectrumError("no place in the series", f"{name}: {error.strerror}") from None


def _date(line: str) -> datetime | None:
    """2001-06-26T22:27:31, or Tue Mar 5 22:27:31 2019; in no order that may be day or month first.

    >>> _date("# Scan.start_time: 2001-06-26 22:27:31").hour, _date("#D Tue Mar 05 10:00:00 2019").day
    (22, 5)
    """
    if iso := _ISO.search(line):
        parts = [iso[i] for i in range(1, 7)]
    elif words := _WORDS.search(line):
        name, date, *clock, in_year = words.groups()
        parts = [in_year, str(_MONTHS[name]), date, *clock]
    else:
        return None
    try:
        year, month, day, hour, minute, second = (int(part or 0) for part in parts)
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def _header(file: Path, record: str) -> list[str]:
    """Lines before the numbers of a text file; of one scan of a SPEC file its own. None of what is no text."""
    try:
        with open(file, "rb") as opened:
            content = opened.read() if record else opened.read(HEAD)
    except OSError:
        return []
    if content.startswith((b"\x89HDF", b"\x1f\x8b")):
        return []
    # Latin-1 and UTF-16 alike, as far as dates and numbers go.
    lines = content.replace(b"\0", b"").decode("latin-1").splitlines()
    if record:
        at = next((i for i, line in enumerate(lines) if re.match(rf"#S {re.escape(record)}\b", line)), None)
        if at is None:
            return []
        end = next((i for i in range(at + 1, len(lines)) if lines[i].startswith("#S ")), len(lines))
        lines = lines[at:end]
    return [line for line in lines if line.strip() and not re.match(r"\s*[-+.\d][-+.\deE]*(\s|,|;|$)", line)]


def _parted(name: str) -> tuple[Path, str]:
    if Path(name).exists() or "#" not in name:
        return Path(name), ""
    file, _, record = name.partition("#")
    return Path(file), record
