"""Folds over whole materials, and what recipes and networks answer to the rows that they did not see.

Every row of a dataset is held out once, whatever its split was, because these sets are small: a setting is chosen, and a
network is stopped, on other rows than those that judge it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from benchmarks import concatenated
from data_pipelines.dataset.data import Data, Split, join, take
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.resplit import Resplit
from data_pipelines.dataset.splits import SPLITS, comparable, families
from data_pipelines.schema import Descriptor, column_of, descriptor
from spt_jax.explain.signals import Measure, measure_of, resampled, scored, told
from spt_jax.reports.trivial import trivial_answers
from spt_jax.scoring.detection import Interval
from spt_jax.scoring.intervals import difference, draws, middle, resampled_r2
from spt_jax.tasks import Answers


@dataclass(frozen=True)
class Fold:
    """Rows of the whole, by number. validation: what a network is stopped by; recipes learn from it too."""

    name: str
    train: np.ndarray
    validation: np.ndarray
    held: np.ndarray

    @property
    def learnt(self) -> np.ndarray:
        return np.concatenate([self.train, self.validation])


def whole(dataset: Dataset) -> Split:
    return join([dataset.split(name) for name in SPLITS if dataset.examples.get(name)])


def families_of(dataset: Dataset, everything: Split) -> np.ndarray:
    """(N,) what must not be parted, as `prepare` parts nothing of it: materials, and those with the same spectra."""
    kin = [own for name in SPLITS if dataset.examples.get(name) for own in dataset.kin(name)]
    absorber = np.unique(everything.absorbers, return_inverse=True)[1]
    return families(pa.array(kin), absorber, comparable(everything.batch.spectrum, dataset.grid))[0]


def deal(groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """(N,) fold of each row: the groups in random order, each to the fold with the fewest rows."""
    names, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    place, filled = np.zeros(len(names), int), np.zeros(count)
    for group in np.random.default_rng(seed).permutation(len(names)):
        place[group] = filled.argmin()
        filled[place[group]] += sizes[group]
    return place[index]


def folds(groups: np.ndarray, count: int, seed: int, where: np.ndarray | None = None) -> list[Fold]:
    """Cross-validation over (N,) groups, of the rows `where`; the next fold is the validation of each."""
    if count < 3:
        raise SystemExit(
            f"--folds {count}: give 3 or more, one to be judged by, one to stop by and the rest to learn from"
        )
    rows = np.arange(len(groups)) if where is None else np.flatnonzero(where)
    place = deal(groups[rows], count, seed)
    found = []
    for i in range(count):
        held, watched = place == i, place == (i + 1) % count
        found.append(Fold(f"fold{i}of{count}", rows[~held & ~watched], rows[watched], rows[held]))
    return found


def left_out(groups: np.ndarray, held: np.ndarray, seed: int) -> Fold:
    """All (N,) rows that are `held` judge; a fifth of the groups of the others is the validation."""
    rows = np.flatnonzero(~held)
    watched = deal(groups[rows], 5, seed) == 0
    return Fold("left out", rows[~watched], rows[watched], np.flatnonzero(held))


def thinned(fold: Fold, groups: np.ndarray, share: float, seed: int) -> Fold:
    """A share of the groups that are learnt from, each smaller share within the larger."""
    names = np.random.default_rng(seed).permutation(np.unique(groups[fold.learnt]))
    kept = np.isin(groups, names[: max(2, round(share * len(names)))])
    cut = (rows[kept[rows]] for rows in (fold.train, fold.validation))
    return Fold(f"{fold.name}-{share:g}", *cut, fold.held)


def narrowed(split: Split, signals: tuple[int, ...], count: int) -> Split:
    """The rows with only these of their signals."""
    wide = split.batch.spectrum.reshape(len(split.ids), count, -1)[:, list(signals)]
    return replace(split, batch=split.batch._replace(spectrum=wide.reshape(len(split.ids), -1)))


def dealt(dataset: Dataset, everything: Split, fold: Fold, signals: tuple[int, ...]) -> Data:
    """The dataset with the splits of a fold and some of its signals."""
    count = len(dataset.grid.signals)
    own = narrowed(everything, signals, count)
    parts = {"train": fold.train, "validation": fold.validation, "test": fold.held}
    names = tuple(dataset.grid.signals[s] for s in signals)
    found = Resplit(dataset, {name: take(own, rows) for name, rows in parts.items()}, f"{fold.name} {' '.join(names)}")
    found.grid = replace(dataset.grid, signals=names)
    return found


def recipe(
    model: str,
    settings: list[concatenated.Setting],
    d: Descriptor,
    made: dict[str, concatenated.Features],
    signals: tuple[int, ...],
    everything: Split,
    parts: Iterable[Fold],
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Answers to held rows, NaN to others. made: "" the features that are learnt from, others (as noisy ones) only asked."""
    column, groups = column_of(d.name), np.array(everything.materials)
    labels, mask = everything.batch.labels[:, column], everything.batch.mask[:, column]
    shape = (len(labels), len(d.classes)) if d.classes else (len(labels),)
    found = {name: np.full(shape, np.nan) for name in made}
    for fold in parts:
        own = fold.learnt[mask[fold.learnt]]

        def of(kinds: tuple[str, ...], own: np.ndarray = own) -> np.ndarray:
            return made[""].columns(signals, kinds)[own]

        setting = concatenated.search(model, settings, d, of, labels[own], groups[own], seed)
        fitted = concatenated.fit(model, setting, d, of(setting.kinds), labels[own], seed)
        for name, each in made.items():
            found[name][fold.held] = fitted(each.columns(signals, setting.kinds)[fold.held])
    return found


