"""The programs that answer pixels: sums of channels, spikes, what the network says, its probabilities, in one dispatch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.loss_grid import LossGrid
from data_pipelines.schema import number_of
from data_pipelines.spectra.rebin import Rebinning
from spt_jax.model.transfer import seen_through
from spt_jax.runs.blueprint import Blueprint
from spt_jax.scoring.phases import PhaseDecisions
from spt_jax.shapes import Array, Float

# A sum of channels is a spike that is so many deviations, and by this factor, above the higher of its neighbours.
STANDS_OUT, HIGHER = 8.0, 1.5
# Electrons in the window of the background, fewer say nothing of it.
FEWEST_ELECTRONS = 10.0
# Standard errors that an edge is above the background, at least, and what is said of one that is not there at all.
LEAST_EDGE, UNSEEN = 2.0, 100.0

Said = Callable[[Any, Array, Array], dict[str, Array]]


class PixelPrograms:
    """Compiled once for a calibration and a size of pieces."""

    def __init__(self, blueprint: Blueprint, network: Said, variables: Any = ()):
        """network: (variables, (B, N) rows, (B,) atomic numbers) -> what is said of each; of what is not used, nothing is
        computed."""
        self._grid, self._decisions = blueprint.grid, blueprint.phases
        self._network, self._variables = network, variables
        symbol = blueprint.grid.edge.split()[0]
        self._element = number_of(symbol) if symbol.isalpha() else 0
        self._compiled: dict[tuple, Callable] = {}

    def members(self, nuisance: np.ndarray) -> np.ndarray:
        """(C, P) edges of the classes, of mean 1, as decoded and seen through a shift, a broadening and a thickness (3,)."""
        edges = jnp.asarray(self._decisions.edges, jnp.float32)
        each = (jnp.full(len(edges), value) for value in nuisance)
        return np.asarray(seen_through(edges, *each, self._grid.step))

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
        parts = ((front, front_shares), (edge, edge_shares))
        sums = [counts[:, at[0] : at[1]].astype(jnp.float32) @ shares for at, shares in parts]
        rows = jnp.concatenate(sums, axis=1) / gain
        electrons = rows[:, : self._grid.groups].sum(axis=1)
        total = rows.sum(axis=1)
        reason = jnp.select([~jnp.isfinite(total), total <= 0, electrons < FEWEST_ELECTRONS], [1, 2, 3], 0)
        # What is left out still goes through the network, as something that gives no NaN.
        rows = jnp.where((reason == 0)[:, None], rows, 1.0)
        rows, spikes = mended(rows, self._grid.groups)
        said = self._network(variables, rows, jnp.full(len(rows), self._element, jnp.int32))
        found = {"reason": reason.astype(jnp.int8), "spikes": spikes, "latent": said["latent"]}
        found |= {"share": jax.nn.softmax(said["share"]), "nuisance": said["nuisance"]}
        decisions: PhaseDecisions = self._decisions
        found["probability"] = jax.nn.softmax(said["phase"] / decisions.temperature)
        unseen = doubt(rows, said["base"], self._grid.groups, lever_of(self._grid))
        found["unlike"] = jnp.maximum(_distance(said["latent"], decisions) / decisions.farthest, unseen)
        found |= {"scale": said["scale"], "exponent": said["exponent"], "noise": said["noise"]}
        found["jump"] = said["scale"] / jnp.maximum(said["base"][:, self._grid.groups :].mean(axis=1), 1e-9)
        if spectra:
            found |= {"rows": rows, **{name: said[name] for name in ("base", "fit", "misfit")}}
            found["unlike"] = jnp.maximum(found["unlike"], said["misfit"] / decisions.worst)
        return found


def lever_of(grid: LossGrid) -> float:
    """Variance of a power law under the edge over that in the middle of the front that it is fitted in: its exponent is the
    better known the longer the front is, and counts the more the farther the edge is."""
    logs = grid.logs()  # 0 in the middle of the front
    return float(1 + logs[grid.groups :].mean() ** 2 / logs[: grid.groups].var())


def doubt(rows: Float[Array, "P N"], base: Float[Array, "P N"], groups: int, lever: float) -> Float[Array, "P"]:
    """How far from seen an edge is: above 1 where its counts are fewer than LEAST_EDGE standard errors, as in vacuum, which a
    network has a class for all the same.

    The error is that of the counts beyond the edge, and of the background below them by the counts in front.
    """
    front, edge, under = rows[:, :groups].sum(axis=1), rows[:, groups:].sum(axis=1), base[:, groups:].sum(axis=1)
    error = jnp.sqrt(jnp.maximum(edge, 1) + lever * under**2 / jnp.maximum(front, 1))
    return jnp.minimum(LEAST_EDGE * error / jnp.maximum(edge - under, 1e-9), UNSEEN)


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
