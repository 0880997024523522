"""The number of a checkpoint's arrays: the same on host and device, and another for any word that differs."""

import jax.numpy as jnp
import numpy as np

from spt_jax.runs.digest import digest, digest_on_device


def test_host_and_device_agree_and_every_word_counts(rng):
    tree = {
        "a": rng.normal(size=(3, 50)).astype(np.float32),
        "b": np.int32(-7),
        "c": rng.integers(0, 9, (2, 3, 4), np.int32),
    }
    tree["d"] = np.array([np.nan, np.inf, -0.0], np.float32)
    expected = digest(tree)
    assert [int(x) for x in digest_on_device({name: jnp.asarray(x) for name, x in tree.items()})] == expected
    for place in rng.integers(0, 150, 20):
        other = tree["a"].copy().reshape(-1)
        other.view(np.uint32)[place] ^= np.uint32(1) << np.uint32(rng.integers(32))
        assert digest({**tree, "a": other})[0] != expected[0]
    swapped = tree["a"].copy()
    swapped[0, [0, 1]] = swapped[0, [1, 0]]
    assert digest({**tree, "a": swapped}) != expected
