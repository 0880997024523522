"""What a network is told of how a spectrum was calculated: a learnt vector of the version of FEFF."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from spt_jax.config import SOURCES
from spt_jax.model.denoise import Constant
from spt_jax.shapes import Array, Float, Int


class Sources(nnx.Module):
    """Number of a source, as `schema.source_of` gives it -> a vector, to be added to that of the absorbing element.

    All are zero at first: a fresh network with sources is that without. `weights`, a constant, make the vector of a
    spectrum whose source is not given: that of the unknown one, until `Blueprint.weights_of` others.
    """

    def __init__(self, width: int):
        self.vectors = nnx.Param(jnp.zeros((SOURCES, width)))
        self.weights = Constant(jax.nn.one_hot(0, SOURCES))

    def __call__(self, source: Int[Array, "B"] | None) -> Float[Array, "*B d"]:
        if source is None:
            return (self.weights[...][:, None] * self.vectors[...]).sum(axis=0)
        return self.vectors[...][source]


def of_site(
    element: nnx.Embed, sources: Sources | None, atomic_number: Int[Array, "B"], source: Int[Array, "B"] | None
) -> Float[Array, "B d"]:
    """What is known beside the spectrum: the vector of its element, with that of its source where a network has any."""
    return element(atomic_number) + sources(source) if sources else element(atomic_number)
