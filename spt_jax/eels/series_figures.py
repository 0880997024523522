"""Pictures of phases over time: fractions and abundances with errors, where and when pixels changed."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator

from data_pipelines.pages.style import BLUE, INK, RC, STEPS, as_svg, panel
from data_pipelines.readers.images.image import SpectrumImage
from spt_jax.eels.answer_figures import MARKERS
from spt_jax.eels.maps import WIDTH, class_map, line_map, strip, value_map
from spt_jax.eels.series import PhaseSeries

# Frames up to which each has its mark.
MARKED = 60


@matplotlib.rc_context(RC)
def parts_picture(series: PhaseSeries, colours: Sequence[str], shares: bool = False) -> str:
    """Fractions of pixels of each class, and of flagged ones, against time; or mean abundances."""
    figure, axes = panel(WIDTH, 2.6)
    values, errors = (series.share, series.share_error) if shares else (series.fraction, series.fraction_error)
    few = len(series.times) <= MARKED
    for i, colour in enumerate(colours):
        mark, offset = (MARKERS[i % len(MARKERS)] if few else ""), values[:, i]
        axes.plot(series.times, offset, f"{mark}-", color=colour, markersize=3.5, linewidth=1)
        spread = np.nan_to_num(errors[:, i])
        if few:
            axes.vlines(series.times, offset - spread, offset + spread, color=colour, linewidth=0.9)
        else:
            axes.fill_between(series.times, offset - spread, offset + spread, color=colour, alpha=0.25, linewidth=0)
    if not shares and np.nansum(series.flagged) > 0:
        axes.plot(series.times, series.flagged, "x--" if few else "--", color=INK, markersize=4, linewidth=0.8)
    axes.set(xlabel=series.unit, ylabel="mean abundance" if shares else "fraction of pixels")
    axes.set_ylim(-0.03, 1.03)
    _whole(axes, series)
    return as_svg(figure)


@matplotlib.rc_context(RC)
def changes_picture(series: PhaseSeries) -> str:
    """How many pixels changed in each frame."""
    figure, axes = panel(WIDTH, 2.2)
    step = float(np.min(np.diff(series.times))) if len(series.times) > 1 else 1.0
    axes.bar(series.times, series.changes, width=0.8 * abs(step) or 0.8, color=BLUE, linewidth=0)
    axes.set(xlabel=series.unit, ylabel="pixels that changed")
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS, integer=True))
    _whole(axes, series)
    return as_svg(figure)


def _whole(axes: matplotlib.axes.Axes, series: PhaseSeries) -> None:
    """Frames have whole numbers."""
    if series.unit != "time / s":
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS, integer=True))


def first_and_last(series: PhaseSeries, image: SpectrumImage, colours: Sequence[str]) -> tuple[str, str]:
    """Maps of the class before and after the change."""
    draw = class_map if series.first.shape[0] > 1 else strip
    return draw(series.first[None], image, colours), draw(series.last[None], image, colours)


def when_picture(series: PhaseSeries, image: SpectrumImage) -> str:
    """Map of the time of the change; pixels that did not change are grey, or gaps of a line."""
    times = np.where(series.changed >= 0, series.times[series.changed], np.nan)[None]
    if series.first.shape[0] == 1:
        return line_map(times, image, series.unit)
    return value_map(times, image, (float(series.times[0]), float(series.times[-1])), whole=series.unit != "time / s")
