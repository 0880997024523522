import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier

from data_pipelines.schema import DESCRIPTORS, NAMES, Batch, descriptor
from spt_jax.peers.trees import TreeSettings, fit_trees, with_noise

CN, MBL = NAMES.index("CN"), NAMES.index("MBL")


def planted(rng, elements=(29,), size=120) -> Batch:
    """Spectra whose first energy tells CN (indices 2, 5 and 7) and whose second tells MBL; nothing else is labelled."""
    spectrum = rng.normal(size=(size, 20)).astype(np.float32)
    labels, mask = np.zeros((size, len(DESCRIPTORS)), np.float32), np.zeros((size, len(DESCRIPTORS)), bool)
    labels[:, CN] = np.array([2, 5, 7])[np.digitize(spectrum[:, 0], [-0.5, 0.5])]
    labels[:, MBL] = 2 + 0.1 * spectrum[:, 1]
    mask[:, [CN, MBL]] = True
    mask[:10, CN] = False
    return Batch(spectrum, rng.choice(elements, size).astype(np.int32), labels, mask)


@pytest.mark.parametrize("kind", ["decision_tree", "random_forest", "extra_trees", "xgboost"])
def test_answers_are_probabilities_over_the_table_and_values_in_range(rng, kind):
    if kind == "xgboost":
        pytest.importorskip("xgboost", reason="needs the extra `baselines`")
    train = planted(rng)
    answers = fit_trees(TreeSettings(kind, trees=20), train, 0)(train.spectrum, train.atomic_number)
    assert set(answers) == {"CN", "MBL"}
    assert answers["CN"].shape == (120, len(descriptor("CN").classes))
    np.testing.assert_allclose(answers["CN"].sum(axis=1), 1, atol=1e-5)
    assert not np.delete(answers["CN"], [2, 5, 7], axis=1).any()
    known = train.mask[:, CN]
    assert (answers["CN"].argmax(axis=1) == train.labels[:, CN])[known].mean() > 0.95
    assert np.corrcoef(answers["MBL"], train.labels[:, MBL])[0, 1] > 0.9


@pytest.mark.parametrize("elements", [(29,), (28, 29)])
def test_answers_are_those_of_scikit_learn(rng, elements):
    train, asked, seed = planted(rng, elements), planted(rng, elements), int(rng.integers(1000))
    answers = fit_trees(TreeSettings(trees=15), train, seed, ("CN",))(asked.spectrum, asked.atomic_number)

    def inputs(batch: Batch) -> np.ndarray:
        return batch.spectrum if len(elements) == 1 else np.c_[batch.spectrum, batch.atomic_number]

    known = train.mask[:, CN]
    theirs = ExtraTreesClassifier(15, random_state=seed).fit(inputs(train)[known], train.labels[known, CN])
    assert set(answers) == {"CN"}
    np.testing.assert_array_equal(answers["CN"].argmax(axis=1), theirs.predict(inputs(asked)))


@pytest.mark.parametrize("kind", ["extra_trees", "xgboost"])
def test_a_single_class_is_certain(rng, kind):
    train = planted(rng)
    train.labels[:, CN] = 4
    answers = fit_trees(TreeSettings(kind, trees=2), train, 0, ("CN",))(train.spectrum, train.atomic_number)
    np.testing.assert_array_equal(answers["CN"], np.eye(len(descriptor("CN").classes))[np.full(120, 4)])


def test_balanced_classes_count_the_same(rng):
    """Of a tree that may not split, where only the weights speak."""
    train = planted(rng)
    train.labels[:, CN] = np.where(np.arange(120) < 20, 5, 2)

    def rare(balanced: bool) -> np.ndarray:
        settings = TreeSettings("decision_tree", min_leaf=120, balanced=balanced)
        return fit_trees(settings, train, 0, ("CN",))(train.spectrum, train.atomic_number)["CN"][:, 5]

    np.testing.assert_allclose(rare(False), 10 / 110)  # the first ten are not labelled
    np.testing.assert_allclose(rare(True), 0.5)


def test_noisy_copies_join_the_clean_spectra_and_keep_their_labels(rng):
    train = planted(rng, size=50)
    assert with_noise(train, 0.0, 0) is train
    copies = with_noise(train, 0.05, 0)
    np.testing.assert_array_equal(copies.spectrum[:50], train.spectrum)
    np.testing.assert_array_equal(copies.labels, np.tile(train.labels, (3, 1)))
    added = copies.spectrum[50:] - np.tile(train.spectrum, (2, 1))
    assert added.std(axis=1).min() > 0 and added.std(axis=1).max() < 0.05 * 1.5
