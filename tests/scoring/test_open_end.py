"""What is expected beyond the end of a spectrum, against conditioning of the whole normal distribution, and held out."""

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import LIBRARY
from spt_jax.model.gaps import Gaps
from spt_jax.scoring.open_end import FEWEST, WITHIN, OpenEnd


@pytest.fixture(scope="module")
def library():
    dataset = Dataset(LIBRARY)
    train = dataset.statistics("train")
    gaps = Gaps(train.mean, train.covariance)
    return dataset, gaps, OpenEnd.of(gaps.mean[...], gaps.components[...], train.std)


def test_it_is_what_a_normal_distribution_conditioned_on_the_rest_gives(library, rng):
    dataset, gaps, own = library
    variance = np.linalg.eigvalsh(dataset.statistics("train").covariance)
    assert own.residual == pytest.approx(variance[: -own.components.shape[1]].mean(), rel=1e-4)
    mu = np.float64(dataset.split("train").batch.spectrum[:3])
    known = np.arange(mu.shape[1]) < 70
    covariance = own.residual * (own.components @ own.components.T + np.eye(mu.shape[1]))
    inverse = np.linalg.inv(covariance[np.ix_(known, known)])
    across = covariance[np.ix_(~known, known)]
    mean = own.mean[~known] + (mu[:, known] - own.mean[known]) @ inverse @ across.T
    spread = covariance[np.ix_(~known, ~known)] - across @ inverse @ across.T
    expected, std = own.expected(mu, known)
    np.testing.assert_allclose(expected, mean, atol=1e-7)
    np.testing.assert_allclose(std, np.sqrt(np.diag(spread)), rtol=1e-6)
    filled, _ = gaps.fill(jnp.asarray(np.where(known, mu, np.nan), jnp.float32))  # as the network sees it
    np.testing.assert_allclose(expected, np.asarray(filled)[:, ~known], atol=3e-4)


def test_of_held_out_spectra_the_stated_share_lies_within(library):
    dataset, _, own = library
    train, held = dataset.split("train").batch, dataset.split("validation").batch
    elements = np.unique(train.atomic_number)
    own = own.measured(train.spectrum, train.atomic_number, elements, 70)
    inside = []
    for end in (70, 100, 130):
        known = np.arange(held.spectrum.shape[1]) < end
        expected, std = own.expected(held.spectrum, known)
        half = np.array([own.width(each) for each in held.atomic_number])[:, None] * std
        inside.append((np.abs(held.spectrum[:, ~known] - expected) <= half).mean())
    assert np.mean(inside) == pytest.approx(WITHIN, abs=0.08), inside


def test_an_element_of_few_spectra_has_the_widest_band(library):
    dataset, _, own = library
    batch = dataset.split("train").batch
    elements, counts = np.unique(batch.atomic_number, return_counts=True)
    most = int(elements[counts.argmax()])
    few = np.concatenate([np.flatnonzero(batch.atomic_number == e)[: FEWEST - 1] for e in elements if e != most])
    rows = np.append(few, np.flatnonzero(batch.atomic_number == most))
    widths = own.measured(batch.spectrum[rows], batch.atomic_number[rows], elements, 70).widths
    assert (widths == widths[elements.tolist().index(most)]).all() and widths[0] > 1
    assert np.isnan(own.measured(batch.spectrum[few], batch.atomic_number[few], elements, 70).widths).all()
