"""Channels that are no signal: X-rays that hit the detector, NaN, and channels that are dead in all pixels.

A spike is one or two channels wide, stands out of the channels about it and out of what the other pixels have there; a
white line is wider, or is in other pixels too.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from spt_jax.shapes import Array, Bool, Float

# Channels on either side over which a pixel is compared with the others.
NEAR = 12


def usual_spectrum(sample: np.ndarray) -> np.ndarray:
    """(E,) mean of the spectra of a sample (P, E) without what stands out of it; NaN are not counted, all-NaN channels 0."""
    with np.errstate(invalid="ignore"):
        total = np.nansum(sample, axis=1)
    alive = total > 0
    if not alive.any():
        return np.zeros(sample.shape[1])
    rows = np.where(np.isfinite(sample[alive]), sample[alive], np.nan)
    gain = np.maximum(total[alive] / total[alive].mean(), 1e-6)[:, None]
    with np.errstate(all="ignore"):
        empty = np.isnan(rows).all(axis=0)
        rows[:, empty] = 0
        scaled = rows / gain
        middle = np.nanmedian(scaled, axis=0)
        spread = 1.4826 * np.nanmedian(np.abs(scaled - middle), axis=0)
        limit = middle + 6 * np.maximum(spread, np.sqrt(np.maximum(middle, 1)))
        return np.nanmean(np.where(rows / gain > limit, np.nan, rows), axis=0)


def dead_channels(usual: np.ndarray) -> np.ndarray:
    """(E,) bool: channels that are zero in the mean where the two on either side are not."""
    padded = np.pad(usual, 2, mode="edge")
    around = np.stack([padded[:-4], padded[1:-3], padded[3:-1], padded[4:]])
    return (usual <= 0) & (np.sort(around, axis=0)[1] > 1)


@partial(jax.jit, static_argnames="limit")
def mended(
    counts: Float[Array, "P E"], usual: Float[Array, "E"], dead: Bool[Array, "E"], gain: float, limit: float
) -> tuple[Array, Array, Array]:
    """Spectra with spikes, NaN and dead channels filled with what is expected there, (P, E) where spikes were, and (P,) how
    many channels were filled for another reason.

    usual: of `usual_spectrum`. gain: counts of one electron. limit: in standard deviations; 0 leaves spikes in.
    """
    missing = ~jnp.isfinite(counts) | dead
    known = jnp.where(missing, 0, counts)
    # The mean's course, at the height of this spectrum here; at the ends of fewer channels.
    reach = jnp.where(missing, 0, jnp.broadcast_to(usual, counts.shape))
    expected = usual * _near(known) / jnp.maximum(_near(reach), 1e-12)
    spikes = jnp.zeros_like(missing)
    if limit:
        padded = jnp.pad(known, ((0, 0), (3, 3)), mode="reflect")
        e = counts.shape[1]
        at = {k: padded[:, 3 + k : 3 + k + e] for k in (-3, -2, -1, 1, 2, 3)}
        # The highest of two on either side, behind the one that may belong to the spike.
        one = jnp.maximum(jnp.maximum(at[-2], at[-1]), jnp.maximum(at[1], at[2]))
        two = jnp.minimum(
            jnp.maximum(jnp.maximum(at[-2], at[-1]), jnp.maximum(at[2], at[3])),
            jnp.maximum(jnp.maximum(at[-3], at[-2]), jnp.maximum(at[1], at[2])),
        )
        around = jnp.minimum(one, two)
        out = jnp.maximum(around, 0)
        # The top of a narrow line stands above its flanks as well, but by less than they span.
        lowest = jnp.minimum(jnp.minimum(at[-2], at[-1]), jnp.minimum(at[1], at[2]))
        bar = limit * jnp.sqrt(gain * jnp.maximum(out, gain)) + (around - lowest)
        # The local mean holds a share of the spike itself: what is expected is judged without it.
        without = usual * _near(jnp.minimum(known, around + bar)) / jnp.maximum(_near(reach), 1e-12)
        high = limit * jnp.sqrt(gain * jnp.maximum(without, gain))
        spikes = (known - around > bar) & (known - without > high) & ~missing
        keep = ~(missing | spikes)
        expected = usual * _near(jnp.where(keep, known, 0)) / jnp.maximum(_near(jnp.where(keep, usual, 0)), 1e-12)
    return jnp.where(missing | spikes, expected, known), spikes, missing.sum(axis=1)


def _near(counts: Float[Array, "P E"]) -> Float[Array, "P E"]:
    """Sums over NEAR channels on either side, fewer at the ends; by doubling, because a sum of all before would be rounded."""
    channels, width = counts.shape[1], 2 * NEAR + 1
    sums, total, at = jnp.pad(counts, ((0, 0), (NEAR, NEAR))), 0.0, 0
    for power in range(width.bit_length()):
        if width >> power & 1:
            total = total + sums[:, at : at + channels]
            at += 1 << power
        grown = sums.shape[1] - (1 << power)
        sums = sums[:, :grown] + sums[:, 1 << power :]
    return total
