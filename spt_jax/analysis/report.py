"""One self-contained HTML page of a run: learning curves, scores, confusion, parity, chosen bands."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from data_pipelines.card_figures import BLUE, GREY, INK, KIND_COLOUR, ORANGE, RC
from data_pipelines.files import write_atomic
from data_pipelines.schema import SITE_KINDS, descriptor, site_kind
from spt_jax.analysis.evaluate import Evaluation
from spt_jax.blueprint import Blueprint
from spt_jax.config import ModelConfig
from spt_jax.training.loop import LOG
from spt_jax.training.losses import units

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p.note { color: #555; max-width: 46rem; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 0.92rem; } td, th { padding: 0.15rem 0.8rem; text-align: right; }
th { border-bottom: 1px solid #888; } td:nth-child(-n+2), th:nth-child(-n+2) { text-align: left; }
tr.first td { border-top: 1px solid #ccc; }
"""


@matplotlib.rc_context(RC)
def write_report(run: Path, evaluation: Evaluation, blueprint: Blueprint) -> None:
    """Write `run`/report.html."""
    metrics = evaluation.metrics
    log = [json.loads(line) for line in (run / LOG).read_text(encoding="utf-8").splitlines()]
    sections = [
        ("Scores", f"On the {metrics['split']} split, whose materials training never saw.", _score_table(metrics)),
        (
            "Learning curves",
            "Loss 1 is what a constant guess costs; the score is the mean of macro-F1 and R².",
            _svg(_curves(log)),
        ),
        ("Classes", "Rows: label; columns: prediction; numbers: sites.", _svg(_confusions(evaluation, blueprint))),
        ("Values", "Label against prediction, Å (NNOSM: charge).", _svg(_parities(evaluation, blueprint))),
    ]
    model = blueprint.model
    if isinstance(model, ModelConfig):
        note = (
            f"How often each frequency is among the bands of a test spectrum (k = {model.bands}, mode = "
            f"{model.band_mode}, band input {model.band_input}). Frequency f folds the spectrum at a period of its "
            "length / f."
        )
        sections.append(("Chosen bands", note, _svg(_bands(evaluation, model.highest_band))))
    body = "".join(
        f'<h2>{html.escape(title)}</h2><p class="note">{html.escape(note)}</p>{content}'
        for title, note, content in sections
    )
    absorbers = html.escape(", ".join(blueprint.absorbers))
    head = f'<meta charset="utf-8"><title>spt_jax report</title><style>{STYLE}</style>'
    name = "SPT" if isinstance(model, ModelConfig) else model.kind
    title = f'<h1>{name} report</h1><p class="note">{metrics["n"]} test spectra; trained on {absorbers}.</p>'
    write_atomic(
        run / "report.html", f'<!doctype html><html lang="en"><head>{head}</head><body>{title}{body}</body></html>\n'
    )


