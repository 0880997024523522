"""A curve through points, and one that is smoothed.

Both equal what scipy gives, which tests show, and take no time to import: loading scipy is a third of a second, as long as
all else that one answer on the command line needs of numpy and jax.
"""

from __future__ import annotations

import numpy as np


def interpolated(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(N,) ascending x, three or more, and (..., N) y -> (..., M) at (M,) places, NaN beyond the ends.

    Piecewise cubic and monotonic wherever the points are (PCHIP; Fritsch and Butland 1984, SIAM J. Sci. Stat. Comput. 5,
    300; at the ends by three points): nothing overshoots.
    """
    step = np.diff(x)
    rise = np.diff(y) / step
    slope = np.zeros(np.broadcast_shapes(y.shape, x.shape))
    before, after = rise[..., :-1], rise[..., 1:]
    weight, other = 2 * step[1:] + step[:-1], step[1:] + 2 * step[:-1]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mean = (weight / before + other / after) / (weight + other)
        slope[..., 1:-1] = np.where((np.sign(before) == np.sign(after)) & (before != 0), 1 / mean, 0)
    slope[..., 0] = _at_end(step[0], step[1], rise[..., 0], rise[..., 1])
    slope[..., -1] = _at_end(step[-1], step[-2], rise[..., -1], rise[..., -2])
    part = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    here, width, rise = slope[..., part], step[part], rise[..., part]
    bend = (here + slope[..., part + 1] - 2 * rise) / width
    s = at - x[part]
    found = y[..., part] + here * s + ((rise - here) / width - bend) * (s * s) + (bend / width) * (s * s * s)
    return np.where((at >= x[0]) & (at <= x[-1]), found, np.nan)


def _at_end(step: float, next_step: float, rise: np.ndarray, next_rise: np.ndarray) -> np.ndarray:
    """The slope at an end: of the parabola through three points, as far as that keeps the curve monotonic."""
    slope = ((2 * step + next_step) * rise - step * next_rise) / (step + next_step)
    turns = (np.sign(rise) != np.sign(next_rise)) & (np.abs(slope) > 3 * np.abs(rise))
    return np.where(np.sign(slope) != np.sign(rise), 0, np.where(turns, 3 * rise, slope))


def smoothed(y: np.ndarray, width: float, truncate: float = 4.0) -> np.ndarray:
    """(..., N) y under a Gaussian with a standard deviation of `width` points, cut off at `truncate` of them; y is held at
    its ends."""
    reach = int(truncate * width + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2) if reach else np.ones(1)
    held = np.pad(y, [(0, 0)] * (y.ndim - 1) + [(reach, reach)], mode="edge")
    seen = np.lib.stride_tricks.sliding_window_view(held, 2 * reach + 1, axis=-1)
    return seen @ (kernel / kernel.sum())
