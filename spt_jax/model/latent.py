"""A variational autoencoder of edges of energy loss: counts in, a place in the latent space, classes, shares, the edge."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spt_jax.config import ExecutionConfig, LatentConfig
from spt_jax.model.front import EdgeFilter, EdgeFront
from spt_jax.model.linear import Linear
from spt_jax.model.spt import SPT
from spt_jax.model.transfer import NUISANCES, seen_through
from spt_jax.shapes import Array, Float, Int

# Of what is drawn from the latent space, behind the sites of dropout of the trunk.
LATENT = 6000
# Units in which the encoder says nuisances.
UNITS = (1.0, 0.5, 0.5)
# A model of an edge is not better than this part of it.
MODEL_ERROR = 0.03
# Layers between the latent space and what is read from it.
READ = 48


class EdgeVAE(nnx.Module):
    """Rows of counts as of `LossGrid` -> what is said of them; made and called as SPT is.

    logs, widths: (F + P,) as of EdgeFront. mean (P,) and covariance (P, P) of edges of mean 1 without noise.
    classes: how many there are. Nothing of a row reaches another.
    """

    def __init__(
        self,
        config: LatentConfig,
        energy: np.ndarray,
        mean: np.ndarray,
        covariance: np.ndarray,
        execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008, it is frozen
        *,
        logs: np.ndarray,
        widths: np.ndarray,
        classes: int,
        rngs: nnx.Rngs,
    ):
        points, dtype, hidden = len(energy), execution.dtype, config.hidden
        self.config, self.execution, self.step = config, execution, float(energy[1] - energy[0])
        directions = min(config.directions, points)
        self.front = EdgeFront(logs, widths, len(logs) - points)
        self.filter = EdgeFilter(mean, covariance, directions)
        trunk = config.trunk and replace(config.trunk, denoise=False, gaps=False)
        self.trunk = SPT(trunk, (), energy, mean, covariance, execution, rngs=rngs) if trunk else None
        given = directions + 1 + (trunk.hidden if trunk else 0)
        widths_ = (given, *(hidden,) * config.hidden_layers)
        self.encoder = nnx.List([Linear(*pair, dtype=dtype, rngs=rngs) for pair in pairwise(widths_)])
        self.said = Linear(hidden, 2 * config.latent + len(NUISANCES), rngs=rngs)
        back = (config.latent, *(hidden,) * config.hidden_layers)
        self.decoder = nnx.List([Linear(*pair, rngs=rngs) for pair in pairwise(back)])
        self.drawn = Linear(hidden, directions, rngs=rngs)
        self.read = Linear(2 * config.latent, READ, rngs=rngs)
        self.outputs = Linear(READ, 2 * classes, rngs=rngs)
        self.judge = Linear(config.latent, READ, rngs=rngs)
        self.judged = Linear(READ, 1, rngs=rngs)

    def encode(self, rows: Float[Array, "B N"], atomic_number: Int[Array, "B"]) -> dict[str, Array]:
        """latent and log_variance (B, Z); phase and share (B, C) logits; nuisance (B, 3) in eV, eV and mean free paths; and
        what the front says, as of `Edge`."""
        with jax.default_matmul_precision("highest" if self.execution.dtype == "float32" else "default"):
            seen = self.front(rows)
            along = self.filter.along(seen.signal, seen.noise)
            features = [self.filter.standardised(along), jnp.log(seen.noise)[:, None]]
            if self.trunk:
                features.append(self.trunk.hidden(self.filter.drawn(along), atomic_number).astype(jnp.float32))
            hidden = jnp.concatenate(features, axis=1)
            for layer in self.encoder:
                hidden = jax.nn.gelu(layer(hidden))
            said = self.said(hidden.astype(jnp.float32))
            z = self.config.latent
            latent, log_variance = said[:, :z], jnp.clip(said[:, z : 2 * z], -10, 4)
            raw = said[:, 2 * z :]
            # A width and a thickness are no less than zero.
            bounded = jnp.concatenate([raw[:, :1], jax.nn.softplus(raw[:, 1:])], axis=1)
            read = jax.nn.gelu(self.read(jnp.concatenate([latent, log_variance], axis=1)))
            phase, share = jnp.split(self.outputs(read), 2, axis=1)
        return {
            "latent": latent,
            "log_variance": log_variance,
            "phase": phase,
            "share": share,
            "nuisance": bounded * jnp.array(UNITS),
            **seen._asdict(),
        }

    def decode(self, latent: Float[Array, "B Z"]) -> Float[Array, "B P"]:
        """The edge of a place in the latent space, as calculated: of mean about 1, not shifted, not broadened."""
        hidden = latent
        for layer in self.decoder:
            hidden = jax.nn.gelu(layer(hidden))
        return self.filter.drawn(self.drawn(hidden) * jnp.sqrt(self.filter.variance[...]))

    def measured(self, edge: Float[Array, "B P"], nuisance: Float[Array, "B 3"]) -> Float[Array, "B P"]:
        """The edge as its measurement shows it, of mean 1."""
        return seen_through(edge, *nuisance.T, self.step)

    def domain(self, latent: Float[Array, "B Z"]) -> Float[Array, "B"]:
        """Logit of being measured, by the discriminator, whose gradient reaches the encoder reversed."""
        return self.judged(jax.nn.gelu(self.judge(reversed_gradient(latent))))[:, 0]

    def sample(self, said: dict[str, Array], keys: Array | None) -> Float[Array, "B Z"]:
        """A place drawn from what is said of the latent space; without keys its mean."""
        if keys is None:
            return said["latent"]
        normal = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, LATENT), said["latent"].shape[1:]))(
            keys
        )
        return said["latent"] + jnp.exp(said["log_variance"] / 2) * normal

    def __call__(
        self,
        spectrum: Float[Array, "B N"],
        atomic_number: Int[Array, "B"],
        keys: Array | None = None,
        source: Int[Array, "B"] | None = None,
    ) -> dict[str, Array]:
        """What `encode` says; edge (B, P) as decoded, fit (B, P) the same as measured, times the scale that fits best, and
        misfit (B,): mean square of what it leaves over that of noise and MODEL_ERROR. keys: draw the latent place."""
        said = self.encode(spectrum, atomic_number)
        edge = self.decode(self.sample(said, keys))
        return said | {"edge": edge} | self.fitted(said, edge)

    def fitted(self, said: dict[str, Array], edge: Float[Array, "B P"]) -> dict[str, Array]:
        """fit and misfit as of `__call__`."""
        shape = self.measured(edge, said["nuisance"])
        signal, noise = said["signal"], said["noise"][:, None]
        height = (shape * signal).sum(axis=1) / jnp.maximum((shape**2).sum(axis=1), 1e-6)
        fit = height[:, None] * shape
        misfit = ((signal - fit) ** 2 / (noise**2 + (MODEL_ERROR * fit) ** 2)).mean(axis=1)
        return {"fit": fit, "misfit": misfit}


@jax.custom_vjp
def reversed_gradient(x: Array) -> Array:
    """x; its gradient has the other sign (arXiv 1409.7495)."""
    return x


reversed_gradient.defvjp(lambda x: (x, None), lambda _, gradient: (-gradient,))