def _score_table(metrics: dict) -> str:
    header = "".join(
        f"<th>{c}</th>"
        for c in ("sites", "descriptor", "n", "F1 macro", "F1 weighted", "accuracy", "R²", "RMSE", "MAE")
    )
    rows = []
    for kind, part in metrics["sites"].items():
        for i, (name, s) in enumerate(part["descriptors"].items()):
            keys = ("f1_macro", "f1_weighted", "accuracy", "r2", "rmse", "mae")
            cells = [kind, name, s["n"], *("" if s.get(k) is None else f"{s[k]:.3f}" for k in keys)]
            first = ' class="first"' if i == 0 else ""
            rows.append(f"<tr{first}>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return f"<table><tr>{header}</tr>{''.join(rows)}</table>"


def _curves(log: list[dict]) -> Figure:
    figure = _figure(9, 3.2)
    left, right = figure.subplots(1, 2)
    left.plot([line["epoch"] for line in log], [line["loss"] for line in log], color=BLUE)
    left.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
    scored = [line for line in log if "score" in line]
    right.plot([line["epoch"] for line in scored], [line["score"] for line in scored], color=ORANGE)
    right.set(xlabel="epoch", ylabel="validation score")
    return figure


def _confusions(evaluation: Evaluation, blueprint: Blueprint) -> Figure:
    def draw(axes, task, labels, values, _):
        d = descriptor(task.name)
        predicted = values.argmax(axis=-1)
        present = np.union1d(labels.astype(int), predicted)
        matrix = np.zeros((len(present), len(present)), int)
        np.add.at(matrix, (np.searchsorted(present, labels.astype(int)), np.searchsorted(present, predicted)), 1)
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        if len(present) <= 12:
            for (i, j), n in np.ndenumerate(matrix):
                if n:
                    axes.text(
                        j, i, n, ha="center", va="center", fontsize=7, color="white" if share[i, j] > 0.6 else INK
                    )
        names = [d.classes[c] for c in present]
        step = max(1, len(names) // 12)
        axes.set_xticks(range(0, len(names), step), names[::step])
        axes.set_yticks(range(0, len(names), step), names[::step])

    return _grid(evaluation, blueprint, [t for t in blueprint.tasks if t.classes], draw, 3.1)


def _parities(evaluation: Evaluation, blueprint: Blueprint) -> Figure:
    def draw(axes, task, labels, values, kinds):
        low, high = min(labels.min(), values.min()), max(labels.max(), values.max())
        axes.plot([low, high], [low, high], color=GREY, linewidth=1, zorder=1)
        for kind in SITE_KINDS:
            if (kinds == kind).any():
                axes.scatter(
                    labels[kinds == kind],
                    values[kinds == kind],
                    s=9,
                    alpha=0.6,
                    color=KIND_COLOUR[kind],
                    label=f"{kind} sites",
                )
        axes.set(xlabel="label", ylabel="prediction")
        axes.set_box_aspect(1)
        if len(set(kinds)) > 1:
            axes.legend(frameon=False, fontsize=8)

    return _grid(evaluation, blueprint, [t for t in blueprint.tasks if not t.classes], draw, 3.1)


def _bands(evaluation: Evaluation, highest: int) -> Figure:
    bands = evaluation.outputs["bands"]
    blocks = bands.shape[1]
    figure = _figure(9, 2.8)
    all_axes = figure.subplots(1, blocks, sharey=True, squeeze=False)[0]
    for block, axes in enumerate(all_axes):
        share = np.bincount(bands[:, block].ravel(), minlength=highest + 1)[1:] / len(bands)
        axes.bar(range(1, highest + 1), share, color=BLUE)
        axes.set(xlabel="frequency f", title=f"block {block + 1}", ylim=(0, 1.02))
        axes.set_xticks(range(1, highest + 1))
    all_axes[0].set_ylabel("share of spectra")
    return figure


def _grid(evaluation: Evaluation, blueprint: Blueprint, tasks: list, draw: Callable, size: float) -> Figure:
    """One panel per task with labels in this split, three in a row."""
    batch = evaluation.split.batch
    kinds = np.array([site_kind(absorber.split()[0]) for absorber in evaluation.split.absorbers])
    tasks = [task for task in tasks if batch.mask[:, task.column].any()]
    rows = max(1, -(-len(tasks) // 3))
    figure = _figure(9, size * rows)
    panels = figure.subplots(rows, 3, squeeze=False).ravel()
    for axes in panels[len(tasks) :]:
        axes.set_visible(False)
    for axes, task in zip(panels, tasks, strict=False):
        present = batch.mask[:, task.column]
        draw(
            axes,
            task,
            batch.labels[present, task.column],
            units(task, evaluation.outputs[task.name][present]),
            kinds[present],
        )
        unit = f" ({descriptor(task.name).unit})" if descriptor(task.name).unit else ""
        axes.set_title(f"{task.name}{unit}", fontsize=11)
    return figure


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
