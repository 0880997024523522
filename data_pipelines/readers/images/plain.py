"""Spectrum images of numpy, .npy and .npz, whose calibration lies beside them; and single spectra as text, .msa or columns.

Beside NAME.npy: NAME.json with the fields of `ImageCalibration`, for instance {"offset": 440, "step": 0.3, "pixel": 2, "unit": "nm"},
or NAME.csv with the energy of each channel in eV.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from data_pipelines.errors import SpectrumError, UserError
from data_pipelines.readers.formats import is_msa, msa
from data_pipelines.readers.images.image import ImageCalibration, StoredAxis, StoredImage
from data_pipelines.readers.text import decoded, lines_of, table_of

# An .npz has to be read whole.
LARGEST_NPZ = 4_000_000_000
_COUNTS, _ENERGIES = ("counts", "data", "image", "spectra", "arr_0"), ("energy", "energies", "eV", "E")


def read_array(path: Path, given: ImageCalibration) -> tuple[StoredImage, ImageCalibration]:
    """What is in an .npy or .npz file, and its calibration with what is given put above. An .npy is not read but mapped."""
    try:
        energies = None
        if zipfile.is_zipfile(path):
            counts, energies = _unpacked(path)
        else:
            counts = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        kind = "truncated" if "mmap length" in str(error) or isinstance(error, EOFError) else "unreadable"
        raise SpectrumError(kind, f"{path}: {(str(error).splitlines() or ['damaged'])[0][:120]}") from None
    beside, told = path.with_suffix(".json"), ""
    if beside.is_file():
        given, told = _stated(beside, given), beside.name
    elif energies is None and path.with_suffix(".csv").is_file():
        beside = path.with_suffix(".csv")
        energies, told = _table(beside)[:, 0], beside.name
    axes = [StoredAxis("", "", 1.0, 0.0, size) for size in counts.shape]
    if energies is not None:
        fitting = [i for i, size in enumerate(counts.shape) if size == len(energies)]
        if given.energy_axis is not None and -len(axes) <= given.energy_axis < len(axes):
            fitting = [i for i in fitting if i == given.energy_axis % len(axes)]
        if not fitting:
            shape = " x ".join(map(str, counts.shape))
            raise SpectrumError("dimensions", f"{path}: {len(energies):,} energies for an image of {shape}")
        axes[fitting[-1]] = StoredAxis("energy", "eV", 1.0, 0.0, len(energies), energies)
    notes = (f"calibration of {told}",) if told else ()
    return StoredImage(counts, tuple(axes), title=path.stem, notes=notes), given


def read_text(path: Path) -> StoredImage:
    """One spectrum: EMSA/MAS, or energies and counts as the first two of columns."""
    lines = lines_of(decoded(path.read_bytes(), str(path)))
    notes: tuple[str, ...] = ()
    if is_msa(lines):
        table, says = msa(lines, str(path))
        values, unit = table.values, says.units[0] or "eV"
    else:
        values, unit = _table(path), "eV"
        notes = (f"the first two of {values.shape[1]} columns taken for energies in eV and counts",)
    steps = np.diff(values[:, 0])
    if 0.8 * len(steps) < np.sum(steps > 0) < len(steps):
        order = np.argsort(values[:, 0], kind="stable")
        values = values[order]
        # Of two counts at one energy the first.
        values = values[np.concatenate([[True], np.diff(values[:, 0]) > 0])]
        notes += ("energies that did not rise were put in order, of equal ones the first taken",)
    axis = StoredAxis("energy", unit, 1.0, 0.0, len(values), values[:, 0])
    return StoredImage(np.ascontiguousarray(values[:, 1]), (axis,), title=path.stem, notes=notes)


def _table(path: Path) -> np.ndarray:
    lines = lines_of(decoded(path.read_bytes(), str(path)))
    values = table_of(lines, str(path)).values
    if path.suffix.lower() != ".csv" and values.shape[1] < 2:
        raise SpectrumError("columns", f"{path} has one column; energies and counts are two")
    return values


def _unpacked(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    with zipfile.ZipFile(path) as archive:
        total = sum(member.file_size for member in archive.infolist())
    if total > LARGEST_NPZ:
        raise SpectrumError(
            "too large", f"{path} unpacks to {total / 1e9:,.0f} GB; save it as .npy, which is not read whole"
        )
    with np.load(path) as arrays:
        names = [name for name in _COUNTS if name in arrays] or [name for name in arrays if arrays[name].ndim > 1]
        if not names:
            raise SpectrumError("no image", f"{path}: no array `counts` in {', '.join(arrays) or 'it'}")
        energies = next((arrays[name] for name in _ENERGIES if name in arrays), None)
        return arrays[names[0]], energies if energies is not None and energies.ndim == 1 else None


def _stated(path: Path, given: ImageCalibration) -> ImageCalibration:
    """The file's fields where nothing else is given."""
    known = {each.name: each.default for each in fields(ImageCalibration) if each.name != "part"}
    try:
        said = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: no JSON ({str(error).splitlines()[0]})") from None
    if not isinstance(said, dict) or set(said) - set(known):
        raise UserError(f"{path}: a calibration has the fields {', '.join(known)}")
    for name, value in said.items():
        if not isinstance(value, str if name == "unit" else int if name == "energy_axis" else int | float):
            raise UserError(f"{path}: {name} cannot be {value!r}")
    said = {name: value for name, value in said.items() if getattr(given, name) == known[name]}
    return replace(given, **said)
