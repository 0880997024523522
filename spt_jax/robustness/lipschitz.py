"""How fast answers change with the spectrum: local Lipschitz constants, measured.

A change of the spectrum is counted by its L2 norm over the points of the grid, in edge steps (noise of sigma has about
sigma * sqrt(L)); a change of an answer by the L2 norm of its probabilities, or by its value in standard deviations of
the training labels. Where the constant is K, a class that leads the next by m in probability is not overtaken by a
change of the spectrum smaller than m / (sqrt(2) K).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from spt_jax.inference.predict import Network
from spt_jax.tasks import Predictor, Task

# Rows in one program: gradients of a network need several times the memory of its answers.
CHUNK = 64


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
    change = np.random.default_rng(seed).standard_normal((directions, count, length))
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


def jacobian_norms(
    network: Network, spectrum: np.ndarray, atomic_number: np.ndarray, tasks: tuple[Task, ...]
) -> dict[str, np.ndarray]:
    """(N,) largest singular value of d answer / d spectrum of each descriptor: the steepest direction, for SPT.

    Exact where answers are smooth. The choice of bands has no derivative: this is the constant with the bands of each
    spectrum held, and where they are about to change `sampled` may find more.

    From the whole Jacobian. Power iteration would need fewer products, but half of them forward: the folding has a
    gradient of its own and no jvp, and through the gradient's gradient it took 5 times as long on the base model.
    """
    found = jacobians(network, spectrum, atomic_number, tasks)
    return {name: np.linalg.norm(jacobian, ord=2, axis=(1, 2)) for name, jacobian in found.items()}


def jacobians(
    network: Network, spectrum: np.ndarray, atomic_number: np.ndarray, tasks: tuple[Task, ...]
) -> dict[str, np.ndarray]:
    """(N, C, L) d answer / d spectrum, one gradient for each of C classes; C is 1 for a value.

    Rows must not depend on each other: any band_mode but "batch".
    """

    def stacked(spectrum: jax.Array, atomic_number: jax.Array) -> jax.Array:
        """(B, sum of classes) answers side by side, values in standard deviations as the heads give them."""
        heads = network(spectrum, atomic_number)
        parts = [jax.nn.softmax(heads[t.name]) if t.classes else heads[t.name][:, None] for t in tasks]
        return jnp.concatenate(parts, axis=1)

    @jax.jit
    def gradients(spectrum: jax.Array, atomic_number: jax.Array) -> jax.Array:
        """(sum of classes, B, L)."""
        answers, gradient = jax.vjp(lambda x: stacked(x, atomic_number), spectrum)
        each = jnp.eye(answers.shape[1], dtype=answers.dtype)
        return jax.lax.map(lambda one: gradient(jnp.broadcast_to(one, answers.shape))[0], each)

    count = len(spectrum)
    size = min(CHUNK, count)
    missing = -count % size
    spectrum = np.pad(np.asarray(spectrum, np.float32), ((0, missing), (0, 0)), mode="edge")
    atomic_number = np.pad(np.asarray(atomic_number, np.int32), (0, missing), mode="edge")
    pieces = [
        np.asarray(gradients(spectrum[i : i + size], atomic_number[i : i + size]))
        for i in range(0, len(spectrum), size)
    ]
    rows = np.concatenate(pieces, axis=1).swapaxes(0, 1)[:count]
    starts = np.cumsum([max(task.classes, 1) for task in tasks])[:-1]
    return {task.name: part for task, part in zip(tasks, np.split(rows, starts, axis=1), strict=True)}
