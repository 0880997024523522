"""From the hidden sequence to one output per descriptor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from spt_jax.model.dropout import drop
from spt_jax.model.linear import Linear
from spt_jax.shapes import Array, Float

# The head that says what was hidden of a spectrum of L energies: 2 L numbers, mu and its slope.
SPECTRUM = "spectrum"
# Sites of dropout: those of the blocks are counted from 0.
HEADS = 1000


@dataclass(frozen=True)
class HeadSpec:
    """One descriptor's output: logits of `classes` classes or elements, or one standardised value where it is 0. That of
    `SPECTRUM` is as many numbers instead of logits."""

    name: str
    classes: int


def head_specs(tasks: Iterable[Any]) -> tuple[HeadSpec, ...]:
    """What a network is asked to put out, of anything with a name and a number of classes."""
    return tuple(HeadSpec(task.name, task.classes) for task in tasks)


def outputs_of(specs: tuple[HeadSpec, ...]) -> int:
    """Numbers that all heads put out."""
    return sum(max(spec.classes, 1) for spec in specs)


def by_name(flat: Float[Array, "B O"], specs: tuple[HeadSpec, ...]) -> dict[str, Array]:
    """All outputs side by side -> (B, C) or (B,) of each head."""
    result, start = {}, 0
    for spec in specs:
        stop = start + max(spec.classes, 1)
        result[spec.name] = flat[:, start:stop] if spec.classes else flat[:, start]
        start = stop
    return result


class Heads(nnx.Module):
    """Energy-resolved readout and a few dense layers shared by all descriptors, then one linear map each.

    The readout keeps a few channels of *every* energy point, and the input signal itself: where a feature stands
    is what tells an oxidation state, and a pooled mean would lose it.
    """

    def __init__(
        self,
        specs: tuple[HeadSpec, ...],
        length: int,
        width: int,
        channels: int,
        hidden: int,
        layers: int,
        *,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        self.specs = specs
        self.reduce = Linear(width, channels, dtype=dtype, rngs=rngs)
        self.shared = Linear(length * (channels + 1) + width, hidden, dtype=dtype, rngs=rngs)
        self.layers = nnx.List([Linear(hidden, hidden, dtype=dtype, rngs=rngs) for _ in range(layers - 1)])
        self.outputs = Linear(hidden, outputs_of(specs), dtype=jnp.float32, rngs=rngs) if specs else None

    def __call__(
        self, h: Float[Array, "L B d"], signal: Float[Array, "B L"], dropout: float, keys: Array | None
    ) -> dict[str, Float[Array, "B"] | Float[Array, "B C"]]:
        return by_name(self.outputs(self.hidden(h, signal, dropout, keys).astype(jnp.float32)), self.specs)

    def hidden(
        self, h: Float[Array, "L B d"], signal: Float[Array, "B L"], dropout: float, keys: Array | None
    ) -> Float[Array, "B H"]:
        """The last layer that all descriptors share."""
        readout = self.reduce(h).swapaxes(0, 1).reshape(h.shape[1], -1)
        features = drop(jnp.concatenate([readout, h.mean(axis=0), signal], axis=-1), dropout, keys, HEADS)
        hidden = drop(jax.nn.gelu(self.shared(features)), dropout, keys, HEADS + 1)
        for i, layer in enumerate(self.layers, start=HEADS + 2):
            hidden = drop(jax.nn.gelu(layer(hidden)), dropout, keys, i)
        return hidden
