"""What a user names on the command line -> data: a dataset, a TFDS folder, or several of them with weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike

from data_pipelines.dataset import card
from data_pipelines.dataset.data import BlockData, Data
from data_pipelines.dataset.images import ImageData
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.mixture import Mixture
from data_pipelines.errors import DatasetError
from data_pipelines.places import Place, RemotePath, place

TFDS_INFO = "dataset_info.json"


def open_data(named: str | PathLike | RemotePath | Sequence[str | PathLike | RemotePath]) -> Data:
    """A folder that `spt-jax prepare` made, or one of TFDS (ArrayRecord) with the same features; of several, a Mixture.
    It is of this machine, or of an object store (gs://BUCKET/FOLDER, s3://BUCKET/FOLDER).

    `FOLDER:0.7` gives a set this share of each training batch; weights may have any sum, and without any the sets
    weigh by size. Raises DatasetError, in one line, for what is no data, for other weights, and for a set named twice.
    """
    entries = [_entry(one) for one in ([named] if isinstance(named, str | PathLike | RemotePath) else named)]
    if not entries:
        raise DatasetError("no data given; name a dataset folder")
    places = [path.resolve() for path, _ in entries]
    for number, (path, _) in enumerate(entries):
        if places[number] in places[:number]:
            raise DatasetError(f"{path} is given twice; give it a larger weight instead")
    weights = [weight for _, weight in entries if weight is not None]
    if weights and len(weights) < len(entries):
        bare = next(path for path, weight in entries if weight is None)
        raise DatasetError(f"{bare} has no weight and others have; write {bare}:WEIGHT, or no weight at all")
    if any((path / card.IMAGES).exists() for path, _ in entries):
        if len(entries) > 1:
            raise DatasetError(
                "spectrum images are not mixed with other sets; put all images into one, `spt-jax image-data`"
            )
        return ImageData(entries[0][0])
    sets = [_open(path) for path, _ in entries]
    return sets[0] if len(sets) == 1 else Mixture(sets, weights or None)


def open_spectra(named: str | PathLike | RemotePath | Sequence[str | PathLike | RemotePath]) -> Data:
    """`open_data` for who asks of spectra and their descriptors. Raises DatasetError also for a set of spectrum images."""
    found = open_data(named)
    if isinstance(found, ImageData):
        raise DatasetError(f"{found.name}: {card.ONLY_IMAGES}")
    return found


def _entry(text: str | PathLike | RemotePath) -> tuple[Place, float | None]:
    """A path, and its weight if it has one; what exists as it is written is a path, whatever colons it has."""
    path, colon, weight = str(text).rpartition(":")
    if not colon or not path:
        return place(text), None
    try:
        value = float(weight)
    except ValueError:
        return place(text), None
    if place(text).exists():
        return place(text), None
    if not (math.isfinite(value) and value > 0):
        raise DatasetError(f"the weight of {path} must be a positive number, not {weight}")
    return place(path), value


def _open(path: Place) -> BlockData:
    if (path / TFDS_INFO).exists() and not (path / card.FILE).exists():
        from data_pipelines.dataset.foreign import TfdsFolder  # loads TFDS, which a dataset does not need

        return TfdsFolder(path)
    if path.is_dir() and not (path / card.FILE).exists():
        below = sorted(path.glob(f"*/{TFDS_INFO}")) + sorted(path.glob(f"*/*/{TFDS_INFO}"))
        if below:
            raise DatasetError(f"{path}: no {card.FILE} here; for its TFDS dataset give {below[0].parent}")
    return Dataset(path)
