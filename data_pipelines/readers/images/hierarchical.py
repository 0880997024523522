"""Spectrum images in HDF5: HyperSpy's .hspy, EMD of Berkeley (0.2 and 1.0), Velox's .emd, and NeXus (NXdata). The counts stay
on disk.

Not read: ragged signals, and X-rays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.errors import SpectrumError, UserError
from data_pipelines.readers.hdf5 import damaged, hdf5, is_dataset, members, text_of
from data_pipelines.readers.images.image import StoredAxis, StoredImage, is_energy
from data_pipelines.readers.images.velox import velox, x_rays

# A longer axis is none of an image.
_LONGEST_AXIS = 1_000_000
_MOST_AXES = 8
# What groups of EMD 0.2 and 1.0 call themselves, and the number of their first axis.
_FIRST_AXIS = {"1": 1, "array": 0}
# Of HyperSpy's metadata: where, name here, unit.
_FACTS = (("beam_energy", "beam energy", "keV"), ("convergence_angle", "convergence semi-angle", "mrad"))
_FACTS += (("collection_angle", "collection semi-angle", "mrad"),)
_SECONDS = ("dwell_time", "exposure", "integration_time")


class _Dataset:
    """A dataset with the file that it lies in, which stays open as long as this lives."""

    def __init__(self, file: Any, dataset: Any):
        self._file, self._dataset = file, dataset
        self.shape, self.dtype = dataset.shape, dataset.dtype

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._dataset[key]
        except (OSError, RuntimeError) as error:
            raise damaged(Path(self._file.filename), error) from None


def read_hierarchical(path: Path, part: int | None = None, low_loss: bool = False) -> StoredImage:
    """The one image of spectra, or the largest. part: which of several, from 1; where not given, of equally large ones the
    first whose energies go over the zero loss, or do not, as `low_loss` says.

    Raises SpectrumError for a damaged file and one that holds none.
    """
    file = hdf5(path, "spectrum images in HDF5")
    try:
        found = [*_hyperspy(file), *_berkeley(file), *velox(file), *_nexus(file)]
    except UserError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise damaged(path, error) from None
    if not found and x_rays(file):
        raise SpectrumError("no image", f"{path}: holds X-ray spectra, and none of energy losses")
    if not found:
        raise SpectrumError(
            "no image", f"{path}: neither a signal of HyperSpy nor a group of EMD or NXdata with its axes"
        )
    spectra = [one for one in found if any(is_energy(axis) for axis in one.axes)] or found
    if part is not None and part > len(spectra):
        raise UserError(f"{path} holds {len(spectra)} signals, --part is {part}")
    if part is not None:
        number = part - 1
    else:
        sizes = [int(np.prod(one.stored.shape, dtype=object)) for one in spectra]
        largest = [i for i, size in enumerate(sizes) if size == max(sizes)]
        number = next((i for i in largest if _has_zero(spectra[i]) == low_loss), largest[0])
    if len(spectra) > 1:
        listed = ", ".join(f"{i} {_told(one)}" for i, one in enumerate(spectra, start=1))
        note = f"took signal {number + 1} of {len(spectra)}; --part chooses: {listed}"
        return replace(spectra[number], notes=(note,))
    return spectra[number]


def _energies(found: StoredImage) -> tuple[float, float, str] | None:
    """First and last, and their unit."""
    axis = next((axis for axis in found.axes if is_energy(axis)), None)
    if axis is None:
        return None
    if axis.energies is not None:
        return float(axis.energies[0]), float(axis.energies[-1]), axis.unit
    return axis.offset, axis.offset + axis.scale * (axis.size - 1), axis.unit


def _has_zero(found: StoredImage) -> bool:
    energies = _energies(found)
    return energies is not None and min(energies[:2]) < 0 < max(energies[:2])


def _told(found: StoredImage) -> str:
    energies = _energies(found)
    return found.title + (f" {energies[0]:.1f} to {energies[1]:.1f} {energies[2]}" if energies else "")


def _hyperspy(file: Any) -> Iterator[StoredImage]:
    experiments = file.get("Experiments") if "HyperSpy" in text_of(file.attrs.get("file_format", "")) else None
    for title in experiments if experiments is not None else ():
        group = experiments[title]
        data = group.get("data")
        if not _usable(data):
            continue
        axes = []
        for number, size in enumerate(data.shape):
            stated = group.get(f"axis-{number}")
            said = dict(stated.attrs) if stated is not None else {}
            points = stated.get("axis") if stated is not None else None
            scale, offset = _number(said.get("scale"), 1.0), _number(said.get("offset"), 0.0)
            axis = StoredAxis(_word(said.get("name")), _word(said.get("units")), scale, offset, size)
            axes.append(axis._replace(energies=np.asarray(points[()], float)) if _points(points, size) else axis)
        said = {}
        for place, item in members(group.get("metadata", {})):
            if not is_dataset(item):
                said |= {name: value for name, value in item.attrs.items() if "Acquisition_instrument" in place}
        seconds = next((_number(said[word], 0.0) for word in _SECONDS if word in said), 0.0)
        facts = {name: f"{_number(said[word], 0.0):g} {unit}" for word, name, unit in _FACTS if word in said}
        yield StoredImage(_Dataset(file, data), tuple(axes), seconds=seconds or None, facts=facts, title=title)


def _berkeley(file: Any) -> Iterator[StoredImage]:
    """Groups that say they are EMD's: `data`, and a vector dimN for each of its axes, the slowest first."""
    for place, group in members(file):
        kind = "" if is_dataset(group) else _word(group.attrs.get("emd_group_type"))
        if kind not in _FIRST_AXIS or not _usable(group.get("data")):
            continue
        data = group["data"]
        axes = []
        for number, size in enumerate(data.shape, start=_FIRST_AXIS[kind]):
            dim = group.get(f"dim{number}")
            said = dict(dim.attrs) if dim is not None else {}
            # [n_m] is EMD's way to write nm.
            unit = re.sub(r"[\[\]_]", "", _word(said.get("units")))
            axes.append(_vector(dim, size, _word(said.get("name")), unit))
        yield StoredImage(_Dataset(file, data), tuple(axes), title=place.rpartition("/")[2])


