"""A dataset dealt to the splits in another way, for a study of what the split or the amount of data is worth."""

from __future__ import annotations

import numpy as np

from data_pipelines.loading import Dataset, Split
from data_pipelines.schema import Batch
from data_pipelines.splits import SPLITS, hash_place, hashed_split


class Resplit(Dataset):
    """The same dataset with other splits, held in memory: what `train` and `evaluate` read is `split` and `grid`."""

    def __init__(self, dataset: Dataset, splits: dict[str, Split], name: str):
        super().__init__(dataset.path)
        self._splits = splits
        self.fingerprint = f"{dataset.fingerprint} {name}"

    def split(self, name: str) -> Split:
        return self._splits[name]


def by_site(dataset: Dataset) -> Resplit:
    """Split by site instead of by material, in the same shares: sites of one material on both sides.

    That is what a random split does, and why its scores are better than those on a new material.
    """
    whole = [dataset.split(name) for name in SPLITS if dataset.card["splits"][name]["examples"]]
    everything = join(whole)
    place = np.array([hashed_split(example) for example in everything.ids])
    return Resplit(dataset, {name: take(everything, np.flatnonzero(place == name)) for name in SPLITS}, "by site")


def thinned(dataset: Dataset, share: float) -> Resplit:
    """A share of the training materials, each smaller share within the larger; the other splits as they are."""
    train = dataset.split("train")
    materials = sorted(set(train.materials), key=hash_place)
    kept = set(materials[: max(1, round(share * len(materials)))])
    rows = np.flatnonzero([material in kept for material in train.materials])
    others = {name: dataset.split(name) for name in ("validation", "test")}
    return Resplit(dataset, {"train": take(train, rows), **others}, f"{share:g} of the training materials")


def join(splits: list[Split]) -> Split:
    """One after the other."""
    texts = (sum((getattr(split, name) for split in splits), ()) for name in ("ids", "materials", "absorbers"))
    arrays = zip(*(split.batch for split in splits), strict=True)
    return Split(*texts, Batch(*(np.concatenate(parts) for parts in arrays)))


def take(split: Split, rows: np.ndarray) -> Split:
    """Some rows of a split, by their (n,) numbers."""
    texts = (tuple(column[i] for i in rows) for column in (split.ids, split.materials, split.absorbers))
    return Split(*texts, Batch(*(field[rows] for field in split.batch)))
