"""Learning spectra without labels: parts of each are hidden, and mu and its slope are predicted there from the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import RunError
from data_pipelines.schema import Batch, EnergyGrid
from spt_jax.config import MaskedConfig
from spt_jax.model.heads import SPECTRUM
from spt_jax.objectives.augment import augment, broaden, cosines, mix_share
from spt_jax.tasks import Task

MU, SLOPE = "hidden mu", "hidden slope"
# Validation spectra are hidden by it, the same in every run.
JUDGED_BY = 0


class HiddenRows(NamedTuple):
    """Spectra as they are learnt from.

    spectrum: (B, L) mu, NaN where hidden. target: (B, 2, L) standardised mu and slope. hidden: (B, L) energies that are
    asked for. band: (B, L) frequencies that are; a row has either.
    """

    spectrum: jax.Array
    atomic_number: jax.Array
    target: jax.Array
    hidden: jax.Array
    band: jax.Array


@dataclass(frozen=True)
class Masked:
    """Predict what is hidden of a spectrum, by stretches of energies or by a range of frequencies.

    grid: of the spectra. mean, std: (2, L) of mu and of its slope per eV over the training set. band_variance: (L,) of
    each frequency of standardised mu.
    """

    config: MaskedConfig
    grid: EnergyGrid
    mean: np.ndarray
    std: np.ndarray
    band_variance: np.ndarray

    @classmethod
    def of(cls, config: MaskedConfig, train: Statistics, grid: EnergyGrid) -> Masked:
        """Raises RunError for frequencies and stretches that the grid does not have, and for several signals."""
        if grid.signals:
            raise RunError("hidden parts are learnt of one spectrum, and rows of this dataset have several signals")
        if config.highest_band >= grid.points:
            raise RunError(f"highest_band ({config.highest_band}) must be below the {grid.points} points of the grid")
        if config.span < grid.step:
            raise RunError(f"span ({config.span:g} eV) is shorter than a step of the grid ({grid.step:g} eV)")
        slopes = np.gradient(np.eye(grid.points), grid.step, axis=0)
        maps = np.stack([np.eye(grid.points), slopes])
        std = np.sqrt(np.einsum("kij,jl,kil->ki", maps, train.covariance, maps))
        std = np.maximum(std, 1e-3 * std.max(axis=1, keepdims=True)).astype(np.float32)
        waves = cosines(grid.points) / std[0]
        band_variance = np.einsum("ij,jl,il->i", waves, train.covariance, waves).astype(np.float32)
        return cls(config, grid, (maps @ train.mean).astype(np.float32), std, band_variance)

    @property
    def tasks(self) -> tuple[Task, ...]:
        return ()

    @property
    def names(self) -> tuple[str, ...]:
        return (MU, SLOPE)

    @property
    def hides(self) -> bool:
        return True

    def views(self, batch: Batch, keys: jax.Array) -> HiddenRows:
        """Each spectrum as another detector might have seen another mixture of sites, with a part of it hidden."""
        mixing, augmenting, broadening, spans, bands, choosing, _ = _split(keys)
        config, other = self.config, jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), batch)
        share = mix_share(mixing, batch, other, config.mixup)[:, None]
        known = jnp.isfinite(batch.spectrum)
        # Slope and broadening at an end ask for energies behind it.
        inner = within(known)
        mu = broaden(broadening, jnp.where(known, batch.spectrum, self.mean[0]), config.broadening, self.grid.step)

        def mixed(settings: MaskedConfig) -> jax.Array:
            seen = augment(augmenting, mu, settings, self.grid)
            return share * seen + (1 - share) * jnp.roll(seen, 1, axis=0)

        clean, noisy = mixed(replace(config, noise=0.0)), mixed(config)
        known = inner & (jnp.roll(inner, 1, axis=0) | (share == 1))
        by_band = (jax.vmap(jax.random.uniform)(choosing) < config.bands)[:, None]
        band = by_band & self._ranges(bands, known.shape[1])
        hidden = ~by_band & known & self._spans(spans, known.shape[1])
        waves = cosines(known.shape[1])
        gone = ((noisy - self.mean[0]) / self.std[0] @ waves.T * band) @ waves * self.std[0]
        spectrum = jnp.where(known & ~hidden, noisy - gone, jnp.nan)
        return HiddenRows(spectrum, batch.atomic_number, self._standardised(clean), hidden, band)

    def loss(self, model: nnx.Module, rows: HiddenRows, keys: jax.Array) -> jax.Array:
        """(2,) mean squared error of hidden mu and slope; of a range of frequencies, over its variance, only mu.

        A network with sources is told none.
        """
        found = model(rows.spectrum, rows.atomic_number, _split(keys)[-1])[SPECTRUM]
        error = found.reshape(rows.target.shape) - rows.target
        count = jnp.maximum(rows.hidden.sum(axis=1), 1)
        by_energy = (error**2 * rows.hidden[:, None]).sum(axis=2) / count[:, None]
        variance = jnp.maximum((rows.band * self.band_variance).sum(axis=1), 1e-6)
        by_band = ((error[:, 0] @ cosines(error.shape[2]).T) ** 2 * rows.band).sum(axis=1) / variance
        return jnp.stack([(by_energy[:, 0] + by_band).mean(), by_energy[:, 1].mean() / (1 - self.config.bands)])

    def shown(self, batch: Batch) -> np.ndarray:
        """With stretches of energies hidden, whatever is hidden in training."""
        return np.where(self._hidden_of(batch), np.float32(np.nan), batch.spectrum)

    def score(self, outputs: dict[str, np.ndarray], batch: Batch) -> dict[str, float | None]:
        """R2 of hidden mu and slope: 0 is the mean of the training spectra at each energy."""
        asked = self._hidden_of(batch) & np.asarray(within(jnp.isfinite(batch.spectrum)))
        target = np.asarray(self._standardised(jnp.asarray(batch.spectrum)))
        error = outputs[SPECTRUM].reshape(target.shape) - target
        return {
            name: float(1 - (error[:, i][asked] ** 2).sum() / (target[:, i][asked] ** 2).sum())
            for i, name in enumerate(self.names)
        }

    def decisions(
        self, outputs: dict[str, np.ndarray], batch: Batch, materials: tuple[str, ...], names: tuple[str, ...]
    ) -> None:
        return None

    def _standardised(self, mu: jax.Array) -> jax.Array:
        """(B, L) mu -> (B, 2, L)."""
        both = jnp.stack([mu, jnp.gradient(mu, self.grid.step, axis=1)], axis=1)
        return (both - self.mean) / self.std

    def _hidden_of(self, batch: Batch) -> np.ndarray:
        """(N, L) what is hidden of a split."""
        keys = jax.random.split(jax.random.key(JUDGED_BY), len(batch.spectrum))
        return np.asarray(self._spans(keys, batch.spectrum.shape[1]))

    def _spans(self, keys: jax.Array, length: int) -> jax.Array:
        """(B, L) True in stretches at random places, so many that each energy is hidden with the chance `hide`."""
        size = min(round(self.config.span / self.grid.step), length)
        places = length + size - 1  # where a stretch may end, so that the first energy is hidden as often as the rest
        count = max(1, round(np.log(1 - self.config.hide) / np.log(1 - size / places)))
        ends = jax.vmap(lambda key: jax.random.randint(key, (count, 1), 0, places))(keys)
        at = jnp.arange(length)
        return ((at <= ends) & (at > ends - size)).any(axis=1)

    def _ranges(self, keys: jax.Array, length: int) -> jax.Array:
        """(B, L) True in `band_width` neighbouring frequencies of 1..highest_band."""
        config, at = self.config, jnp.arange(length)
        highest = config.highest_band - config.band_width + 2
        first = jax.vmap(lambda key: jax.random.randint(key, (1,), 1, highest))(keys)
        return (at >= first) & (at < first + config.band_width)


def within(known: jax.Array) -> jax.Array:
    """(B, L) True where an energy and its neighbours on the grid are known."""
    padded = jnp.pad(known, ((0, 0), (1, 1)), constant_values=True)
    return padded[:, :-2] & known & padded[:, 2:]


def _split(keys: jax.Array) -> tuple[jax.Array, ...]:
    """(B,) keys of rows -> those of mixing, augmentation, broadening, spans, bands, the choice of these, dropout."""
    each = jax.vmap(lambda row: jax.random.split(row, 7))(keys)
    return tuple(each[:, i] for i in range(7))
