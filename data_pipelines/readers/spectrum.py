"""Spectrum files that people hold -> (energy, mu): FEFF's xmu.dat, two columns of text, XDI, Athena projects.

The one file that knows beamline libraries. XDI and Athena are read by xraylarch, the extra `beamline`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines.errors import MissingExtra, SpectrumError
from data_pipelines.feff.output import read_xmu


class Measured(NamedTuple):
    """(N,) energy in eV and (N,) mu as they stand in the file; element and edge where the file names them."""

    energy: np.ndarray
    mu: np.ndarray
    element: str | None
    edge: str | None


def read_spectrum(path: Path | str) -> Measured:
    """Read one file; `project.prj#name` is one group of an Athena project.

    Raises SpectrumError naming the file and what is wrong with it.
    """
    name, mark, group = str(path).partition(".prj#")
    path = Path(f"{name}.prj" if mark else path)
    if not path.is_file():
        raise SpectrumError("no such file", str(path))
    if path.suffix == ".prj":
        return _read_athena(path, group)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SpectrumError("unreadable", f"{path} is not a text file") from None
    if re.search(r"^#.*\bomega\s+e\s+k\s+mu\b", text, re.MULTILINE):
        run = read_xmu(path)
        return Measured(run.energy, run.mu, run.element, run.edge)
    if re.match(r"#\s*XDI/", text):
        return _read_xdi(path)
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


def _read_xdi(path: Path) -> Measured:
    """mu of transmission if the file has it, else of fluorescence."""
    larch = _larch()
    try:
        found = larch.read_xdi(str(path))
    except (OSError, ValueError, SyntaxError) as error:
        raise SpectrumError("unreadable", f"{path}: {' '.join(str(error).split())}") from None
    for name in ("mutrans", "mufluor"):
        if hasattr(found, name):
            element, edge = found.attrs["element"]["symbol"], found.attrs["element"]["edge"]
            return Measured(np.array(found.energy), np.array(getattr(found, name)), element, edge)
    raise SpectrumError("columns", f"{path}: no mu and no intensities to make it of in {', '.join(found.array_labels)}")


def _read_athena(path: Path, group: str) -> Measured:
    larch = _larch()
    try:
        found = larch.read_athena(str(path))
        groups = dict(found.groups)
    except Exception as error:  # larch raises whatever parsing a damaged project runs into
        raise SpectrumError("unreadable", f"{path}: not an Athena project ({type(error).__name__})") from None
    if not group and len(groups) == 1:
        [group] = groups
    if group not in groups:
        raise SpectrumError(
            "no such group", f"{path} holds {', '.join(groups)}; name one as {path}#{next(iter(groups))}"
        )
    one = groups[group]
    return Measured(np.array(one.energy), np.array(one.mu), one.atsym, one.edge)


def _larch():
    try:
        import larch.io
    except ModuleNotFoundError:
        raise MissingExtra("beamline", "XDI and Athena files") from None
    return larch.io
