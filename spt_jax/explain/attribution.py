"""What a trained SPT looks at: attention over energies, weights of bands, integrated gradients over energy.

All of it comes out of the forward pass itself (`SPT.explained`), for spectra on the model's grid.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data_pipelines.errors import RunError
from spt_jax.batching import in_pieces
from spt_jax.inference.predict import Model
from spt_jax.model.spt import SPT
from spt_jax.tasks import Task

# Spectra of one compiled call; fewer are padded, so that one program serves any number.
ROWS = 32
STEPS = 32
# Steps i / STEPS to this power: near the mean spectrum, where the standardised signal is nothing, a normalisation of
# layers makes much of little, and even steps would jump over what happens there.
GRADING = 3
# Largest gap, as a share of the change of output that it should add up to, that counts as complete.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Looked:
    """Inside the network, for N spectra.

    attention: (N, blocks, L), the attention that each energy receives from all others, mean over heads; sums to L.
    shares: (N, blocks, F), the weight of each frequency 1..F in the fusion; sums to one, 0 where not chosen.
    chosen: (N, blocks, F) bool.
    """

    attention: np.ndarray
    shares: np.ndarray
    chosen: np.ndarray


@dataclass(frozen=True)
class Question:
    """Which number of the output is attributed to energies.

    A value in its unit; or of a class the log-odds against others: log p(of) - log sum of p over `against`. All
    classes are numbered by their place in the descriptor's table. `against` empty: all others. Of a shell the log-odds
    that the element `of`, by its place in the task, is there.
    """

    task: Task
    of: int = 0
    against: tuple[int, ...] = ()


@dataclass(frozen=True)
class Attribution:
    """Integrated gradients of N spectra mu from the training mean mu0, with the bands held that mu chose.

    values: (N, L), the part of each energy. change: (N,) F(mu) - F(mu0), the network as it is. held: (N,) the same
    with the bands of mu at mu0 too. So held = sum of values up to the error of the steps, and change - held is what
    the choice of bands does by itself.
    """

    values: np.ndarray
    change: np.ndarray
    held: np.ndarray

    @property
    def gap(self) -> float:
        """Error of the steps: median of |sum of values - held|, as a share of the mean |held|."""
        return float(np.median(np.abs(self.values.sum(axis=1) - self.held)) / np.abs(self.held).mean())

    @property
    def choice(self) -> float:
        """Mean |change - held|, the part of the choice of bands, as a share of the mean |change|."""
        return float(np.abs(self.change - self.held).mean() / np.abs(self.change).mean())


class Explainer:
    """The questions of this file to one model, each compiled once. Raises RunError for a model without inner parts.

    rows: spectra of one compiled call.
    """

    def __init__(self, model: Model, steps: int = STEPS, rows: int = ROWS):
        if not isinstance(model.network, SPT):
            raise RunError(
                "only an SPT in a run folder or a packed file can be explained: an exported file or another kind of model "
                "does not show its inner parts"
            )
        self.blueprint, self.rows = model.blueprint, rows
        self.baseline = jnp.asarray(model.blueprint.spectrum_mean, jnp.float32)
        # Weights are arguments: as constants of the program they would be compiled anew for each network.
        graph, self._weights = nnx.split(model.network)
        self._graph = graph
        self._look = jax.jit(lambda weights, *given: look_inside(nnx.merge(graph, weights), *given))
        self._attribute = jax.jit(lambda weights, *given: self._integrate(nnx.merge(graph, weights), steps, *given))

    def of(self, model: Model) -> Explainer:
        """The same questions to another model, by the same programs where it is a network of the same kind."""
        if not isinstance(model.network, SPT) or nnx.split(model.network)[0] != self._graph:
            return Explainer(model, rows=self.rows)
        other = copy.copy(self)
        other.blueprint, other._weights = model.blueprint, nnx.split(model.network)[1]
        return other

    def look(self, spectrum: np.ndarray, atomic_number: np.ndarray) -> Looked:
        """(N, L) spectra on the grid and (N,) atomic numbers -> what happens inside."""
        return Looked(*in_pieces(partial(self._look, self._weights), self.rows, spectrum, atomic_number))

    def attribute(
        self,
        spectrum: np.ndarray,
        atomic_number: np.ndarray,
        questions: list[Question],
    ) -> Attribution:
        """Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) of one question for each of N spectra.

        values = (mu - mu0) * integral of dF/dmu, by midpoints of steps of the straight way from mu0, the mean training
        spectrum, to mu. The choice of bands is piecewise constant and has no gradient: where it changes on the way, F
        jumps, and gradients cannot add up to F(mu) - F(mu0). So the bands are held at those that mu chose: then they
        do add up, to the change of the network that folds as it did for mu; what is left is told apart.
        """
        masks = (np.stack(each) for each in zip(*(self._masks(question) for question in questions), strict=True))
        attribute = partial(self._attribute, self._weights)
        return Attribution(*in_pieces(attribute, self.rows, spectrum, atomic_number, *masks))

    def _masks(self, question: Question) -> tuple[np.ndarray, np.ndarray]:
        """(T,) factors of the outputs side by side, and (T,) bool, the classes to set against."""
        sizes = {task.name: max(task.classes, 1) for task in self.blueprint.tasks}
        start = sum(list(sizes.values())[: list(sizes).index(question.task.name)])
        factor, against = np.zeros(sum(sizes.values()), np.float32), np.zeros(sum(sizes.values()), bool)
        if question.task.kind == "class":
            others = question.against or tuple(set(range(question.task.classes)) - {question.of})
            against[[start + other for other in others]] = True
        factor[start + question.of] = 1.0 if question.task.classes else question.task.std
        return factor, against

    def _integrate(self, network: SPT, steps: int, spectrum, atomic_number, factor, against) -> tuple[jax.Array, ...]:
        names = [task.name for task in self.blueprint.tasks]

        def asked(outputs: dict[str, jax.Array]) -> jax.Array:
            flat = jnp.concatenate([outputs[name].reshape(len(factor), -1) for name in names], axis=1)
            compared = against.any(axis=1)
            # Where nothing is compared a sum over nothing, whose logarithm has no gradient, is not taken.
            others = jax.nn.logsumexp(flat, axis=1, b=against | ~compared[:, None])
            return (flat * factor).sum(axis=1) - jnp.where(compared, others, 0.0)

        # What is not known is so on the whole way, and has no share in the answer.
        known = jnp.isfinite(spectrum)
        start = jnp.where(known, self.baseline, jnp.nan)
        # Compiled inside, so that each of the two is traced once.
        explained = jax.jit(lambda mu, bands=None: network.explained(mu, atomic_number, bands)[0])
        outputs = explained(spectrum)

        def held(mu: jax.Array) -> jax.Array:
            return asked(explained(mu, outputs["bands"]))

        ends = np.linspace(0, 1, steps + 1, dtype=np.float32) ** GRADING

        def step(total: jax.Array, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            low, high = ends
            middle = start + (low + high) / 2 * (spectrum - start)
            return total + (high - low) * jax.grad(lambda mu: held(mu).sum())(middle), None

        mean, _ = jax.lax.scan(step, jnp.zeros_like(spectrum), (ends[:-1], ends[1:]))
        here, free = asked(outputs), asked(explained(start))
        return jnp.where(known, (spectrum - start) * mean, 0), here - free, here - held(start)


def look_inside(network: SPT, spectrum: jax.Array, atomic_number: jax.Array) -> tuple[jax.Array, ...]:
    """(B, L) spectra -> the fields of `Looked`; attention of zeros where the network has none."""
    outputs, inside = network.explained(spectrum, atomic_number)
    frequencies = jnp.arange(1, network.config.highest_band + 1)
    one_hot = outputs["bands"][..., None] == frequencies
    shares = jnp.einsum("bnk,bnkf->bnf", jnp.stack([seen.shares for seen in inside], axis=1), one_hot)
    attention = [jnp.zeros(spectrum.shape) if s.attention is None else received(s.attention) for s in inside]
    return jnp.stack(attention, axis=1), shares, one_hot.any(axis=2)


def received(weights: jax.Array) -> jax.Array:
    """(W, L, B, H) attention of each point to its window -> (B, L) attention that each point gets, mean over heads."""
    size, length = weights.shape[:2]
    given = weights.astype(jnp.float32).mean(axis=-1)
    total = jnp.zeros((length + size - 1, given.shape[-1]))
    for offset in range(size):
        total = total.at[offset : offset + length].add(given[offset])
    return total[size // 2 : size // 2 + length].T


def evenly_received(length: int, reach: int) -> np.ndarray:
    """(L,) attention that each point would get if all gave the same to each of their window."""
    place = np.arange(length)
    near = np.abs(place[:, None] - place) <= reach
    return (near / near.sum(axis=1, keepdims=True)).sum(axis=0)
