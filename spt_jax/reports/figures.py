"""Answers against labels, one panel per descriptor: confusion, parity, ROC."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve

from data_pipelines.dataset.loading import Split
from data_pipelines.pages.style import GREY, INK, KIND_COLOUR, RC
from data_pipelines.schema import DESCRIPTORS, SITE_KINDS, Descriptor, site_kind
from spt_jax.tasks import Answers

Draw = Callable[[Axes, Descriptor, np.ndarray, np.ndarray, np.ndarray], None]


@matplotlib.rc_context(RC)
def confusions(answers: Answers, split: Split) -> Figure:
    """Rows: label; columns: prediction; colour: share of the row."""

    def draw(axes: Axes, d: Descriptor, labels: np.ndarray, values: np.ndarray, _) -> None:
        labels, predicted = labels.astype(int), values.argmax(axis=-1)
        present = np.union1d(labels, predicted)
        matrix = np.zeros((len(present), len(present)), int)
        np.add.at(matrix, (np.searchsorted(present, labels), np.searchsorted(present, predicted)), 1)
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        if len(present) <= 12:
            for (i, j), n in np.ndenumerate(matrix):
                if n:
                    colour = "white" if share[i, j] > 0.6 else INK
                    axes.text(j, i, n, ha="center", va="center", fontsize=7, color=colour)
        names = [d.classes[c] for c in present]
        step = -(-len(names) // 12)
        axes.set_xticks(range(0, len(names), step), names[::step])
        axes.set_yticks(range(0, len(names), step), names[::step])

    return _grid(answers, split, "class", draw)


@matplotlib.rc_context(RC)
def parities(answers: Answers, split: Split) -> Figure:
    """Label against prediction."""

    def draw(axes: Axes, d: Descriptor, labels: np.ndarray, values: np.ndarray, kinds: np.ndarray) -> None:
        low, high = min(labels.min(), values.min()), max(labels.max(), values.max())
        axes.plot([low, high], [low, high], color=GREY, linewidth=1, zorder=1)
        for kind in SITE_KINDS:
            own = kinds == kind
            if own.any():
                colour = KIND_COLOUR[kind]
                axes.scatter(labels[own], values[own], s=9, alpha=0.6, color=colour, label=f"{kind} sites")
        axes.set(xlabel="label", ylabel="prediction")
        axes.set_box_aspect(1)
        if len(set(kinds)) > 1:
            axes.legend(frameon=False, fontsize=8)

    return _grid(answers, split, "regression", draw)


@matplotlib.rc_context(RC)
def roc_curves(answers: Answers, split: Split, least: int = 5) -> Figure:
    """One curve for each class against the rest that has at least `least` sites in the split."""

    def draw(axes: Axes, d: Descriptor, labels: np.ndarray, values: np.ndarray, _) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, zorder=1)
        count = np.bincount(labels.astype(int), minlength=len(d.classes))
        shown = np.flatnonzero((count >= least) & (count < len(labels)))
        colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, max(len(shown), 2)))
        areas = []
        for c, colour in zip(shown, colours, strict=False):
            truth, score = labels == c, values[:, c]
            areas.append(roc_auc_score(truth, score))
            axes.plot(*roc_curve(truth, score)[:2], color=colour, linewidth=1, label=f"{d.classes[c]}: {areas[-1]:.2f}")
        axes.set(xlabel="false positives", ylabel="true positives")
        axes.set_box_aspect(1)
        if 0 < len(shown) <= 10:
            axes.legend(frameon=False, fontsize=7, loc="lower right", labelspacing=0.2)
        elif areas:
            axes.text(0.97, 0.03, f"{len(areas)} classes\nmean area {np.mean(areas):.2f}", ha="right", fontsize=8)

    return _grid(answers, split, "class", draw)


def _grid(answers: Answers, split: Split, kind: str, draw: Draw) -> Figure:
    """One panel per answered descriptor of a kind with labels in this split, three in a row."""
    batch = split.batch
    kinds = np.array([site_kind(absorber.split()[0]) for absorber in split.absorbers])
    shown = [
        (column, d)
        for column, d in enumerate(DESCRIPTORS)
        if d.kind == kind and d.name in answers and batch.mask[:, column].any()
    ]
    rows = max(1, -(-len(shown) // 3))
    figure = Figure(figsize=(9, 3.1 * rows), layout="constrained")
    panels = figure.subplots(rows, 3, squeeze=False).ravel()
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    for axes, (column, d) in zip(panels, shown, strict=False):
        present = batch.mask[:, column]
        draw(axes, d, batch.labels[present, column], answers[d.name][present], kinds[present])
        axes.set_title(f"{d.name} ({d.unit})" if d.unit else d.name, fontsize=11)
    return figure
