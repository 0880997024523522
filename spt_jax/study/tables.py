"""From the answers of all fits to the numbers of a study: one JSON document, from which page and CSV follow."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from sklearn.metrics import roc_auc_score

from data_pipelines.dataset.loading import Dataset, Split
from data_pipelines.dataset.resplit import take
from data_pipelines.dataset.splits import SPLITS
from data_pipelines.schema import DESCRIPTORS, SITE_KINDS, Batch, site_kind
from spt_jax.robustness.lipschitz import Lipschitz
from spt_jax.robustness.perturb import PERTURBATIONS
from spt_jax.scoring import calibration
from spt_jax.scoring.decide import class_priors
from spt_jax.scoring.decisions import Decisions
from spt_jax.scoring.intervals import difference, draws, resampled_scores
from spt_jax.scoring.metrics import main_score, score_answers
from spt_jax.scoring.names import MAIN_SCORE
from spt_jax.scoring.ranks import average_ranks, critical_distance
from spt_jax.study.jobs import Done
from spt_jax.tasks import Answers

SPT = "SPT"
EXPERTS = "SPT experts"
PRICE = {
    "seconds": "seconds of fitting",
    "parameters": "parameters",
    "trained_per_s": "trained, spectra/s",
    "answered_per_s": "answered, spectra/s",
}


@dataclass(frozen=True)
class Decided:
    """One fit, or the mean of all seeds of a model: its answers on the test split, and what it makes of them."""

    test: Answers
    decisions: Decisions


class Fits:
    """All fits of one model. `members`: one per seed; `ensemble`: their mean answers."""

    def __init__(self, name: str, fits: list[Done], dataset: Dataset):
        self.name, self.fits = name, fits
        self.train, self.validation = dataset.split("train").batch, dataset.split("validation")

    @cached_property
    def raw(self) -> list[tuple[Answers, Answers]]:
        """Answers of each seed on validation and test."""
        return [(fit.answers("validation"), fit.answers("test")) for fit in self.fits]

    @cached_property
    def members(self) -> list[Decided]:
        return [self._member(*answers) for answers in self.raw]

    @cached_property
    def ensemble(self) -> Decided:
        return self._member(*(mean(list(answers)) for answers in zip(*self.raw, strict=True)))

    def perturbed(self) -> list[Answers]:
        """Classes and values of each seed on every perturbed test split, perturbations in front."""
        return [
            member.decisions.decided(fit.answers("perturbed"))
            for fit, member in zip(self.fits, self.members, strict=True)
        ]

    def _member(self, validation: Answers, test: Answers) -> Decided:
        split = self.validation
        return Decided(test, Decisions.fit(validation, split.batch, split.materials, class_priors(self.train)))


def mean(answers: list[Answers]) -> Answers:
    return {name: np.mean([each[name] for each in answers], axis=0) for name in answers[0]}


def document(models: list[Fits], with_noise: list[Fits], dataset: Dataset) -> dict:
    """All numbers by kind of site; `models` are SPT, its experts, and the competitors, some trained `with_noise` too."""
    test = dataset.split("test")
    kinds = np.array([site_kind(absorber.split()[0]) for absorber in test.absorbers])
    return {
        "dataset": dataset.fingerprint,
        "main_score": MAIN_SCORE,
        "examples": {name: len(dataset.split(name).ids) for name in SPLITS},
        "models": [model.name for model in models],
        "seeds": [fit.job.seed for fit in models[0].fits],
        "perturbations": [asdict(case) for case in PERTURBATIONS],
        "cost": {model.name: [fit.seconds for fit in model.fits] for model in models},
        "price": {model.name: _price(model) for model in models},
        "sites": {
            kind: _of_kind(models, with_noise, test, kinds == kind) for kind in SITE_KINDS if (kinds == kind).any()
        },
        "calibration": {model.name: _calibration(model, dataset) for model in models},
        "lipschitz": {model.name: found for model in models if (found := _lipschitz(model))},
    }


def _price(model: Fits) -> dict[str, float | None]:
    """What a model takes, in the mean over seeds: None where it has no such number, or the fit was made without."""
    each = [{"seconds": fit.seconds, **fit.price} for fit in model.fits]
    return {name: _mean_of([one.get(name) for one in each]) for name in PRICE}


def _mean_of(values: list[float | None]) -> float | None:
    return None if None in values else float(np.mean(values))


def _of_kind(models: list[Fits], with_noise: list[Fits], test: Split, rows: np.ndarray) -> dict:
    split = take(test, np.flatnonzero(rows))
    scores = {model.name: _scores(model, split.batch, rows) for model in models}
    shared = [d.name for d in DESCRIPTORS if all(d.name in each for each in scores.values())]
    return {
        "n": int(rows.sum()),
        "scores": scores,
        "robustness": {model.name: _robustness(model, split, rows) for model in models},
        "with_noise": {model.name: _robustness(model, split, rows) for model in with_noise},
        "against": _against(models, scores, split, rows, shared),
        "ranks": _ranks(scores, shared),
    }


def _scores(model: Fits, batch: Batch, rows: np.ndarray) -> dict:
    """By descriptor the main score of each seed, their mean and spread, that of the ensemble, and without the decision
    rule; and all scores of each seed."""
    found: dict[str, dict] = {}
    *members, ensemble = (
        score_answers(rows_of(each.test, rows), batch, each.decisions) for each in (*model.members, model.ensemble)
    )
    plain = [score_answers(rows_of(test, rows), batch) for _, test in model.raw]
    for column, d in enumerate(DESCRIPTORS):
        if d.name not in ensemble or main_score(ensemble[d.name]) is None:
            continue
        each = [main_score(scores[d.name]) for scores in members]
        found[d.name] = {
            "kind": d.kind,
            "n": ensemble[d.name]["n"],
            "seeds": each,
            "mean": float(np.mean(each)),
            "spread": float(np.std(each, ddof=1)) if len(each) > 1 else None,
            "ensemble": main_score(ensemble[d.name]),
            "most_likely": float(np.mean([main_score(scores[d.name]) for scores in plain])),
            "all": [scores[d.name] for scores in members],
        }
        if d.kind == "class":
            known = batch.mask[:, column]
            areas = [_auc(test[d.name][rows][known], batch.labels[known, column]) for _, test in model.raw]
            found[d.name]["auc"] = float(np.mean(areas)) if None not in areas else None
    return found


def _auc(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean area under the ROC curve of each class that occurs, against the rest."""
    present = [c for c in np.unique(labels).astype(int) if 0 < (labels == c).sum() < len(labels)]
    return float(np.mean([roc_auc_score(labels == c, probabilities[:, c]) for c in present])) if present else None


