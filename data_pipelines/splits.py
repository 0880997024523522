"""Train, validation and test by material: stable when data are added, no duplicate across a split.

A split is read off a hash of the material, never off a shuffle. Examples that share a kin key
(material, formula) or a nearly equal spectrum form one family. Where the hashes of a family disagree,
all of it goes to the split nearest to training: so adding data can take an example out of a
test set, but can never put one there that an earlier model was trained on.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from data_pipelines.schema import Example

SPLITS = ("train", "validation", "test")
VALIDATION_FRACTION = 0.1
TEST_FRACTION = 0.2
# Two spectra of one element whose mu agrees to this (in edge steps) at every energy are near duplicates:
# it is a tenth of the spread between sites of one material in the Cu library.
NEAR_DUPLICATE = 0.01


def hashed_split(key: str) -> str:
    """The split of a material on its own."""
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    if place < TEST_FRACTION:
        return "test"
    return "validation" if place < TEST_FRACTION + VALIDATION_FRACTION else "train"


def near_duplicates(examples: Sequence[Example], tolerance: float = NEAR_DUPLICATE) -> list[tuple[int, int]]:
    """Index pairs of one element and edge with max |mu_i - mu_j| < tolerance.

    Exact: sorted by mean mu, only neighbours within the tolerance of the mean can qualify.
    """
    pairs = []
    groups = defaultdict(list)
    for index, example in enumerate(examples):
        groups[example.element, example.edge].append(index)
    for members in groups.values():
        spectra = np.stack([examples[i].spectrum for i in members])
        means = spectra.mean(axis=1, dtype=np.float64)
        order = np.argsort(means, kind="stable")
        spectra, means = spectra[order], means[order]
        last = np.searchsorted(means, means + tolerance)
        for i in range(len(order)):
            close = np.abs(spectra[i + 1 : last[i]] - spectra[i]).max(axis=1, initial=0) < tolerance
            for j in np.flatnonzero(close) + i + 1:
                pairs.append((members[order[i]], members[order[j]]))
    return pairs


def assign(examples: Sequence[Example]) -> tuple[list[str], dict[str, int]]:
    """Split of every example, and counts for the data card: near-duplicate pairs, families, moved examples."""
    parent = list(range(len(examples)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first_with: dict[str, int] = {}
    for i, example in enumerate(examples):
        for key in example.kin:
            parent[root(i)] = root(first_with.setdefault(key, i))
    duplicates = near_duplicates(examples)
    for i, j in duplicates:
        parent[root(i)] = root(j)

    own = [hashed_split(example.kin[0]) for example in examples]
    family_split: dict[int, str] = {}
    for i, split in enumerate(own):
        family_split[root(i)] = min(family_split.get(root(i), split), split, key=SPLITS.index)
    final = [family_split[root(i)] for i in range(len(examples))]
    return final, {
        "near_duplicate_pairs": len(duplicates),
        "families": len(family_split),
        "moved_to_their_family": sum(a != b for a, b in zip(own, final, strict=True)),
    }
