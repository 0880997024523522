"""The pictures of several signals of one structure: what each is worth, how defects are told, contents, stretches."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data_pipelines.pages.style import BLUE, GREY, INK, ORANGE, OTHERS, RC, STEPS, as_svg, panel


def colours(count: int) -> list[str]:
    """One for each signal, in order."""
    return [ORANGE, *OTHERS][:count]


@matplotlib.rc_context(RC)
def shares(names: list[str], shapley: list[dict], lost: list[dict], unit: str) -> str:
    """Bars: Shapley values with their intervals. Rings: what is lost without the signal."""
    height = 0.62 + 0.3 * len(names)
    figure = Figure(figsize=(3.7, height))
    axes = figure.add_axes((0.24, 0.46 / height, 0.73, 0.3 * len(names) / height))
    places = np.arange(len(names))
    value, low, high = (np.array([each[key] for each in shapley]) for key in ("score", "low", "high"))
    axes.barh(places, value, 0.62, color=colours(len(names)))
    axes.hlines(places, low, high, color=INK, linewidth=1)
    axes.plot(
        [each["score"] for each in lost],
        places,
        "o",
        markerfacecolor="white",
        markeredgecolor=INK,
        markersize=5,
        clip_on=False,
    )
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axes.set_xlabel(unit)
    return as_svg(figure)


@matplotlib.rc_context(RC)
def roc_curves(curves: dict[str, dict]) -> str:
    """Of all signals with its interval, and of each alone."""
    figure, axes = panel(3.7, 2.9)
    axes.plot((0, 1), (0, 1), color=GREY, linewidth=0.8, linestyle=":")
    for (key, curve), colour in zip(curves.items(), (BLUE, *colours(len(curves) - 1)), strict=True):
        own = curve["roc"]
        if key == "all":
            axes.fill_between(own["false_alarms"], own["low"], own["high"], color=BLUE, alpha=0.18, linewidth=0)
        wide = 2.0 if key == "all" else 1.0
        axes.plot(own["false_alarms"], own["found"], color=colour, linewidth=wide, zorder=3 if key == "all" else 2)
    axes.set(xlabel="false alarms", ylabel="found", xlim=(0, 1), ylim=(0, 1.01))
    return as_svg(figure)


@matplotlib.rc_context(RC)
def limits(curves: dict[str, dict], amount: str) -> str:
    """AUROC against the amount: all signals with intervals, and each alone."""
    figure, axes = panel(3.7, 2.6)
    axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    most = 0.0
    for (key, curve), colour in zip(curves.items(), (BLUE, *colours(len(curves) - 1)), strict=True):
        ranges = [each for each in curve["ranges"] if each["auroc"]]
        if not ranges:
            continue
        at = np.array([(each["least"] + each["most"]) / 2 for each in ranges])
        value, low, high = (np.array([each["auroc"][k] for each in ranges]) for k in ("score", "low", "high"))
        most = max(most, ranges[-1]["most"])
        if key == "all":
            axes.errorbar(
                at,
                value,
                (value - low, high - value),
                color=BLUE,
                linewidth=2,
                marker="o",
                markersize=4,
                elinewidth=1,
                zorder=3,
            )
            axes.hlines(value, [r["least"] for r in ranges], [r["most"] for r in ranges], color=BLUE, linewidth=1)
        else:
            axes.plot(at, value, color=colour, linewidth=1, marker="o", markersize=2.5)
    if not most:
        axes.text(0.5, 0.7, "too few materials", transform=axes.transAxes, ha="center", color=INK)
    axes.set(xlabel=amount, ylabel="AUROC", ylim=(0, 1.02), xlim=(0, 1.06 * most or 1))
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    return as_svg(figure)


@matplotlib.rc_context(RC)
def parity(truth: list[float], answer: list[float]) -> str:
    figure, axes = panel(3.7, 3.0)
    together = [*truth, *answer]
    low, high = min(together), max(together)
    edge = 0.05 * (high - low or 1)
    axes.plot((low - edge, high + edge), (low - edge, high + edge), color=GREY, linewidth=0.8)
    axes.plot(truth, answer, "o", color=BLUE, markersize=3.5, alpha=0.6, markeredgewidth=0)
    axes.set(xlabel="true", ylabel="answered", xlim=(low - edge, high + edge), ylim=(low - edge, high + edge))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    return as_svg(figure)


@matplotlib.rc_context(RC)
def weighed(names: list[str], weights: list[dict]) -> str:
    """Mean weight in the pooling, and the middle 90 % of the rows."""
    height = 0.62 + 0.3 * len(names)
    figure = Figure(figsize=(3.7, height))
    axes = figure.add_axes((0.24, 0.46 / height, 0.73, 0.3 * len(names) / height))
    known = [i for i, each in enumerate(weights) if each["mean"] is not None]
    hues = colours(len(names))
    axes.barh(known, [weights[i]["mean"] for i in known], 0.62, color=[hues[i] for i in known])
    axes.hlines(known, [weights[i]["low"] for i in known], [weights[i]["high"] for i in known], color=INK, linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="weight", xlim=(0, 1))
    return as_svg(figure)


@matplotlib.rc_context(RC)
def lost_stretches(descriptors: list[str], starts: list[float], stop: float, shares: np.ndarray, axis: str) -> str:
    """(D, P) shares of what all signals are worth that are lost without a stretch; NaN where they are worth nothing."""
    rows = 0.21 * len(descriptors)
    height = 0.66 + rows
    figure = Figure(figsize=(3.7, height))
    axes = figure.add_axes((0.22, 0.46 / height, 0.75, rows / height))
    shown = np.clip(np.where(np.isfinite(shares), shares, 0), 0, 1)
    axes.imshow(shown, cmap="Blues", vmin=0, vmax=max(shown.max(), 0.05), aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        if np.isfinite(share) and abs(share) >= 0.01:
            text = f"{100 * share:.0f}".replace("-", "−")
            dark = shown[row, column] > 0.55 * max(shown.max(), 0.05)
            axes.text(column, row, text, ha="center", va="center", fontsize=6, color="white" if dark else INK)
        elif not np.isfinite(share):
            axes.text(column, row, "·", ha="center", va="center", fontsize=6, color=GREY)
    axes.set_yticks(range(len(descriptors)), descriptors, fontsize=7.5)
    ends = [*starts, stop]
    every = max(1, -(-len(ends) // 7))
    axes.set_xticks(np.arange(len(ends))[::every] - 0.5, [f"{end:g}" for end in ends[::every]], fontsize=7.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(axis)
    return as_svg(figure)
