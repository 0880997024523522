"""Pretraining on hidden parts of spectra: what is hidden is not seen, only what is hidden is asked, and it can be learnt."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import RunError
from data_pipelines.library import LIBRARY
from data_pipelines.schema import Batch
from spt_jax.config import JointConfig, LabelsConfig, MaskedConfig
from spt_jax.model.heads import SPECTRUM
from spt_jax.objectives.augment import broaden, cosines
from spt_jax.objectives.masked import MU, SLOPE, Masked
from spt_jax.objectives.objective import make_objective

AS_IT_IS = {"noise": 0.0, "energy_shift": 0.0, "amplitude": 0.0, "broadening": 0.0, "mixup": 0.0}


def keys_of(rng, count: int) -> jax.Array:
    return jax.random.split(jax.random.key(int(rng.integers(2**31))), count)


@pytest.fixture(scope="module")
def library() -> Batch:
    return Dataset(LIBRARY).split("train").batch


def masked(**settings) -> Masked:
    dataset = Dataset(LIBRARY)
    return Masked.of(MaskedConfig(**settings), dataset.statistics("train"), dataset.grid)


class Fixed:
    """In the place of a network: says the same of every spectrum, and keeps what it was shown."""

    def __init__(self, said):
        self.said = said

    def __call__(self, spectrum, atomic_number, keys):
        self.seen = spectrum
        return {SPECTRUM: self.said.reshape(len(spectrum), -1)}


def test_hidden_values_do_not_reach_the_network(library, rng):
    objective = masked(bands=0.0, **AS_IT_IS)
    keys = keys_of(rng, len(library.spectrum))
    rows = objective.views(library, keys)
    changed = np.where(rows.hidden, rng.random(library.spectrum.shape), library.spectrum).astype(np.float32)
    others = objective.views(library._replace(spectrum=changed), keys)
    seen = []
    for each in (rows, others):
        network = Fixed(each.target)
        objective.loss(network, each, keys)
        seen.append(network.seen)
    np.testing.assert_allclose(*seen, atol=1e-5)
    assert (jnp.isnan(seen[0]) == rows.hidden).all() and rows.hidden.any(axis=1).all()


@pytest.mark.parametrize("bands", [0.0, 0.5])
def test_only_what_is_hidden_costs(library, rng, bands):
    objective = masked(bands=bands)
    keys = keys_of(rng, len(library.spectrum))
    rows = objective.views(library, keys)
    wrong = jnp.asarray(rng.normal(size=rows.target.shape), jnp.float32)
    # Off where energies are seen; of a spectrum without a range of frequencies, off in all others.
    waves = cosines(wrong.shape[2])
    elsewhere = jnp.where(rows.band.any(axis=1)[:, None, None], (wrong @ waves.T * ~rows.band[:, None]) @ waves, wrong)
    said = rows.target + elsewhere * ~rows.hidden[:, None]
    np.testing.assert_allclose(objective.loss(Fixed(said), rows, keys), 0, atol=1e-5)
    assert (objective.loss(Fixed(rows.target + wrong), rows, keys) > 0.1).all()


def test_to_know_nothing_costs_one_and_scores_nothing(library, rng):
    objective = masked(bands=0.5, **AS_IT_IS)
    many = jax.tree.map(lambda x: np.concatenate([x] * 8), library)
    keys = keys_of(rng, len(many.spectrum))
    rows = objective.views(many, keys)
    np.testing.assert_allclose(objective.loss(Fixed(jnp.zeros(rows.target.shape)), rows, keys), 1, rtol=0.15)
    nothing = {SPECTRUM: np.zeros((len(library.spectrum), 2 * library.spectrum.shape[1]))}
    assert objective.score(nothing, library) == pytest.approx({MU: 0, SLOPE: 0}, abs=1e-6)


@pytest.mark.parametrize("hide", [0.2, 0.5, 0.8])
def test_the_share_is_hidden_and_every_energy_as_often(library, rng, hide):
    many = jax.tree.map(lambda x: np.concatenate([x] * 8), library)
    often = np.asarray(
        masked(hide=hide, span=3.0, bands=0.0).views(many, keys_of(rng, len(many.spectrum))).hidden
    ).mean(axis=0)
    assert often.mean() == pytest.approx(hide, abs=0.05)
    assert np.abs(often - often.mean()).max() < 0.1


def test_a_range_of_frequencies_is_taken_out_and_no_more(library, rng):
    objective = masked(bands=0.9, **AS_IT_IS)
    rows = objective.views(library, keys_of(rng, len(library.spectrum)))
    lost = np.asarray(rows.band.any(axis=1))
    assert 0.8 < lost.mean() < 1
    waves = np.array(cosines(library.spectrum.shape[1]))
    strength = (np.asarray(rows.spectrum)[lost] - objective.mean[0]) / objective.std[0] @ waves.T
    band = np.asarray(rows.band)[lost]
    assert (band.sum(axis=1) == 4).all() and not band[:, 0].any() and not band[:, 13:].any()
    np.testing.assert_allclose(strength[band], 0, atol=1e-3)
    before = (library.spectrum[lost] - objective.mean[0]) / objective.std[0] @ waves.T
    np.testing.assert_allclose(strength[~band], before[~band], atol=1e-3)


def test_what_is_not_known_is_neither_shown_nor_asked(library, rng):
    objective = masked(bands=0.0)
    ends = np.arange(library.spectrum.shape[1]) >= 60
    short = library._replace(spectrum=np.where(ends, np.nan, library.spectrum).astype(np.float32))
    rows = objective.views(short, keys_of(rng, len(short.spectrum)))
    assert not rows.hidden[:, ends].any()
    assert jnp.isnan(rows.spectrum[:, ends]).all()


def test_a_broadened_line_keeps_its_area_and_gets_the_width(rng):
    line = np.zeros((400, 101), np.float32)
    line[:, 50] = 1
    wide = np.asarray(broaden(keys_of(rng, 400), jnp.asarray(line), 3.0, 0.5), np.float64)
    np.testing.assert_allclose(wide.sum(axis=1), 1, atol=1e-4)
    sigma = 0.5 * np.sqrt(np.maximum((wide * (np.arange(101) - 50) ** 2).sum(axis=1), 0))
    assert sigma.max() <= 3.01 and sigma.mean() == pytest.approx(1.5, rel=0.1)


def test_both_at_once_have_the_losses_of_each(library, rng):
    dataset = Dataset(LIBRARY)
    config = JointConfig(LabelsConfig(descriptors=("CN", "MBL")), MaskedConfig(), weight=0.5)
    joint = make_objective(config, dataset.statistics("train"), dataset.grid)
    assert joint.names == ("CN", "MBL", MU, SLOPE) and [task.name for task in joint.tasks] == ["CN", "MBL"]
    keys = keys_of(rng, len(library.spectrum))

    def network(spectrum, atomic_number, keys, source=None):
        count, length = spectrum.shape
        said = {"CN": jnp.zeros((count, 11)), "MBL": jnp.zeros(count), SPECTRUM: jnp.zeros((count, 2 * length))}
        return said

    rows = joint.views(library, keys)
    np.testing.assert_allclose(
        joint.loss(network, rows, keys),
        jnp.concatenate([joint.labels.loss(network, rows[0], keys), 0.5 * joint.masked.loss(network, rows[1], keys)]),
    )
    unlabelled = library._replace(mask=np.zeros_like(library.mask))
    assert (joint.loss(network, joint.views(unlabelled, keys), keys)[:2] == 0).all()


def test_what_the_grid_does_not_have_is_refused():
    with pytest.raises(RunError, match=r"span \(0.1 eV\) is shorter than a step"):
        masked(span=0.1)
    with pytest.raises(RunError, match=r"highest_band \(400\) must be below"):
        masked(highest_band=400)
    with pytest.raises(RunError, match="must not exceed"):
        replace(MaskedConfig(), band_width=13)
