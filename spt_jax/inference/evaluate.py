"""A model against the labels of a split: predictions, the metrics document, and its table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from data_pipelines.dataset.data import Data, Split
from data_pipelines.dataset.opening import open_data
from data_pipelines.schema import SITE_KINDS, Batch, descriptor, site_kind
from spt_jax.inference.output import legend
from spt_jax.inference.predict import Model, load
from spt_jax.scoring.metrics import score_answers
from spt_jax.tasks import Answers, answers_of

FITTED, MOST_LIKELY = "by the rule fitted on the validation materials", "the most likely"


@dataclass(frozen=True)
class Evaluation:
    """A split, what a model says of it, and `metrics`, the JSON document of `spt-jax evaluate`.

    outputs: (N, ...) of the heads, and "bands". answers: calibrated. decided: class indices and values, as scored.
    """

    split: Split = field(repr=False)
    outputs: dict[str, np.ndarray] = field(repr=False)
    answers: Answers = field(repr=False)
    decided: Answers = field(repr=False)
    metrics: dict


def evaluate(model: Model | Path | str, dataset: Data | Path | str, name: str = "test") -> Evaluation:
    """Scores over all labelled sites of a split, and apart for O and non-O sites, of the classes that the model decides.

    model, dataset: or the folders that hold them. Raises DatasetError or SpectrumError where they do not fit each other.
    """
    model = model if isinstance(model, Model) else load(model)
    dataset = dataset if isinstance(dataset, Data) else open_data(dataset)
    split = dataset.split(name)
    for absorber in sorted(set(split.absorbers)):
        model.absorber(*absorber.split())
    model.check_grid(dataset.name, dataset.grid)
    outputs = model.outputs(split.batch.spectrum, split.batch.atomic_number)
    kinds = np.array([site_kind(absorber.split()[0]) for absorber in split.absorbers])
    answers, decisions = answers_of(outputs, model.blueprint.learnt_tasks), model.decisions

    def scores(rows: np.ndarray) -> dict:
        batch = Batch(*(each[rows] for each in split.batch))
        found = score_answers({name: each[rows] for name, each in answers.items()}, batch, decisions)
        return {"n": int(rows.sum()), "descriptors": found}

    everything = scores(np.ones(len(kinds), bool))
    sites = {kind: scores(kinds == kind) for kind in SITE_KINDS if (kinds == kind).any()}
    rule = FITTED if model.blueprint.decisions else MOST_LIKELY
    metrics = {"split": name, "classes": rule, **everything, "sites": sites}
    return Evaluation(split, outputs, decisions.probabilities(answers), decisions.decided(answers), metrics)


def as_table(metrics: dict) -> Table:
    """The metrics document as a table, one block per site kind, and what its words mean; F1 is macro-averaged."""
    about = f"classes: {metrics['classes']}\n{legend(metrics['descriptors'])}"
    title = f"{metrics['split']} split, {metrics['n']} spectra"
    table = Table(title=title, title_justify="left", caption=about, caption_justify="left", box=SIMPLE_HEAD)
    for column in ("sites", "descriptor"):
        table.add_column(column)
    for column in ("n", "F1", "F1 wtd", "acc", "R2", "RMSE", "MAE"):
        table.add_column(column, justify="right")
    for kind, part in metrics["sites"].items():
        for name, s in part["descriptors"].items():
            if s["kind"] == "class":
                cells = [f"{s[key]:.3f}" for key in ("f1_macro", "f1_weighted", "accuracy")] + [""] * 3
            else:
                r2 = "-" if s["r2"] is None else f"{s['r2']:.3f}"
                cells = [""] * 3 + [r2] + [f"{s[key]:.3f}" for key in ("rmse", "mae")]
            unit = descriptor(name).unit
            table.add_row(kind, f"{name} ({unit})" if unit else name, str(s["n"]), *cells)
        table.add_section()
    return table
