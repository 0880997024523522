"""Text files that are more than a header and a table: SPEC scans, EMSA/MAS (.msa), and angle scans of the Photon
Factory (9809)."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.readers.header import Stated, stated
from data_pipelines.readers.text import Table, table_of

_SCAN = re.compile(r"#S\s+\d+")


def is_spec(lines: list[str]) -> bool:
    return any(_SCAN.match(line) for line in lines) and any(line.startswith("#L ") for line in lines)


def spec_scans(lines: list[str], name: str) -> list[tuple[str, Table, Stated]]:
    """(number of the scan, table, what is stated) of each scan in a SPEC file that has any rows."""
    starts = [i for i, line in enumerate(lines) if _SCAN.match(line)]
    scans = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        own = [line for line in lines[start:end] if not line.startswith("@")]
        number = own[0].split()[1]
        labels = next((line for line in own if line.startswith("#L ")), "#L ")
        rows = [line for line in own if line.strip() and not line.startswith("#")]
        if not rows:
            continue
        table = table_of([own[0], labels, *rows], f"{name}#{number}")
        says = stated(own[: own.index(labels)] if labels in own else own, table.values.shape[1])
        names = re.split(r"\s{2,}", labels[3:].strip())
        if len(names) != table.values.shape[1]:
            names = labels[3:].split()
        if len(names) == table.values.shape[1]:
            says = replace(says, names=tuple(names))
        scans.append((number, table, says))
    return scans


def is_msa(lines: list[str]) -> bool:
    return any(re.match(r"#\s*FORMAT\s*:\s*EMSA", line, re.IGNORECASE) for line in lines[:20])


def msa(lines: list[str], name: str) -> tuple[Table, Stated]:
    """EMSA/MAS (ISO 22029): x and y, or y alone on the x that OFFSET and XPERCHAN give."""
    fields = {}
    for line in lines:
        if found := re.match(r"#\s*(\w+)[^:]*:\s*(.*?)\s*$", line):
            fields[found[1].upper()] = found[2]
    rows = [line for line in lines if not line.lstrip().startswith("#")]
    table = table_of(rows, name)
    values = table.values
    if fields.get("DATATYPE", "XY").upper() == "Y":
        try:
            offset, step = float(fields["OFFSET"]), float(fields["XPERCHAN"])
        except (KeyError, ValueError):
            raise SpectrumError("unreadable", f"{name}: OFFSET and XPERCHAN do not give the energies") from None
        # Rows may hold several numbers, NCOLUMNS of them, the last row fewer.
        text = " ".join(rows).replace(",", " ").split()
        counts = np.array([float(word) for word in text])
        values = np.column_stack([offset + step * np.arange(len(counts)), counts])
    if values.shape[1] != 2:
        raise SpectrumError("columns", f"{name}: {values.shape[1]} columns of an EMSA spectrum")
    unit = fields.get("XUNITS", "eV")
    return replace(table, values=values), Stated(("energy", fields.get("YUNITS", "")), (unit, ""), None, None, None)


def is_9809(lines: list[str]) -> bool:
    return bool(lines) and re.match(r"\s*9809\s+", lines[0]) is not None


def photon_factory(lines: list[str], name: str) -> tuple[Table, Stated]:
    """Format 9809 of KEK-PF and SPring-8: counts over angles; the mode of each detector tells what it saw.

    Modes: 1 incident, 2 transmitted, 3 fluorescence (Photon Factory, XAFS data format 9809).
    """
    table = table_of(lines, name)
    header = "\n".join(table.header)
    spacing = re.search(r"D=\s*([\d.]+)\s*A", header)
    modes = re.search(r"Mode\s+([\d ]+)", header)
    offsets = re.search(r"Offset\s+([-\d. ]+)", header)
    columns = table.values.shape[1]
    if not (spacing and modes and columns > 3):
        raise SpectrumError("unreadable", f"{name}: neither lattice spacing nor detectors in its header")
    detectors = [{"1": "i0", "2": "itrans", "3": "ifluor"}.get(mode, "") for mode in modes[1].split()[2:]]
    names = ["angle asked", "angle", "seconds", *detectors, *[""] * columns][:columns]
    values = table.values.copy()
    dark = [float(word) for word in offsets[1].split()[2:]] if offsets else []
    notes = table.notes
    # Offsets are of the counts of one second.
    for column, counts in enumerate(dark[: columns - 3], start=3):
        values[:, column] = values[:, column] - counts * values[:, 2]
    if any(dark):
        notes += ("dark counts of the header subtracted",)
    says = Stated(tuple(names), ("",) * columns, None, None, float(spacing[1]))
    return replace(table, values=values, notes=notes), says
