"""Points that stand out of a spectrum as nothing physical does: a failed energy of a calculation, a glitch."""

from __future__ import annotations

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.spectra.grid import post_edge

# How far one or two points may stand out of the two on either side, in the spread of these; of 13,359 FEFF spectra,
# Li K with lines of twenty edge steps among them, none exceeds 1.6 and 2.0. The spread counts as FLAT edge steps more.
FARTHEST = 2.5
FLAT = 0.05


def check_spikes(mu: np.ndarray, what: object, judged: np.ndarray | None = None) -> None:
    """Raises SpectrumError where one or two points of (N,) mu, on energies close enough to resolve it, stand out.

    judged: (N,) bool, points that may be found to; all where not given.
    """
    step = post_edge(mu).mean()
    if len(mu) < 8 or not (np.isfinite(mu).all() and step > 0):
        return
    for width in (1, 2):
        far = _standing_out(mu / step, width)
        if judged is not None:
            far = np.where(judged[: len(far)], far, 0)
        worst = int(np.argmax(far))
        if far[worst] > FARTHEST:
            points = f"point {worst + 1}" if width == 1 else f"points {worst + 1} and {worst + 2}"
            detail = f"{what}: {points} far from the points on either side, mu = {mu[worst] / step:.2f} edge steps"
            raise SpectrumError("spike", detail)


def _standing_out(mu: np.ndarray, width: int) -> np.ndarray:
    """(N - width + 1,) distance of `width` points from the range of the nearest four others, in the spread of these."""
    first = np.arange(len(mu) - width + 1)
    around = first + np.array([-2, -1, width, width + 1])[:, None]
    around = np.where(around < 0, around + width + 4, around)
    around = np.where(around >= len(mu), around - width - 4, around)
    low, high = mu[around].min(axis=0), mu[around].max(axis=0)
    inside = mu[first + np.arange(width)[:, None]]
    beyond = np.maximum(inside.min(axis=0) - high, low - inside.max(axis=0))
    return beyond / (high - low + FLAT)
