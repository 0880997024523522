"""How fast answers change with the spectrum: local Lipschitz constants, measured.

A change of the spectrum is counted by its L2 norm over the points of the grid, in edge steps (noise of sigma has about
sigma * sqrt(L)); a change of an answer by the L2 norm of its probabilities, or by its value in standard deviations of
the training labels. Where the constant is K, a class that leads the next by m in probability is not overtaken by a
change of the spectrum smaller than m / (sqrt(2) K).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spt_jax.tasks import Predictor, Task


@dataclass(frozen=True)
class Lipschitz:
    """Local constants over the spectra: the median, the 95th percentile and the largest."""

    median: float
    high: float
    largest: float

    @classmethod
    def of(cls, constants: np.ndarray) -> Lipschitz:
        return cls(*(float(q) for q in np.quantile(constants, (0.5, 0.95, 1))))


def sampled(
    predictor: Predictor,
    spectrum: np.ndarray,
    atomic_number: np.ndarray,
    tasks: tuple[Task, ...],
    *,
    size: float = 0.1,
    directions: int = 16,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """(N,) largest ratio of change of answer to change of spectrum over random directions of norm `size`, any model.

    A lower bound of the constant within `size`: in L dimensions a random direction has only about 1 / sqrt(L) of the
    steepest. It sees jumps, which no derivative does: answers of trees, and bands chosen otherwise. The ratio of a
    jump grows as 1 / size, so compare models at one size; 0.1 is noise of sigma 0.008 on 144 points.
    """
    spectrum = np.asarray(spectrum, np.float32)
    count, length = spectrum.shape
    # What is not known does not change.
    change = np.random.default_rng(seed).standard_normal((directions, count, length)) * np.isfinite(spectrum)
    change *= size / np.linalg.norm(change, axis=-1, keepdims=True)
    clean = predictor(spectrum, atomic_number)
    # One call for all: a forest starts its threads anew at each.
    moved = predictor((spectrum + change).reshape(-1, length).astype(np.float32), np.tile(atomic_number, directions))
    largest = {}
    for task in tasks:
        answer = moved[task.name].reshape(directions, count, -1) - clean[task.name].reshape(count, -1).astype(
            np.float64
        )
        largest[task.name] = np.linalg.norm(answer, axis=-1).max(axis=0) / (size * task.std)
    return largest
