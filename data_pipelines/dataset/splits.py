"""Train, validation and test by material: stable when data are added, no duplicate across a split.

A split is read off a hash of the material, never off a shuffle. Examples that share a kin key
(material, formula) or a nearly equal spectrum form one family. Where the hashes of a family disagree,
all of it goes to the split nearest to training: so adding data can take an example out of a
test set, but can never put one there that an earlier model was trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from data_pipelines.schema import EnergyGrid
from data_pipelines.spectra.segments import segment_means

SPLITS = ("train", "validation", "test")
VALIDATION_FRACTION = 0.1
TEST_FRACTION = 0.2
# Two spectra of one element whose mu agrees to this (in edge steps) at every energy are near duplicates:
# it is a tenth of the spread between sites of one material in the Cu library.
NEAR_DUPLICATE = 0.01
# Few, as the search within a tolerance visits all that is near in these dimensions.
SEGMENTS = 16
# Candidate pairs, and spectra that are asked for, held in memory at a time.
PAIRS = 2**14
ROWS = 2**14
# Spectra whose neighbours are counted to tell how many a portion has.
SAMPLE = 32


def hash_place(key: str) -> float:
    """A number in [0, 1) that belongs to the key: the same on every machine, whatever else there is."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def hashed_split(key: str) -> str:
    """The split of a material on its own."""
    place = hash_place(key)
    if place < TEST_FRACTION:
        return "test"
    return "validation" if place < TEST_FRACTION + VALIDATION_FRACTION else "train"


def assign(kin: pa.ListArray, absorbers: np.ndarray, spectra: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """(N,) index into SPLITS of every example, and counts for the data card.

    kin: (N,) lists of keys shared by examples that must never straddle a split, the material first. absorbers: (N,)
    integers, equal for one element and edge. spectra: (N, L), which may lie on disk.
    """
    keys, offsets = kin.flatten().dictionary_encode(), kin.offsets.to_numpy()
    family, pairs = families(kin, absorbers, spectra)
    hashed = np.array([SPLITS.index(hashed_split(name)) for name in keys.dictionary.to_pylist()])
    own = hashed[keys.indices.to_numpy()[offsets[:-1]]]
    nearest = np.full(family.max(initial=-1) + 1, len(SPLITS))
    np.minimum.at(nearest, family, own)
    final = nearest[family]
    return final, {
        "near_duplicate_pairs": pairs,
        "families": len(np.unique(family)),
        "moved_to_their_family": int((final != own).sum()),
    }


def comparable(spectra: np.ndarray, grid: EnergyGrid) -> np.ndarray:
    """(N, L) as they lie in rows -> (N, M) numbers that every row has: of several signals one may be missing, and is 0."""
    return np.nan_to_num(spectra) if grid.signals else spectra[:, : grid.common]


def families(kin: pa.ListArray, absorbers: np.ndarray, spectra: np.ndarray) -> tuple[np.ndarray, int]:
    """(N,) number of the family of every example, and how many pairs are near duplicates. Arguments as of `assign`."""
    count, offsets = len(kin), kin.offsets.to_numpy()
    keys = kin.flatten().dictionary_encode()
    near, pairs = near_duplicates(absorbers, spectra)
    # A graph of examples and keys: an example is linked to each of its keys and to what it nearly equals.
    nodes = count + len(keys.dictionary)
    ends = (
        np.concatenate([np.repeat(np.arange(count), np.diff(offsets)), near[:, 0]]),
        np.concatenate([count + keys.indices.to_numpy(), near[:, 1]]),
    )
    _, family = connected_components(coo_array((np.ones(len(ends[0]), bool), ends), (nodes, nodes)), False)
    return family[:count], pairs


def near_duplicates(
    absorbers: np.ndarray, spectra: np.ndarray, tolerance: float = NEAR_DUPLICATE
) -> tuple[np.ndarray, int]:
    """Pairs of one absorber with max |mu_i - mu_j| < tolerance: links (M, 2) that join all of them, and their number.

    Exact. Equal spectra are linked in a chain and stand as one among the others, or a spectrum stored a million times
    would make half a million million pairs.
    """
    means = segment_means(spectra, SEGMENTS)
    links, count = [np.empty((0, 2), np.int64)], 0
    for absorber in np.unique(absorbers):
        members = np.flatnonzero(absorbers == absorber)
        members = members[np.lexsort(means[members].T)]
        single, groups = _equal(members, means, spectra)
        for group in groups:
            links.append(np.stack([group[:-1], group[1:]], axis=1))
            count += len(group) * (len(group) - 1) // 2
        alone = np.concatenate([single, np.array([group[0] for group in groups], np.int64)])
        copies = np.concatenate([np.ones(len(single), np.int64), np.array(list(map(len, groups)), np.int64)])
        for i, j in _candidates(means[alone], tolerance):
            difference = np.abs(spectra[alone[i]] - spectra[alone[j]]).max(axis=1)
            close = difference < tolerance
            links.append(np.stack([alone[i[close]], alone[j[close]]], axis=1))
            count += int((copies[i[close]] * copies[j[close]]).sum())
    return np.concatenate(links), count


def _equal(members: np.ndarray, means: np.ndarray, spectra: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Members that equal no other, and groups of equal ones; `members` are sorted by their means, which are then equal as
    well. Nearly all equal none, and get no array of their own."""
    changes = (np.diff(means[members], axis=0) != 0).any(axis=1)
    starts = np.flatnonzero(np.concatenate([[True], changes]))
    lengths = np.diff(np.append(starts, len(members)))
    single, groups = [members[starts[lengths == 1]]], []
    for start, length in zip(starts[lengths > 1], lengths[lengths > 1], strict=True):
        same: dict[bytes, list[int]] = {}
        for member in members[start : start + length]:
            same.setdefault(np.asarray(spectra[member]).tobytes(), []).append(member)
        single.append(np.array([own[0] for own in same.values() if len(own) == 1], np.int64))
        groups += [np.array(own) for own in same.values() if len(own) > 1]
    return np.concatenate(single), groups


def _candidates(means: np.ndarray, tolerance: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every pair i < j whose means agree to the tolerance, in portions of at most PAIRS."""
    radius = tolerance + 1e-5  # of rounding in the means
    tree = KDTree(means)

    def search(rows: np.ndarray, **options) -> np.ndarray:
        return tree.query_ball_point(means[rows], radius, p=np.inf, workers=-1, **options)

    todo = [np.arange(start, min(start + ROWS, len(means))) for start in range(0, len(means), ROWS)]
    while todo:
        rows = todo.pop()
        some = rows[:: max(len(rows) // SAMPLE, 1)]
        if len(rows) > 1 and search(some, return_length=True).mean() * len(rows) > 256 * PAIRS:
            todo += [rows[: len(rows) // 2], rows[len(rows) // 2 :]]  # too many for memory
            continue
        found = search(rows)
        i, j = np.repeat(rows, list(map(len, found))), np.concatenate(found).astype(np.int64)
        i, j = i[i < j], j[i < j]
        for part in range(0, len(i), PAIRS):
            yield i[part : part + PAIRS], j[part : part + PAIRS]
