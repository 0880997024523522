import jax.numpy as jnp
import numpy as np
import pytest

from spt_jax.batching import in_pieces


@pytest.mark.parametrize("count", [1, 7, 8, 21])
def test_pieces_are_the_whole(rng, count):
    spectrum, number = rng.random((count, 5)).astype(np.float32), rng.integers(1, 90, count).astype(np.int32)
    shapes = set()

    def apply(spectrum, number):
        shapes.add(spectrum.shape)
        return {"a": jnp.asarray(spectrum.sum(axis=1) + number), "b": jnp.asarray(spectrum)}

    found = in_pieces(apply, 8, spectrum, number)
    np.testing.assert_array_equal(found["b"], spectrum)
    np.testing.assert_allclose(found["a"], spectrum.sum(axis=1) + number, rtol=1e-6)
    assert shapes == {(8, 5)}, "one compiled program"
