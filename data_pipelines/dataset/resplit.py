"""A dataset dealt to the splits in another way, for a study of what the split or the amount of data is worth."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from data_pipelines.dataset.data import Split, join, take
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.splits import SPLITS, comparable, families, hash_place, hashed_split
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import DatasetError


class Resplit(Dataset):
    """The same dataset with other splits, held in memory, where alone it can be trained on."""

    def __init__(self, dataset: Dataset, splits: dict[str, Split], name: str):
        super().__init__(dataset.path)
        self._splits = splits
        self.examples = {name: len(own.ids) for name, own in splits.items()}
        self.fingerprint = f"{dataset.fingerprint} {name}"

    def split(self, name: str, most: int | None = None) -> Split:
        whole = self._splits[name]
        count = len(whole.ids)
        return whole if most is None or most >= count else take(whole, np.arange(most) * count // most)

    def statistics(self, name: str) -> Statistics:
        return Statistics.of(self._splits[name].batch, self._splits[name].absorbers)

    def stream(
        self, split: str, batch_size: int, seed: int, shard: int = 0, shards: int = 1, skip_damaged: bool = False
    ):
        raise DatasetError(f"{self.path}: dealt anew in memory ({self.fingerprint}), so not to be streamed")


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


def folds(dataset: Dataset, count: int) -> list[Resplit]:
    """Cross-validation: training and validation materials dealt to `count` folds, each the validation split of one.

    Families stay together as in the dataset's own splits, and the test split stays what it is, so a setting chosen on
    all folds is chosen on far more materials than one validation split has, and on none that judge it.
    """
    whole, kin = join([dataset.split(name) for name in ("train", "validation")]), []
    for name in ("train", "validation"):
        kin += dataset.kin(name)
    absorber = np.unique(whole.absorbers, return_inverse=True)[1]
    family, _ = families(pa.array(kin), absorber, comparable(whole.batch.spectrum, dataset.grid))
    # A family is named by its first material, so that it stays in its fold while others come and go.
    named: dict[int, str] = {}
    for number, material in zip(family.tolist(), whole.materials, strict=True):
        named[number] = min(material, named.get(number, material))
    place = np.array([int(count * hash_place(f"fold of {named[number]}")) for number in family.tolist()])
    parts = [(np.flatnonzero(place != i), np.flatnonzero(place == i)) for i in range(count)]
    if any(len(held) == 0 or len(left) == 0 for left, held in parts):
        raise DatasetError(f"{dataset.path}: too few materials for {count} folds")
    test = dataset.split("test")
    return [
        Resplit(
            dataset,
            {"train": take(whole, left), "validation": take(whole, held), "test": test},
            f"fold {i + 1} of {count}",
        )
        for i, (left, held) in enumerate(parts)
    ]
