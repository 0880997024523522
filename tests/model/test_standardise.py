"""mu over the mean and deviation of its own element, in every network: as its reference, and for each row alone."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data_pipelines.errors import RunError
from data_pipelines.schema import SYMBOLS, EnergyGrid
from spt_jax.model.heads import HeadSpec
from spt_jax.model.spt import ELEMENTS, SPT
from spt_jax.model.standardise import LEAST_STD
from spt_jax.runs.blueprint import network_class
from tests.model.test_gaps import LENGTH, SMALL, with_gaps

ENERGY = EnergyGrid(points=LENGTH).relative()
CONFIGS = [replace(config, standardise="element") for config in SMALL]
CONFIGS[0] = replace(CONFIGS[0], denoise=False)
each_network = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: getattr(config, "kind", "spt"))


def make(rng, config):
    """A network, and the (Z, L) mean and deviation that it was made of; some deviations are next to nothing."""
    some = rng.normal(size=(200, LENGTH)).cumsum(axis=1)
    shape = len(SYMBOLS), LENGTH
    by_element = rng.normal(size=shape).cumsum(axis=1), rng.choice([1e-6, 0.3, 2.0], shape)
    heads = (HeadSpec("CN", 4), HeadSpec("NNRS", 0))
    given = config, heads, ENERGY, some.mean(axis=0), np.cov(some.T)
    return network_class(config)(*given, by_element=by_element, rngs=nnx.Rngs(0)), by_element


def rows_of(rng, count: int) -> tuple[jax.Array, jax.Array]:
    """Of any elements that networks know, with gaps."""
    spectra = with_gaps(rng, rng.normal(size=(count, LENGTH)).cumsum(axis=1))
    return jnp.asarray(spectra, jnp.float32), jnp.asarray(rng.integers(1, ELEMENTS, count), jnp.int32)


@each_network
def test_the_input_is_that_of_the_reference(rng, config, monkeypatch):
    (model, (mean, std)), (rows, numbers) = make(rng, config), rows_of(rng, 7)
    model.gaps.unknown[...] = jnp.asarray(rng.uniform(1, 2, LENGTH), jnp.float32)
    if isinstance(model, SPT):
        signal = model.band_input(rows, numbers)
    else:
        seen = []
        features = type(model).features
        monkeypatch.setattr(type(model), "features", lambda *given: seen.append(given[1]) or features(*given))
        model(rows, numbers)
        [signal] = seen
    filled, known = (np.asarray(each) for each in model.gaps.fill(rows))
    for row, number in enumerate(np.asarray(numbers)):
        for point in range(LENGTH):
            spread = max(float(std[number, point]), LEAST_STD)
            expected = (float(filled[row, point]) - mean[number, point]) / spread
            expected += 0 if known[row, point] else float(model.gaps.unknown[point])
            assert signal[row, point] == pytest.approx(expected, rel=1e-5, abs=1e-4)


@each_network
def test_a_row_is_answered_alone_as_among_other_elements(rng, config):
    (model, _), (rows, numbers) = make(rng, config), rows_of(rng, 5)
    answer = nnx.jit(lambda model, *given: model(*given))
    together = answer(model, rows, numbers)
    for row in range(5):
        alone = answer(model, rows[row : row + 1], numbers[row : row + 1])
        for head in ("CN", "NNRS"):
            scale = float(np.abs(together[head]).max())
            np.testing.assert_allclose(alone[head][0], together[head][row], atol=1e-4 * max(scale, 1))


def test_another_band_input_is_refused(rng):
    with pytest.raises(RunError, match="standardise by element goes with band_input standardised, not derivative"):
        make(rng, replace(CONFIGS[0], band_input="derivative"))
