"""The programs that answer pixels: sums of channels, spikes, what the network says, its probabilities, in one dispatch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data_pipelines.schema import number_of
from data_pipelines.spectra.rebin import Rebinning
from spt_jax.runs.blueprint import Blueprint
from spt_jax.scoring.phases import PhaseDecisions
from spt_jax.shapes import Array, Float

# A sum of channels is a spike that is so many deviations, and by this factor, above the higher of its neighbours.
STANDS_OUT, HIGHER = 8.0, 1.5
# Electrons in the window of the background, fewer say nothing of it.
FEWEST_ELECTRONS = 10.0


class PixelPrograms:
    """Compiled once for a calibration and a size of pieces."""

    def __init__(self, blueprint: Blueprint, network: nnx.Module):
        self._grid, self._decisions = blueprint.grid, blueprint.phases
        self._graph, self._variables = nnx.split(network)
        symbol = blueprint.grid.edge.split()[0]
        self._element = number_of(symbol) if symbol.isalpha() else 0
        self._compiled: dict[tuple, Callable] = {}

    @property
    def x(self) -> np.ndarray:
        """(F + P,) log of the energy of a row's sums, as the background has it."""
        return np.asarray(nnx.merge(self._graph, self._variables).front.x[...])

    def members(self, nuisance: np.ndarray) -> np.ndarray:
        """(C, P) edges of the classes, of mean 1, as decoded and seen through a shift, a broadening and a thickness (3,)."""
        centres = jnp.asarray(self._decisions.centres, jnp.float32)
        network = nnx.merge(self._graph, self._variables)
        return np.asarray(network.measured(network.decode(centres), jnp.tile(jnp.asarray(nuisance), (len(centres), 1))))

    def for_image(self, rebin: Rebinning, gain: float, spectra: bool) -> Callable[[np.ndarray], dict[str, Array]]:
        """(P, E) counts -> what is said of each pixel. spectra: also of each channel."""
        run, given = self.function(rebin, spectra)
        return lambda counts: run(*given, np.float32(gain), counts)

    def function(self, rebin: Rebinning, spectra: bool) -> tuple[Callable, tuple[Any, ...]]:
        """A compiled function of arrays that are the same for all pieces, of the gain, and of (P, E) counts; and the former."""
        key = (rebin.front, rebin.edge, spectra)
        if key not in self._compiled:
            self._compiled[key] = jax.jit(lambda *given: self._run(rebin.front, rebin.edge, spectra, *given))
        return self._compiled[key], (self._variables, jnp.asarray(rebin.front_shares), jnp.asarray(rebin.edge_shares))

    def _run(self, front, edge, spectra: bool, variables, front_shares, edge_shares, gain, counts) -> dict[str, Array]:
        network = nnx.merge(self._graph, variables)
        parts = ((front, front_shares), (edge, edge_shares))
        sums = [counts[:, at[0] : at[1]].astype(jnp.float32) @ shares for at, shares in parts]
        rows = jnp.concatenate(sums, axis=1) / gain
        electrons = rows[:, : self._grid.groups].sum(axis=1)
        total = rows.sum(axis=1)
        reason = jnp.select([~jnp.isfinite(total), total <= 0, electrons < FEWEST_ELECTRONS], [1, 2, 3], 0)
        # What is left out still goes through the network, as something that gives no NaN.
        rows = jnp.where((reason == 0)[:, None], rows, 1.0)
        rows, spikes = mended(rows, self._grid.groups)
        said = network.encode(rows, jnp.full(len(rows), self._element, jnp.int32))
        found = {"reason": reason.astype(jnp.int8), "spikes": spikes, "latent": said["latent"]}
        found |= {"share": jax.nn.softmax(said["share"]), "nuisance": said["nuisance"]}
        decisions: PhaseDecisions = self._decisions
        found["probability"] = jax.nn.softmax(said["phase"] / decisions.temperature)
        found["unlike"] = _distance(said["latent"], decisions) / decisions.farthest
        found |= {"scale": said["scale"], "exponent": said["exponent"], "noise": said["noise"]}
        found["jump"] = said["scale"] / jnp.maximum(said["under"].mean(axis=1), 1e-9)
        if spectra:
            base = network.front.background(*network.front.power_law(rows[:, : self._grid.groups]))
            found |= {"rows": rows, "base": base}
            fitted = network.fitted(said, network.decode(said["latent"]))
            found |= {"fit": fitted["fit"], "misfit": fitted["misfit"]}
            found["unlike"] = jnp.maximum(found["unlike"], fitted["misfit"] / decisions.worst)
        return found


def mended(rows: Float[Array, "P N"], groups: int) -> tuple[Array, Array]:
    """Rows without the spikes of single X-rays in the edge, and (P,) how many there were.

    A spike is in one sum, or in two side by side that it was shared out between.
    """
    edge = rows[:, groups:]
    padded = jnp.pad(edge, ((0, 0), (2, 2)), mode="reflect")
    points = edge.shape[1]
    below, above = padded[:, :points], padded[:, 4:]
    near = jnp.maximum(below, above)
    bar = jnp.maximum(near + STANDS_OUT * jnp.sqrt(jnp.maximum(near, 1)), HIGHER * near)
    out = edge > bar
    return rows.at[:, groups:].set(jnp.where(out, (below + above) / 2, edge)), out.sum(axis=1)


def _distance(latent: Float[Array, "P Z"], decisions: PhaseDecisions) -> Float[Array, "P"]:
    """As `PhaseDecisions.distance`."""
    root = jnp.asarray(np.linalg.cholesky(np.array(decisions.precision)), jnp.float32)
    along, centres = latent @ root, jnp.asarray(decisions.centres, jnp.float32) @ root
    return jnp.sqrt(((along[:, None] - centres) ** 2).sum(axis=2).min(axis=1))
