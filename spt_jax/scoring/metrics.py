"""Scores of answers against masked labels, one rule per descriptor kind. docs/evaluation.md says which is for what."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from data_pipelines.schema import SHELLS, SYMBOLS, Batch, columned
from data_pipelines.shells import shell_labels
from spt_jax.scoring.calibration import ece
from spt_jax.scoring.decisions import Decisions
from spt_jax.scoring.f1 import class_f1, weighted_f1
from spt_jax.scoring.names import COMMON, MAIN_SCORE
from spt_jax.scoring.probabilities import average_precision, brier, nll
from spt_jax.tasks import Answers, Task, answers_of


def score_classes(truth: np.ndarray, decided: np.ndarray, probabilities: np.ndarray) -> dict[str, float | None]:
    """CLASS_SCORES of N >= 1 sites. truth, decided: (N,) class indices. probabilities: (N, C).

    Weighted F1 counts each class by its sites. Macro-F1 counts alike all classes that are the truth or the decision of
    any site (scikit-learn's rule); common macro-F1 those that are the truth of COMMON sites or more, and is None where
    there is none.
    """
    truth, decided = truth.astype(int), decided.astype(int)
    count = probabilities.shape[1]
    hits, sites, said = (np.bincount(each, minlength=count) for each in (truth[truth == decided], truth, decided))
    f1 = class_f1(hits, sites, said)
    common = sites >= COMMON
    return {
        "f1_weighted": float(weighted_f1(hits, sites, said)),
        "f1_macro_common": float(f1[common].mean()) if common.any() else None,
        "f1_macro": float(f1[(sites > 0) | (said > 0)].mean()),
        "accuracy": float((truth == decided).mean()),
        "nll": nll(probabilities, truth),
        "brier": brier(probabilities, truth),
        "ece": ece(probabilities, truth),
    }


def score_values(truth: np.ndarray, values: np.ndarray) -> dict[str, float | None]:
    """VALUE_SCORES of N >= 1 sites. truth, values: (N,) in one unit, that of RMSE and MAE.

    R2 is None below two distinct labels, where it does not exist.
    """
    varies = len(truth) > 1 and np.ptp(truth) > 0
    return {
        "r2": float(r2_score(truth, values)) if varies else None,
        "rmse": float(root_mean_squared_error(truth, values)),
        "mae": float(mean_absolute_error(truth, values)),
    }


def score_elements(truth: np.ndarray, probabilities: np.ndarray) -> dict:
    """ELEMENT_SCORES of N >= 1 sites, and `elements`: of each at one of them its sites and its average precision.

    truth: (N, Z) bool, is the element in the shell? probabilities: (N, Z). Micro: of all pairs of site and element in
    one list; None where all shells are empty. Macro: the mean of the elements at COMMON sites or more; None without one.
    """
    sites = truth.sum(axis=0)
    found = {
        SYMBOLS[z]: {"sites": int(sites[z]), "ap": average_precision(truth[:, z], probabilities[:, z])}
        for z in np.flatnonzero(sites)
    }
    common = [each["ap"] for each in found.values() if each["sites"] >= COMMON]
    return {
        "ap_micro": average_precision(truth.ravel(), probabilities.ravel()) if found else None,
        "ap_macro": float(np.mean(common)) if common else None,
        "elements": found,
    }


def main_score(scores: dict) -> float | None:
    """The one number of a descriptor: weighted F1, R2 or, of the elements of a shell, micro average precision."""
    return scores["ap_micro" if scores["kind"] == "elements" else MAIN_SCORE[scores["kind"]]]


def score_answers(answers: Answers, batch: Batch, decisions: Decisions | None = None) -> dict[str, dict]:
    """Scores on the labelled rows of a batch: descriptor -> scores, its kind and n; none where nothing is labelled or
    answered.

    Of the classes that `decisions` makes of the probabilities, and of these as it calibrates them; without it, of the
    most likely classes and of the probabilities as they are.
    """
    rule = decisions or Decisions()
    said, decided, result = rule.probabilities(answers, np.asarray(batch.atomic_number)), rule.decided(answers), {}
    for column, d in columned(batch.labels):
        known = np.asarray(batch.mask[:, column])
        if d.name not in answers or not known.any():
            continue
        truth, found = batch.labels[known, column], decided[d.name][known]
        scores = score_classes(truth, found, said[d.name][known]) if d.kind == "class" else score_values(truth, found)
        result[d.name] = {"kind": d.kind, "n": len(truth), **scores}
    for d in SHELLS:
        known, present = shell_labels(batch, d.name)
        if d.name in answers and known.any():
            result[d.name] = {"kind": d.kind, "n": len(present), **score_elements(present, said[d.name][known])}
    return result


def score_outputs(outputs: dict[str, np.ndarray], batch: Batch, tasks: tuple[Task, ...]) -> dict[str, dict]:
    """The same of a network's head outputs."""
    return score_answers(answers_of(outputs, tasks, batch.atomic_number), batch)
