"""HDF5 and NeXus -> a table for each scan in them: NXxas, and any group that holds an energy and as many counts."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.errors import SpectrumError, UserError
from data_pipelines.readers.hdf5 import damaged, hdf5, is_dataset, members, text_of
from data_pipelines.readers.header import Stated, edge_of, element_of
from data_pipelines.readers.names import role_of
from data_pipelines.readers.text import Table

# A scan has some thousand points; an image or a map is none.
LONGEST, MOST = 1_000_000, 5_000
# All columns together: packed zeros take no room in a file.
MOST_NUMBERS = 20_000_000
# NXxas of 2008 calls the two detectors so, whatever the mode; that of 2024 writes mu as the intensity.
_ABSORBED, _INCOMING, _MU = "absorbed_beam", "incoming_beam", "intensity"


def tables(file: Path) -> list[tuple[str, Table, Stated]]:
    """(name of the group, table, what is stated) of each scan. Raises SpectrumError for a file without any."""
    try:
        with hdf5(file, "NeXus and HDF5 files") as root:
            numbers, texts = _datasets(root)
    except UserError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise damaged(file, error) from None
    scans = [scan for entry in sorted({_entry(path) for path in numbers}) if (scan := _scan(entry, numbers, texts))]
    if not scans:
        held = ", ".join(sorted(numbers)[:20]) or "no column of numbers"
        raise SpectrumError("columns", f"{file}: no energy in {held}")
    return [("", *scans[0][1:])] if len(scans) == 1 else scans


def _datasets(root: Any) -> tuple[dict[str, tuple[np.ndarray, str]], dict[str, str]]:
    """By their path all columns of numbers, with units, and all texts."""
    numbers: dict[str, tuple[np.ndarray, str]] = {}
    texts: dict[str, str] = {}
    total = 0
    for place, item in members(root):
        if not is_dataset(item) or len(numbers) + len(texts) > MOST:
            continue
        if item.dtype.kind in "iuf" and item.ndim == 1 and 1 < item.size <= LONGEST:
            total += item.size
            if total > MOST_NUMBERS:
                raise ValueError(f"more than {MOST_NUMBERS:,} numbers")
            numbers[place] = np.asarray(item[()], float), text_of(item.attrs.get("units", ""))
        elif item.size == 1 and item.dtype.kind in "OSU" and item.dtype.itemsize < LONGEST:
            texts[place] = text_of(np.ravel(item[()])[0])
    return numbers, texts


def _entry(path: str) -> str:
    """The group of a scan: the first level, as NXentry is."""
    parts = path.split("/")
    return parts[1] if len(parts) > 2 else ""


def _scan(entry: str, numbers: dict[str, tuple[np.ndarray, str]], texts: dict[str, str]) -> Any:
    """The columns of an entry that are as long as its energy, the shortest path of each name."""
    own = {path: column for path, column in numbers.items() if _entry(path) == entry}
    energies = [path for path in own if role_of(posixpath.basename(path)) == "energy" or "/energy/" in path]
    if not energies:
        return None
    # What is plotted, before what stands deep in an instrument.
    energy = min(energies, key=lambda path: (posixpath.basename(path).lower() != "energy", path.count("/"), path))
    length = len(own[energy][0])
    named: dict[str, str] = {"energy": energy}
    for path in sorted(own, key=lambda path: (path.count("/"), path)):
        name = posixpath.basename(path)
        if name in ("data", "value", "counts"):
            name = posixpath.basename(posixpath.dirname(path))
        if path != energy and len(own[path][0]) == length and role_of(name) != "energy":
            named.setdefault(name, path)
    said = defaultdict(str)
    for path, text in texts.items():
        if _entry(path) == entry:
            parts = path.lower().split("/")
            said[parts[-2] if parts[-1] in ("symbol", "name", "definition") else parts[-1]] = text
    names = [_renamed(name, said["mode"]) for name in named]
    values = np.stack([own[path][0] for path in named.values()], axis=1)
    units = tuple(own[path][1] for path in named.values())
    return (
        entry,
        Table((), values),
        Stated(tuple(names), units, element_of(said["element"]), edge_of(said["edge"]), None),
    )


def _renamed(name: str, mode: str) -> str:
    """Names of NXxas as all other files have them."""
    if name == _INCOMING:
        return "i0"
    if name == _ABSORBED:
        return "itrans" if "trans" in mode.lower() else "ifluor"
    return "mu" if name == _MU else name
