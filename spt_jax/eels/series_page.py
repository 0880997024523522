"""Phases over time as a section of the page, and as lines of text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape

import numpy as np

from data_pipelines.pages import html
from data_pipelines.pages.style import INK
from spt_jax.eels.answer import ImageAnswer
from spt_jax.eels.series import TILE, PhaseSeries
from spt_jax.eels.series_figures import changes_picture, first_and_last, parts_picture, when_picture

COLUMNS = 80
# Of a terminal's lines, the most frequent changes.
MOST_CHANGES = 6


def lines(series: PhaseSeries) -> list[str]:
    """Fractions at first and at last, and how many pixels changed to what."""
    begin, end = _said_time(series, 0), _said_time(series, -1)
    told = [f"from {begin} to {end}, {len(series.times)} frames"]
    for i, name in enumerate(series.classes):
        parts = [
            f"{series.fraction[at, i]:.1%} ± {series.fraction_error[at, i]:.1%}" if series.good[at] else "no pixels"
            for at in (0, -1)
        ]
        told += textwrap.wrap(
            f"{name}: {parts[0]} to {parts[1]}", COLUMNS, initial_indent="  ", subsequent_indent="    "
        )
    for old, new, pixels, middle in _changes(series)[:MOST_CHANGES]:
        row = f"{pixels:,} {'pixel' if pixels == 1 else 'pixels'} went from {series.classes[old]} to {series.classes[new]}, half of them by {middle}"
        told += textwrap.wrap(row, COLUMNS, initial_indent="  ", subsequent_indent="    ")
    if not (series.changed >= 0).any():
        told.append("  no pixel changed its class for good")
    return told


def section(series: PhaseSeries, answer: ImageAnswer, colours: Sequence[str]) -> tuple[str, str, str]:
    """Title, note and content."""
    known, moved = int((series.first >= 0).sum()), int((series.changed >= 0).sum())
    keys = [
        (f"{i + 1} {escape(name)}", colour)
        for i, (name, colour) in enumerate(zip(series.classes, colours, strict=True))
    ]
    legend = html.legend(keys)
    flagged = np.nansum(series.flagged) > 0
    with_flagged = html.legend([*keys, ("unlike any class (crosses)", INK)]) if flagged else legend
    grey = '<span class="key">grey: no frame tells</span>' if known < series.first.size else ""
    first, last = first_and_last(series, answer.image, colours)
    pictures = [
        html.panel(parts_picture(series, colours), f"<b>fraction of pixels</b> {with_flagged}"),
        html.panel(parts_picture(series, colours, shares=True), f"<b>mean abundance</b> {legend}"),
    ]
    if series.first.size > 1:
        pictures += [
            html.panel(first, f"<b>at first</b> {legend}{grey}"),
            html.panel(last, f"<b>at last</b> {legend}{grey}"),
        ]
    if moved and series.first.size > 1:
        still = "" if series.first.shape[0] == 1 else "; grey: no change"
        pictures.append(html.panel(when_picture(series, answer.image), f"<b>changed</b>, {escape(series.unit)}{still}"))
    if moved:
        pictures.append(
            html.panel(changes_picture(series), f"<b>changes</b>, when the new class is first seen: {moved:,} pixels")
        )
    note = (
        f"{moved:,} of {known:,} pixels changed their class and kept the new one. A change is where the logarithms of the "
        "probabilities, summed over all frames, are larger for two classes one after the other than for one throughout, by more "
        "than chance gives; a pixel has one change at the most. Flagged pixels and those left out tell nothing in their frame."
        f" Bars: standard errors; of fractions by the probabilities, squares of {TILE} x {TILE} pixels taken to be wrong together."
    )
    return "Over time", note, html.panels(pictures) + _transitions(series) + _names(series)


def _transitions(series: PhaseSeries) -> str:
    """Pixels by their first class, down, and their last, across."""
    if series.first.size == 1:
        if (first := int(series.first.item())) < 0:
            return ""
        last, at = int(series.last.item()), int(series.changed.item())
        return f"<p>{escape(series.classes[first])}" + (
            f", {escape(series.classes[last])} from {escape(_said_time(series, at))} on.</p>"
            if at >= 0
            else " throughout.</p>"
        )
    table = series.transitions
    rows = [(f"{i + 1} {escape(name)}", *(int(each) for each in table[i])) for i, name in enumerate(series.classes)]
    return html.table(("first (down), last (across)", *(f"{i + 1}" for i in range(len(series.classes)))), rows)


def _names(series: PhaseSeries) -> str:
    """Which file is which frame."""
    rows = [(f"{i}", escape(name)) for i, name in enumerate(series.names, 1)]
    return html.table(("", "file"), rows)


def _changes(series: PhaseSeries) -> list[tuple[int, int, int, str]]:
    """(first class, last class, pixels, when half of them had changed), the most frequent first."""
    found = []
    for old in range(len(series.classes)):
        for new in range(len(series.classes)):
            own = (series.first == old) & (series.last == new) & (series.changed >= 0)
            if own.any():
                middle = int(np.percentile(series.changed[own], 50, method="lower"))
                found.append((old, new, int(own.sum()), _said_time(series, middle)))
    return sorted(found, key=lambda each: -each[2])


def _said_time(series: PhaseSeries, at: int) -> str:
    if series.names:
        return series.names[at]
    time = series.times[at]
    return f"{time:g} s" if series.unit == "time / s" else f"frame {time:g}"