def _nexus(file: Any) -> Iterator[StoredImage]:
    for place, group in members(file):
        if is_dataset(group) or _word(group.attrs.get("NX_class")) != "NXdata":
            continue
        signal = _word(group.attrs.get("signal"))
        if not signal:
            # As before 2014: the signal says itself that it is one.
            signal = next((name for name in group if "signal" in getattr(group[name], "attrs", ())), "data")
        data = group.get(signal)
        if not _usable(data):
            continue
        stated = group.attrs.get("axes", data.attrs.get("axes", ()))
        if isinstance(stated, str | bytes):
            stated = re.split(r"[:,]", text_of(stated).strip("[]"))
        names = [text_of(name) for name in np.ravel(stated)]
        at: dict[int, str] = {}
        for number, name in enumerate(names):
            places = np.ravel(group.attrs.get(f"{name}_indices", number))
            at.setdefault(int(places[0]), name)
        axes = []
        for number, size in enumerate(data.shape):
            name = at.get(number, "")
            dim = group.get(name) if name not in ("", ".") else None
            unit = _word(dim.attrs.get("units")) if dim is not None else ""
            axes.append(_vector(dim, size, name.strip("."), unit))
        yield StoredImage(_Dataset(file, data), tuple(axes), title=place)


def _vector(dim: Any, size: int, name: str, unit: str) -> StoredAxis:
    """An axis whose points are written out; of two points for a longer one these are the first two."""
    if is_dataset(dim) and dim.ndim == 1 and dim.dtype.kind in "iuf" and 1 < dim.shape[0] <= _LONGEST_AXIS:
        points = np.asarray(dim[()], float)
        if len(points) == size or len(points) == 2:
            first, step = points[0], points[1] - points[0]
            even = len(points) == 2 or np.allclose(np.diff(points), (points[-1] - first) / (size - 1), rtol=1e-3)
            step = step if len(points) == 2 else (points[-1] - first) / (size - 1)
            return StoredAxis(name, unit, float(step), float(first), size, None if even else points)
    return StoredAxis(name, unit, 1.0, 0.0, size)


def _usable(data: Any) -> bool:
    return (
        data is not None
        and is_dataset(data)
        and data.dtype.kind in "iuf"
        and 0 < data.ndim <= _MOST_AXES
        and not (data.is_virtual or data.external)
    )


def _points(points: Any, size: int) -> bool:
    return points is not None and is_dataset(points) and points.shape == (size,) and size <= _LONGEST_AXIS


def _word(value: Any) -> str:
    word = "" if value is None else text_of(value).strip()
    return "" if word in ("_None_", "None", "<undefined>", "b''") else word


def _number(value: Any, otherwise: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return otherwise
    return number if np.isfinite(number) else otherwise
