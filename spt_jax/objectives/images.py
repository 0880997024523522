"""Learning spectrum images: calculated edges and measured pixels are encoded alike, and each says what counts it expects.

A row is seen in one exposure and judged by another one of the same edge, so that no clean spectrum is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import RunError
from data_pipelines.loss_grid import CLASS_COLUMN, DOMAIN_COLUMN, LossGrid
from data_pipelines.schema import Batch, EnergyGrid
from spt_jax.config import ImagesConfig
from spt_jax.model.latent import MODEL_ERROR, UNITS
from spt_jax.objectives.detector import exposed, split_counts
from spt_jax.scoring.phases import PhaseDecisions
from spt_jax.tasks import Task

# What a latent number may say for nothing, in nats: else those that say little would say nothing.
FREE = 0.02
# Validation rows are exposed by it, the same in every run.
JUDGED_BY = 0
# Edges that a mixture is made of, at most.
MIXED = 3
# Of the deviance of a channel, most that is counted: one pixel must not outweigh all.
MOST = 50.0


class ExposedRows(NamedTuple):
    """seen, target, ratio, nuisance: as of `Exposure`. share: (B, C) what a calculated row is a mixture of. kind: (B,) class
    with the largest share, or that of a labelled pixel. labelled: (B,) is it known? domain: (B,) 0 calculated, 1 measured."""

    seen: jax.Array
    target: jax.Array
    ratio: jax.Array
    nuisance: jax.Array
    share: jax.Array
    kind: jax.Array
    labelled: jax.Array
    domain: jax.Array
    atomic_number: jax.Array


@dataclass(frozen=True)
class Images:
    """Counts of a second exposure, classes and shares of calculated edges, classes of labelled pixels."""

    config: ImagesConfig
    grid: LossGrid

    @classmethod
    def of(cls, config: ImagesConfig, train: Statistics, grid: EnergyGrid) -> Images:
        """Raises RunError for data that are no images."""
        if not isinstance(grid, LossGrid):
            raise RunError(
                "objective images learns spectrum images; make them a dataset with `spt-jax image-data`, this one has spectra "
                f"{grid}"
            )
        return cls(config, grid)

    @property
    def tasks(self) -> tuple[Task, ...]:
        return ()

    @property
    def names(self) -> tuple[str, ...]:
        return ("counts", "latent", "phase", "share", "nuisance", "domain")

    @property
    def hides(self) -> bool:
        return False

    def views(self, batch: Batch, keys: jax.Array) -> ExposedRows:
        """Calculated edges, some of them mixed with their neighbours in the batch, as counts; pixels in two parts."""
        grid = self.grid
        measured = batch.labels[:, DOMAIN_COLUMN] > 0
        kind = batch.labels[:, CLASS_COLUMN].astype(jnp.int32)
        labelled = batch.mask[:, CLASS_COLUMN]
        draw = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 100), (1 + MIXED,)))(keys)
        # A pixel is no part of a mixture of calculated edges.
        there = jnp.stack([~measured & ~jnp.roll(measured, i) for i in range(MIXED)], axis=1)
        # Exponential numbers over their sum are spread evenly over all mixtures (Devroye, 11.4).
        weight = -jnp.log(jnp.maximum(draw[:, 1:], 1e-12)) * there
        alone = (draw[:, :1] >= self.config.mixed) | measured[:, None]
        weight = jnp.where(alone, jnp.arange(MIXED) == 0, weight / jnp.maximum(weight.sum(axis=1, keepdims=True), 1e-9))

        def mixture(rows: jax.Array) -> jax.Array:
            return sum(weight[:, i, None] * jnp.roll(rows, i, axis=0) for i in range(MIXED))

        calculated = exposed(mixture(batch.spectrum[:, grid.groups :]), keys, self.config, grid)
        pixels = split_counts(batch.spectrum, keys)

        def either(own: jax.Array, other: jax.Array) -> jax.Array:
            return jnp.where(measured.reshape(-1, *(1,) * (own.ndim - 1)), own, other)

        share = mixture(jax.nn.one_hot(kind, len(grid.classes)))
        kind = jnp.where(measured, kind, jnp.argmax(share, axis=1))
        fields = (either(own, other) for own, other in zip(pixels, calculated, strict=True))
        return ExposedRows(*fields, share, kind, labelled, measured.astype(jnp.float32), batch.atomic_number)

    def loss(self, model: nnx.Module, rows: ExposedRows, keys: jax.Array) -> jax.Array:
        """(6,): deviance of the other exposure a channel, information in the latent space, cross entropies of class and
        share over that of a guess, squared error of what was drawn, and the discriminator's cross entropy."""
        config, classes = self.config, len(self.grid.classes)
        said = model.encode(rows.seen, rows.atomic_number)
        edge = model.decode(model.sample(said, keys))
        counts = self._deviance(model, said, model.measured(edge, said["nuisance"]), rows)
        mean, log_variance = said["latent"], said["log_variance"]
        nats = 0.5 * (mean**2 + jnp.exp(log_variance) - 1 - log_variance)
        calculated = 1 - rows.domain
        phase = -jnp.take_along_axis(jax.nn.log_softmax(said["phase"]), rows.kind[:, None], axis=1)[:, 0]
        share = -(rows.share * jax.nn.log_softmax(said["share"])).sum(axis=1)
        off = (((said["nuisance"] - rows.nuisance) / jnp.array(UNITS)) ** 2).mean(axis=1)
        domain = jax.nn.softplus((1 - 2 * rows.domain) * model.domain(mean))
        losses = (
            counts,
            config.beta * jnp.maximum(nats, FREE).sum(axis=1),
            rows.labelled * phase / np.log(classes),
            calculated * share / np.log(classes),
            calculated * off,
            config.align * domain,
        )
        return jnp.stack([each.mean() for each in losses])

    def _deviance(self, model: nnx.Module, said: dict, shape: jax.Array, rows: ExposedRows) -> jax.Array:
        """(B,) Poisson deviance of the other exposure a channel of the edge. Background and height are those that fit it best,
        in one step of weighted least squares; what the network answers for is the shape. Where there are so many counts
        that they scatter less than MODEL_ERROR, that is what a deviation is measured by."""
        groups, target = self.grid.groups, rows.target
        base = said["base"] * rows.ratio[:, None]
        height = (said["scale"] * rows.ratio)[:, None]
        edge = jnp.concatenate([jnp.zeros_like(base[:, :groups]), shape * height], axis=1)
        design = jnp.stack([base, base * model.front.x[...], edge], axis=2)
        guess = jax.lax.stop_gradient(jnp.maximum(base + jnp.maximum(edge, 0), 1e-3))
        weighted = design / guess[:, :, None]
        gram = jnp.einsum("bni,bnj->bij", weighted, design)
        size = jnp.sqrt(jnp.maximum(jnp.einsum("bii->bi", gram), 1e-12))
        gram = gram / (size[:, :, None] * size[:, None, :]) + 1e-5 * jnp.eye(3)
        found = jnp.linalg.solve(gram, (jnp.einsum("bni,bn->bi", weighted, target) / size)[..., None])[..., 0] / size
        rate = jnp.einsum("bni,bi->bn", design, jax.lax.stop_gradient(found))[:, groups:]
        rate = jnp.maximum(rate, 1e-2 * guess[:, groups:])
        n = jnp.maximum(target[:, groups:], 0)
        deviance = 2 * (rate - n + n * jnp.log(jnp.maximum(n, 1e-6) / rate))
        doubt = 1 + jax.lax.stop_gradient((MODEL_ERROR * edge[:, groups:]) ** 2 / rate)
        return jnp.minimum((deviance / doubt).mean(axis=1), MOST)

    def shown(self, batch: Batch) -> np.ndarray:
        """Calculated edges as exposed, the same every time; of pixels all counts."""
        return np.asarray(self._judged(batch).seen)

    def score(self, outputs: dict[str, np.ndarray], batch: Batch) -> dict[str, float | None]:
        """Of calculated rows. phase: how much more often than a guess the class is right, 1 where always. share: R2."""
        rows = self._judged(batch)
        own = np.asarray(rows.domain) == 0
        right = (outputs["phase"].argmax(axis=1) == np.asarray(rows.kind))[own].mean()
        share = np.asarray(jax.nn.softmax(jnp.asarray(outputs["share"]), axis=1))[own]
        truth, guess = np.asarray(rows.share)[own], 1 / len(self.grid.classes)
        spread = ((truth - truth.mean(axis=0)) ** 2).sum()
        return {
            "phase": float((right - guess) / (1 - guess)),
            "share": float(1 - ((share - truth) ** 2).sum() / max(spread, 1e-9)),
        }

    def decisions(
        self, outputs: dict[str, np.ndarray], batch: Batch, materials: tuple[str, ...], names: tuple[str, ...]
    ) -> PhaseDecisions:
        """Temperature of the classes, and how far calculated edges lie from each other in the latent space."""
        rows = self._judged(batch)
        own = np.asarray(rows.domain) == 0
        return PhaseDecisions.fit(
            outputs["phase"][own],
            outputs["latent"][own],
            outputs["misfit"][own],
            outputs["edge"][own],
            np.asarray(rows.kind)[own],
            np.asarray(rows.share)[own],
        )

    def _judged(self, batch: Batch) -> ExposedRows:
        keys = jax.random.split(jax.random.key(JUDGED_BY), len(batch.spectrum))
        found = jax.jit(self.views)(Batch(*map(jnp.asarray, batch)), keys)
        whole = jnp.where(found.domain[:, None] > 0, batch.spectrum, found.seen)
        return found._replace(seen=whole)
