"""What people hand over, in files or as arrays -> spectra, as the model is to be asked about them.

Nothing here is trusted: names are names alone, a file lies in a folder of its own while it is read, and whatever is wrong
with one is one line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from data_pipelines.errors import CountedError, MissingExtra, SpectrumError, UserError, line_of
from data_pipelines.readers.cures import put_right
from data_pipelines.readers.measured import Foil, Measured, Normalisation, ReadAs
from data_pipelines.readers.spectrum import read_spectra
from spt_jax.app.desk import Desk, Named
from spt_jax.inference.predict import symbol_of
from spt_jax.inference.spectra import corrected

# Of a file: a hundred times a scan. The readers take larger ones, but not from strangers.
MOST_BYTES = 8_000_000
MOST_RECORDS = 500
LONGEST_NAME = 120


@dataclass(frozen=True)
class Told:
    """What is said of spectra in the place of what they say themselves. foil: E0 that the monochromator gave to a metal
    foil of the element, and normalise: how, both as of `correct`, of measured spectra alone."""

    read_as: ReadAs = field(default_factory=ReadAs)
    foil: Foil = "auto"
    normalise: Normalisation = "edges"

    def __post_init__(self) -> None:
        if self.read_as.calculated and (self.normalise != "edges" or self.foil not in ("auto", "none")):
            raise UserError("foil and normalise are of measured spectra; calculated ones are taken as they are")


def read_upload(desk: Desk, name: str, content: bytes, told: Told) -> list[Named]:
    """All spectra of a file; one that is none is an error in its place."""
    name = clean(name)
    if len(content) > MOST_BYTES:
        line = f"{name} has {len(content):,} bytes, more than the {MOST_BYTES:,} that are taken"
        return [(name, SpectrumError("too large", line))]
    with TemporaryDirectory(prefix="spt-jax-") as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        return read_file(desk, path, told)


def read_file(desk: Desk, path: Path, told: Told) -> list[Named]:
    """The same of a file that lies somewhere; of its path only the name is told."""
    before = f"{path.parent}/"
    try:
        records = read_spectra(path, told.read_as)
        if len(records) > MOST_RECORDS:
            raise SpectrumError("too many", f"{path} holds {len(records):,} spectra; {MOST_RECORDS} are taken")
    except UserError as error:
        records = [(str(path), error)]
    except OSError as error:
        records = [(str(path), SpectrumError("unreadable", f"{path}: {error.strerror or error}"))]
    except Exception as error:
        records = [(str(path), SpectrumError("unreadable", f"{path}: {line_of(error)}"))]
    return [(name.removeprefix(before), _asked(desk, _without(before, found), told)) for name, found in records]


def from_arrays(
    desk: Desk,
    name: str,
    energy: Sequence[float],
    mu: Sequence[float],
    element: str | int | None,
    edge: str,
    told: Told,
) -> Named:
    """(N,) energy in eV or keV and (N,) mu in any scale, of an element and edge that are said, or known from `desk`."""
    name = clean(name) if name else "spectrum"
    try:
        if len(energy) != len(mu):
            raise SpectrumError("shapes", f"{name}: {len(energy)} energies and {len(mu)} values of mu")
        symbol = None if element is None else symbol_of(element)
        calculated = bool(told.read_as.calculated)
        given = Measured(np.array(energy, float), np.array(mu, float), symbol, edge, calculated=calculated)
        return name, _asked(desk, put_right(given, name, told.read_as.shift, told.read_as.deglitch), told)
    except UserError as error:
        return name, error


def clean(name: str) -> str:
    """A name that no system takes for a path, a command or a formula.

    >>> clean("../../etc/passwd"), clean("C:\\\\data\\\\=Fe2O3#1.xdi"), clean("..")
    ('passwd', 'Fe2O3_1.xdi', 'file')
    """
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w .+,()\[\]-]", "_", last).lstrip("._=+-@ ")[-LONGEST_NAME:].strip() or "file"


def _asked(desk: Desk, found: Measured | UserError, told: Told) -> Measured | UserError:
    return corrected(desk.model, found, desk.calibration, told.foil, told.normalise)


def _without(before: str, found: Measured | UserError) -> Measured | UserError:
    """The same, and nothing it says has the folder in it."""
    if isinstance(found, Measured):
        return found._replace(notes=tuple(note.replace(before, "") for note in found.notes))
    if isinstance(found, CountedError):
        return type(found)(found.reason, found.detail.replace(before, ""))
    return found if isinstance(found, MissingExtra) else UserError(str(found).replace(before, ""))
