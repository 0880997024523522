"""Which periods a spectrum is folded at: band input, band strength, static top-k.

Everything here is a fixed linear map or a mask, so shapes never depend on the data.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from spt_jax.shapes import Array, Float, Int

# 2 m_e / hbar^2 in 1 / (eV Å^2): k^2 = K2_PER_EV (E - E0).
K2_PER_EV = 0.2624682


def period(frequency: Int[Array, "*any"], length: int) -> Int[Array, "*any"]:
    """p_f = ceil(L / f), the fold width of frequency f (paper, multi-scale bands)."""
    return -(-length // frequency)


def band_input_map(kind: str, energy: np.ndarray, mean: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The affine map mu -> mu @ A + b that makes the network's input, each kind with unit variance overall.

    energy: (L,) eV above the reference energy. mean, std: (L,) of mu over the training set.
    Returns A (L, L) and b (L,), float64. The edge step dominates raw mu and so its low bands; the
    other kinds take it out: by the training mean, a smooth fit, a derivative, or on a uniform k axis.
    """
    length = len(energy)
    eye = np.eye(length)
    if kind == "raw":
        linear, offset = eye, np.full(length, -mean.mean())
    elif kind == "standardised":
        safe = np.maximum(std, 1e-3 * std.max())
        return eye / safe, -mean / safe
    elif kind == "background":
        linear, offset = eye - _smooth_projection(energy, mean), np.zeros(length)
    elif kind == "derivative":
        linear, offset = np.gradient(eye, energy, axis=0).T, np.zeros(length)
    elif kind == "kspace":
        # E0 where the mean spectrum crosses half the edge step; mu - background on a uniform k grid, times k.
        e0 = energy[int(np.argmax(mean > 0.5))]
        k = np.linspace(0, math.sqrt(K2_PER_EV * (energy[-1] - e0)), length)
        at = e0 + k**2 / K2_PER_EV
        interpolate = np.stack([np.interp(at, energy, row) for row in eye])
        linear, offset = (eye - _smooth_projection(energy, mean)) @ interpolate * (0.25 + k), np.zeros(length)
    else:
        raise ValueError(f"unknown band input {kind!r}")
    # One scale for all energies: the spread of the mapped training set, taken as uncorrelated.
    spread = np.sqrt(((std**2) @ linear**2 + (mean @ linear + offset) ** 2).mean())
    return linear / spread, offset / spread


def _smooth_projection(energy: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(L, L) least-squares projection on the mean's edge (an arctangent) and a cubic."""
    x = np.linspace(-1, 1, len(energy))
    e0 = energy[int(np.argmax(mean > 0.5))]
    basis = np.stack([np.ones_like(x), x, x**2, x**3, np.arctan((energy - e0) / 2.0)], axis=1)
    return basis @ np.linalg.pinv(basis)


def waves(length: int, highest: int) -> np.ndarray:
    """(2 F, L): cosines, then sines, of the frequencies 1..highest.

    Where few of the L/2 frequencies compete, two real matrix products are the exact rfft and faster than it.
    """
    angle = 2 * np.pi * np.outer(np.arange(1, highest + 1), np.arange(length)) / length
    return np.concatenate([np.cos(angle), np.sin(angle)]).astype(np.float32)


def band_strength(h: Float[Array, "L B d"], highest: int) -> Float[Array, "B F"]:
    """Mean over channels of |rfft(h)| along energy, at the frequencies 1..highest; DC is left out."""
    wave = waves(len(h), highest)
    # Not reshaped to two axes: on a TPU that moves the whole sequence.
    if h.dtype == jnp.bfloat16:
        # A wave in two parts of its own: exact enough in two passes of an accelerator, where float32 takes six.
        coarse = jnp.asarray(wave, jnp.bfloat16)
        both = jnp.concatenate([coarse, jnp.asarray(wave - coarse.astype(np.float32), jnp.bfloat16)])
        return _strength(sum(jnp.split(jnp.tensordot(both, h, 1, preferred_element_type=jnp.float32), 2)))
    return _strength(jnp.tensordot(wave, h, 1, precision="highest"))


def filtered_strength(x: Float[Array, "L B"], kernel: Float[Array, "K d"], highest: int) -> Float[Array, "B F"]:
    """`band_strength` of x after a convolution with `kernel` along energy, its ends held: K transforms, not d."""
    moved = jnp.stack(neighbours(x.astype(jnp.float32), len(kernel)), axis=1)
    along = jnp.tensordot(waves(len(x), highest), moved, 1, precision="highest")
    return _strength(jnp.einsum("fkb,kd->fbd", along, kernel.astype(jnp.float32), precision="highest"))


def neighbours(x: Float[Array, "L *rest"], size: int) -> list[Float[Array, "L *rest"]]:
    """x[l - size // 2] to x[l + size // 2], the ends held."""
    reach = size // 2
    padded = jnp.pad(x, ((reach, reach),) + ((0, 0),) * (x.ndim - 1), mode="edge")
    return [padded[i : i + len(x)] for i in range(size)]


def _strength(along: Float[Array, "G B d"]) -> Float[Array, "B F"]:
    real, imaginary = jnp.split(along, 2)
    return jnp.sqrt(real**2 + imaginary**2).mean(axis=-1).T


def select_bands(strength: Float[Array, "B F"], k: int, mode: str) -> Int[Array, "B k"]:
    """k frequencies of each row, strongest first: of the row itself, of the batch mean, or 1..k (`fixed`).

    The batch mode is the one of TimesNet: there a prediction depends on its batch mates.
    """
    shape = (strength.shape[0], k)
    if mode == "fixed":
        return jnp.broadcast_to(jnp.arange(1, k + 1), shape)
    score = strength.mean(axis=0, keepdims=True) if mode == "batch" else strength
    return jnp.broadcast_to(_top_k(score, k) + 1, shape)


def _top_k(score: Float[Array, "B F"], k: int) -> Int[Array, "B k"]:
    """Indices of the k greatest of each row, in order, the lower one first among equals.

    k maxima rather than lax.top_k, which no partitioner cuts by rows: every device would gather the whole batch.
    """
    chosen = []
    for _ in range(k):
        chosen.append(jnp.argmax(score, axis=-1))
        score = jnp.where(jnp.arange(score.shape[-1]) == chosen[-1][:, None], -jnp.inf, score)
    return jnp.stack(chosen, axis=-1).astype(jnp.int32)


def picks_outside(h: Float[Array, "L B d"], highest: int, k: int) -> Int[Array, "B"]:
    """How many of the k strongest of all frequencies lie above `highest`.

    The policy for such picks: they do not compete, and the strongest frequencies up to `highest` take their places.
    """
    return (_top_k(band_strength(h, len(h) // 2), k) >= highest).sum(axis=-1)
