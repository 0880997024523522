import numpy as np
import pytest

from data_pipelines.labels.descriptors import COMPUTE, ELEMENTS
from data_pipelines.schema import (
    DESCRIPTORS,
    LABELS,
    NAMES,
    REFERENCE_ENERGY_EV,
    SHELL_NAMES,
    SITE_KINDS,
    SOURCE,
    SOURCE_COLUMN,
    SYMBOLS,
    WIDTHS,
    WORDS,
    Batch,
    EnergyGrid,
    column_of,
    descriptor,
    encode_labels,
    site_kind,
    source_of,
)
from data_pipelines.shells import shell_labels, words_of


def test_every_row_has_a_function_and_the_reverse():
    assert set(COMPUTE) == set(NAMES) and set(ELEMENTS) == set(SHELL_NAMES)
    assert len({*NAMES, *SHELL_NAMES}) == len(NAMES) + len(SHELL_NAMES)


@pytest.mark.parametrize("d", DESCRIPTORS, ids=NAMES)
def test_row_is_consistent(d):
    assert (d.kind == "class") == bool(d.classes)
    assert d.sites and set(d.sites) <= set(SITE_KINDS)
    assert list(d.classes) == sorted(set(d.classes)), "encode_labels searches a sorted list"
    assert d.kind == "class" or -np.inf < d.plausible[0] < d.plausible[1] < np.inf
    assert descriptor(d.name) is d


def test_site_kinds():
    assert {site_kind(symbol) for symbol in SYMBOLS[1:] if symbol != "O"} == {"non-O"}
    assert site_kind("O") == "O"
    with pytest.raises(ValueError, match="CN2"):  # names the known ones
        descriptor("nonsense")


def test_atomic_numbers():
    assert [SYMBOLS.index(e) for e in ("H", "O", "Co", "Cu", "La", "Pb", "Fm")] == [1, 8, 27, 29, 57, 82, 100]


def test_encode_labels_round_trip(rng):
    rows = 200
    labels = np.stack(
        [
            rng.choice(d.classes, rows) if d.kind == "class" else rng.uniform(*d.plausible, size=rows)
            for d in DESCRIPTORS
        ],
        axis=1,
    ).astype(np.float32)
    assert all(d.accepts(v) for column, d in enumerate(DESCRIPTORS) for v in labels[:, column])
    labels[rng.random(labels.shape) < 0.3] = np.nan
    encoded, mask = encode_labels(labels)
    np.testing.assert_array_equal(mask[:, : len(NAMES)], ~np.isnan(labels))
    assert mask.shape[1] == LABELS and not mask[:, len(NAMES) :].any(), "labels without sets of elements are older ones"
    assert (encoded[~mask] == 0).all() and encoded.dtype == np.float32
    for column, d in enumerate(DESCRIPTORS):
        there = mask[:, column]
        values = encoded[there, column]
        back = np.array(d.classes)[values.astype(int)] if d.kind == "class" else values
        np.testing.assert_array_equal(back, labels[there, column])


def test_sets_of_elements_round_trip(rng):
    """Any set, the empty one and that of all elements among them, through the labels of a batch."""
    sets = [set(), set(range(1, len(SYMBOLS))), *(set(rng.choice(np.arange(1, 101), n).tolist()) for n in range(1, 30))]
    labels = np.full((len(sets), LABELS), np.nan, np.float32)
    labels[:, column_of("NN2") :][:, :WORDS] = [words_of(each) for each in sets]
    batch = Batch(np.zeros((len(sets), 4)), np.full(len(sets), 29), *encode_labels(labels))
    known, present = shell_labels(batch, "NN2")
    assert known.all() and [set(row.nonzero()[0].tolist()) for row in present] == sets
    assert not shell_labels(batch, "NN1")[0].any()
    for number in (0, 101):
        with pytest.raises(ValueError, match=f"no element {number}"):
            words_of({8, number})


@pytest.mark.parametrize("width", WIDTHS)
def test_the_source_of_a_row_is_its_class_and_0_where_none_is_known(rng, width):
    """Also of labels as older datasets have them, which know none."""
    versions = np.append(rng.choice(SOURCE.classes, 50), [np.nan, *SOURCE.classes])
    labels = np.full((len(versions), LABELS), np.nan, np.float32)
    labels[:, SOURCE_COLUMN] = versions
    encoded, mask = encode_labels(labels[:, :width])
    assert mask.shape[1] == LABELS
    found = source_of(Batch(np.zeros((len(versions), 4)), np.full(len(versions), 29, np.int32), encoded, mask))
    known = [0 if np.isnan(each) else 1 + SOURCE.classes.index(each) for each in versions]
    assert found.dtype == np.int32 and found.tolist() == (known if width == LABELS else [0] * len(versions))
    narrow = Batch(np.zeros((2, 4)), np.full(2, 29, np.int32), encoded[:2, : WIDTHS[0]], mask[:2, : WIDTHS[0]])
    assert source_of(narrow).tolist() == [0, 0]


def test_a_source_that_is_none_of_the_classes_is_refused():
    labels = np.full((3, LABELS), np.nan, np.float32)
    labels[1, SOURCE_COLUMN] = 5
    with pytest.raises(ValueError, match="source label 5"):
        encode_labels(labels)


@pytest.mark.parametrize("d", [d for d in DESCRIPTORS if d.kind == "class"], ids=lambda d: d.name)
def test_unknown_class_refused(d):
    for value in (d.classes[0] - 1, d.classes[-1] + 1, *({7} - set(d.classes) if d.name == "PSGO" else ())):
        labels = np.full((3, len(DESCRIPTORS)), np.nan, np.float32)
        labels[1, NAMES.index(d.name)] = value
        assert not d.accepts(value)
        with pytest.raises(ValueError, match=rf"{d.name} label {value}"):
            encode_labels(labels)


def test_grid_energies(rng):
    grid = EnergyGrid(start=rng.uniform(-20, 20), step=rng.uniform(0.1, 2), points=int(rng.integers(16, 300)))
    for (element, edge), anchor in REFERENCE_ENERGY_EV.items():
        energy = grid.absolute(element, edge)
        assert len(energy) == grid.points
        assert energy[0] == pytest.approx(anchor + grid.start)
        np.testing.assert_allclose(np.diff(energy), grid.step, rtol=1e-6)


def test_reference_energies_rise_with_atomic_number():
    anchors = [energy for _, energy in sorted((SYMBOLS.index(e), v) for (e, _), v in REFERENCE_ENERGY_EV.items())]
    assert (np.diff(anchors) > 0).all()


@pytest.mark.parametrize("element, edge", [("Cu", "L3"), ("H", "K"), ("Xx", "K")])
def test_unknown_edge_refused(element, edge):
    with pytest.raises(ValueError, match=f"{element} {edge}"):
        EnergyGrid().absolute(element, edge)


@pytest.mark.parametrize("wrong", [{"points": 15}, {"step": 0.0}, {"step": -0.5}, {"start": float("nan")}])
def test_useless_grid_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        EnergyGrid(**wrong)
