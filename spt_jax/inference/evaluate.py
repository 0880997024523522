"""A model against the labels of a split: predictions, the metrics document, and its table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from data_pipelines.dataset.loading import Dataset, Split
from data_pipelines.errors import DatasetError
from data_pipelines.schema import SITE_KINDS, Batch, descriptor, site_kind
from spt_jax.inference.predict import Model
from spt_jax.scoring.metrics import score_outputs


@dataclass(frozen=True)
class Evaluation:
    """A split, the head outputs on it, and `metrics`, the JSON document of `spt-jax evaluate`."""

    split: Split
    outputs: dict[str, np.ndarray]
    metrics: dict


def evaluate(model: Model, dataset: Dataset, name: str) -> Evaluation:
    """Scores over all labelled sites of a split, and apart for O and non-O sites."""
    split = dataset.split(name)
    for absorber in sorted(set(split.absorbers)):
        model.absorber(*absorber.split())
    if dataset.grid != model.blueprint.grid:
        raise DatasetError(
            f"{dataset.path} has the grid {dataset.grid}, the model was trained on {model.blueprint.grid}"
        )
    outputs = model.outputs(split.batch.spectrum, split.batch.atomic_number)
    kinds = np.array([site_kind(absorber.split()[0]) for absorber in split.absorbers])
    tasks = model.blueprint.learnt_tasks

    def scores(rows: np.ndarray) -> dict:
        batch = Batch(*(field[rows] for field in split.batch))
        found = score_outputs({k: v[rows] for k, v in outputs.items()}, batch, tasks)
        return {"n": int(rows.sum()), "descriptors": found}

    everything = scores(np.ones(len(kinds), bool))
    sites = {kind: scores(kinds == kind) for kind in SITE_KINDS if (kinds == kind).any()}
    return Evaluation(split, outputs, {"split": name, **everything, "sites": sites})


def as_table(metrics: dict) -> Table:
    """The metrics document as a table, one block per site kind; F1 is macro-averaged."""
    table = Table(title=f"{metrics['split']} split, {metrics['n']} spectra", title_justify="left", box=SIMPLE_HEAD)
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
