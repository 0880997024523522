import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.errors import RunError
from data_pipelines.schema import Batch
from spt_jax.training.memory import fits, outputs_in_pieces


@pytest.mark.parametrize("count", [1, 7, 8, 21])
def test_pieces_are_the_whole(rng, count):
    spectrum, number = rng.random((count, 5)).astype(np.float32), rng.integers(1, 90, count).astype(np.int32)
    shapes = set()

    def apply(spectrum, number):
        shapes.add(spectrum.shape)
        return {"a": jnp.asarray(spectrum.sum(axis=1) + number), "b": jnp.asarray(spectrum)}

    found = outputs_in_pieces(apply, Batch(spectrum, number, spectrum, spectrum > 0), rows=8)
    np.testing.assert_array_equal(found["b"], spectrum)
    np.testing.assert_allclose(found["a"], spectrum.sum(axis=1) + number, rtol=1e-6)
    assert len(shapes) == 1, "one compiled program"


def test_too_little_memory_says_what_to_try():
    """With an array that no machine holds."""
    with (
        pytest.raises(RunError, match=r"batch of 64 does not fit.*--train.accumulate 4.*--train.batch-size 32"),
        fits(64, 2),
    ):
        jnp.zeros((1 << 50,), jnp.float32).block_until_ready()
    with pytest.raises(ZeroDivisionError), fits(64, 1):
        1 / 0  # noqa: B018
