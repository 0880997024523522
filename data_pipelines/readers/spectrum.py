"""Spectrum files that people hold -> `Measured`: FEFF's xmu.dat, columns of text, XDI, SPEC, EMSA, Athena, NeXus,
EPICS saveData.

What a file is, is told from its content. What the user says (`ReadAs`) goes before what the file says, and that before
what can be seen in the numbers; what was assumed or put right is in the notes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.feff.output import COLUMNS, parse_xmu
from data_pipelines.readers import athena, columns, formats, mda
from data_pipelines.readers.cures import put_right
from data_pipelines.readers.header import Stated, edge_of, element_of, stated
from data_pipelines.readers.measured import Measured, ReadAs
from data_pipelines.readers.text import LARGEST_BYTES, Table, decoded, lines_of, table_of

__all__ = ["Measured", "ReadAs", "read_spectra", "read_spectrum"]

Record = tuple[str, Measured | SpectrumError]


def read_spectrum(path: Path | str, read_as: ReadAs | None = None) -> Measured:
    """Read a file of one spectrum; `project.prj#name` is one of several in a file.

    Raises SpectrumError naming the file and what is wrong with it.
    """
    records = read_spectra(path, read_as)
    if len(records) > 1:
        names = ", ".join(name.partition("#")[2] for name, _ in records)
        raise SpectrumError("no such group", f"{path} holds {names}; name one as {records[0][0]}")
    [(_, found)] = records
    if isinstance(found, SpectrumError):
        raise found
    return found


def read_spectra(path: Path | str, read_as: ReadAs | None = None) -> list[Record]:
    """All spectra of a file, each with its name, FILE or FILE#RECORD, or with the reason why it is none.

    Raises SpectrumError for a file that cannot be read at all.
    """
    read_as = read_as or ReadAs()
    file, wanted = _parted(path)
    records: list[Record] = []
    for label, found in _records(file, read_as):
        name = f"{file}#{label}" if label else str(file)
        if isinstance(found, Measured):
            try:
                found = _finished(found, name, read_as)
            except SpectrumError as error:
                found = error
        records.append((name, found))
    if wanted:
        chosen = [record for record in records if record[0] == f"{file}#{wanted}"]
        if not chosen:
            held = ", ".join(name.partition("#")[2] for name, _ in records)
            raise SpectrumError("no such group", f"{file} holds {held or 'one spectrum'}, not {wanted}")
        return chosen
    return records


def _parted(path: Path | str) -> tuple[Path, str]:
    """A file and the record of it that is named; a # may also be part of the name of a file."""
    if Path(path).is_file():
        return Path(path), ""
    name, _, wanted = str(path).rpartition("#")
    if name and not Path(name).is_file():
        name, _, wanted = str(path).partition("#")
    if not name or not Path(name).is_file():
        raise SpectrumError("no such file", str(path))
    return Path(name), wanted


@np.errstate(all="ignore")  # numbers are what they are; `put_right` leaves out what is none
def _records(file: Path, read_as: ReadAs) -> list[Record]:
    """As they stand in the file; a single one has no name of its own."""
    name = str(file)
    if file.stat().st_size > LARGEST_BYTES:
        raise SpectrumError("too large", f"{name} has {file.stat().st_size:,} bytes")
    content = file.read_bytes()
    if content.startswith(b"\x89HDF\r\n\x1a\n"):
        from data_pipelines.readers import nexus

        return _chosen(nexus.tables(file), name, read_as)
    if mda.is_mda(content) or file.suffix == ".mda":
        return _chosen(mda.tables(content, name), name, read_as)
    if athena.is_project(content):
        records = athena.records(content, name)
        return records if len(records) > 1 else [("", records[0][1])]
    if file.suffix == ".prj":
        raise SpectrumError("unreadable", f"{name} is not an Athena project")
    if content.startswith((b"PK\x03\x04", b"\x1f\x8b", b"\xfd7zXZ", b"BZh")):
        raise SpectrumError("unreadable", f"{name} is not a text file but a packed one; unpack it first")
    text = decoded(content, name)
    lines = lines_of(text)
    head = lines[:200]
    if any(COLUMNS.search(line) for line in head):
        run = parse_xmu(text, name)
        return [
            ("", Measured(run.energy, run.mu, run.element, run.edge, columns="energy=omega mu=mu", calculated=True))
        ]
    if formats.is_msa(lines):
        tables = [("", *formats.msa(lines, name))]
    elif formats.is_9809(lines):
        tables = [("", *formats.photon_factory(lines, name))]
    elif formats.is_spec(lines):
        tables = formats.spec_scans(lines, name)
        tables = tables if len(tables) != 1 else [("", *tables[0][1:])]
    else:
        table = table_of(lines, name)
        tables = [("", table, stated(table.header, table.values.shape[1]))]
    return _chosen(tables, name, read_as)


def _chosen(tables: list[tuple[str, Table, Stated]], name: str, read_as: ReadAs) -> list[Record]:
    """The spectrum in each table."""
    records: list[Record] = []
    for label, table, says in tables:
        try:
            found = columns.measured(table, says, read_as, f"{name}#{label}" if label else name)
            records.append((label, found._replace(element=says.element, edge=says.edge)))
        except SpectrumError as error:
            records.append((label, error))
    return records or [("", SpectrumError("empty", f"{name} holds no numbers"))]


def _finished(found: Measured, name: str, read_as: ReadAs) -> Measured:
    """With what the user says of it, and its energies put right."""
    notes = []
    element, edge = found.element, found.edge
    if read_as.element:
        element = element_of(read_as.element)
        if element is None:
            raise SpectrumError("unknown element", f"{read_as.element!r}; give a symbol as Ni, or its number as 28")
        if found.element and found.element != element:
            notes.append(f"read as {element}, as asked for; the file says {found.element}")
    if read_as.edge:
        edge = edge_of(read_as.edge) or read_as.edge
        if found.edge and found.edge != edge:
            notes.append(f"read as the {edge} edge, as asked for; the file says {found.edge}")
    calculated = found.calculated if read_as.calculated is None else read_as.calculated
    found = found._replace(element=element, edge=edge, notes=(*found.notes, *notes), calculated=calculated)
    return put_right(found._replace(reference=_behind(found, name, read_as)), name, read_as.shift, read_as.deglitch)


def _behind(found: Measured, name: str, read_as: ReadAs) -> tuple[np.ndarray, np.ndarray] | None:
    """What was measured behind the sample, its energies put right in the same way; None where it holds nothing, and where
    the user says himself how far energies are off."""
    if found.reference is None or read_as.shift:
        return None
    energy, mu = found.reference
    try:
        own = put_right(found._replace(energy=energy, mu=mu), name)
    except SpectrumError:
        return None
    return own.energy, own.mu
