"""Ablations as one page: what each change costs, and how the error falls with the data."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data_pipelines.pages import html
from data_pipelines.pages.style import BLUE, GREY, INK, RC, STEPS, as_svg, panel
from spt_jax.scoring.names import MAIN_WORDS

CHANGES = (
    f"Mean score ({MAIN_WORDS}) with one thing changed, less that of the preset. Blue: validation "
    "split, by which the preset may be changed; grey: test split. "
)
SEEDS = "Dots: seeds, against the preset's mean; a seed alone moves the score by about {:.3f} (twice their spread)."
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
    seeds = SEEDS.format(2 * np.std(base["validation_mean"], ddof=1)) if several else ONE_SEED
    sections = [("Changes", CHANGES + (FOLDS if folds else seeds), _changes(rows, bool(folds)))]
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


def _changes(rows: list[dict], paired: bool) -> str:
    """A panel for each group of changes, on one scale."""
    base, groups = rows[0], {}
    for row in rows[1:]:
        if row["group"] != "data":
            groups.setdefault(row["group"], []).append((row["name"], _against(base, row, paired)))
    every = [value for group in groups.values() for _, found in group for each in found.values() for value in each[1]]
    ends = min([*every, 0.0]), max([*every, 0.0])
    return html.panels(html.panel(_group(group, *ends), f"<b>{name}</b>") for name, group in groups.items())


def _against(base: dict, row: dict, paired: bool) -> dict[str, tuple[float, np.ndarray]]:
    """By split what a change does to the mean score, and to that of each fit."""
    found = {}
    for split in ("validation", "test"):
        zero, each = np.array(base[f"{split}_mean"]), np.array(row[f"{split}_mean"])
        found[split] = each.mean() - zero.mean(), each - (zero if paired else zero.mean())
    return found


@matplotlib.rc_context(RC)
def _group(group: list[tuple[str, dict]], low: float, high: float) -> str:
    height = 0.55 + 0.26 * len(group)
    figure = Figure(figsize=(3.7, height))
    axes = figure.add_axes((0.36, 0.45 / height, 0.61, 1 - 0.5 / height))
    for i, (_, found) in enumerate(group):
        for split, colour, offset in (("validation", BLUE, -0.18), ("test", GREY, 0.18)):
            mean, each = found[split]
            axes.barh(i + offset, mean, 0.34, color=colour)
            axes.plot(each, np.full(len(each), i + offset), ".", color=INK, markersize=3)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(group)), [name for name, _ in group])
    margin = 0.05 * (high - low) or 0.01
    axes.set(xlim=(low - margin, high + margin), ylim=(len(group) - 0.4, -0.6), xlabel="mean score less the preset's")
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
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
