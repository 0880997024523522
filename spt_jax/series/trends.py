"""Does a quantity follow the order of a series, by how much, and where does it change: numbers alone.

Rank correlation (Spearman) with a permutation p-value; the median of the slopes of all pairs (Theil 1950, Sen 1968); parts
of the series by penalised least squares.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy.stats import rankdata, theilslopes

# Up to so many spectra all orders are tried, beyond as many random ones, of a fixed seed, in parts for the memory.
ALL_ORDERS, DRAWN, AT_ONCE = 7, 9999, 1111
# A part of a series is a constant or a line through so many spectra or more, a line at so many places or more.
SHORTEST, LINE_PLACES = 3, 4
# Fewer spectra have no parts: there is nothing to tell noise from.
LEAST = 8
# What a part costs, and a slope, in variances of the noise for each ln N: of 8 to 60 spectra without any change, flat
# or rising evenly, 1 to 7 in 100 series are cut (a test counts them); one that bends is cut more often.
PART, SLOPE = 6.0, 1.0
# Noise is no smaller than this share of what a quantity varies by: calculated spectra have none, and bend.
SMALLEST_NOISE = 0.03


@dataclass(frozen=True)
class Trend:
    """rho: Spearman's, 0 where the quantity never changes. p: of two sides, the share of orders of the spectra that give as
    large a rho. slope, low, high: of Theil and Sen, per unit of the place, with 95 % limits."""

    rho: float
    p: float
    slope: float
    low: float
    high: float


@dataclass(frozen=True)
class Stretch:
    """The spectra from `start` to before `stop`, and the line there: level + slope x place."""

    start: int
    stop: int
    level: float
    slope: float


def trend(place: np.ndarray, value: np.ndarray) -> Trend:
    """(N,) places and values, N at least 3 with two different places."""
    x, y = (_centred(rankdata(each)) for each in (place, value))
    if not np.any(y):
        return Trend(0.0, 1.0, 0.0, 0.0, 0.0)
    rho = float(x @ y)
    if len(x) <= ALL_ORDERS:
        drawn = np.array(list(permutations(y))) @ x
        p = float(np.mean(np.abs(drawn) >= abs(rho) - 1e-9))
    else:
        rng = np.random.default_rng(0)
        several = np.tile(y, (AT_ONCE, 1))
        drawn = np.concatenate([rng.permuted(several, axis=1) @ x for _ in range(DRAWN // AT_ONCE)])
        p = float((1 + np.sum(np.abs(drawn) >= abs(rho) - 1e-9)) / (1 + DRAWN))
    slope, _, low, high = theilslopes(value, place)
    return Trend(rho, p, float(slope), float(low), float(high))


def parts(place: np.ndarray, value: np.ndarray) -> list[Stretch]:
    """(N,) ascending places and values -> the parts of the series, each a constant or a line, one where nothing changes.

    The sum of squared residuals, in variances of the noise, plus PART ln N for each part and SLOPE ln N for each slope is
    the smallest of all ways to part the series (optimal partitioning by dynamic programming: Jackson et al. 2005, IEEE
    Signal Process. Lett. 12, 105). Spectra at one place stay together. The noise is what values are off the middle of their
    neighbours, in the median.
    """
    count, variance = len(value), _noise(value) ** 2
    if count < LEAST or not variance > 0:
        return [_part(place, value, 0, count, False)]
    unit = np.log(count)
    # Of any stretch, sums of what stands before its ends give its squares about its own means.
    x, y = place - place.mean(), value - value.mean()
    sums = np.concatenate([np.zeros((6, 1)), np.cumsum([x**0, x, y, x * x, x * y, y * y], axis=1)], axis=1)
    which = np.concatenate([[0], np.cumsum(np.diff(place) > 0)])
    cuts = np.array([0, *(1 + np.flatnonzero(np.diff(place) > 0)), count])
    best, came, bent = np.full(count + 1, np.inf), np.zeros(count + 1, int), np.zeros(count + 1, bool)
    best[0] = 0.0
    for stop in cuts[1:]:
        start = cuts[cuts <= stop - SHORTEST]
        if not len(start):
            continue
        n, sx, sy, xx, xy, yy = sums[:, [stop]] - sums[:, start]
        xx, xy, yy = xx - sx * sx / n, xy - sx * sy / n, yy - sy * sy / n
        gained = np.where(xx > 0, xy**2 / np.where(xx > 0, xx, 1), 0) / variance - SLOPE * unit
        gained[which[stop - 1] - which[start] + 1 < LINE_PLACES] = 0
        cost = best[start] + yy / variance + PART * unit - np.maximum(gained, 0)
        at = int(np.argmin(cost))
        best[stop], came[stop], bent[stop] = cost[at], start[at], gained[at] > 0
    found: list[Stretch] = []
    stop = count
    while stop:
        found.append(_part(place, value, int(came[stop]), int(stop), bool(bent[stop])))
        stop = came[stop]
    return found[::-1]


def _part(place: np.ndarray, value: np.ndarray, start: int, stop: int, bent: bool) -> Stretch:
    """The constant or the line through these spectra."""
    x, y = place[start:stop], value[start:stop]
    off = x - x.mean()
    slope = float(off @ y / (off @ off)) if bent else 0.0
    return Stretch(start, stop, float(y.mean() - slope * x.mean()), slope)


def _noise(value: np.ndarray) -> float:
    off = np.abs(value[1:-1] - (value[:-2] + value[2:]) / 2)
    return max(1.4826 * float(np.median(off)) / np.sqrt(1.5), SMALLEST_NOISE * float(np.ptp(value)))


def _centred(ranks: np.ndarray) -> np.ndarray:
    off = ranks - ranks.mean()
    return off / np.linalg.norm(off) if np.any(off) else off
