"""Hostile settings for the whole suite: shapes are checked, warnings of our own code are errors."""

from jaxtyping import install_import_hook

# Before anything imports the model: every annotated shape of spt_jax.model is verified at each call.
install_import_hook("spt_jax.model", "beartype.beartype")

import numpy as np  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture
def rng(request) -> np.random.Generator:
    """Fresh random inputs every run; the seed is printed with a failure."""
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    request.node.user_properties.append(("seed", seed))
    print(f"rng seed {seed}")
    return np.random.default_rng(seed)
