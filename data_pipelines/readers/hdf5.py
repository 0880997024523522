"""HDF5 files, as far as any reader needs them: opened, and walked through without leaving the file.

Needs h5py, of the extra `beamline`. Links out of the file are not followed, and data that lie in another file are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipelines.errors import MissingExtra, SpectrumError


def hdf5(path: Path, what: str) -> Any:
    """The open file, an h5py.File, for whoever wants to read `what`. Raises SpectrumError for a damaged one."""
    try:
        import h5py
    except ModuleNotFoundError:
        raise MissingExtra("beamline", what) from None
    try:
        return h5py.File(path, "r")
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> SpectrumError:
    return SpectrumError("unreadable", f"{path}: damaged HDF5 file ({(str(error).splitlines() or [''])[0][:80]})")


def members(root: Any) -> Iterator[tuple[str, Any]]:
    """(path, group or dataset) of all that lies in a file, each once."""
    import h5py

    groups, seen = [("", root)], set()
    while groups:
        path, group = groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item, place = group[name], f"{path}/{name}"
            if isinstance(item, h5py.Group):
                # Hard links may go in circles.
                if item.id.__hash__() not in seen:
                    seen.add(item.id.__hash__())
                    groups.append((place, item))
                    yield place, item
            elif isinstance(item, h5py.Dataset) and not (item.is_virtual or item.external):
                yield place, item


def is_dataset(item: Any) -> bool:
    import h5py

    return isinstance(item, h5py.Dataset)


def text_of(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
