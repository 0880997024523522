"""Pictures of runs over their epochs and over the time: all in one, each in its colour."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from data_pipelines.pages.style import BLUE, GREY, INK, ORANGE, OTHERS, RC, STEPS, as_svg, panel
from spt_jax.runs.goodput import PARTS, goodput_since
from spt_jax.runs.history import RunHistory

PALETTE = (BLUE, ORANGE, *OTHERS)
DASHES = ("solid", "dashed", "dotted")
AGAIN, PAUSE = "#f3c9c0", "#ececec"
PART_COLOUR = dict(
    zip(PARTS, (BLUE, ORANGE, OTHERS[0], OTHERS[1], OTHERS[3], GREY, OTHERS[2], PAUSE, OTHERS[5]), strict=True)
)
# What spans more than so many times its least is drawn by its logarithm.
WIDE = 5.0
# Of these not what a run does on its way: only whether runs are far apart.
STEADY = ("learning_rate", "spectra_per_s")
# Of a score: an R2 below zero is worse than a constant, and how much says nothing.
LEAST_SCORE = -0.1
# Pieces of the time that a picture shows at most, and so the least share of it that one is of.
PIECES = 2000
# Attempts that each have a line of their own in a picture, at most.
MARKED = 40
# Of one run the goodput is also that of the time just before, this share of all of it.
LATELY = 0.05


def colour_of(number: int) -> str:
    return PALETTE[number % len(PALETTE)]


def dash_of(number: int) -> str:
    """Where colours come again, the line is another."""
    return DASHES[number // len(PALETTE) % len(DASHES)]


@matplotlib.rc_context(RC)
def losses(runs: Sequence[RunHistory]) -> str:
    """With a triangle at the height of every spike, and what diverged drawn wide."""
    figure, axes = panel()
    _epochs(axes, runs)
    for number, run in enumerate(runs):
        by_epoch = {line["epoch"]: line["loss"] for line in run.log}
        _line(axes, list(by_epoch), list(by_epoch.values()), number)
        for spike in run.spikes:
            if spike.kind != "spike":
                own = [epoch for epoch in by_epoch if spike.first <= epoch <= spike.last]
                axes.plot(own, [by_epoch[epoch] for epoch in own], color=OTHERS[2], linewidth=3, alpha=0.5)
            if np.isfinite(spike.loss):
                axes.plot(spike.epoch, spike.loss, "v", color=INK, markersize=4)
    _heights(axes, [line["loss"] for run in runs for line in run.log])
    return as_svg(figure)


@matplotlib.rc_context(RC)
def over_epochs(runs: Sequence[RunHistory], name: str) -> str:
    """A number of the log by its name; empty where no run has it."""
    figure, axes = panel()
    _epochs(axes, runs)
    values: list[list[float]] = []
    for number, run in enumerate(runs):
        points = {line["epoch"]: line[name] for line in run.log if line.get(name) is not None}
        _line(axes, list(points), list(points.values()), number)
        values += [list(points.values())] if points else []
    if not values:
        return ""
    if name == "score":
        low, high = min(map(min, values)), max(map(max, values))
        margin = 0.05 * (high - max(low, LEAST_SCORE)) or 0.01
        axes.set_ylim(max(low, LEAST_SCORE) - margin, max(high, LEAST_SCORE) + margin)
    elif name in STEADY:
        _heights(axes, [float(np.median(own)) for own in values])
    else:
        _heights(axes, [value for own in values for value in own])
    return as_svg(figure)


@matplotlib.rc_context(RC)
def goodput(runs: Sequence[RunHistory]) -> str:
    """Of all the time until then. Of one run also lately, and what was done again and when nobody ran are bands."""
    figure, axes = panel()
    unit, seconds = _unit(runs)
    for number, run in enumerate(runs):
        times, shares = np.array([(0.0, 0.0), *goodput_since(run.spans)]).T
        if len(runs) == 1:
            at, window = np.linspace(LATELY, 1, PIECES // 4) * times[-1], LATELY * times[-1]
            computed = np.interp(at, times, times * shares) - np.interp(at - window, times, times * shares)
            axes.plot(at / seconds, 100 * computed / window, color=ORANGE, linewidth=0.9)
        _line(axes, times / seconds, 100 * shares, number)
    if len(runs) == 1:
        for begin, end, what in pieces(runs[0]):
            if what in ("restart", "stopped"):
                colour = AGAIN if what == "restart" else PAUSE
                axes.axvspan(begin / seconds, end / seconds, color=colour, linewidth=0, zorder=0)
    axes.set(xlabel=f"{unit} since the first start", ylabel="per cent", ylim=(0, 100))
    axes.set_xlim(0, None)
    return as_svg(figure)


@matplotlib.rc_context(RC)
def timelines(runs: Sequence[RunHistory], names: Sequence[str]) -> str:
    """A row for each run: at work in its colour, starting, work that was done again, and not running; a stroke where an
    attempt begins."""
    figure, axes = panel(3.7, 0.7 + 0.36 * len(runs))
    unit, seconds = _unit(runs)
    for row, (run, name) in enumerate(zip(runs, names, strict=True)):
        colours = {"compute": colour_of(row), "start": GREY, "restart": AGAIN, "stopped": PAUSE}
        for begin, end, what in pieces(run):
            axes.barh(row, (end - begin) / seconds, left=begin / seconds, height=0.4, color=colours[what], linewidth=0)
        before = -1
        for span in run.spans:
            if len(run.attempts) <= MARKED and span.attempt != before and not span.seconds.get("stopped"):
                axes.plot([span.begin / seconds] * 2, [row - 0.28, row + 0.28], color=INK, linewidth=1)
                before = span.attempt
        axes.text(0, row - 0.27, name[-40:], fontsize=7.5, va="bottom")
    axes.set(xlabel=f"{unit} since the first start", ylim=(len(runs) - 0.6, -0.75), yticks=())
    axes.set_xlim(0, None)
    axes.spines["left"].set_visible(False)
    return as_svg(figure)


@matplotlib.rc_context(RC)
def parts(runs: Sequence[RunHistory], names: Sequence[str]) -> str:
    """Shares of the wall time of each run, beside each other."""
    figure, axes = panel(3.7, 0.7 + 0.36 * len(runs))
    for row, (run, name) in enumerate(zip(runs, names, strict=True)):
        left = 0.0
        for part, share in run.shares.items():
            axes.barh(row, 100 * share, left=left, height=0.4, color=PART_COLOUR[part], linewidth=0)
            left += 100 * share
        axes.text(0, row - 0.27, name[-40:], fontsize=7.5, va="bottom")
    axes.set(xlabel="per cent of the wall time", xlim=(0, 104), ylim=(len(runs) - 0.6, -0.75), yticks=())
    axes.spines["left"].set_visible(False)
    return as_svg(figure)


def pieces(run: RunHistory) -> list[tuple[float, float, str]]:
    """(begin, end, what most of it was): compute for all work that was kept, start, restart or stopped; what follows each
    other is one, and what is too short to be seen goes to what came before."""
    merged: list[tuple[float, float, str]] = []
    for span in run.spans:
        most = max(span.seconds, key=lambda part: span.seconds[part])
        _append(merged, (span.begin, span.end, most if most in ("start", "restart", "stopped") else "compute"))
    least = run.spans[-1].end / PIECES if run.spans else 0.0
    found: list[tuple[float, float, str]] = []
    for begin, end, what in merged:
        _append(found, (begin, end, found[-1][2] if found and end - begin < least else what))
    return found


def _append(pieces: list[tuple[float, float, str]], new: tuple[float, float, str]) -> None:
    """What goes on as it was is one piece with what came before."""
    if pieces and pieces[-1][2] == new[2]:
        pieces[-1] = (pieces[-1][0], *new[1:])
    else:
        pieces.append(new)


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], number: int) -> None:
    marker = "." if len(x) == 1 else ""
    axes.plot(x, y, color=colour_of(number), linestyle=dash_of(number), linewidth=1.2, marker=marker)


def _epochs(axes: Axes, runs: Sequence[RunHistory]) -> None:
    """The axis of epochs; of one run with bands where steps were done again and a line where it was begun again."""
    axes.set(xlabel="epoch", xlim=(0, max((line["epoch"] for run in runs for line in run.log), default=1)))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS, integer=True))
    if len(runs) == 1 and runs[0].log:
        last = runs[0].log[-1]
        for each in runs[0].attempts[1:] if len(runs[0].attempts) <= MARKED else ():
            axes.axvline(each.begin * last["epoch"] / last["step"], color=GREY, linewidth=0.8, zorder=0)
        for each in runs[0].attempts:
            if each.repeated:
                lost = (step * last["epoch"] / last["step"] for step in (each.reached - each.repeated, each.reached))
                axes.axvspan(*lost, color=AGAIN, linewidth=0, zorder=0)


def _heights(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis where values are far apart, with words for its ticks; else one from zero."""
    known = [value for value in values if np.isfinite(value)]
    if known and min(known) > 0 and max(known) > WIDE * min(known):
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        decades = np.log10(high / max(low, min(known) / 10))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,), numticks=8))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}".replace("e+0", "e"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif min(known, default=0) >= 0:
        axes.set_ylim(0, None)


def _unit(runs: Sequence[RunHistory]) -> tuple[str, float]:
    """Of the time, by the longest run, and its seconds."""
    longest = max((run.spans[-1].end for run in runs if run.spans), default=0.0)
    for unit, seconds in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if longest > 2 * seconds:
            return unit, seconds
    return "seconds", 1.0
