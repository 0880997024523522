"""What a model says of its answers: one class, calibrated probabilities, an interval for every value.

Fitted on answers for the validation materials, of any model alike, and stored with it: what is scored is what is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from data_pipelines.schema import DESCRIPTORS, SHELL_NAMES, SHELLS, Batch, descriptor, shell_labels
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


@dataclass(frozen=True)
class Decisions:
    """By descriptor; one that is in none of these is answered with the most likely class, or without an interval.

    temperature: divides the logits of a class descriptor, and those of the elements of a shell. power, prior: the
    decision of a class is the argmax of p / prior^power, prior being the (C,) frequencies of its classes in training.
    halfwidth: in the unit of a regression; value +- halfwidth holds the truth at a random site of a new material with
    probability `coverage`.
    """

    coverage: float = 0.9
    temperature: dict[str, float] = field(default_factory=dict)
    power: dict[str, float] = field(default_factory=dict)
    prior: dict[str, tuple[float, ...]] = field(default_factory=dict)
    halfwidth: dict[str, float] = field(default_factory=dict)

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
        found = cls(coverage)
        for column, d in enumerate(DESCRIPTORS):
            known = rows[np.asarray(batch.mask[rows, column])]
            if d.name not in answers or not len(known):
                continue
            own, labels = answers[d.name][known], batch.labels[known, column]
            if d.kind == "regression":
                width = conformal_halfwidth(labels - own, coverage, group[known])
                if np.isfinite(width):
                    found.halfwidth[d.name] = width
                continue
            if len(np.unique(group[known])) >= FEWEST:
                found.temperature[d.name] = fit_temperature(own, labels)
            if d.name in priors:
                prior = np.asarray(priors[d.name], np.float64)
                found.prior[d.name] = tuple(prior.tolist())
                found.power[d.name] = fit_alpha(own, labels.astype(int), prior, group[known])
        for d in SHELLS:
            labelled, present = shell_labels(batch, d.name)
            known = np.isin(np.flatnonzero(labelled), rows)
            if d.name in answers and len(np.unique(group[labelled][known])) >= FEWEST:
                found.temperature[d.name] = fit_temperature_each(answers[d.name][labelled][known], present[known])
        return found

    @classmethod
    def of_mean(cls, members: Mapping[str, Sequence[Decisions]]) -> Decisions:
        """Of the mean of several models' calibrated probabilities and values; members: by descriptor, those who answer.

        Powers are those of calibrated probabilities, in the mean. An interval is the mean of the members' intervals:
        it holds the truth somewhat more often than they do, for their mean is nearer to it.
        """
        found = cls(next(iter(members.values()))[0].coverage)
        for name, own in members.items():
            if all(name in each.power for each in own):
                found.power[name] = float(np.mean([each.power[name] / each.temperature.get(name, 1) for each in own]))
                found.prior[name] = own[0].prior[name]
            if all(name in each.halfwidth for each in own):
                found.halfwidth[name] = float(np.mean([each.halfwidth[name] for each in own]))
        return found

    def classes(self, answers: Answers) -> dict[str, np.ndarray]:
        """(..., C) probabilities as the model gives them -> (...) class indices, of each class descriptor answered."""
        return {
            name: decide(found, np.array(self.prior[name]), self.power[name])
            if name in self.power
            else found.argmax(axis=-1)
            for name, found in answers.items()
            if descriptor(name).kind == "class"
        }

    def decided(self, answers: Answers) -> Answers:
        """The same answers with class indices in the place of probabilities; values stay."""
        return {**answers, **self.classes(answers)}

    def probabilities(self, answers: Answers) -> Answers:
        """The same answers with calibrated probabilities; values stay, and so does the most likely class."""
        scaled = {
            name: (with_temperature_each if name in SHELL_NAMES else with_temperature)(answers[name], t)
            for name, t in self.temperature.items()
            if name in answers
        }
        return {**answers, **scaled}

    def intervals(self, answers: Answers) -> dict[str, np.ndarray]:
        """(N, 2) lowest and highest value of each regression, within what is plausible."""
        found = {}
        for name, halfwidth in self.halfwidth.items():
            if name in answers:
                ends = answers[name][:, None] + np.array([-halfwidth, halfwidth])
                found[name] = np.clip(ends, *descriptor(name).plausible)
        return found

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict) -> Decisions:
        """The same to the last bit."""
        return cls(**{**document, "prior": {name: tuple(each) for name, each in document["prior"].items()}})


def _some(group: np.ndarray, count: int) -> np.ndarray:
    """Indices of all (N,) rows, or of those of as many of the `count` groups as MOST rows hold."""
    if len(group) <= MOST:
        return np.arange(len(group))
    order = np.random.default_rng(0).permutation(count)
    kept = order[np.cumsum(np.bincount(group)[order]) <= MOST]
    return np.flatnonzero(np.isin(group, kept))
