"""The papers' recipe on concatenated signals, and the folds that it and networks are judged on."""

import numpy as np
import pytest

from benchmarks import concatenated, signal_folds, xanes_pdf
from data_pipelines.dataset.data import Split
from data_pipelines.schema import STRUCTURE_LABELS, Batch, EnergyGrid, column_of, descriptor
from spt_jax.explain.signals import scored, told

GRID = EnergyGrid(points=40, signals=("Ni K", "PDF"))
ENERGY = GRID.relative()
FEW = concatenated.Setting(("cdf",), 10, (("n_estimators", 30),))


def cells(rng, rows: int = 90) -> Split:
    """Li is told by the first signal, a vacancy by the second; three rows of a parent; a signal is missing here and there."""
    labels, mask = np.zeros((rows, STRUCTURE_LABELS), np.float32), np.zeros((rows, STRUCTURE_LABELS), bool)
    lithium, vacancy = rng.random(rows), rng.random(rows) < 0.5
    for name, own in (("x_Li", lithium), ("vacancy", vacancy)):
        labels[:, column_of(name)], mask[:, column_of(name)] = own, True
    spectrum = 1 + 0.02 * rng.normal(size=(rows, 2, GRID.points))
    spectrum[:, 0, 10:20] += lithium[:, None]
    spectrum[:, 1, 5:15] += vacancy[:, None]
    spectrum[rng.integers(rows, size=4), rng.integers(2, size=4)] = np.nan
    batch = Batch(spectrum.reshape(rows, -1).astype(np.float32), np.zeros(rows, np.int32), labels, mask)
    names = tuple(f"row {i}" for i in range(rows))
    return Split(
        names, tuple(f"NMC{622 if i < 9 else 811}_{i // 3}" for i in range(rows)), ("structure -",) * rows, batch
    )


def test_features_are_what_they_say(rng):
    mu = 1 + rng.random((3, 40))
    np.testing.assert_allclose(np.diff(concatenated.cdf(mu), axis=1), mu[:, 1:] / mu.sum(axis=1, keepdims=True))
    coefficients = rng.normal(size=(3, 4))
    powers = np.vander(np.linspace(-1, 1, 10), 4)
    found = concatenated.cubic(np.tile(coefficients @ powers.T, 4), ENERGY, 5.0)
    np.testing.assert_allclose(found, np.tile(coefficients, 4), atol=1e-9)


def test_gaussians_stay_in_their_bounds_and_are_near(rng):
    energy = EnergyGrid().relative()
    mu = sum(rng.uniform(0.3, 1) * np.exp(-(((energy - c) / 1.8) ** 2)) for c in np.arange(4, 73, 3.5))
    height, centre, width = np.split(concatenated.gaussians(mu, energy), 3)
    assert (np.diff(centre) > -4).all() and height.min() >= 0
    assert width.min() >= concatenated.NARROWEST_EV and width.max() <= concatenated.WIDEST_EV
    sums = (height * np.exp(-4 * np.log(2) * ((energy[:, None] - centre) / width) ** 2)).sum(axis=1)
    assert np.sqrt(np.mean((sums - mu) ** 2)) < 0.05


def test_a_fold_never_parts_a_parent(rng):
    split = cells(rng)
    groups = np.array(split.materials)
    parts = signal_folds.folds(groups, 5, seed=0)
    assert sorted(np.concatenate([fold.held for fold in parts])) == list(range(90))
    for fold in parts:
        own = [set(groups[rows]) for rows in (fold.train, fold.validation, fold.held)]
        assert all(own) and not own[0] & own[1] and not (own[0] | own[1]) & own[2]
        thin = signal_folds.thinned(fold, groups, 0.5, seed=0)
        thinner = signal_folds.thinned(fold, groups, 0.25, seed=0)
        assert set(thinner.learnt) < set(thin.learnt) < set(fold.learnt)
    away = signal_folds.left_out(groups, np.arange(90) < 9, seed=0)
    assert list(away.held) == list(range(9)) and len(away.learnt) == 81
    with pytest.raises(SystemExit, match="3 or more"):
        signal_folds.folds(groups, 2, seed=0)


def test_the_recipe_reads_the_signal_that_tells(rng):
    split = cells(rng)
    parts = signal_folds.folds(np.array(split.materials), 3, seed=0)
    made = concatenated.features(split.batch.spectrum, GRID, ("cdf", "cubic"))
    assert np.isnan(made.values).any() and set(made.signal) == {0, 1}
    for name, reads, other in (("x_Li", 0, 1), ("vacancy", 1, 0)):
        d = descriptor(name)
        usual = signal_folds.judge(name, signal_folds.majority(d, split, parts), split)
        found = {
            signal: signal_folds.judge(
                name, signal_folds.recipe("extra trees", [FEW], d, {"": made}, (signal,), split, parts)[""], split
            )
            for signal in (reads, other)
        }
        gain = signal_folds.ahead(found[reads], found[other])
        assert gain.low > 0 and signal_folds.ahead(found[reads], usual).low > 0, name
        assert found[reads].rows == 90 and found[reads].materials == 30
    r2 = signal_folds.judge("x_Li", split.batch.labels[:, column_of("x_Li")].astype(float), split, r2=True)
    assert r2.measure.name == "R2" and r2.interval.score == 1


@pytest.mark.parametrize("model", ["extra trees", "logistic regression"])
def test_a_setting_is_chosen_by_the_training_rows(rng, model):
    split = cells(rng)
    settings = concatenated.draw(model, 3, seed=1, kinds=("cdf", "spectra"))
    assert len(set(settings)) == 3
    settings = [
        concatenated.Setting(s.kinds, s.components, (("C", 1.0),) if "C" in dict(s.fields) else FEW.fields)
        for s in settings
    ]
    made = concatenated.features(split.batch.spectrum, GRID, ("cdf", "spectra"))
    d, labels = descriptor("x_Li"), split.batch.labels[:, column_of("x_Li")]
    chosen = concatenated.search(
        model, settings, d, lambda kinds: made.columns((0, 1), kinds), labels, np.array(split.materials), 0
    )
    x = made.columns((0, 1), chosen.kinds)
    answer = concatenated.fit(model, chosen, d, x, labels, 0)
    assert scored(d, labels, told(d, answer(x))) < labels.std() / 2
    owner = made.signal[np.isin(made.kind, chosen.kinds)]
    lost = concatenated.importance(answer, d, x, owner, labels, 0, repeats=2)
    assert lost[0] > 3 * abs(lost[1])


def test_materials_of_one_coordination_number():
    labels, mask = np.zeros((4, STRUCTURE_LABELS), np.float32), np.ones((4, STRUCTURE_LABELS), bool)
    labels[:, column_of("CN")] = 3, 3, 3, 5
    batch = Batch(np.zeros((4, 3), np.float32), np.full(4, 29), labels, mask)
    split = Split(("a", "b", "c", "d"), ("m", "m", "n", "n"), ("Cu K",) * 4, batch)
    np.testing.assert_array_equal(xanes_pdf.lone(split), [True, True, False, False])
    mask[0, column_of("CN")] = False
    assert not xanes_pdf.lone(split).any()
