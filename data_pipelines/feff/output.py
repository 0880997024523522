"""Reading FEFF run folders: xmu.dat, and the cards and atoms of feff.inp.

FEFF exits with 0 on failure, so a run is judged by its files alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.run_tree import INPUT, XMU
from data_pipelines.schema import SYMBOLS

# A hundred times what FEFF writes: a file beyond is something else, and would not fit into memory as text.
LARGEST_XMU_BYTES = 10_000_000
# Edges as FEFF numbers them.
EDGES = {"1": "K", "2": "L1", "3": "L2", "4": "L3"}


@dataclass(frozen=True)
class FeffRun:
    """Energy (N,) in eV on FEFF's absolute scale, mu (N,), and what the header says of the absorber.

    k (N,) in 1/Angstrom is the wave number, negative below the Fermi level; chi (N,) is the share of scattering in mu.
    """

    energy: np.ndarray
    k: np.ndarray
    mu: np.ndarray
    chi: np.ndarray
    version: str
    element: str | None
    edge: str | None


# The line above the numbers in FEFF 6 to 10: "omega e k mu mu0 chi @#" or "e, e(wrt edge), k, mu=(1+chi)*mu0, ...".
COLUMNS = re.compile(r"\be\b.*\bk\b.*\bmu\b.*\bmu0\b.*\bchi\b")

# Control characters that no text has.
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x19\x1b-\x1f]")


def read_xmu(path: Path | str) -> FeffRun:
    """Parse one xmu.dat of FEFF 6 to 10. Raises SpectrumError naming what is wrong with it."""
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_XMU_BYTES:
            raise SpectrumError("too large", f"{path} has {path.stat().st_size} bytes")
        content = path.read_bytes()
    except FileNotFoundError:
        raise SpectrumError("no xmu.dat", str(path)) from None
    if _BINARY.search(content):
        raise SpectrumError("unreadable", f"{path} is not a text file")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # titles are the user's
    return parse_xmu(text, str(path))


def parse_xmu(text: str, path: str) -> FeffRun:
    """The same of the text of the file `path`."""
    lines = [line for line in text.splitlines() if line.strip()]
    # Up to FEFF 8.0 a header has no comment signs.
    above = next((i + 1 for i, line in enumerate(lines[:200]) if COLUMNS.search(line)), 0)
    header = "\n".join([*lines[:above], *(line for line in lines[above:] if line.lstrip().startswith("#"))])
    rows = [line.split() for line in lines[above:] if not line.lstrip().startswith("#")]
    if not rows:
        raise SpectrumError("failed FEFF run", f"{path} holds no spectrum")
    if any(len(row) != 6 for row in rows):
        bad = next(i for i, row in enumerate(rows) if len(row) != 6)
        raise SpectrumError("truncated", f"{path}: data row {bad + 1} has {len(rows[bad])} columns, not 6")
    try:
        table = np.array(rows, dtype=float)
    except ValueError as error:
        raise SpectrumError("unreadable", f"{path}: {error}") from None
    if table[0, 2] >= 0:
        # A XANES mesh begins below the Fermi level, at negative k; the mesh of EXAFS begins on it. FEFF8L knows no
        # XANES: it passes over the card and writes this file all the same.
        raise SpectrumError("not a XANES run", f"{path} begins at k = {table[0, 2]:g}, as EXAFS does: no FMS, no XANES")
    version = re.search(r"(FEFF\s*[\d.]+)", header, re.IGNORECASE)
    absorber = re.search(r"Abs\s+Z=\s*(\d+).*?\s(\w+)\s+shell", header)
    return FeffRun(
        energy=table[:, 0],
        k=table[:, 2],
        mu=table[:, 3],
        chi=table[:, 5],
        version=version.group(1) if version else "FEFF",
        element=SYMBOLS[int(absorber.group(1))] if absorber and int(absorber.group(1)) < len(SYMBOLS) else None,
        edge=absorber.group(2) if absorber else None,
    )


def read_run(folder: Path, element: str) -> tuple[FeffRun, str, dict[str, str]]:
    """The spectrum in a run folder of an atom of `element`, its edge, and the cards of its input, {} where that is gone.

    Raises SpectrumError where input, spectrum and element contradict each other, or the spectrum itself.
    """
    found = cards(folder / INPUT) if (folder / INPUT).exists() else {}
    if found and "XANE" not in found:
        raise SpectrumError("not a XANES run", f"{folder}/{INPUT} has no XANES card")
    run = read_xmu(folder / XMU)
    if run.element and run.element != element:
        raise SpectrumError("site mismatch", f"{folder}/{XMU} was computed for {run.element}, not {element}")
    word = next(iter((found.get("EDGE") or found.get("HOLE") or "").upper().split()), "")
    asked = EDGES.get(word, word)
    if run.edge and asked and run.edge != asked:
        raise SpectrumError("edge mismatch", f"{folder}/{XMU} holds the {run.edge} edge, {INPUT} asks for {asked}")
    check_scattering(run.chi, folder / XMU)
    return run, run.edge or asked or "K", found


def check_scattering(chi: np.ndarray, name: object) -> None:
    """Raises SpectrumError where (N,) chi says that no neighbour scattered, as builds of FEFF that fail leave it."""
    if not np.isfinite(chi).all():
        raise SpectrumError("not finite", f"{name}: chi holds NaN or infinity")
    if (zeros := int((chi == 0).sum())) > len(chi) / 2:
        raise SpectrumError("no scattering", f"{name} holds the bare atom: chi is 0 at {zeros} of {len(chi)} energies")


def _card(line: str) -> str:
    """The card a line of feff.inp begins with, as FEFF reads it (any case, four letters); "" for all else."""
    words = line.split()
    return words[0].upper()[:4] if words and words[0][0].isalpha() else ""


def cards(feff_inp: Path | str) -> dict[str, str]:
    """Control cards of a feff.inp up to POTENTIALS: first four letters -> arguments. Titles are left out."""
    found = {}
    for line in Path(feff_inp).read_text(encoding="utf-8", errors="replace").splitlines():
        card = _card(line)
        if card in ("POTE", "ATOM"):
            break
        if card and card != "TITL":
            found[card] = " ".join(line.split()[1:])
    return found


def has_atoms(feff_inp: Path | str) -> bool:
    """Does a feff.inp hold a cluster?"""
    text = Path(feff_inp).read_text(encoding="utf-8", errors="replace")
    return re.search(r"(?im)^\s*ATOM", text) is not None


def atoms(feff_inp: Path | str) -> tuple[list[str], np.ndarray]:
    """The ATOMS list by distance from the absorber, which comes first: symbols, (N, 3) relative positions in Angstrom."""
    potentials: dict[int, str] = {}
    places: list[list[str]] = []
    kinds: list[int] = []
    section = ""
    for line in Path(feff_inp).read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if words and words[0][0].isalpha():
            section = words[0].upper()[:4]
        elif words and words[0][0] in "-+.0123456789":
            if section == "POTE":
                potentials[int(words[0])] = SYMBOLS[int(words[1])]
            elif section == "ATOM":
                places.append([word.replace("d", "e").replace("D", "e") for word in words[:3]])  # Fortran's 1.5d0
                kinds.append(int(words[3]))
    if kinds.count(0) != 1:
        raise SpectrumError("no structure", f"{feff_inp} has {kinds.count(0)} absorbing atoms in its ATOMS list")
    positions = np.array(places, dtype=float)
    positions -= positions[kinds.index(0)]
    order = np.argsort(np.linalg.norm(positions, axis=1), kind="stable")
    return [potentials[kinds[i]] for i in order], positions[order]
