"""Answers against labels, one panel per descriptor: confusion, parity, ROC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_auc_score, roc_curve

from data_pipelines.dataset.loading import Split
from data_pipelines.pages import html
from data_pipelines.pages.style import GREY, INK, KIND_COLOUR, RC, STEPS, as_svg
from data_pipelines.schema import SITE_KINDS, Descriptor, columned, site_kind
from spt_jax.tasks import Answers

CONFUSIONS = (
    "Rows: label, with its number of sites; columns: prediction. Number: per cent of the row. Colour: sites, so that a "
    "row of few is pale; the caption says how many stand in the darkest field."
)
PARITIES = "Label against prediction; on the grey line they are equal."
LEAST = 5
ROC = (
    f"Each class with {LEAST} sites or more against the rest: how many are found for how many false ones, and the area."
)
MOST_NUMBERED = 12
"""Classes whose fields have room for a number."""


def confusions(classes: Mapping[str, np.ndarray], split: Split) -> str:
    """Panels of all class descriptors in `classes`: (N,) predicted class indices."""

    def drawn(d: Descriptor, labels: np.ndarray, predicted: np.ndarray) -> str:
        present = np.union1d(labels, predicted).astype(int)
        counts = np.zeros((len(present), len(present)), int)
        np.add.at(counts, (np.searchsorted(present, labels), np.searchsorted(present, predicted)), 1)
        told = f"{counts.trace():,} of {counts.sum():,} sites right; darkest: {counts.max():,} sites"
        return html.panel(_confusion([f"{d.classes[c]}" for c in present], counts), f"{html.named(d)}<br>{told}")

    return html.panels(drawn(*each) for each, _ in _answered(classes, split, "class"))


def parities(answers: Answers, split: Split) -> str:
    """Panels of all regressions in `answers`."""

    def drawn(d: Descriptor, labels: np.ndarray, values: np.ndarray, kinds: np.ndarray) -> str:
        sites = html.sites({kind: int((kinds == kind).sum()) for kind in SITE_KINDS if kind in kinds})
        return html.panel(_parity(labels, values, kinds), f"{html.named(d)}<br>{sites}")

    return html.panels(drawn(*each, kinds) for each, kinds in _answered(answers, split, "regression"))


def roc_curves(answers: Answers, split: Split) -> str:
    """Panels of all class descriptors in `answers`: a curve for each class that has enough sites."""
    return html.panels(html.panel(_roc(*each), html.named(each[0])) for each, _ in _answered(answers, split, "class"))


def _answered(
    answers: Mapping[str, np.ndarray], split: Split, kind: Literal["class", "regression"]
) -> Iterator[tuple[tuple[Descriptor, np.ndarray, np.ndarray], np.ndarray]]:
    """(descriptor, labels, answers) of the labelled sites, and their kinds."""
    kinds = np.array([site_kind(absorber.split()[0]) for absorber in split.absorbers])
    for column, d in columned(split.batch.labels):
        known = split.batch.mask[:, column]
        if d.kind == kind and d.name in answers and known.any():
            yield (d, split.batch.labels[known, column], answers[d.name][known]), kinds[known]


@matplotlib.rc_context(RC)
def _confusion(names: list[str], counts: np.ndarray) -> str:
    sites, numbered = counts.sum(axis=1), len(names) <= MOST_NUMBERED
    # A linear scale would leave all but the most frequent class white.
    colour = PowerNorm(0.5, vmin=0, vmax=counts.max())
    axes = _square(2.8 if len(names) > 4 else 1.9)
    axes.imshow(counts, cmap="Blues", norm=colour, aspect="auto")
    for (row, column), count in np.ndenumerate(counts) if numbered else ():
        if count:
            ink = "white" if colour(count) > 0.6 else INK
            share = f"{100 * count / sites[row]:.0f}"
            axes.text(column, row, share, ha="center", va="center", fontsize=7.5, color=ink)
    step = -(-len(names) // MOST_NUMBERED)
    rows = [f"{name} ({n})" for name, n in zip(names, sites, strict=True)] if numbered else names
    axes.set_xticks(range(0, len(names), step), names[::step])
    axes.set_yticks(range(0, len(names), step), rows[::step])
    axes.tick_params(length=0)
    axes.set(xlabel="predicted", ylabel="label (sites)" if numbered else "label")
    return as_svg(axes.figure)


@matplotlib.rc_context(RC)
def _parity(labels: np.ndarray, values: np.ndarray, kinds: np.ndarray) -> str:
    axes = _square()
    low, high = min(labels.min(), values.min()), max(labels.max(), values.max())
    margin = 0.04 * (high - low) or 0.1
    ends = (low - margin, high + margin)
    axes.plot(ends, ends, color=GREY, linewidth=1, zorder=1)
    for kind in SITE_KINDS:
        own = kinds == kind
        axes.scatter(labels[own], values[own], s=10, alpha=0.6, color=KIND_COLOUR[kind], linewidths=0)
    axes.set(xlim=ends, ylim=ends, xlabel="label", ylabel="prediction")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=STEPS))
    return as_svg(axes.figure)


@matplotlib.rc_context(RC)
def _roc(d: Descriptor, labels: np.ndarray, probabilities: np.ndarray) -> str:
    axes = _square()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, zorder=1)
    count = np.bincount(labels.astype(int), minlength=len(d.classes))
    shown = np.flatnonzero((count >= LEAST) & (count < len(labels)))
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, max(len(shown), 2)))
    areas = []
    for c, colour in zip(shown, colours, strict=False):
        truth, score = labels == c, probabilities[:, c]
        areas.append(roc_auc_score(truth, score))
        axes.plot(*roc_curve(truth, score)[:2], color=colour, linewidth=1, label=f"{d.classes[c]}: {areas[-1]:.2f}")
    axes.set(xlabel="false positives", ylabel="true positives")
    if 0 < len(shown) <= 10:
        axes.legend(frameon=False, fontsize=8, loc="lower right", labelspacing=0.2)
    elif areas:
        axes.text(0.97, 0.03, f"{len(areas)} classes\nmean area {np.mean(areas):.2f}", ha="right", fontsize=8)
    return as_svg(axes.figure)


def _square(height: float = 2.8) -> Axes:
    """Axes of one size in every panel, a little wider than high; the margin at the left holds a class and a count."""
    figure = Figure(figsize=(3.7, height + 0.55))
    return figure.add_axes((0.2, 0.45 / (height + 0.55), 0.78, height / (height + 0.55)))
