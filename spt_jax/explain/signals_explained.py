"""All that can be said of how a model uses several signals of one structure: the document behind the page."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from data_pipelines.dataset.data import Split
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.resplit import take
from data_pipelines.errors import DatasetError
from data_pipelines.labels.pdf import pdf_grid
from data_pipelines.schema import Descriptor, EnergyGrid, column_of, columned
from data_pipelines.signals import parse_signal
from spt_jax.batching import in_pieces
from spt_jax.explain import signals
from spt_jax.inference.predict import Model
from spt_jax.model.fusion import Fusion
from spt_jax.reports.trivial import trivial_answers
from spt_jax.scoring.detection import Interval, detection, detection_limit, resampled_precision, roc
from spt_jax.scoring.intervals import draws, middle
from spt_jax.scoring.probabilities import average_precision
from spt_jax.tasks import Answers, Predictor

# Rows that get all choices of signals, and those that get every stretch replaced; evenly from all.
MOST_ROWS, MOST_FOR_STRETCHES = 1000, 400
# Training rows that say what is known without a signal.
MOST_FOR_PRIOR = 20_000
STRETCH_EV, STRETCH_ANGSTROM = 6.0, 1.0
AMOUNTS = {"vacancy": "vacancies", "antisite": "antisites"}
"""What is there or not, and how much of it."""
FEWEST = 5

Report = Callable[[str, int, int], None]


def select_rows(model: Model, dataset: Dataset, name: str, element: str | None) -> Split:
    """The rows of a split that are explained, of one absorber where an element is given, evenly from all of these.

    Raises DatasetError or SpectrumError where the split, its grid or the element do not fit the model.
    """
    model.check_grid(dataset.name, dataset.grid)
    split = dataset.split(name)
    rows = np.flatnonzero([element in (None, absorber.split()[0]) for absorber in split.absorbers])
    if not len(rows):
        known = ", ".join(sorted(set(split.absorbers)))
        raise DatasetError(f"{dataset.path}: no {element} in split {name!r}; it has {known}")
    return take(split, spread(rows, MOST_ROWS))


def explain_model(model: Model, dataset: Dataset, name: str, element: str | None, report: Report) -> dict:
    """The document of a model and a split of the dataset. Raises as `select_rows`."""
    split = select_rows(model, dataset, name, element)
    train = dataset.split("train", MOST_FOR_PRIOR)
    mean, weights = np.array(model.blueprint.spectrum_mean), pooling_weights(model, split)
    return explain_signals(model, train, split, dataset.grid, mean, weights, report)


def pooling_weights(model: Model, split: Split) -> np.ndarray | None:
    """(N, S) of each signal in the pooling of a fusion network, the mean of its heads; None of another."""
    if not isinstance(model.network, Fusion):
        return None
    program = jax.jit(lambda *given: model.network.explained(*given)[1].mean(axis=-1))
    return in_pieces(program, signals.PIECE, split.batch.spectrum, split.batch.atomic_number)


def table(document: dict) -> list[str]:
    """Lines for a terminal: of every descriptor the best signal alone, all of them, and their Shapley values."""
    names, found = document["signals"], []
    for name, own in document["descriptors"].items():
        choices = own["choices"]
        alone = max(range(len(names)), key=lambda s: own["better"] * choices[1 << s]["score"])
        shapley = "  ".join(f"{n} {each['score']:+.3f}" for n, each in zip(names, own["shapley"], strict=True))
        low, high = choices[-1]["low"], choices[-1]["high"]
        found.append(
            f"{name:9s} {own['measure']:11s} none {choices[0]['score']:.3f}  {names[alone]} {choices[1 << alone]['score']:.3f}  "
            f"all {choices[-1]['score']:.3f} ({low:.3f} to {high:.3f})  Shapley: {shapley}"
        )
    return found


def spread(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of (n,), evenly from all."""
    return rows if len(rows) <= most else rows[np.arange(most) * len(rows) // most]


def axis_of(grid: EnergyGrid, signal: str) -> np.ndarray:
    """(points,) of a signal: eV above the reference energy, or Å."""
    parsed = parse_signal(signal)
    return grid.relative() if parsed.is_spectrum else pdf_grid(grid, parsed).r


def explain_signals(
    model: Model | Predictor,
    train: Split,
    split: Split,
    grid: EnergyGrid,
    mean: np.ndarray,
    weights: np.ndarray | None,
    report: Report,
) -> dict:
    """What JSON and page tell of the rows of a split.

    train: what says what is known without a signal. mean: (S * L,) of the training rows. weights: (N, S) of each signal in
    the pooling of the network, where it has one. report(stage, done, total) is called as work goes on.
    """
    batch, count = split.batch, len(grid.signals)
    nothing = trivial_answers(train.batch, batch)
    answer = model.answers if isinstance(model, Model) else model
    asked = answer(batch.spectrum[:1], batch.atomic_number[:1])
    judged = [(c, d) for c, d in columned(batch.labels) if d.name in asked and _judgeable(batch.mask[:, c])]
    judged = [(c, d) for c, d in judged if np.ptp(batch.labels[batch.mask[:, c], c]) > 0 and d.name in nothing]
    if not judged:
        raise DatasetError(f"no descriptor that the model learnt has {FEWEST} labelled rows that differ")
    nothing = {d.name: nothing[d.name] for _, d in judged}
    answers = signals.answers_by_subset(
        model, batch.spectrum, batch.atomic_number, count, nothing, lambda *done: report("choices", *done)
    )
    materials, has = np.array(split.materials), signals.there(batch.spectrum, count)
    described = {}
    for done, (column, d) in enumerate(judged, start=1):
        known = batch.mask[:, column]
        truth, said = batch.labels[known, column], signals.told(d, answers[d.name][:, known])
        described[d.name] = _described(d, truth, said, materials[known])
        described[d.name] |= _of_answers(d, answers[d.name], split)
        report("scores", done, len(judged))
    defects = {name: found for name in AMOUNTS if (found := _defect(name, described, answers, split, count))}
    return {
        "signals": list(grid.signals),
        "each": grid.each,
        "heights": grid.heights,
        "rows": len(split.ids),
        "materials": len(set(split.materials)),
        "absorbers": sorted(set(split.absorbers)),
        "present": has.sum(axis=0).tolist(),
        "descriptors": described,
        "defects": defects,
        "contents": {d.name: _parity(d, answers, split) for _, d in judged if d.name.startswith("x_")},
        "weights": None if weights is None else _weights(weights, has),
        "most_for_stretches": MOST_FOR_STRETCHES,
        "stretches": _stretches(answer, split, grid, mean, report),
    }


def _judgeable(mask: np.ndarray) -> bool:
    return int(mask.sum()) >= FEWEST


def _described(d: Descriptor, truth: np.ndarray, said: np.ndarray, materials: np.ndarray) -> dict:
    """said: (2^S, n) as of `signals.told`."""
    drawn, measure = draws(materials), signals.measure_of(d)
    whole = np.array([signals.scored(d, truth, own) for own in said])
    resampled = np.stack([signals.resampled(d, truth, own, materials, drawn) for own in said])
    each, lost = signals.shapley(measure.better * whole), signals.left_out(measure.better * whole)
    some = (np.nanquantile(of(measure.better * resampled), (0.025, 0.975), axis=1).T for of in _SHARES)
    shapley_ends, lost_ends = some
    return {
        "kind": d.kind,
        "measure": measure.name,
        "better": measure.better,
        "rows": len(truth),
        "materials": len(set(materials.tolist())),
        "choices": [
            {"signals": np.flatnonzero(chosen).tolist(), **Interval(float(score), *middle(own))._asdict()}
            for chosen, score, own in zip(_choices(len(said)), whole, resampled, strict=True)
        ],
        "shapley": _intervals(each, shapley_ends),
        "left_out": _intervals(lost, lost_ends),
    }


_SHARES = (signals.shapley, signals.left_out)


def _choices(count: int) -> np.ndarray:
    return signals.subsets(count.bit_length() - 1)


def _intervals(values: np.ndarray, ends: np.ndarray) -> list[dict]:
    return [
        Interval(float(value), float(low), float(high))._asdict()
        for value, (low, high) in zip(values, ends, strict=True)
    ]


def _of_answers(d: Descriptor, answers: np.ndarray, split: Split) -> dict:
    """Shapley values of each row's own answer: its value, or the probability of what is decided with all signals."""
    if d.kind == "class":
        chosen = np.full(answers.shape[1], 1) if len(d.classes) == 2 else answers[-1].argmax(axis=-1)
        answers = np.take_along_axis(answers, chosen[None, :, None], axis=-1)[..., 0]
    each = signals.shapley(answers)
    rows = {
        row: {"nothing": float(none), "all": float(every), "signals": np.round(own, 6).tolist()}
        for row, none, every, own in zip(split.ids, answers[0], answers[-1], each.T, strict=True)
    }
    return {"answers": {"unit": d.unit, "mean_change": np.abs(each).mean(axis=1).tolist(), "rows": rows}}


def _defect(name: str, described: dict, answers: Answers, split: Split, count: int) -> dict | None:
    """Curves of what is there or not: by all signals, and by each alone."""
    if name not in described:
        return None
    batch, column, amount = split.batch, column_of(name), column_of(AMOUNTS[name])
    known = batch.mask[:, column]
    truth, materials = batch.labels[known, column] > 0, np.array(split.materials)[known]
    measured = known & batch.mask[:, amount] & ((batch.labels[:, amount] > 0) == (batch.labels[:, column] > 0))
    curves = {}
    for key, choice in {"all": -1, **{str(s): 1 << s for s in range(count)}}.items():
        said = answers[name][choice, :, 1]
        ranges = detection(batch.labels[measured, amount], said[measured], np.array(split.materials)[measured])
        precision = average_precision(truth, said[known])
        ends = middle(resampled_precision(truth, said[known], materials, draws(materials)))
        curve = roc(truth, said[known], materials)
        curves[key] = {
            "precision": Interval(precision, *ends)._asdict(),
            "roc": {field: np.round(own, 5).tolist() for field, own in curve._asdict().items()},
            "ranges": [{**r._asdict(), "auroc": r.auroc and r.auroc._asdict()} for r in ranges],
            "limit": detection_limit(ranges),
        }
    return {"amount": AMOUNTS[name], "share": float(truth.mean()), "curves": curves}


def _parity(d: Descriptor, answers: Answers, split: Split) -> dict:
    column = column_of(d.name)
    known = split.batch.mask[:, column]
    return {
        "truth": split.batch.labels[known, column].round(6).tolist(),
        "answer": answers[d.name][-1, known].round(6).tolist(),
    }


def _weights(weights: np.ndarray, has: np.ndarray) -> list[dict]:
    """Mean over the rows that have the signal, and the middle 90 % of them."""
    found = []
    for own, known in zip(weights.T, has.T, strict=True):
        low, high = np.quantile(own[known], (0.05, 0.95)) if known.any() else (np.nan, np.nan)
        mean = own[known].mean() if known.any() else np.nan
        found.append(
            {
                k: None if np.isnan(v) else float(v)
                for k, v in zip(("mean", "low", "high"), (mean, low, high), strict=True)
            }
        )
    return found


def _stretches(answer: Predictor, split: Split, grid: EnergyGrid, mean: np.ndarray, report: Report) -> list[dict]:
    few = take(split, spread(np.arange(len(split.ids)), MOST_FOR_STRETCHES))
    parts = [
        part
        for place, name in enumerate(grid.signals)
        for part in signals.stretches(
            place, name, axis_of(grid, name), STRETCH_EV if parse_signal(name).is_spectrum else STRETCH_ANGSTROM
        )
    ]
    lost = signals.lost_stretches(answer, few.batch, parts, mean, lambda *done: report("stretches", *done))
    return [
        {
            "signal": part.signal,
            "start": part.start,
            "stop": part.stop,
            "lost": {name: float(own[i]) for name, own in lost.items() if np.isfinite(own[i])},
        }
        for i, part in enumerate(parts)
    ]