def _robustness(model: Fits, split: Split, rows: np.ndarray) -> dict[str, list[float | None]]:
    """Main score on each perturbed test split, mean over the seeds; None where there is none."""
    by_seed, found = model.perturbed(), {}
    for column, d in enumerate(DESCRIPTORS):
        known = split.batch.mask[:, column]
        if d.name not in by_seed[0] or not known.any():
            continue
        truth, names = split.batch.labels[known, column], np.array(split.materials)[known]
        once = np.ones((1, len(np.unique(names))))

        def scored(values: np.ndarray, d=d, known=known, truth=truth, names=names, once=once) -> float:
            return float(resampled_scores(d, truth, values[known], names, once)[0])

        each = np.mean([[scored(case) for case in answers[d.name][:, rows]] for answers in by_seed], axis=0)
        found[d.name] = [float(value) if np.isfinite(value) else None for value in each]
    return found


def _against(models: list[Fits], scores: dict, split: Split, rows: np.ndarray, shared: list[str]) -> dict:
    """SPT minus the competitor with the best test score of each descriptor, single models and ensembles apart.

    Paired: on each resample of the materials the mean score of SPT's seeds less that of the competitor's.
    """
    spt, rivals = models[0], [model for model in models if model.name not in (SPT, EXPERTS)]
    found = {}
    if not rivals:
        return found
    for column, d in enumerate(DESCRIPTORS):
        if d.name not in shared:
            continue
        known = split.batch.mask[:, column]
        truth, names = split.batch.labels[known, column], np.array(split.materials)[known]
        drawn = draws(names)

        def resampled(member: Decided, d=d, known=known, truth=truth, names=names, drawn=drawn) -> np.ndarray:
            decided = member.decisions.decided(member.test)[d.name][rows][known]
            return resampled_scores(d, truth, decided, names, drawn)

        best = max(rivals, key=lambda model, d=d: scores[model.name][d.name]["mean"])
        own, other = (scores[model.name][d.name] for model in (spt, best))
        single = [np.mean([resampled(member) for member in model.members], axis=0) for model in (spt, best)]
        together = [resampled(model.ensemble) for model in (spt, best)]
        found[d.name] = {
            "best": best.name,
            "single": asdict(difference([own["mean"], other["mean"]], single)),
            "ensemble": asdict(difference([own["ensemble"], other["ensemble"]], together)),
            "interval": [float(q) for q in np.nanquantile(single[0], (0.025, 0.975))],
        }
    return found


def _ranks(scores: dict, shared: list[str]) -> dict:
    """Mean rank of each model over descriptors and seeds, and the distance at which two are told apart."""
    cases = {name: [value for d in shared for value in each[d]["seeds"]] for name, each in scores.items()}
    count = len(next(iter(cases.values())))
    if count == 0 or len(cases) < 2:
        return {}
    return {"mean": average_ranks(cases), "distance": critical_distance(len(cases), count), "cases": count}


def _calibration(model: Fits, dataset: Dataset) -> dict[str, dict]:
    """By descriptor, mean over seeds: calibration error before and after temperature, or coverage of 90 % intervals."""
    test, found = dataset.split("test"), {}
    names = np.array(test.materials)
    for member in model.members:
        fitted, after = member.decisions, member.test
        scaled, ends = (each(after, test.batch.atomic_number) for each in (fitted.probabilities, fitted.intervals))
        for column, d in enumerate(DESCRIPTORS):
            known = test.batch.mask[:, column]
            labels = test.batch.labels[known, column]
            if d.name in fitted.temperature and known.any():
                numbers = {"temperature": fitted.temperature[d.name]}
                numbers["ece_if_exact"] = calibration.ece_if_exact(scaled[d.name][known])
                for key, each in (("ece_raw", after), ("ece", scaled)):
                    numbers[key] = calibration.ece(each[d.name][known], labels.astype(int))
            elif d.name in fitted.halfwidth and known.any():
                low, high = ends[d.name][known].T
                within = (low <= labels) & (labels <= high)
                numbers = {
                    "halfwidth": float(np.mean(high - low) / 2),
                    "coverage_sites": calibration.coverage(within),
                    "coverage_materials": calibration.coverage(within, names[known]),
                }
            else:
                continue
            found.setdefault(d.name, []).append(numbers)
    return {name: {key: float(np.mean([n[key] for n in each])) for key in each[0]} for name, each in found.items()}


def _lipschitz(model: Fits) -> dict[str, dict]:
    """By descriptor, over the test spectra of all seeds: how far an answer moves with the spectrum."""
    each = [fit.answers("lipschitz") for fit in model.fits]
    return {name: asdict(Lipschitz.of(np.concatenate([found[name] for found in each]))) for name in each[0]}


def rows_of(answers: Answers, rows: np.ndarray) -> Answers:
    return {name: each[rows] for name, each in answers.items()}
