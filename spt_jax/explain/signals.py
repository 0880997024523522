"""What each signal of a structure is worth to a model: its answers with every choice of signals, and exact Shapley values.

The value of a signal is what it adds to a score, or to an answer, in the mean over all orders in which signals may come
(Shapley 1953). Of S signals there are only 2^S choices, so it is summed, not sampled: the values of all signals add up to
what all are worth together, less what is known without any. A signal that a row lacks adds nothing to any choice, so its
value there is 0 and the others' are as if it did not exist.

Any model, by its answers alone. With no signal at all no network was trained, so nothing is what its training labels
say: the share of each class, the mean of a value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from data_pipelines.errors import RunError
from data_pipelines.schema import Batch, Descriptor, columned
from data_pipelines.signals import parse_signal
from spt_jax.batching import in_pieces
from spt_jax.inference.predict import Model
from spt_jax.model.fusion import Fusion
from spt_jax.scoring.detection import auroc, resampled_auroc, resampled_mae
from spt_jax.scoring.intervals import resampled_f1
from spt_jax.tasks import Answers, Predictor, answers_of

Report = Callable[[int, int], None]

# 64 choices; beyond, sampling would be cheaper than all of them.
MOST_SIGNALS = 6
# Rows whose choices are made and asked at once.
PIECE = 128


def subsets(count: int) -> np.ndarray:
    """(2^S, S) bool, every choice of S signals: signal s is in number b where bit s of b is set. 0 is none, -1 all."""
    if count > MOST_SIGNALS:
        raise RunError(f"{count} signals have {2**count:,} choices; at most {MOST_SIGNALS} signals can be explained")
    return (np.arange(2**count)[:, None] >> np.arange(count) & 1).astype(bool)


def there(spectrum: np.ndarray, count: int) -> np.ndarray:
    """(N, S * L) rows -> (N, S) bool, which signals each has."""
    return np.isfinite(spectrum).reshape(len(spectrum), count, -1).any(axis=2)


def kept(spectrum: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(N, S * L) rows with NaN in place of the signals that are not chosen: (S,) or (N, S) bool."""
    wide = np.repeat(chosen, spectrum.shape[1] // chosen.shape[-1], axis=-1)
    return np.where(wide, spectrum, np.nan).astype(np.float32)


def answers_by_subset(
    model: Model | Predictor,
    spectrum: np.ndarray,
    atomic_number: np.ndarray,
    count: int,
    nothing: Answers,
    report: Report = lambda done, total: None,
) -> Answers:
    """(2^S, N, ...) answers to N rows with each of `subsets(count)`.

    nothing: (N, ...) answers to a row without a signal, given where no chosen signal is there. A fusion network encodes
    each signal once and is asked for all choices in one program of static shape; any other model is shown PIECE rows in
    all their choices at a time, equal ones once.
    """
    choices, has = subsets(count), there(spectrum, count)
    spectrum, atomic_number = np.asarray(spectrum, np.float32), np.asarray(atomic_number, np.int32)
    # What is left of each choice in each row, as the number of a choice: (2^S, N).
    left = (choices[:, None] & has) @ (1 << np.arange(count))
    ask = partial(_shown, model, count) if not isinstance(model, Model) else _asker(model, choices)
    found = {name: np.repeat(np.asarray(own, np.float64)[None], len(choices), axis=0) for name, own in nothing.items()}
    for start in range(0, len(spectrum), PIECE):
        rows = slice(start, min(start + PIECE, len(spectrum)))
        for name, said in ask(spectrum[rows], atomic_number[rows], left[:, rows]).items():
            if name in found:
                known = (left[:, rows] > 0).reshape(len(choices), -1, *(1,) * (said.ndim - 2))
                found[name][:, rows] = np.where(known, said, found[name][:, rows])
        report(rows.stop, len(spectrum))
    return found


def _asker(model: Model, choices: np.ndarray) -> Callable[[np.ndarray, np.ndarray, np.ndarray], Answers]:
    if not isinstance(model.network, Fusion):
        return partial(_shown, model.answers, choices.shape[1])
    graph, state = nnx.split(model.network)

    def ask(spectrum: np.ndarray, atomic_number: np.ndarray, left: np.ndarray) -> Answers:
        def turned(spectrum: np.ndarray, atomic_number: np.ndarray) -> dict[str, jax.Array]:
            return {
                name: own.swapaxes(0, 1)
                for name, own in _with_each(graph, state, spectrum, atomic_number, choices).items()
            }

        outputs = in_pieces(turned, PIECE, spectrum, atomic_number)
        flat = {name: own.reshape(-1, *own.shape[2:]) for name, own in outputs.items()}
        said = answers_of(flat, model.blueprint.learnt_tasks, np.repeat(atomic_number, len(choices)))
        shape = len(spectrum), len(choices)
        return {name: np.reshape(own, (*shape, *own.shape[1:])).swapaxes(0, 1) for name, own in said.items()}

    return ask


@partial(jax.jit, static_argnums=0)
def _with_each(graph: nnx.GraphDef, state: nnx.State, spectrum: Any, atomic_number: Any, choices: Any) -> Any:
    """As of `Fusion.with_each`; compiled once for all networks of one graph."""
    return nnx.merge(graph, state).with_each(spectrum, atomic_number, choices)


def _shown(answer: Predictor, count: int, spectrum: np.ndarray, atomic_number: np.ndarray, left: np.ndarray) -> Answers:
    """(2^S, n, ...) answers to n rows; 0 where nothing is left."""
    choices = subsets(count)
    asked = [(b, i) for i, own in enumerate(left.T) for b in np.unique(own) if b]
    if not asked:
        return {}
    chosen, at = np.array(asked).T
    said = answer(kept(spectrum[at], choices[chosen]), atomic_number[at])
    place = np.zeros((len(choices), len(spectrum)), int)
    place[chosen, at] = np.arange(len(chosen))
    return {name: own[np.take_along_axis(place, left, axis=0)] for name, own in said.items()}


def shapley(values: np.ndarray) -> np.ndarray:
    """(2^S, ...) value of every choice, ordered as `subsets` -> (S, ...) of every signal, in float64.

    They sum to values[-1] - values[0].

    >>> shapley(np.array([0.0, 1.0, 2.0, 5.0]))  # two signals: 1 and 2 alone, 5 together
    array([2., 3.])
    """
    values = np.asarray(values, np.float64)
    count = len(values).bit_length() - 1
    choices = subsets(count)
    size = choices.sum(axis=1)
    weight = np.array([1 / (count * math.comb(count - 1, k)) for k in range(count)])
    found = []
    for signal in range(count):
        without = np.flatnonzero(~choices[:, signal])
        added = values[without | 1 << signal] - values[without]
        found.append(np.tensordot(weight[size[without]], added, axes=1))
    return np.stack(found)


def left_out(values: np.ndarray) -> np.ndarray:
    """(2^S, ...) value of every choice -> (S, ...) what is lost of that of all signals without each one."""
    values = np.asarray(values, np.float64)
    every = len(values) - 1
    return np.stack([values[-1] - values[every ^ 1 << s] for s in range(every.bit_length())])


class Measure(NamedTuple):
    """How answers to a descriptor are judged. better: 1 where more is better, -1 of an error."""

    name: str
    better: int


def measure_of(d: Descriptor) -> Measure:
    """AUROC of what is there or not, weighted F1 of other classes, mean absolute error of values."""
    if d.kind == "regression":
        return Measure("MAE", -1)
    return Measure("AUROC" if len(d.classes) == 2 else "weighted F1", 1)


def told(d: Descriptor, answers: np.ndarray) -> np.ndarray:
    """(..., C) probabilities or (...) values -> (...) what the measure of a descriptor reads: the probability that it is
    there, the likeliest class, the value."""
    if d.kind == "regression":
        return answers
    return answers[..., 1] if len(d.classes) == 2 else answers.argmax(axis=-1)


def scored(d: Descriptor, truth: np.ndarray, said: np.ndarray) -> float:
    """The measure of (n,) labels and (n,) of `told`."""
    if d.kind == "regression":
        return float(np.abs(truth.astype(np.float64) - said).mean())
    if len(d.classes) == 2:
        return auroc(truth > 0, said)
    return float(resampled_f1(truth, said, np.zeros(len(truth)), np.ones((1, 1)))[0])


def resampled(
    d: Descriptor, truth: np.ndarray, said: np.ndarray, materials: np.ndarray, drawn: np.ndarray
) -> np.ndarray:
    """(R,) the same of resamples, drawn as of `intervals.draws`."""
    if d.kind == "regression":
        return resampled_mae(truth, said, materials, drawn)
    if len(d.classes) == 2:
        return resampled_auroc(truth > 0, said, materials, drawn)
    return resampled_f1(truth, said, materials, drawn)


class SignalPart(NamedTuple):
    """A part of one signal: the energies, eV above the reference energy, or distances, Å, from `start` up to `stop`."""

    signal: int
    columns: slice
    start: float
    stop: float


def stretches(signal: int, name: str, axis: np.ndarray, width: float) -> list[SignalPart]:
    """One signal, by its place and name, cut into stretches of `width` of its (L,) axis, a shorter one last."""
    step = axis[1] - axis[0]
    size, first = max(round(width / step), 1), signal * len(axis)
    ends = [(i, min(i + size, len(axis))) for i in range(0, len(axis), size)]
    before = 0.0 if parse_signal(name).is_spectrum else step  # r = step is the first point of a function of r
    return [
        SignalPart(signal, slice(first + i, first + j), float(axis[i] - before), float(axis[j - 1] + step - before))
        for i, j in ends
    ]


def lost_stretches(
    answer: Predictor,
    batch: Batch,
    parts: list[SignalPart],
    mean: np.ndarray,
    report: Report = lambda done, total: None,
) -> dict[str, np.ndarray]:
    """(P,) of each descriptor that is labelled and answered: how much worse its measure is where a part of every row
    that has it is the (S * L,) training mean."""

    def measured(spectrum: np.ndarray) -> dict[str, float]:
        answers, found = answer(spectrum, batch.atomic_number), {}
        for column, d in columned(batch.labels):
            known = batch.mask[:, column]
            if d.name in answers and known.any():
                said = told(d, answers[d.name][known])
                found[d.name] = measure_of(d).better * scored(d, batch.labels[known, column], said)
        return found

    whole = measured(batch.spectrum)
    lost: dict[str, list[float]] = {name: [] for name in whole}
    for done, part in enumerate(parts, start=1):
        spectrum = batch.spectrum.copy()
        own = spectrum[:, part.columns]
        spectrum[:, part.columns] = np.where(np.isfinite(own), mean[part.columns], own)
        for name, score in measured(spectrum).items():
            lost[name].append(whole[name] - score)
        report(done, len(parts))
    return {name: np.array(each) for name, each in lost.items()}
