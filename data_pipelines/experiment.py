"""Spectrum files that people hold -> (energy, mu): FEFF's xmu.dat, or two columns of text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.feff import read_xmu


class Measured(NamedTuple):
    """(N,) energy in eV and (N,) mu as they stand in the file; element and edge where the file names them."""

    energy: np.ndarray
    mu: np.ndarray
    element: str | None
    edge: str | None


def read_spectrum(path: Path | str) -> Measured:
    """Read one file. Raises SpectrumError naming the file and what is wrong with it."""
    path = Path(path)
    if not path.is_file():
        raise SpectrumError("no such file", str(path))
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SpectrumError("unreadable", f"{path} is not a text file") from None
    if re.search(r"^#.*\bomega\s+e\s+k\s+mu\b", text, re.MULTILINE):
        run = read_xmu(path)
        return Measured(run.energy, run.mu, run.element, run.edge)
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.split("#")[0].replace(",", " ").split()
        if not line:
            continue
        try:
            rows.append([float(word) for word in line])
        except ValueError:
            if rows:
                raise SpectrumError(
                    "unreadable", f"{path}, line {number}: not a number in {' '.join(line)[:40]!r}"
                ) from None
            continue  # a heading without a comment sign
        if len(rows[-1]) != 2:
            found = len(rows[-1])
            raise SpectrumError("columns", f"{path}, line {number}: {found} columns; give two, energy in eV and mu")
    if not rows:
        raise SpectrumError("empty", f"{path} holds no numbers")
    table = np.array(rows)
    return Measured(table[:, 0], table[:, 1], None, None)