def by_columns(x: np.ndarray, d: Descriptor, everything: Split, parts: Iterable[Fold], seed: int = 0) -> np.ndarray:
    """The same of Extra Trees on other (N, F) columns, as the composition."""
    plain = concatenated.Features(x, np.zeros(x.shape[1], int), np.full(x.shape[1], "spectra"))
    setting = concatenated.Setting(("spectra",), 0, (("n_estimators", 300),))
    return recipe("extra trees", [setting], d, {"": plain}, (0,), everything, parts, seed)[""]


def majority(d: Descriptor, everything: Split, parts: Iterable[Fold]) -> np.ndarray:
    """The same of the share of each class, or the mean, of the rows that are learnt from."""
    found = None
    for fold in parts:
        said = trivial_answers(take(everything, fold.learnt).batch, take(everything, fold.held).batch)[d.name]
        found = np.full((len(everything.ids), *said.shape[1:]), np.nan) if found is None else found
        found[fold.held] = said
    assert found is not None
    return found


@dataclass(frozen=True)
class Judged:
    """One case and one target. drawn: (R,) scores of the resamples, to compare cases with."""

    measure: Measure
    interval: Interval
    rows: int
    materials: int
    drawn: np.ndarray

    @property
    def said(self) -> str:
        return f"{self.interval.score:.3f} ({self.interval.low:.3f}-{self.interval.high:.3f})"


def judge(
    name: str, answers: np.ndarray, everything: Split, where: np.ndarray | None = None, r2: bool = False
) -> Judged:
    """Of the (N, ...) answers to the rows `where` that have the label and an answer. r2: of values, instead of the MAE."""
    d, column = descriptor(name), column_of(name)
    known = everything.batch.mask[:, column] & np.isfinite(answers.reshape(len(answers), -1)).all(axis=1)
    known &= True if where is None else where
    truth, said = everything.batch.labels[known, column], told(d, answers[known])
    materials = np.array(everything.materials)[known]
    measure = Measure("R2", 1) if r2 and d.kind == "regression" else measure_of(d)
    if len(truth) < 2 or (np.ptp(truth) == 0 and measure.name != "MAE"):
        return Judged(measure, Interval(np.nan, np.nan, np.nan), len(truth), 0, np.full(1, np.nan))
    if measure.name == "R2":
        whole_of, own = (
            1 - np.mean((truth - said) ** 2) / truth.var(),
            resampled_r2(truth, said, materials, draws(materials)),
        )
    else:
        whole_of, own = scored(d, truth, said), resampled(d, truth, said, materials, draws(materials))
    ends = middle(own) if np.isfinite(own).any() else (np.nan, np.nan)
    return Judged(measure, Interval(float(whole_of), *ends), len(truth), len(set(materials.tolist())), own)


def ahead(one: Judged, other: Judged) -> Interval:
    """How much better the first is, with the middle 95 %; both of the same rows."""
    better = one.measure.better
    found = difference(
        [better * one.interval.score, better * other.interval.score], [better * one.drawn, better * other.drawn]
    )
    return Interval(found.score, found.low, found.high)


def gather(parts: Iterable[Fold], count: int, ask: Callable[[Fold], Answers], axis: int = 0) -> Answers:
    """What `ask` says of the held rows of each fold, as (N, ...) of all; NaN of rows that none holds. axis: of the rows."""
    found: Answers = {}
    for fold in parts:
        for name, own in ask(fold).items():
            shape = (*own.shape[:axis], count, *own.shape[axis + 1 :])
            whole_of = found.setdefault(name, np.full(shape, np.nan))
            np.moveaxis(whole_of, axis, 0)[fold.held] = np.moveaxis(np.asarray(own), axis, 0)
    return found
