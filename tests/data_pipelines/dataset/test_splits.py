from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from data_pipelines.dataset import splits
from data_pipelines.dataset.splits import (
    NEAR_DUPLICATE,
    SPLITS,
    TEST_FRACTION,
    VALIDATION_FRACTION,
    hashed_split,
    near_duplicates,
)


class Example(NamedTuple):
    id: str
    material: str
    kin: tuple[str, ...]
    element: str
    spectrum: np.ndarray


def columns(examples):
    """The arrays that `assign` and `near_duplicates` take."""
    elements = np.unique([e.element for e in examples], return_inverse=True)[1]
    kin = pa.array([list(e.kin) for e in examples], pa.list_(pa.string()))
    return kin, elements, np.stack([e.spectrum for e in examples])


def assign(examples):
    split, counts = splits.assign(*columns(examples))
    return [SPLITS[i] for i in split], counts


@pytest.fixture
def library(rng) -> list[Example]:
    """Sites of random materials, some of which share a formula; some spectra are near copies of others."""
    count, points = 160, 24
    spectra = rng.random((count, points))
    for i in np.flatnonzero(rng.random(count) < 0.3):
        other = rng.integers(count)
        noise = rng.uniform(-1, 1, rng.choice([1, points]))  # one number: an offset, which moves the mean as well
        spectra[i] = spectra[other] + noise * NEAR_DUPLICATE * rng.choice([0.0, 0.5, 1.05, 3.0])
    salt = rng.bytes(4).hex()
    examples = []
    for i in range(count):
        material = f"mp-{salt}-{rng.integers(80)}"
        kin = (material, f"formula-{salt}-{rng.integers(220)}")
        element = str(rng.choice(["Co", "O"]))
        examples.append(Example(f"{salt}-{i}", material, kin, element, spectra[i].astype(np.float32)))
    return examples


def brute_force(examples, tolerance=NEAR_DUPLICATE) -> set[frozenset[int]]:
    return {
        frozenset((i, j))
        for i, a in enumerate(examples)
        for j, b in enumerate(examples[:i])
        if a.element == b.element and np.abs(a.spectrum - b.spectrum).max() < tolerance
    }


def components(count: int, links) -> list[int]:
    """Label of every node, spread along the links until nothing changes."""
    label, changed = list(range(count)), True
    while changed:
        changed = False
        for i, j in links:
            low = min(label[i], label[j])
            changed |= (label[i], label[j]) != (low, low)
            label[i] = label[j] = low
    return label


def test_near_duplicates_are_exact(library):
    for tolerance in (NEAR_DUPLICATE, 3.5 * NEAR_DUPLICATE):
        links, count = near_duplicates(*columns(library)[1:], tolerance)
        pairs = brute_force(library, tolerance)
        assert count == len(pairs) > 0
        assert set(map(frozenset, links.tolist())) <= pairs
        found, expected = (components(len(library), each) for each in (links.tolist(), [tuple(p) for p in pairs]))
        assert found == expected


def test_many_equal_and_near_spectra_fit_into_memory(rng, monkeypatch):
    """Searched in portions of a few pairs, with a spectrum that is there many times."""
    monkeypatch.setattr(splits, "PAIRS", 7)
    monkeypatch.setattr(splits, "ROWS", 13)
    spectra = rng.random((20, 24)).astype(np.float32)[rng.integers(0, 20, 400)]
    spectra[::3] += rng.uniform(-0.004, 0.004, (134, 1)).astype(np.float32)
    examples = [Example(str(i), str(i), (str(i),), "Co", spectrum) for i, spectrum in enumerate(spectra)]
    links, count = near_duplicates(*columns(examples)[1:])
    pairs = brute_force(examples)
    assert count == len(pairs) and len(links) < len(pairs)
    assert components(400, links.tolist()) == components(400, [tuple(p) for p in pairs])


def test_family_never_straddles(library):
    split, counts = assign(library)
    pairs = brute_force(library)
    for i, j in map(tuple, pairs):
        assert split[i] == split[j]
    for i, a in enumerate(library):
        for j, b in enumerate(library[:i]):
            assert split[i] == split[j] or not set(a.kin) & set(b.kin)
    assert counts["near_duplicate_pairs"] == len(pairs)
    moved = sum(s != hashed_split(e.kin[0]) for s, e in zip(split, library, strict=True))
    assert counts["moved_to_their_family"] == moved > 0


def test_families_are_counted(library):
    edges = [(i, j) for i, a in enumerate(library) for j, b in enumerate(library[:i]) if set(a.kin) & set(b.kin)]
    label = components(len(library), [*edges, *map(tuple, brute_force(library))])
    split, counts = assign(library)
    assert counts["families"] == len(set(label)) < len({e.material for e in library})
    for family in set(label):
        members = [i for i, own in enumerate(label) if own == family]
        nearest = min((hashed_split(library[i].kin[0]) for i in members), key=SPLITS.index)
        assert {split[i] for i in members} == {nearest}


def test_added_data_puts_nothing_into_validation_or_test(library, rng):
    whole = dict(zip([e.id for e in library], assign(library)[0], strict=True))
    order = rng.permutation(len(library))
    moved = 0
    for part in (20, 60, 120):
        some = [library[i] for i in order[:part]]
        for example, split in zip(some, assign(some)[0], strict=True):
            assert SPLITS.index(whole[example.id]) <= SPLITS.index(split)
            moved += whole[example.id] != split
    assert moved, "the added data do join families"


def test_order_does_not_matter(library, rng):
    whole = dict(zip([e.id for e in library], assign(library)[0], strict=True))
    other = [library[i] for i in rng.permutation(len(library))]
    assert dict(zip([e.id for e in other], assign(other)[0], strict=True)) == whole


def test_unrelated_material_keeps_its_own_split(library):
    for example in library[:50]:
        assert assign([example])[0] == [hashed_split(example.material)]


def test_fractions(rng):
    count = 4000
    found = Counter(hashed_split(rng.bytes(8).hex()) for _ in range(count))
    for split, fraction in zip(
        SPLITS, (1 - VALIDATION_FRACTION - TEST_FRACTION, VALIDATION_FRACTION, TEST_FRACTION), strict=True
    ):
        sigma = np.sqrt(fraction * (1 - fraction) / count)
        assert abs(found[split] / count - fraction) < 6 * sigma


def test_split_of_a_name_is_fixed_for_ever():
    """Written down once: a later version must not move a material, or old models are tested on their own data."""
    assert {name: hashed_split(name) for name in ("CoO", "LiCoO2", "Li2MnO3", "LiFePO4")} == {
        "CoO": "test",
        "LiCoO2": "train",
        "Li2MnO3": "validation",
        "LiFePO4": "train",
    }
