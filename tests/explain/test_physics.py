"""The questions of physics: planted features are found in data and in readers of them, and nothing where none is."""

import numpy as np
import pytest

from data_pipelines.dataset.data import Split
from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import LIBRARY
from data_pipelines.schema import NAMES, Batch, EnergyGrid, descriptor
from spt_jax.explain import physics
from spt_jax.explain.edges import above_convex, edge
from spt_jax.explain.physics import CLAIMS

ENERGY = EnergyGrid(start=0.5, required=66).relative()
SIZE = 120


def edged(at: np.ndarray, pre: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Spectra with an edge at `at` eV, a pre-edge peak 9 eV below it and a white line 4 eV above it, of these heights."""
    x = ENERGY - at[:, None]
    peaks = pre[:, None] * np.exp(-((x + 9) ** 2) / 2) + white[:, None] * np.exp(-((x - 4) ** 2) / 4)
    return 0.5 + np.arctan(x / 0.5) / np.pi + peaks


def planted(rng, follows: bool = True) -> Split:
    """Sites of two elements. Co: the features follow the labels, or are dealt anew. P: too few. Half end at 33 eV."""
    state, number, oxygens = rng.integers(2, 5, SIZE), rng.choice([4, 5, 6], SIZE), rng.integers(3, 7, SIZE)
    labels = np.zeros((SIZE, len(NAMES)), np.float32)
    for name, values in (("OS", state), ("CN", number), ("OCN", oxygens)):
        labels[:, NAMES.index(name)] = np.searchsorted(descriptor(name).classes, values)
    shown = (state, number, oxygens) if follows else [rng.permutation(each) for each in (state, number, oxygens)]
    noise = 1 + 0.1 * rng.normal(size=(3, SIZE))
    spectra = edged(11 + shown[0] + noise[0], np.where(shown[1] == 4, 0.3, 0.1) * noise[1], 0.1 * shown[2] * noise[2])
    spectra[::2, 66:] = np.nan
    few = np.arange(SIZE) < physics.MINIMUM_SITES - 1
    names = tuple(f"site {i}" for i in range(SIZE))
    batch = Batch(spectra.astype(np.float32), np.where(few, 15, 27), labels, np.ones(labels.shape, bool))
    return Split(names, tuple(f"material {i // 2}" for i in range(SIZE)), tuple(np.where(few, "P K", "Co K")), batch)


def reader(spectrum: np.ndarray, _) -> dict[str, np.ndarray]:
    """Answers that follow the three features."""
    found = {name: np.zeros((len(spectrum), len(descriptor(name).classes))) for name in ("CN", "OS", "OCN")}
    for row, mu in enumerate(spectrum):
        area, at, height = (claim.feature(ENERGY, mu) for claim in CLAIMS)
        four = 1 / (1 + np.exp(-10 * (area - 0.4)))
        found["CN"][row, [3, 5]] = four, 1 - four
        for name, value in (("OS", at - 12), ("OCN", 10 * (height - 1))):
            # Two classes whose mean it is.
            low = int(np.floor(value))
            column = descriptor(name).classes.index(low)
            found[name][row, [column, column + 1]] = low + 1 - value, value - low
    return found


def blind(spectrum: np.ndarray, _) -> dict[str, np.ndarray]:
    return {n: np.full((len(spectrum), len(descriptor(n).classes)), 0.1) for n in ("CN", "OS", "OCN")}


def contrary(spectrum: np.ndarray, number) -> dict[str, np.ndarray]:
    return {name: each[:, ::-1] if name != "CN" else each for name, each in reader(spectrum, number).items()}


def verdicts(found: list[dict], level: str, absorber: str = "Co K") -> list[str]:
    return [each[level]["verdict"] for each in found if each["absorber"] == absorber]


def test_planted_features_are_seen_in_data_and_in_who_reads_them(rng):
    learnt, data = {"CN", "OS", "OCN"}, planted(rng)
    found = physics.findings(reader, learnt, data, planted(rng), ENERGY)
    assert verdicts(found, "data") == verdicts(found, "model") == ["seen"] * 3
    assert verdicts(found, "data", "P K") == verdicts(found, "model", "P K") == ["too few"] * 3
    edge_of_data, edge_of_model = (found[1][level]["effect"] for level in ("data", "model"))
    assert edge_of_data == pytest.approx(1, abs=0.05) and edge_of_model == pytest.approx(1, abs=1e-3)
    assert found[2]["data"]["effect"] == pytest.approx(0.1, abs=0.03)
    # Data and model are two answers: the one does not make the other.
    assert verdicts(physics.findings(blind, learnt, data, data, ENERGY), "model") == ["not seen"] * 3
    assert verdicts(physics.findings(contrary, learnt, data, data, ENERGY), "model")[1:] == ["reversed"] * 2
    dealt = physics.findings(reader, learnt, planted(rng, follows=False), data, ENERGY)
    for each in dealt[:3]:
        assert abs(each["data"]["effect"]) < 5 * each["data"]["error"]
    assert physics.findings(reader, {"CN"}, data, data, ENERGY)[1]["model"] is None
    lines = physics.table(found, "train", "validation")
    assert len(lines) == 9 and "seen" in lines[1] and "too few" in lines[2]


def test_a_change_is_of_the_feature_alone_and_keeps_the_end(rng):
    for mu in planted(rng).batch.spectrum[:20]:
        for own in CLAIMS:
            more, less = (own.changed(ENERGY, mu, sign) for sign in (1, -1))
            np.testing.assert_array_equal(np.isnan(more), np.isnan(mu))
            for other in CLAIMS:
                here, up, down = (other.feature(ENERGY, each) for each in (mu, more, less))
                if other is own:
                    assert down < here < up
                elif own.name != "edge":
                    assert up == pytest.approx(here) == down


def test_the_edge_is_not_a_strong_pre_edge():
    mu = edged(np.array([15.0]), np.array([1.2]), np.array([0.5]))[0]
    assert mu[ENERGY < 10].max() > 1
    assert edge(ENERGY, mu) == pytest.approx(15, abs=0.1)
    assert edge(ENERGY, np.where(ENERGY > 33, np.nan, mu)) == edge(ENERGY, mu)


def test_what_is_convex_is_no_peak(rng):
    x = np.linspace(0, 1, 21)
    np.testing.assert_allclose(above_convex(np.exp(3 * x)), 0, atol=1e-12)
    peak = np.exp(-(((x - 0.4) / 0.05) ** 2))
    np.testing.assert_allclose(above_convex(peak), peak, atol=1e-9)
    rough = rng.normal(size=21)
    above = above_convex(rough)
    assert above.min() >= -1e-12 and above[0] == above[-1] == 0
    assert (np.diff(rough - above, 2) > -1e-12).all()


def test_standard_errors_count_materials_not_sites(rng):
    values, x = rng.normal(size=200), rng.normal(size=200)
    alone = physics.standard_error(values, tuple(map(str, range(200))))
    assert alone == pytest.approx(values.std() / np.sqrt(200))
    four = np.repeat(np.arange(200), 4)
    assert physics.standard_error(np.repeat(values, 4), tuple(map(str, four))) == pytest.approx(alone)
    value, error = physics.slope(x, values, np.arange(200))
    assert value == pytest.approx(np.polyfit(x, values, 1)[0])
    assert physics.slope(np.repeat(x, 4), np.repeat(values, 4), four) == pytest.approx((value, error))
    x = rng.integers(0, 2, 200).astype(float)
    assert physics.slope(x, values, np.arange(200))[0] == pytest.approx(values[x == 1].mean() - values[x == 0].mean())


def test_every_spectrum_of_the_library_has_the_features():
    dataset = Dataset(LIBRARY)
    split, energy = dataset.split("train"), dataset.grid.relative()
    for claim in CLAIMS[1:]:
        values = np.array([claim.feature(energy, mu) for mu in split.batch.spectrum])
        assert np.isfinite(values).mean() > 0.95, claim.name
