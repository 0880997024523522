"""What a model says of its answers: one class, calibrated probabilities, an interval for every value.

Fitted on answers for the validation materials, of any model alike, and stored with it: what is scored is what is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from data_pipelines.schema import SHELL_NAMES, SHELLS, SYMBOLS, Batch, columned, descriptor
from data_pipelines.shells import shell_labels
from spt_jax.scoring.calibration import (
    conformal_halfwidth,
    fit_temperature,
    fit_temperature_each,
    with_temperature,
    with_temperature_each,
)
from spt_jax.scoring.decide import decide, fit_alpha
from spt_jax.tasks import Answers

MOST = 10_000
"""Rows that are fitted on at most; of more, whole materials are drawn, the same ones every time."""
FEWEST = 5
"""Materials that a temperature is fitted on at least: a few right answers would make every probability 0 or 1."""
ENOUGH = 20
"""Materials from which on an absorber has its own temperature and interval: some elements are told better than others."""


@dataclass(frozen=True)
class Sureness:
    """By descriptor, how sure answers are. temperature: divides the logits of a class descriptor, and those of the elements of a shell. halfwidth: in the unit
    of a regression; value +- halfwidth holds the truth at a random site of a new material with probability `coverage`.
    """

    temperature: dict[str, float] = field(default_factory=dict)
    halfwidth: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Decisions(Sureness):
    """By descriptor; one that is in none of these is answered with the most likely class, or without an interval.

    power, prior: a class is the argmax of p / prior^power, prior being the (C,) frequencies of the classes in training.
    of_element: by symbol, of absorbers with enough materials, in the place of what is fitted on all.
    """

    coverage: float = 0.9
    power: dict[str, float] = field(default_factory=dict)
    prior: dict[str, tuple[float, ...]] = field(default_factory=dict)
    of_element: dict[str, Sureness] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        answers: Answers,
        batch: Batch,
        materials: Sequence[str],
        priors: Mapping[str, np.ndarray],
        coverage: float = 0.9,
    ) -> Decisions:
        """From a model's answers on the N rows of the validation split, which are of these (N,) materials.

        priors: (C,) frequencies in training of each class descriptor that is to be decided by them. What has no labels,
        or too few materials for an interval, is left out. Takes about a second at most, however many rows.
        """
        names, group = np.unique(np.asarray(materials), return_inverse=True)
        rows = _some(group, len(names))
        found = cls(coverage=coverage)
        for column, d in columned(batch.labels):
            known = rows[np.asarray(batch.mask[rows, column])]
            if d.name not in answers or not len(known):
                continue
            own, labels, element = answers[d.name][known], batch.labels[known, column], batch.atomic_number[known]
            _fit_sureness(found, FEWEST, d.name, own, labels, group[known], coverage)
            for number in np.unique(element).tolist():
                of = element == number
                mine = found.of_element.setdefault(SYMBOLS[number], Sureness())
                _fit_sureness(mine, ENOUGH, d.name, own[of], labels[of], group[known][of], coverage)
            if d.kind == "class" and d.name in priors:
                prior = np.asarray(priors[d.name], np.float64)
                found.prior[d.name] = tuple(prior.tolist())
                found.power[d.name] = fit_alpha(own, labels.astype(int), prior, group[known])
        for d in SHELLS:
            labelled, present = shell_labels(batch, d.name)
            known = np.isin(np.flatnonzero(labelled), rows)
            if d.name in answers and len(np.unique(group[labelled][known])) >= FEWEST:
                found.temperature[d.name] = fit_temperature_each(answers[d.name][labelled][known], present[known])
        for symbol in [symbol for symbol, own in found.of_element.items() if own == Sureness()]:
            del found.of_element[symbol]
        return found

    @classmethod
    def of_mean(cls, members: Mapping[str, Sequence[Decisions]]) -> Decisions:
        """Of the mean of several models' calibrated probabilities and values; members: by descriptor, those who answer.

        Powers are those of calibrated probabilities, in the mean, by the temperatures of all elements together. An interval is the mean of the members' intervals:
        it holds the truth somewhat more often than they do, for their mean is nearer to it.
        """
        found = cls(coverage=next(iter(members.values()))[0].coverage)
        for name, own in members.items():
            if all(name in each.power for each in own):
                found.power[name] = float(np.mean([each.power[name] / each.temperature.get(name, 1) for each in own]))
                found.prior[name] = own[0].prior[name]
            if all(name in each.halfwidth for each in own):
                found.halfwidth[name] = float(np.mean([each.halfwidth[name] for each in own]))
            for symbol in set.intersection(*(set(each.of_element) for each in own)):
                theirs = [each.of_element[symbol].halfwidth for each in own]
                if all(name in each for each in theirs):
                    mean = float(np.mean([each[name] for each in theirs]))
                    found.of_element.setdefault(symbol, Sureness()).halfwidth[name] = mean
        return found

    def classes(self, answers: Answers) -> dict[str, np.ndarray]:
        """(..., C) probabilities as the model gives them -> (...) class indices, of each class descriptor answered.

        Of the neighbours no more are oxygens than there are: OCN is decided among the classes that CN leaves.
        """
        found = {name: self._class(name, own) for name, own in answers.items() if descriptor(name).kind == "class"}
        if found.keys() >= {"CN", "OCN"}:
            neighbours = np.take(descriptor("CN").classes, found["CN"])[..., None]
            found["OCN"] = self._class("OCN", answers["OCN"] * (np.array(descriptor("OCN").classes) <= neighbours))
        return found

    def _class(self, name: str, found: np.ndarray) -> np.ndarray:
        if name in self.power:
            return decide(found, np.array(self.prior[name]), self.power[name])
        return found.argmax(axis=-1)

    def decided(self, answers: Answers) -> Answers:
        """The same answers with class indices in the place of probabilities; values stay."""
        return {**answers, **self.classes(answers)}

    def probabilities(self, answers: Answers, atomic_number: np.ndarray) -> Answers:
        """The same answers with calibrated probabilities; values stay, and so does the most likely class.

        atomic_number: (N,), of the absorbers.
        """
        scaled = {
            name: (with_temperature_each if name in SHELL_NAMES else with_temperature)(
                answers[name], self._of("temperature", name, atomic_number, 1.0)[:, None]
            )
            for name in self._named("temperature")
            if name in answers
        }
        return {**answers, **scaled}

    def intervals(self, answers: Answers, atomic_number: np.ndarray) -> dict[str, np.ndarray]:
        """(N, 2) lowest and highest value of each regression, within what is plausible; NaN where none is known."""
        found = {}
        for name in self._named("halfwidth"):
            if name in answers:
                width = self._of("halfwidth", name, atomic_number, np.nan)[:, None]
                found[name] = np.clip(answers[name][:, None] + width * [-1, 1], *descriptor(name).plausible)
        return found

    def temperatures(self, name: str) -> np.ndarray:
        """(Z,) of a class descriptor, by atomic number of the absorber."""
        return self._of("temperature", name, np.arange(len(SYMBOLS)), 1.0)

    def _named(self, what: str) -> list[str]:
        """Descriptors that it is known of, for some absorber."""
        each = (getattr(own, what) for own in (self, *self.of_element.values()))
        return list(dict.fromkeys(name for own in each for name in own))

    def _of(self, what: str, name: str, atomic_number: np.ndarray, otherwise: float) -> np.ndarray:
        """(N,) temperatures or halfwidths of a descriptor for these absorbers."""
        general = getattr(self, what).get(name, otherwise)
        numbers = atomic_number.tolist()
        own = {z: getattr(self.of_element.get(SYMBOLS[z], self), what).get(name, general) for z in set(numbers)}
        return np.array([own[z] for z in numbers])

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict) -> Decisions:
        """The same to the last bit."""
        prior = {name: tuple(each) for name, each in document["prior"].items()}
        of_element = {symbol: Sureness(**own) for symbol, own in document.get("of_element", {}).items()}
        return cls(**{**document, "prior": prior, "of_element": of_element})


def lacks_oxygens(decided: Answers) -> np.ndarray:
    """(N,) whether fewer than two oxygens are decided among the first neighbours: then there is no O-O distance."""
    if "OCN" not in decided:
        return np.zeros(len(next(iter(decided.values()))), bool)
    return np.take(descriptor("OCN").classes, decided["OCN"]) < 2


def _fit_sureness(
    found: Sureness,
    fewest: int,
    name: str,
    answers: np.ndarray,
    labels: np.ndarray,
    group: np.ndarray,
    coverage: float,
) -> None:
    """Of one descriptor, where there are `fewest` materials; an interval of all wherever their number promises it."""
    enough = len(np.unique(group)) >= fewest
    if descriptor(name).kind == "class":
        if enough:
            found.temperature[name] = fit_temperature(answers, labels)
        return
    width = conformal_halfwidth(labels - answers, coverage, group)
    if np.isfinite(width) and (enough or fewest == FEWEST):
        found.halfwidth[name] = width


def _some(group: np.ndarray, count: int) -> np.ndarray:
    """Indices of all (N,) rows, or of those of as many of the `count` groups as MOST rows hold."""
    if len(group) <= MOST:
        return np.arange(len(group))
    order = np.random.default_rng(0).permutation(count)
    kept = order[np.cumsum(np.bincount(group)[order]) <= MOST]
    return np.flatnonzero(np.isin(group, kept))
