"""Settings for the whole suite: shapes of the model are checked at each call, programs are compiled once."""

import os
import tempfile

# Inherited by pytest's workers and the processes that tests start; a program compiled by one is read by the next.
if not {"PYTEST_XDIST_WORKER", "JAX_COMPILATION_CACHE_DIR"} & os.environ.keys():
    _cache = tempfile.TemporaryDirectory(prefix="spt-jax-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import numpy as np
import pytest
from jaxtyping import install_import_hook

install_import_hook(["spt_jax.model", "spt_jax.peers"], "beartype.beartype")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rng-seed", type=int, help="seed of the random inputs, as a failed test printed it")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Fresh random inputs every run; a failure prints how to have the same again."""
    seed = request.config.getoption("rng_seed")
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    print(f"the same again: --rng-seed {seed}")
    return np.random.default_rng(seed)
