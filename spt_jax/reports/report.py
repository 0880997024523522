"""One self-contained HTML page of a run: learning curves, scores, confusion, parity, chosen bands."""

from __future__ import annotations

import html
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from data_pipelines.files import write_atomic
from data_pipelines.pages.style import BLUE, ORANGE, RC, as_svg
from spt_jax.config import ModelConfig
from spt_jax.inference.evaluate import Evaluation
from spt_jax.reports.figures import confusions, parities
from spt_jax.runs.blueprint import Blueprint
from spt_jax.runs.folder import read_log
from spt_jax.tasks import answers_of

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
    metrics, answers = evaluation.metrics, answers_of(evaluation.outputs, blueprint.learnt_tasks)
    log = read_log(run)
    sections = [
        ("Scores", f"On the {metrics['split']} split, whose materials training never saw.", _score_table(metrics)),
        (
            "Learning curves",
            "Loss 1 is what a constant guess costs; the score is the mean of macro-F1 and R².",
            as_svg(_curves(log)),
        ),
        ("Classes", "Rows: label; columns: prediction; numbers: sites.", as_svg(confusions(answers, evaluation.split))),
        ("Values", "Label against prediction, Å (NNOSM: charge).", as_svg(parities(answers, evaluation.split))),
    ]
    model = blueprint.model
    if isinstance(model, ModelConfig):
        note = (
            f"How often each frequency is among the bands of a test spectrum (k = {model.bands}, mode = "
            f"{model.band_mode}, band input {model.band_input}). Frequency f folds the spectrum at a period of its "
            "length / f."
        )
        sections.append(("Chosen bands", note, as_svg(_bands(evaluation, model.highest_band))))
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


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")
