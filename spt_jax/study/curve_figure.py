"""The picture of a fine-tuning: scores by the number of labelled spectra, of the new system and of the one it came from."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from data_pipelines.pages.style import BLUE, INK, ORANGE, RC, as_svg
from data_pipelines.schema import NAMES, SHELL_NAMES, SITE_KINDS
from spt_jax.study.curve import NEW, SOURCE, mean_of, scores_of
from spt_jax.study.figures import OTHERS

COLOURS = dict(zip(NAMES, (INK, *OTHERS), strict=True))
LOW, GAP = -0.05, 0.055
"""R2 has no lower end: what is below is drawn at the edge. GAP: between names, so that none lies on another."""


@matplotlib.rc_context(RC)
def curve(document: dict) -> str:
    """A panel for each kind of site: every descriptor thin, their mean thick, and that of the source in the other colour."""
    points = document["points"]
    kinds = [kind for kind in SITE_KINDS if any(kind in each["scores"][NEW]["sites"] for each in points.values())]
    figure = Figure(figsize=(0.9 + 3.6 * len(kinds), 3.1), layout="constrained")
    places = range(len(points))
    ticks = [name if name.isdecimal() else f"{name}\n({each['shots']})" for name, each in points.items()]
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        found = [scores_of(each["scores"][NEW])[kind] for each in points.values()]
        before = [scores_of(each["scores"].get(SOURCE, {"sites": {}})).get(kind, {}) for each in points.values()]
        # Of what never varies, as the oxidation state of oxygen, nothing is seen.
        names = [name for name in found[0] if name not in SHELL_NAMES and not (kind == "O" and name == "OS")]
        lines = [(name, [own.get(name, {}).get("main") for own in found], COLOURS[name], 1.0) for name in names]
        lines.append(("mean", [mean_of(own, kind) for own in found], BLUE, 2.4))
        if any(before):
            lines.append(("source", [mean_of(own, kind) for own in before], ORANGE, 2.4))
        drawn = [(name, np.clip(np.array(y, float), LOW, None), colour, width) for name, y, colour, width in lines]
        drawn = [each for each in drawn if np.isfinite(each[1]).any()]
        for _, y, colour, width in drawn:
            axes.plot(places, y, "o-", color=colour, linewidth=width, markersize=2 + width, zorder=width)
        ends = np.array([y[np.isfinite(y)][-1] for _, y, *_ in drawn])
        for (name, _, colour, width), height in zip(drawn, _apart(ends), strict=True):
            weight = "bold" if width > 1 else "normal"
            axes.annotate(name, (len(points) - 1 + 0.15, height), color=colour, weight=weight, va="center", fontsize=8)
        axes.set(ylim=(LOW - 0.02, 1.03), xlim=(-0.2, len(points) - 1 + 0.2), xlabel="labelled spectra", ylabel="score")
        axes.set_xticks(list(places), ticks)
        axes.set_title(f"{kind} sites", fontsize=9, color=INK, loc="left")
    return as_svg(figure)


def _apart(heights: np.ndarray) -> np.ndarray:
    """Heights of names, in their order, moved as far as they must not to lie on each other."""
    order = np.argsort(heights)
    placed = heights[order].copy()
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + GAP)
    top = 1.02
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = min(placed[i], top)
        top = placed[i] - GAP
    found = np.empty_like(placed)
    found[order] = placed
    return found
