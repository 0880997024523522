"""Scores of predictions against masked labels, one rule per descriptor kind."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from data_pipelines.schema import DESCRIPTORS, Batch, Descriptor
from spt_jax.scoring.decisions import Decisions
from spt_jax.tasks import Answers, Task, answers_of


def score(d: Descriptor, truth: np.ndarray, prediction: np.ndarray) -> dict:
    """Scores of (N,) truth and prediction, N >= 1: class values or indices, or values in the descriptor's unit.

    Macro-F1 runs over the classes that occur in truth or prediction (scikit-learn's rule). R2 is None below two
    distinct labels, where it does not exist.
    """
    result: dict = {"kind": d.kind, "n": len(truth)}
    if d.kind == "class":
        result["f1_macro"] = float(f1_score(truth, prediction, average="macro", zero_division=0))
        result["f1_weighted"] = float(f1_score(truth, prediction, average="weighted", zero_division=0))
        result["accuracy"] = float(accuracy_score(truth, prediction))
    else:
        varies = len(truth) > 1 and np.ptp(truth) > 0
        result["r2"] = float(r2_score(truth, prediction)) if varies else None
        result["rmse"] = float(root_mean_squared_error(truth, prediction))
        result["mae"] = float(mean_absolute_error(truth, prediction))
    return result


def main_score(scores: dict) -> float | None:
    """The one number of a descriptor: macro-F1 or R2."""
    return scores["f1_macro"] if scores["kind"] == "class" else scores["r2"]


def score_answers(answers: Answers, batch: Batch, decisions: Decisions | None = None) -> dict[str, dict]:
    """Scores on the labelled rows of a batch: descriptor -> scores; none where nothing is labelled or answered.

    Of the classes that `decisions` makes of the probabilities, or of the most likely ones.
    """
    result, decided = {}, (decisions or Decisions()).decided(answers)
    for column, d in enumerate(DESCRIPTORS):
        present = np.asarray(batch.mask[:, column])
        if d.name in answers and present.any():
            result[d.name] = score(d, batch.labels[present, column], decided[d.name][present])
    return result


def score_outputs(outputs: dict[str, np.ndarray], batch: Batch, tasks: tuple[Task, ...]) -> dict[str, dict]:
    """The same of a network's head outputs."""
    return score_answers(answers_of(outputs, tasks), batch)
