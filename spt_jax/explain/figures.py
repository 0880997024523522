"""The pictures on an explanation's page: curves of the groups of a descriptor, bands, what is lost without a part."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data_pipelines.pages.style import BLUE, ENERGY, GREY, INK, RC, STEPS, as_svg, panel
from spt_jax.explain.edges import pre_edge

SHADE = "#efe6d8"


def colours(count: int) -> list[str]:
    """One for each group, in order; also for those who see no red and green."""
    return [matplotlib.colors.to_hex(c) for c in matplotlib.colormaps["viridis"](np.linspace(0, 0.85, count))]


@matplotlib.rc_context(RC)
def attribution(energy: np.ndarray, groups: list[dict], unit: str) -> str:
    """Above the mean spectrum of each group, below its mean attribution, on one energy axis."""
    figure, (above, below) = _stacked(2)
    for axes, key in ((above, "mean"), (below, "attribution_per_ev")):
        _curves(axes, energy, groups, [np.array(group[key], float) for group in groups])
    below.axhline(0, color=GREY, linewidth=0.8, zorder=0.9)
    above.set(ylabel="μ / edge step")
    below.set(xlabel=ENERGY, ylabel=f"{unit} per eV" if unit else "per eV")
    return as_svg(figure)


@matplotlib.rc_context(RC)
def attention(energy: np.ndarray, groups: list[dict], even: np.ndarray) -> str:
    """Attention received, as a multiple of what each energy would get were all alike; a block below the other."""
    figure, blocks = _stacked(len(groups[0]["attention"]))
    for block, axes in enumerate(blocks):
        _curves(axes, energy, groups, [np.array(group["attention"][block]) / even for group in groups])
        axes.axhline(1, color=GREY, linewidth=0.8, zorder=0.9)
        axes.set(ylabel=f"block {block + 1}")
    blocks[-1].set(xlabel=ENERGY)
    return as_svg(figure)


@matplotlib.rc_context(RC)
def bands(groups: list[dict]) -> str:
    """Rows: groups; columns: frequencies; colour: mean share in the fusion; number: per cent that chose it."""
    shares, chosen = (np.array([group[key] for group in groups]).swapaxes(0, 1) for key in ("shares", "chosen"))
    count, rows = len(shares), 0.24 * len(groups)
    height = 0.5 + count * (rows + 0.25)
    figure = Figure(figsize=(3.7, height))
    for block in range(count):
        bottom = 0.45 + (count - 1 - block) * (rows + 0.25)
        axes = figure.add_axes((0.27, bottom / height, 0.71, rows / height))
        axes.imshow(shares[block], cmap="Blues", vmin=0, vmax=max(shares.max(), 0.01), aspect="auto")
        for (row, column), share in np.ndenumerate(chosen[block]):
            if share >= 0.005:
                colour = "white" if shares[block, row, column] > 0.55 * shares.max() else INK
                text = f"{100 * share:.0f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)
        axes.set_xticks(range(shares.shape[2]), range(1, shares.shape[2] + 1))
        axes.set_yticks(range(len(groups)), [group["label"] for group in groups])
        axes.set_title(f"block {block + 1}", fontsize=8, pad=3)
        axes.tick_params(length=0, labelbottom=block == count - 1)
        axes.spines[:].set_visible(False)
    axes.set_xlabel("frequency f")
    return as_svg(figure)


@matplotlib.rc_context(RC)
def lost_bands(frequencies: list[int], loss: list[float]) -> str:
    figure, axes = panel(3.7, 2.1)
    axes.bar(frequencies, loss, color=BLUE)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xlabel="frequency f taken out", ylabel="score lost", xticks=frequencies)
    return as_svg(figure)


@matplotlib.rc_context(RC)
def lost_windows(energy: np.ndarray, starts: list[float], loss: list[float], mean: np.ndarray, edges: list) -> str:
    """Score lost per window, and behind it the mean spectrum, in units of no axis."""
    figure, axes = panel(3.7, 2.1)
    _regions(axes, energy, edges)
    ends = [*starts[1:], energy[-1] + energy[1] - energy[0]]
    axes.bar(starts, loss, np.subtract(ends, starts) * 0.92, align="edge", color=BLUE)
    low, high = axes.get_ylim()
    axes.plot(energy, low + (high - low) * 0.95 * mean / np.nanmax(mean), color=GREY, linewidth=1, zorder=0.9)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xlabel=ENERGY, ylabel="score lost", xlim=(energy[0], energy[-1]), ylim=(low, high))
    return as_svg(figure)


def _stacked(count: int) -> tuple[Figure, list[Axes]]:
    """Axes above each other that share the energies; only the lowest names them."""
    height = 0.5 + 1.55 * count
    figure = Figure(figsize=(3.7, height))
    places = [(0.45 + 1.55 * (count - 1 - i)) / height for i in range(count)]
    stacked = [figure.add_axes((0.18, bottom, 0.79, 1.42 / height)) for bottom in places]
    for axes in stacked[:-1]:
        axes.tick_params(labelbottom=False)
    return figure, stacked


def _curves(axes: Axes, energy: np.ndarray, groups: list[dict], curves: list[np.ndarray]) -> None:
    _regions(axes, energy, groups)
    for curve, colour in zip(curves, colours(len(groups)), strict=True):
        axes.plot(energy, curve, color=colour, linewidth=1.1)
    axes.set_xlim(energy[0], energy[-1])
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
    axes.yaxis.set_label_coords(-0.165, 0.5)


def _regions(axes: Axes, energy: np.ndarray, groups: list[dict]) -> None:
    """Shade the pre-edge of the lowest edge; a dotted line at the edge of each group."""
    edges = [group["edge_ev"] for group in groups]
    before = energy[pre_edge(energy, min(edges))]
    if len(before):
        axes.axvspan(before[0], before[-1], color=SHADE, linewidth=0, zorder=0)
    for at, colour in zip(edges, colours(len(edges)), strict=True):
        axes.axvline(at, color=colour, linewidth=0.7, linestyle=":", zorder=0.8)
