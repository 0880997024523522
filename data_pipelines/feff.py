"""Reading FEFF run folders: xmu.dat, and the cards and atoms of feff.inp.

FEFF exits with 0 on failure, so a run is judged by its files alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.schema import SYMBOLS


@dataclass(frozen=True)
class FeffRun:
    """Energy (N,) in eV on FEFF's absolute scale, mu (N,), and what the header says of the absorber."""

    energy: np.ndarray
    mu: np.ndarray
    version: str
    element: str | None
    edge: str | None


def read_xmu(path: Path | str) -> FeffRun:
    """Parse one xmu.dat. Raises SpectrumError naming what is wrong with it."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8", errors="strict")
    except FileNotFoundError:
        raise SpectrumError("no xmu.dat", str(path)) from None
    except UnicodeDecodeError:
        raise SpectrumError("unreadable", f"{path} is not a text file") from None
    header = "\n".join(line for line in text.splitlines() if line.lstrip().startswith("#"))
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not rows:
        raise SpectrumError("failed FEFF run", f"{path} holds no spectrum")
    if any(len(row) != 6 for row in rows):
        bad = next(i for i, row in enumerate(rows) if len(row) != 6)
        raise SpectrumError("truncated", f"{path}: data row {bad + 1} has {len(rows[bad])} columns, not 6")
    try:
        table = np.array(rows, dtype=float)
    except ValueError as error:
        raise SpectrumError("unreadable", f"{path}: {error}") from None
    version = re.search(r"(FEFF\s*[\d.]+)", header)
    absorber = re.search(r"Abs\s+Z=\s*(\d+).*?\s(\w+)\s+shell", header)
    return FeffRun(
        energy=table[:, 0],
        mu=table[:, 3],
        version=version.group(1) if version else "FEFF",
        element=SYMBOLS[int(absorber.group(1))] if absorber else None,
        edge=absorber.group(2) if absorber else None,
    )


def cards(feff_inp: Path | str) -> dict[str, str]:
    """Control cards of a feff.inp up to POTENTIALS: name -> arguments, comments and titles left out."""
    found = {}
    for line in Path(feff_inp).read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("*") or words[0] == "TITLE":
            continue
        if words[0] in ("POTENTIALS", "ATOMS"):
            break
        found[words[0]] = " ".join(words[1:])
    return found


def atoms(feff_inp: Path | str) -> tuple[list[str], np.ndarray]:
    """The ATOMS list: element symbols, and (N, 3) positions in Angstrom with the absorber first."""
    lines = Path(feff_inp).read_text(encoding="utf-8", errors="replace").splitlines()
    potentials: dict[int, str] = {}
    symbols, positions, section = [], [], ""
    for line in lines:
        words = line.split()
        if words and words[0] in ("POTENTIALS", "ATOMS", "END"):
            section = words[0]
        elif not words or not re.match(r"[-+.\d]", words[0]) or line.lstrip().startswith("*"):
            continue
        elif section == "POTENTIALS":
            potentials[int(words[0])] = SYMBOLS[int(words[1])]
        elif section == "ATOMS":
            positions.append([float(w) for w in words[:3]])
            symbols.append(potentials[int(words[3])])
    if not positions:
        raise SpectrumError("no structure", f"{feff_inp} has no ATOMS list")
    table = np.array(positions)
    order = np.argsort(np.linalg.norm(table, axis=1), kind="stable")
    return [symbols[i] for i in order], table[order]
