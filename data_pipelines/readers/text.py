"""Bytes of a text file -> the lines of its header and one table of numbers.

Encodings (UTF-8, UTF-16, Latin-1), decimal commas, separators and headings made of numbers are known here only.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

import numpy as np

from data_pipelines.errors import SpectrumError

# Some hundred times the largest scan: a file beyond is no spectrum.
LARGEST_BYTES = 50_000_000
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eEdD][-+]?\d+)?|[-+]?(nan|inf(inity)?)", re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+([eEdD][-+]?\d+)?")
# Control characters but blanks, and control-Z, with which DOS ends a text.
_STRANGE = re.compile(r"[\x00-\x08\x0e-\x19\x1b-\x1f]")
_COMMENT = ("#", ";", "%", "!", '"', "//", "*", "'")
_FIRST = frozenset("+-.0123456789nNiI")
# Rows of numbers that may stand above a table of as many columns without being part of it.
_HEADINGS = 5
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Table:
    """header: the lines above the numbers. values: (N, C). notes: what was left out."""

    header: tuple[str, ...]
    values: np.ndarray
    notes: tuple[str, ...] = ()


def decoded(content: bytes, name: str) -> str:
    """The text; raises SpectrumError for what is none.

    >>> decoded("20 °C".encode("latin-1"), "a.dat"), decoded("20 °C".encode("utf-16"), "a.dat")
    ('20 °C', '20 °C')
    """
    if len(content) > LARGEST_BYTES:
        raise SpectrumError("too large", f"{name} has {len(content):,} bytes")
    encoding = next((encoding for mark, encoding in _BOMS if content.startswith(mark)), None)
    if encoding is None and b"\0" in content[:1000]:
        # UTF-16 without its mark: every second byte of plain text is zero.
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    try:
        text = content.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        text = "\0" if encoding else content.decode("latin-1")
    if len(_STRANGE.findall(text[:10_000])) > 0.01 * len(text[:10_000]):
        raise SpectrumError("unreadable", f"{name} is not a text file")
    return text


def lines_of(text: str) -> list[str]:
    return re.split(r"\r\n|\n|\r", text.strip("\x1a"))


def table_of(lines: list[str], name: str) -> Table:
    """The longest run of lines with the same count of numbers, and what stands above it.

    Raises SpectrumError where there are no numbers, or where the numbers are interrupted by a line that is none.
    """
    separator, comma = _separator(lines)
    runs: list[tuple[int, int, list[list[float]]]] = []
    broken = True
    for number, line in enumerate(lines):
        row = _row(line, separator, comma)
        if row is None:
            broken |= bool(line.strip()) and not line.lstrip().startswith(_COMMENT)
            continue
        if broken or len(row) != len(runs[-1][2][0]):
            runs.append((number, number, [row]))
        else:
            runs[-1][2].append(row)
            runs[-1] = (runs[-1][0], number, runs[-1][2])
        broken = False
    if not runs:
        raise SpectrumError("empty", f"{name} holds no numbers")
    start, end, rows = max(runs, key=lambda run: len(run[2]))
    notes = _check_whole(lines, runs, (start, end, rows), name)
    values = np.array(rows)
    headings = _headings(values[:, 0])
    if headings:
        notes += (f"left out {_count(headings, 'row')} of numbers above the table, which are no energies",)
    if comma:
        notes += ("commas read as decimal points",)
    return Table(tuple(lines[:start]), values[headings:], notes)


def _check_whole(lines: list[str], runs: list[tuple], table: tuple, name: str) -> tuple[str, ...]:
    """Numbers that go on behind a line that is none, or with other columns, are no table to be trusted."""
    start, end, rows = table
    columns = len(rows[0])
    for first, last, others in runs:
        if (first, last) == (start, end):
            continue
        between = range(last + 1, start) if last < start else range(end + 1, first)
        if len(others[0]) == columns and len(others) >= _HEADINGS:
            words = [i for i in between if lines[i].strip() and not lines[i].lstrip().startswith(_COMMENT)]
            where = words[0] if words else between.start
            raise SpectrumError("unreadable", f"{name}, line {where + 1}: not numbers, {lines[where].strip()[:40]!r}")
        if first > end:
            rest = [line for line in lines[last + 1 :] if line.strip()]
            if first == last and not rest and len(others[0]) < columns:
                return (f"left out the last line, which is cut: {_count(len(others[0]), 'number')} of {columns}",)
            found = _count(len(others[0]), "number")
            raise SpectrumError("columns", f"{name}, line {first + 1}: {found} where the lines above have {columns}")
    return ()


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _separator(lines: list[str]) -> tuple[str, bool]:
    """The regular expression that parts numbers, and whether a comma is their decimal sign."""
    rows = [line for line in lines if re.match(r"\s*[-+.]?\d", line) and not re.search(r"[A-CF-Za-cf-z]{2}", line)]
    rows = rows[len(rows) // 2 :][:50]
    if not any("," in row for row in rows):
        return r"[\s,;]+", False
    for separator in (r";", r"\t+", r"\s+"):
        parted = [re.split(rf"\s*{separator}\s*", re.sub(r",(?=\s)", " ", line.strip()).rstrip(";")) for line in rows]
        words = [word for row in parted for word in row]
        written = sum(DECIMAL_COMMA.fullmatch(word) is not None for word in words)
        if rows and min(map(len, parted)) > 1 and written and not any("." in word for word in words):
            return (separator if separator == ";" else r"\s+"), True
    return r"[\s,;]+", False


def _row(line: str, separator: str, comma: bool) -> list[float] | None:
    """Numbers of a line; None for a comment, an empty line and words."""
    text = line.partition("#")[0].strip().strip(",;")
    if not text or text[0] not in _FIRST:
        return None
    if comma:
        text = re.sub(r",(?=\s)", " ", text)
        words = re.split(rf"\s*{separator}\s*" if separator == ";" else separator, text)
        words = [word.replace(",", ".") for word in words]
    else:
        words = text.replace(",", " ").replace(";", " ").split()
    try:
        row = [float(word) for word in words]
    except ValueError:
        # Fortran writes 1.5D+03.
        if not all(NUMBER.fullmatch(word) for word in words):
            return None
        return [float(word.lower().replace("d", "e")) for word in words]
    return None if "_" in text else row


def _headings(first: np.ndarray) -> int:
    """How many of the first rows are no data: the (N,) numbers behind them run on in order, and they lie elsewhere.

    >>> _headings(np.array([2019, 7100, 7101, 7102, 7103, 7104, 7105, 7106, 7107, 7108.0]))
    1
    """
    for count in range(min(_HEADINGS, len(first) - 8), 0, -1):
        rest, last = first[count:], first[count - 1]
        steps = np.sign(np.diff(rest[:20]))
        span = np.ptp(rest)
        if not span > 0 or abs(steps.sum()) < 0.8 * len(steps):
            continue
        beyond = rest[0] - last if steps.sum() > 0 else last - rest[0]
        largest = np.abs(np.diff(rest)).max()
        # On the wrong side of the first energy, or much farther away than any two energies are from each other.
        if np.isfinite(last) and (beyond < -2 * largest or beyond > max(10 * largest, 0.2 * span)):
            return count
    return 0
