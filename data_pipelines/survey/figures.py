"""The pictures on a data card's page: each one panel of inline SVG, of a size that a telephone shows unshrunk."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from data_pipelines.labels.pdf import PDF_STOP
from data_pipelines.pages.style import BLUE, ENERGY, GREY, INK, KIND_COLOUR, ORANGE, RC, STEPS, as_svg, panel
from data_pipelines.schema import Descriptor, SiteKind
from data_pipelines.survey.look import FEW

CURVES = 12
# Spectra nearer than this are drawn here, equal ones too: a logarithmic axis has no zero.
NEAREST_DRAWN = 0.00001


@matplotlib.rc_context(RC)
def element(energy: np.ndarray, mu: np.ndarray) -> str:
    """Bands of 50 and 90 % of the spectra, some of them, and their mean. energy: (L,) eV. mu: (N, L)."""
    figure, axes = panel()
    if len(mu) >= FEW:
        _bands(axes, energy, mu, BLUE)
    shown = mu[np.linspace(0, len(mu) - 1, min(len(mu), CURVES)).astype(int)]
    axes.plot(energy, shown.T, color=INK, linewidth=0.4, alpha=0.5)
    known = np.isfinite(mu).any(axis=0)
    axes.plot(energy[known], np.nanmean(mu[:, known], axis=0), color=BLUE, linewidth=1.8)
    axes.set(xlabel=ENERGY, ylabel="μ / edge step", xlim=(energy[0], energy[-1]))
    return as_svg(figure)


@matplotlib.rc_context(RC)
def function(g: np.ndarray) -> str:
    """The same of pair distribution functions, (N, points) to PDF_STOP."""
    figure, axes = panel()
    r = PDF_STOP / g.shape[1] * np.arange(1, g.shape[1] + 1)
    if len(g) >= FEW:
        _bands(axes, r, g, BLUE)
    axes.plot(r, g[np.linspace(0, len(g) - 1, min(len(g), CURVES)).astype(int)].T, color=INK, linewidth=0.4, alpha=0.5)
    axes.plot(r, g.mean(axis=0), color=BLUE, linewidth=1.8)
    axes.set(xlabel="r (Å)", ylabel="G (1/Å²)", xlim=(0, PDF_STOP))
    return as_svg(figure)


@matplotlib.rc_context(RC)
def outlier(energy: np.ndarray, mu: np.ndarray, spectrum: np.ndarray, neighbour: np.ndarray) -> str:
    """A spectrum, its nearest of another material, and behind them all of their absorber, mu: (N, L)."""
    figure, axes = panel()
    _bands(axes, energy, mu, GREY)
    axes.plot(energy, neighbour, color=BLUE, linewidth=1)
    axes.plot(energy, spectrum, color=ORANGE, linewidth=1.5)
    axes.set(xlabel=ENERGY, ylabel="μ / edge step", xlim=(energy[0], energy[-1]))
    return as_svg(figure)


@matplotlib.rc_context(RC)
def labels(row: Descriptor, values: dict[SiteKind, np.ndarray]) -> str:
    """Histogram of a descriptor, in per cent of the labelled sites of each kind. values: (N,) each, none empty."""
    figure, axes = panel()
    together = np.concatenate(list(values.values()))
    if row.kind == "class":
        place = np.searchsorted(row.classes, together)
        shown = row.classes[place.min() : place.max() + 1]
        width = 0.85 / len(values)
        for i, (kind, of) in enumerate(values.items()):
            share = [100 * np.mean(of == value) for value in shown]
            offset = (i - (len(values) - 1) / 2) * width
            axes.bar(np.arange(len(shown)) + offset, share, width, color=KIND_COLOUR[kind])
        step = -(-len(shown) // 13)
        axes.set_xticks(range(0, len(shown), step), shown[::step])
        axes.set_xlim(-0.6 - (len(shown) < 3), len(shown) - 0.4 + (len(shown) < 3))
    else:
        edges = np.histogram_bin_edges(together, 40)
        for kind, of in values.items():
            share = 100 * np.histogram(of, edges)[0] / len(of)
            axes.stairs(share, edges, fill=True, color=KIND_COLOUR[kind], alpha=0.25)
            axes.stairs(share, edges, color=KIND_COLOUR[kind])
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS, integer=True))
    axes.set(xlabel=f"{row.name} ({row.unit})" if row.unit else row.name, ylabel="% of labelled sites")
    return as_svg(figure)


@matplotlib.rc_context(RC)
def distances(distance: np.ndarray, tolerance: float) -> str:
    """How many spectra are how far from their nearest; those below `tolerance` stand out. distance: (N,), finite."""
    figure, axes = panel(4.2, 2.8)
    drawn = np.maximum(distance, NEAREST_DRAWN)
    # Ten bins to a decade, and the tolerance is the edge of one.
    tenths = 10 * np.log10(np.array([drawn.min(), drawn.max()]) / tolerance)
    edges = tolerance * 10 ** (np.arange(min(np.floor(tenths[0]), 0), max(np.ceil(tenths[1]), 0) + 1) / 10)
    edges[-1] = max(edges[-1], drawn.max())
    edges[0] = min(edges[0], drawn.min())
    counts, _ = np.histogram(drawn, edges)
    near = edges[:-1] < tolerance * 0.99
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=np.where(near, ORANGE, BLUE))
    axes.axvline(tolerance, color=INK, linewidth=1, linestyle="--")
    axes.set(xscale="log", xlabel="max |Δμ| to the nearest of another material, edge steps", ylabel="spectra")
    return as_svg(figure)


def _bands(axes: Axes, energy: np.ndarray, mu: np.ndarray, colour: str) -> None:
    energy, mu = (each[..., np.isfinite(mu).any(axis=0)] for each in (energy, mu))
    low, lower, upper, high = np.nanquantile(mu, (0.05, 0.25, 0.75, 0.95), axis=0)
    axes.fill_between(energy, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.fill_between(energy, lower, upper, color=colour, alpha=0.35, linewidth=0)
