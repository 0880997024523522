"""Ablations as one page: what each change costs, and how the error falls with the data."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from data_pipelines.pages import html
from data_pipelines.pages.style import BLUE, GREY, INK, ORANGE, RC, as_svg, panel

CHANGES = (
    "Mean score (macro-F1 of classes, R² of values) with one thing changed, less that of the preset. Blue: validation "
    "split, by which the preset may be changed; grey: test split. "
)
SEEDS = (
    "Dots: seeds, against the preset's mean; a seed alone moves the score by about the length of the bar in the corner."
)
FOLDS = (
    "Validation is each fold in turn, by a model trained on the others: all training and validation materials. "
    "Dots: folds, each against the preset in that fold."
)
ONE_SEED = "One seed cannot tell small changes from chance: ask for <code>--seeds 3</code>."


def ablations_page(document: dict) -> str:
    """The page of `ablations.json`."""
    rows = document["variants"]
    base = rows[0]
    folds, several = document["folds"], document["seeds"] > 1
    note = CHANGES + (FOLDS if folds else SEEDS if several else ONE_SEED)
    sections = [("Changes", note, html.wide(_changes(rows, bool(folds))))]
    if document["scaling"]:
        fitted = document["scaling"]
        note = (
            f"1 - mean test score against the number of training spectra, whole materials at a time. The line is "
            f"{fitted['factor']:.2f} n<sup>-b</sup> with b = {fitted['exponent']:.3f} ± {fitted['error']:.3f}."
        )
        sections.append(("Data", note, html.panels([html.panel(_scaling(rows, fitted), "")])))
    judged = "Held-out folds" if folds else "Validation split"
    note = f"{judged}, mean over fits; the mean of the test split beside it; minutes of training for one fit."
    sections.append(("Scores", note, _table(rows)))
    fits = f"{folds} folds" if folds else f"{document['seeds']} seeds" if several else "One seed"
    top = f'<p class="note">{fits}; preset: {base["examples"]:,} training spectra, dataset {document["dataset"]}.</p>'
    return html.page("What each part of SPT is worth", top, sections)


@matplotlib.rc_context(RC)
def _changes(rows: list[dict], paired: bool) -> str:
    base, changed = rows[0], [row for row in rows[1:] if row["group"] != "data"]
    figure = Figure(figsize=(8.2, 0.9 + 0.22 * len(changed)), layout="constrained")
    axes = figure.subplots()
    for i, row in enumerate(changed):
        for split, colour, offset in (("validation", BLUE, -0.18), ("test", GREY, 0.18)):
            zero, each = np.array(base[f"{split}_mean"]), np.array(row[f"{split}_mean"])
            axes.barh(i + offset, each.mean() - zero.mean(), 0.34, color=colour)
            against = zero if paired else zero.mean()
            axes.plot(each - against, np.full(len(each), i + offset), ".", color=INK, markersize=3)
    spread = np.std(base["validation_mean"], ddof=1) if len(base["validation_mean"]) > 1 and not paired else None
    if spread:
        low = axes.get_xlim()[0]
        axes.plot([low, low + 2 * spread], [-1.2, -1.2], color=ORANGE, linewidth=3, solid_capstyle="butt")
        axes.text(low + 2.2 * spread, -1.2, "twice the spread of seeds", va="center", fontsize=8)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(changed)), [f"{row['group']}: {row['name']}" for row in changed])
    axes.set(ylim=(len(changed) - 0.4, -1.8 if spread else -0.6), xlabel="mean score less that of the preset")
    return as_svg(figure)


@matplotlib.rc_context(RC)
def _scaling(rows: list[dict], fitted: dict) -> str:
    points = sorted((row["examples"], 1 - np.mean(row["test_mean"])) for row in rows if row["group"] in ("", "data"))
    n, error = np.array(points).T
    figure, axes = panel()
    axes.plot(n, fitted["factor"] * n ** -fitted["exponent"], color=GREY)
    axes.plot(n, error, "o", color=BLUE)
    axes.set(xscale="log", yscale="log", xlabel="training spectra", ylabel="1 - mean test score")
    axes.set_xticks(n, [f"{each:.0f}" for each in n], minor=False)
    axes.minorticks_off()
    ticks = np.round(np.geomspace(error.min(), error.max(), 4), 2)
    axes.set_yticks(ticks, [f"{tick:.2f}" for tick in ticks])
    return as_svg(figure)


def _table(rows: list[dict]) -> str:
    names = list(rows[0]["validation"])
    lines = []
    for row in rows:
        scores = [row["validation"].get(name) for name in names]
        cells = ["" if each is None or None in each else f"{np.mean(each):.3f}" for each in scores]
        means = f"<b>{np.mean(row['validation_mean']):.3f}</b>", f"{np.mean(row['test_mean']):.3f}"
        lines.append([row["group"], row["name"], *cells, *means, f"{np.mean(row['seconds']) / 60:.1f}"])
    return html.table(["", "", *names, "mean", "test", "minutes"], lines)
