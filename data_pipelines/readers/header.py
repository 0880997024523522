"""Lines above a table of numbers -> what they state: names and units of columns, element, edge, lattice spacing.

XDI is a header like another here (https://github.com/XraySpectroscopy/XAS-Data-Interchange): fields `Family.key: value`,
of any dialect, and what is missing or wrong in it matters only where it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data_pipelines.schema import SYMBOLS

# Of a header that is none.
LONGEST_LINE, MOST_LINES = 10_000, 3_000
_MARKS = re.compile(r"^[\s#;%!*/\"']+")
_FIELD = re.compile(r"^([A-Za-z][\w .-]*?)\s*[:=]\s*(.*?)\s*$")
_ELEMENT = ("element.symbol", "element", "scanparameters.element", "element symbol", "absorber", "absorbing element")
_EDGE = ("element.edge", "edge", "scanparameters.edge", "absorption edge", "element edge")
_SPACING = ("mono.d_spacing", "mono.dspacing", "mono.d", "d_spacing", "d-spacing")
_UNIT = re.compile(r"[\[(]\s*(\w+)\s*[\])]")
# As MEX2 of the Australian Synchrotron describes what it wrote.
_NORMALISED = re.compile(r"describe\.column\.(\d+)\s*:.*normali[sz]ed by i0", re.IGNORECASE)
# Each way to part a line of names, from the surest on.
_PARTED = (r"\t+", r"\s{2,}", r"\s*[,;]\s*", r"\s+")


@dataclass(frozen=True)
class Stated:
    """names: of C columns, "" where none is stated. units: of them, "" too. spacing: of the monochromator, Angstrom.

    normalised: numbers, from 0, of the columns that are said to be divided by i0 already.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    element: str | None
    edge: str | None
    spacing: float | None
    normalised: frozenset[int] = frozenset()


def stated(header: Sequence[str], columns: int) -> Stated:
    """What a header says of `columns` columns."""
    header = [line[:LONGEST_LINE] for line in header[-MOST_LINES:]]
    lines = [_MARKS.sub("", line).strip() for line in header]
    fields = {}
    for line in lines:
        if found := _FIELD.match(line):
            fields.setdefault(found[1].lower(), found[2])
    names, units = _listed(fields, lines, columns)
    if not all(names):
        labels = _labels(header, columns) or [""] * columns
        names = [name or label for name, label in zip(names, labels, strict=True)]
    units = [unit or _unit(name) for name, unit in zip(names, units, strict=True)]
    element, edge = (next((fields[key] for key in keys if key in fields), "") for keys in (_ELEMENT, _EDGE))
    spacing = next((fields[key] for key in _SPACING if key in fields), "")
    number = re.match(r"\d+\.?\d*", spacing)
    return Stated(
        tuple(names),
        tuple(units),
        element_of(element),
        edge_of(edge) or (edge_of(element) if len(element.split()) > 1 else None),
        float(number[0]) if number and 0.5 < float(number[0]) < 20 else None,
        frozenset(int(found[1]) - 1 for line in lines if (found := _NORMALISED.match(line))),
    )


def element_of(text: str | int) -> str | None:
    """The symbol in "Fe", "FE", "26", "Fe K", "Fe2+"; None in all else.

    >>> [element_of(text) for text in ("FE", "26", " fe K-edge", "nan", "")]
    ['Fe', 'Fe', 'Fe', None, None]
    """
    words = str(text).strip()
    if found := re.fullmatch(r"([0-9]{1,3})(\.0*)?", words):
        number = int(found[1])
        return SYMBOLS[number] if 0 < number < len(SYMBOLS) else None
    found = re.fullmatch(r"([A-Za-z]{1,2})(\d*[+-])?([\s_:,-]+(k|l|m|n)[\dI,]*)?([\s_-]*edge)?", words, re.IGNORECASE)
    symbol = found[1].capitalize() if found else ""
    return symbol if symbol and symbol in SYMBOLS else None


def edge_of(text: str) -> str | None:
    """The edge in "K", "k", "K-edge", "K1", "Fe K", "LIII", "1s"; None in all else.

    >>> [edge_of(text) for text in ("k", "K-edge", "K1", "l3", "Fe LIII", "nan")]
    ['K', 'K', 'K', 'L3', 'L3', None]
    """
    if re.fullmatch(r"\s*1s\s*", text):
        return "K"
    found = re.fullmatch(r"\s*(?:[A-Za-z]{1,2}[\s_-]+)?([KLMN])[\s_-]?(I{1,3}|IV|V|\d?)(?:[\s_-]*edge)?\s*", text, re.I)
    if not found:
        return None
    roman = {"I": "1", "II": "2", "III": "3", "IV": "4", "V": "5"}
    shell, number = found[1].upper(), found[2].upper()
    return shell if shell == "K" else shell + roman.get(number, number)


def _listed(fields: dict[str, str], lines: list[str], columns: int) -> tuple[list[str], list[str]]:
    """Names and units of columns that are listed one by one: XDI, FIO, and the lists of SSRL and APS."""
    names, units = [""] * columns, [""] * columns
    for number in range(1, columns + 1):
        # XDI may name the process variable behind it: "energy eV || 13IDE:En:Energy.VAL".
        if words := fields.get(f"column.{number}", "").split("||")[0].split():
            names[number - 1], units[number - 1] = words[0], " ".join(words[1:2])
    if any(names):
        return names, units
    for line in lines:
        if (found := re.match(r"Col(?:umn)?\s*(\d+)[:\s]\s*(\S+)", line)) and 0 < int(found[1]) <= columns:
            names[int(found[1]) - 1] = found[2]
        elif re.match(r"[PD]\d+ = \{", line):  # EPICS: P1 = {Energy} --> 13BMA:E:Energy.VAL
            free = names.index("") if "" in names else columns
            names[free : free + 1] = [line.split("{")[1].split("}")[0]]
    if any(names):
        return names[:columns], units
    # SSRL: after "Data:" a name in each line.
    starts = [i for i, line in enumerate(lines) if line == "Data:"]
    below = [line for line in lines[starts[-1] + 1 :] if line] if starts else []
    return (below, units) if len(below) == columns else (names, units)


def _labels(header: Sequence[str], columns: int) -> list[str]:
    """Names in one line, the nearest to the numbers that parts into as many words and names an energy."""
    for line in reversed(header):
        text = re.sub(r"^[\s#;%!*/]+(L\s|\(\d+\))?|^\(\d+\)", "", line).strip()
        parted = [re.findall(r'"([^"]*)"', text), *(re.split(how, text) for how in _PARTED)]
        parted.append(re.sub(r"\s+(?=[\[(])", "", text).split())
        # LabVIEW at the APS: names of any words, each in 21 characters.
        parted.append([text[at : at + 21] for at in range(0, len(text), 21)])
        for words in parted:
            words = [word.strip().strip("\"'") for word in words]
            if len(words) == columns and any(
                re.search(r"en(er|$)|^e$|^e?v$|kev|ang|omega|^k$", w, re.I) for w in words
            ):
                return words
    return []


def _unit(name: str) -> str:
    found = _UNIT.search(name)
    return found[1] if found else "keV" if re.search(r"kev\b", name, re.IGNORECASE) else ""
