"""Settings for the whole suite: shapes of the model are checked at each call, programs are compiled once."""

import os
import tempfile
from importlib.metadata import version
from pathlib import Path

# Inherited by pytest's workers and the processes that tests start; a program compiled by one is read by the next.
if not {"PYTEST_XDIST_WORKER", "JAX_COMPILATION_CACHE_DIR"} & os.environ.keys():
    _cache = tempfile.TemporaryDirectory(prefix="spt-jax-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
    os.environ["XDG_CACHE_HOME"] = _cache.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import numpy as np
import pytest
from jaxtyping import install_import_hook

from tests.data_pipelines.stores import s3_store, store  # noqa: F401

# Most of the tests' time is XLA's, and what it compiles here runs for moments. Whoever sets XLA_FLAGS, if to nothing,
# has the programs of a user.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
# For a jit: as XLA compiles for a user, where something is claimed to the bit.
AS_USERS = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
# A flag that later ones refuse.
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
    QUICK["xla_cpu_use_fusion_emitters"], AS_USERS["xla_cpu_use_fusion_emitters"] = False, True
os.environ.setdefault("XLA_FLAGS", " ".join(f"--{name}={str(value).lower()}" for name, value in QUICK.items()))

install_import_hook(["spt_jax.model", "spt_jax.peers"], "beartype.beartype")

# As arguments of the command: a network that learns in seconds.
SMALL = "--train.epochs 4 --model.width 8 --model.blocks 1 --model.hidden 32".split()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rng-seed", type=int, help="seed of the random inputs, as a failed test printed it")


# Files go to workers in the order of their names; one that takes minutes must not be among the last.
LONG = (
    "tests/training/",
    "tests/inference/",
    "tests/benchmarks/",
    "tests/study/",
    "tests/test_quickstart.py",
    "tests/test_zoo.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Fresh random inputs every run; a failure prints how to have the same again."""
    seed = request.config.getoption("rng_seed")
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    print(f"the same again: --rng-seed {seed}")
    return np.random.default_rng(seed)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder for all who ask a model and do not care which."""
    # Not above: the network is to be read after the hook is there.
    from data_pipelines.library import LIBRARY
    from spt_jax.cli import main

    out = tmp_path_factory.mktemp("trained") / "run"
    main(["train", "tiny", "--data", str(LIBRARY), "--out", str(out), *SMALL])
    return out
