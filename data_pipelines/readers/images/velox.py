"""Spectrum images of energy losses in the .emd files of Velox (Thermo Fisher).

Data/EelsSpectrumImage/ID holds one range of energies each: `Data` as (columns, energies, rows), `Info` with these three sizes,
and `AcquisitionMetadata`, in JSON for each row, with energies, exposure, and what a stored number is in counts. The format has no
public specification; this is what files of version 13 hold. `SpectrumStream` and `Spectrum` beside it are X-rays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.readers.hdf5 import damaged, is_dataset, text_of
from data_pipelines.readers.images.image import StoredAxis, StoredImage

_PLACE, _X_RAYS = "Data/EelsSpectrumImage", ("Data/SpectrumStream", "Data/SpectrumImage", "Data/Spectrum")
# Bytes of JSON that are looked at.
_MOST_JSON = 100_000_000
# What has to be the same in all rows of an image.
_SAME = ("offset", "dispersion", "intensityScale", "intensityOffset", "exposureTime", "detectorFramesAveraged")


class _Rows:
    """(columns, energies, rows) as (rows, energies, columns), from a file that stays open as long as this lives."""

    def __init__(self, file: Any, dataset: Any):
        self._file, self._dataset = file, dataset
        self.shape, self.dtype = dataset.shape[::-1], dataset.dtype

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        try:
            return self._dataset[key[::-1]].T
        except (OSError, RuntimeError) as error:
            raise damaged(Path(self._file.filename), error) from None


def velox(file: Any) -> list[StoredImage]:
    """Its images of energy losses, from low energies to high. Raises SpectrumError where one is not as described above."""
    group = file.get(_PLACE)
    if group is None:
        return []
    return sorted(_images(file, group), key=lambda image: image.axes[1].offset)


def x_rays(file: Any) -> bool:
    """Whether it is a file of X-ray spectra."""
    return any(place in file for place in _X_RAYS)


def _images(file: Any, group: Any) -> Iterator[StoredImage]:
    for name in group:
        parts = {part: group[name].get(part) for part in ("Data", "Info", "AcquisitionMetadata", "Metadata")}
        data = parts["Data"]
        if not is_dataset(data):
            continue
        where = f"{file.filename}: {_PLACE}/{name}"
        size = next(iter(_said(parts["Info"], where)), {})
        stated = tuple(int(size.get(word, 0)) for word in ("width", "bincount", "height"))
        if data.shape != stated:
            raise SpectrumError(
                "dimensions", f"{where} is {data.shape}, and says that it is {stated}; export it as .hspy or .dm4"
            )
        rows = [row.get("Data", {}) for row in _said(parts["AcquisitionMetadata"], where)]
        if not rows or any(row.get(word) != rows[0].get(word) for row in rows for word in _SAME):
            raise SpectrumError(
                "no calibration", f"{where}: energies or intensities differ from row to row; export it as .hspy or .dm4"
            )
        first, told = rows[0], next(iter(_said(parts["Metadata"], where)), {}) if parts["Metadata"] is not None else {}
        down, across = _pixel(told)
        scale = float(first.get("intensityScale", 1.0)) or 1.0
        seconds = float(first.get("exposureTime", 0.0)) * float(first.get("detectorFramesAveraged", 1))
        axes = (
            StoredAxis("y", "nm" if down else "", down, 0.0, data.shape[2]),
            StoredAxis("Energy loss", "eV", float(first["dispersion"]), float(first["offset"]), data.shape[1]),
            StoredAxis("x", "nm" if across else "", across, 0.0, data.shape[0]),
        )
        yield StoredImage(
            _Rows(file, data),
            axes,
            scale=scale,
            origin=-float(first.get("intensityOffset", 0.0)) / scale,
            seconds=seconds or None,
            facts=_facts(told),
            title="EELS",
        )


def _said(dataset: Any, where: str) -> list[dict]:
    """JSON objects: one in each column of bytes, or one in each string."""
    if not is_dataset(dataset) or dataset.size > _MOST_JSON:
        raise SpectrumError("unreadable", f"{where} lacks what says its energies; export it as .hspy or .dm4")
    texts = dataset[()].T if dataset.ndim == 2 else dataset[()]
    found = [json.loads(text_of(each if dataset.ndim == 1 else each.tobytes()).split("\0")[0]) for each in texts]
    if not all(isinstance(each, dict) for each in found):
        raise SpectrumError("unreadable", f"{where}: what says its energies is damaged")
    return found


def _pixel(told: dict) -> tuple[float, float]:
    """Size of a pixel down and across, nm, 0 where it is not said. A scan goes over a part of the field of view."""
    own = told.get("BinaryResult", {}).get("PixelSize")
    if own and told["BinaryResult"].get("PixelUnitX") == "m":
        return 1e9 * float(own["height"]), 1e9 * float(own["width"])
    field, scan = told.get("Optics", {}).get("FullScanFieldOfView"), told.get("Scan", {}).get("ScanSize")
    if not field or not scan or not (int(scan["width"]) and int(scan["height"])):
        return 0.0, 0.0
    return 1e9 * float(field["y"]) / int(scan["height"]), 1e9 * float(field["x"]) / int(scan["width"])


def _facts(told: dict) -> dict[str, str]:
    optics = told.get("Optics", {})
    facts = {}
    if volts := float(optics.get("AccelerationVoltage", 0)):
        facts["beam energy"] = f"{volts / 1000:g} keV"
    if angle := float(optics.get("BeamConvergence", 0)):
        facts["convergence semi-angle"] = f"{1000 * angle:.3g} mrad"
    return facts
