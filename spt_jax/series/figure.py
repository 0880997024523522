"""One picture of a series: its spectra, the fractions of references, and every quantity along it."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data_pipelines.pages.style import BLUE, GREY, INK, ORANGE, OTHERS, RC, STEPS
from spt_jax.series.output import changes
from spt_jax.series.series import EDGE, Followed, Quantity

COLUMNS, WIDTH, HEIGHT = 3, 3.3, 2.35
MOST_SINGULAR = 12
# Error bars of fractions beyond this are cut.
MOST_FRACTION = 1.6
# What is drawn of a class spans so many classes at least: what hardly moves is to look so.
LEAST_SPAN = 1.0


@matplotlib.rc_context(RC)
def as_figure(series: Followed, kind: str) -> bytes:
    """The picture as a file of this kind, svg or png, the same bytes every time."""
    count = 3 + len(series.quantities)
    rows = -(-count // COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT
    figure = Figure(figsize=(width, height))
    # Fixed margins, in inches: finding a layout would double the time.
    figure.subplots_adjust(0.55 / width, 0.4 / height, 1 - 0.1 / width, 1 - 0.22 / height, 0.26, 0.42)
    panels = list(figure.subplots(rows, COLUMNS).flat)
    _spectra(panels[0], series)
    _fractions(panels[1], series)
    _species(panels[2], series)
    for axes, quantity in zip(panels[3:], series.quantities, strict=False):
        _quantity(axes, quantity, series)
    for axes in panels[count:]:
        axes.axis("off")
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {})
    return file.getvalue()


def _spectra(axes: Axes, series: Followed) -> None:
    """From the first, dark, to the last."""
    compared, place = series.compared, series.axis.place
    energy = compared.energy - compared.middle
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(place)))
    for mu, colour in zip(compared.mu, colours, strict=False):
        axes.plot(energy, mu, color=colour, linewidth=0.9)
    for mu in compared.mu[len(place) :]:
        axes.plot(energy, mu, color=INK, linewidth=0.7, linestyle=":")
    dark, light = (series.axis.said(float(each)) for each in (place[0], place[-1]))
    dots = "" if series.ends else "\ndotted: references"
    axes.text(0.98, 0.05, f"dark: {dark}\nlight: {light}{dots}", transform=axes.transAxes, ha="right", fontsize=7.5)
    _named(axes, f"{series.absorber}, {len(place)} spectra", f"eV from {compared.middle:.1f} eV", "μ / edge step")


def _fractions(axes: Axes, series: Followed) -> None:
    place, fits = series.axis.place, series.fits
    for i, (name, colour) in enumerate(zip(series.names, (BLUE, ORANGE, *OTHERS) * len(series.names), strict=False)):
        own, errors = [fit.fractions[i] for fit in fits], [fit.errors[i] for fit in fits]
        [line, *_] = axes.errorbar(place, own, errors, fmt=_mark(series), color=colour, markersize=3.5, elinewidth=0.8)
        line.set(linewidth=0.8, label=name)
    totals = [fit.total for fit in fits]
    axes.plot(place, totals, _mark(series), color=GREY, markersize=2.5, linewidth=0.8, label="sum", zorder=1)
    # Room for the names above the points.
    rows = -(-(len(series.names) + 1) // 2)
    tops = [float((fit.fractions + fit.errors).max()) for fit in fits]
    axes.set_ylim(-0.05, min(max(1.05, *totals, *tops), MOST_FRACTION) + 0.05 + 0.13 * rows)
    axes.legend(ncols=2, loc="upper left", frameon=False, fontsize=7.5, labelspacing=0.2, handlelength=1, borderpad=0)
    kind = "fractions of the two ends" if series.ends else "fractions of references"
    _named(axes, kind, series.axis.label, "fraction")


def _species(axes: Axes, series: Followed) -> None:
    found = series.components
    number = np.arange(1, 1 + min(len(found.singular), MOST_SINGULAR))
    axes.semilogy(number, found.singular[: len(number)], "o-", color=BLUE, markersize=3.5, linewidth=0.8)
    axes.axhline(found.of_noise, color=GREY, linewidth=1)
    axes.text(number[0], found.of_noise, "noise", va="bottom", fontsize=7.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    told = f"species: {found.by_indicator} by indicator, {found.by_noise} above noise"
    _named(axes, told, "component", "singular value")


def _quantity(axes: Axes, quantity: Quantity, series: Followed) -> None:
    place, known = series.axis.place, quantity.known
    x, mean = place[known], quantity.mean[known]
    if np.isfinite(quantity.low[known]).any():
        if len(np.unique(x)) == len(x):
            axes.fill_between(x, quantity.low[known], quantity.high[known], color=BLUE, alpha=0.18, linewidth=0)
        else:
            axes.vlines(x, quantity.low[known], quantity.high[known], color=BLUE, alpha=0.25, linewidth=2.5)
    axes.plot(x, mean, _mark(series), color=BLUE, markersize=3.5, linewidth=0.8)
    for part in quantity.parts if len(quantity.parts) > 1 else ():
        ends = x[[part.start, part.stop - 1]]
        axes.plot(ends, part.level + part.slope * ends, color=ORANGE, linewidth=2.2, alpha=0.9, zorder=3)
    low, high = axes.get_ylim()
    if not quantity.unit and high - low < LEAST_SPAN:
        axes.set_ylim((low + high - LEAST_SPAN) / 2, (low + high + LEAST_SPAN) / 2)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
    axes.ticklabel_format(axis="y", useOffset=False)
    told = f"ρ {quantity.trend.rho:+.2f}, p {quantity.trend.p:.2g}" if quantity.trend else ""
    if (several := len(quantity.parts) - 1) > 0:
        told += f", change at {changes(quantity, series.axis)}" if several == 1 else f", {several} changes"
    name = "half the edge step" if quantity.name == EDGE else quantity.name
    _named(axes, f"{name}: {told}" if told else name, series.axis.label, quantity.unit or quantity.name)


def _mark(series: Followed) -> str:
    """Points that stand above each other are not joined."""
    return "o-" if len(np.unique(series.axis.place)) == len(series.axis.place) else "o"


def _named(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=8, loc="left", color=INK)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=7.5)
