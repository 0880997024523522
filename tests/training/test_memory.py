import jax.numpy as jnp
import pytest

from data_pipelines.errors import RunError
from spt_jax.config import ExecutionConfig
from spt_jax.training.memory import fits


def test_too_little_memory_says_what_to_try():
    """With an array that no machine holds."""
    with (
        pytest.raises(
            RunError,
            match=r"batch of 64 does not fit.*--execution.accumulate 4.*--execution.remat.*--train.batch-size 32",
        ),
        fits(64, ExecutionConfig(accumulate=2)),
    ):
        jnp.zeros((1 << 50,), jnp.float32).block_until_ready()
    with pytest.raises(ZeroDivisionError), fits(64, ExecutionConfig()):
        1 / 0  # noqa: B018
