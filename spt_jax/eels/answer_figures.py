"""Pictures of what a model says of an image: classes with flagged pixels hatched, spectra of classes, pixels, latent space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from scipy.ndimage import uniform_filter

from data_pipelines.pages.style import BLUE, GREY, INK, ORANGE, OTHERS, RC, as_svg, panel
from spt_jax.eels.answer import ImageAnswer
from spt_jax.eels.maps import class_map, line_map, short_ticks, strip, value_map

# Of the palette those that stay apart for all kinds of colour blindness, the best first; no grey, which is left out.
PALETTE = (BLUE, ORANGE, OTHERS[5], OTHERS[7], OTHERS[0], OTHERS[6], OTHERS[2])
MARKERS = "os^Dv<>Ph"
# Points of a map's hatching in an inch, and from one stripe to the next.
FINE, STRIPES = 216, 9
# A class is numbered where a square of twice this, inches, is nearly all its own.
NUMBERED, NEARLY = 0.07, 0.75
# Points of the latent space that are drawn.
MOST_POINTS = 1200
# Counts of spectra that are summed at once.
PIECE = 8_000_000


def class_colours(count: int) -> list[str]:
    """One for each class; from the eighth on lighter ones, which the numbers in the map tell apart."""
    found: list[str] = []
    for i in range(count):
        light = 1 - 0.55 ** (i // len(PALETTE))
        colour = np.array(to_rgb(PALETTE[i % len(PALETTE)]))
        found.append(to_hex(colour + light * (1 - colour)))
    return found


def flagged(answer: ImageAnswer) -> np.ndarray:
    """(T, H, W) bool: used, but unlike any simulated class."""
    return (answer.phase >= 0) & (np.nan_to_num(answer.unlike, nan=0.0) > 1)


def certainty(answer: ImageAnswer) -> np.ndarray:
    """(T, H, W) probability of the class that is said, NaN where left out."""
    best = np.max(np.nan_to_num(answer.probability, nan=0.0), axis=-1)
    return np.where(answer.phase >= 0, best, np.nan)


def classes_picture(answer: ImageAnswer) -> str:
    """The map of classes, numbered where there is room, flagged pixels hatched."""
    colours, marked = class_colours(len(answer.classes)), flagged(answer)
    if answer.phase.shape[1] == 1:
        return strip(answer.phase, answer.image, colours, over=hatch, marked=marked)

    def over(axes: Axes, number: int) -> None:
        hatch(axes, marked[number])
        _number(axes, np.where(marked[number], -1, answer.phase[number]))

    return class_map(answer.phase, answer.image, colours, over)


def values_picture(
    values: np.ndarray, answer: ImageAnswer, name: str, limits: tuple[float, float] | None = None
) -> str:
    """(T, H, W) numbers: a map, curves along a line, or a line against time."""
    times, height, width = values.shape
    if height > 1:
        return value_map(values, answer.image, limits)
    if times > 1 and width > 1:
        return strip(values, answer.image, limits=limits)
    return line_map(values, answer.image, name, limits)


def hatch(axes: Axes, marked: np.ndarray) -> None:
    """Stripes above the marked pixels (H, W) of the image that the axes show; where pixels are small, ink."""
    if not marked.any():
        return
    extent, size = axes.images[0].get_extent(), axes.get_position().size * axes.figure.get_size_inches()
    wide, high = (max(1, round(FINE * length)) for length in size)
    marked = _thinned(_thinned(marked, wide).T, high).T
    rows = np.arange(high) * marked.shape[0] // high
    columns = np.arange(wide) * marked.shape[1] // wide
    fine = marked[rows[:, None], columns[None, :]]
    large = min(wide / marked.shape[1], high / marked.shape[0]) >= STRIPES
    stripes = (rows.size + np.arange(wide)[None, :] - np.arange(high)[:, None]) % STRIPES < STRIPES / 3
    drawn = np.ones((high, wide, 4))
    drawn[..., 3] = 0.45 * fine
    drawn[fine & (stripes | (not large))] = (*to_rgb(INK), 1)
    axes.imshow(drawn, extent=extent, aspect="auto", interpolation="none", zorder=2)


def _thinned(marked: np.ndarray, columns: int) -> np.ndarray:
    """As many columns as can be drawn; one that is marked is never lost."""
    block = -(-marked.shape[1] // columns)
    return np.logical_or.reduceat(marked, np.arange(0, marked.shape[1], block), axis=1) if block > 1 else marked


def _number(axes: Axes, phase: np.ndarray) -> None:
    """The number of each class in the middle of where most of its pixels are, if nearly all around are of that class."""
    inch = (axes.get_position().size * axes.figure.get_size_inches())[::-1] / phase.shape
    near = np.maximum(1, np.rint(2 * NUMBERED / inch)).astype(int)
    if (near > phase.shape).any():
        return
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.8, "linewidth": 0}
    for each in np.unique(phase[phase >= 0]):
        own = (phase == each).astype(float)
        around, region = (uniform_filter(own, tuple(size * near), mode="constant") for size in (1, 4))
        room = np.where(around >= NEARLY, region, 0)
        if room.max() > 0:
            row, column = np.unravel_index(room.argmax(), room.shape)
            axes.text(column, row, f"{each + 1}", fontsize=7, ha="center", va="center", color=INK, bbox=box, zorder=3)


@dataclass(frozen=True)
class ClassSpectra:
    """Of one class, over the pixels that stand for it: means (L,) as measured and without noise, and by how much the latter
    scatters from pixel to pixel (L,). pixels: how many. flagged: how many of these are."""

    pixels: int
    flagged: int
    measured: np.ndarray | None
    denoised: np.ndarray | None
    spread: np.ndarray | None

    @property
    def counted(self) -> str:
        """For a caption."""
        pixels = f"{self.pixels:,} pixel{'s' * (self.pixels != 1)}"
        return pixels + (f", {self.flagged:,} of them flagged" if self.flagged else "")


def standing(answer: ImageAnswer) -> np.ndarray:
    """(T, H, W) bool: pixels that stand for their class, which are those that are not flagged; where most of a class are
    flagged all of them, since the few others are as a rule noise."""
    marked = flagged(answer)
    own = (answer.phase >= 0) & ~marked
    for i in range(len(answer.classes)):
        members = answer.phase == i
        if 2 * marked[members].sum() > members.sum():
            own |= members
    return own


def class_spectra(answer: ImageAnswer) -> list[ClassSpectra]:
    """One for each class. Spectra are read in pieces: they may lie on disk."""
    count, channels = len(answer.classes), len(answer.energy)
    pixels = np.zeros(count, int)
    sums = {name: np.zeros((count, channels)) for name in ("signal", "denoised", "squares")}
    own = np.where(standing(answer), answer.phase, -1)
    marks = [int((flagged(answer) & (own == i)).sum()) for i in range(count)]
    rows = max(1, PIECE // (own.shape[2] * channels))
    for time in range(len(own)):
        for start in range(0, own.shape[1], rows):
            here = own[time, start : start + rows]
            good = here >= 0
            member = (here[good][:, None] == np.arange(count)).astype(float)
            pixels += member.sum(axis=0).astype(int)
            for name in ("signal", "denoised"):
                stored = getattr(answer, name)
                if stored is not None:
                    spectra = np.nan_to_num(np.asarray(stored[time, start : start + rows])[good].astype(float))
                    sums[name] += member.T @ spectra
                    if name == "denoised":
                        sums["squares"] += member.T @ spectra**2

    def mean(name: str, i: int) -> np.ndarray | None:
        return None if getattr(answer, name) is None or not pixels[i] else sums[name][i] / pixels[i]

    found = []
    for i in range(count):
        denoised = mean("denoised", i)
        spread = None if denoised is None else np.sqrt(np.maximum(sums["squares"][i] / pixels[i] - denoised**2, 0))
        found.append(ClassSpectra(int(pixels[i]), marks[i], mean("signal", i), denoised, spread))
    return found


@matplotlib.rc_context(RC)
def spectrum_picture(answer: ImageAnswer, of: ClassSpectra, colour: str) -> str:
    """Mean of a class: measured in ink, without noise in its colour with the scatter of its pixels."""
    figure, axes = panel(3.7, 2.3)
    axes.axhline(0, color=GREY, linewidth=0.8)
    if of.denoised is not None and of.spread is not None:
        low, high = of.denoised - of.spread, of.denoised + of.spread
        axes.fill_between(answer.energy, low, high, color=colour, alpha=0.3, linewidth=0)
    if of.denoised is not None:
        axes.plot(answer.energy, of.denoised, color=colour, linewidth=2)
    # Thin and above: of many pixels the two lie on each other.
    if of.measured is not None:
        axes.plot(answer.energy, of.measured, color=INK, linewidth=0.6)
    _energies(axes)
    return as_svg(figure)


@matplotlib.rc_context(RC)
def compared_picture(answer: ImageAnswer, of: Sequence[ClassSpectra], colours: Sequence[str]) -> str:
    """Means of all classes, each divided by its mean: shapes against each other."""
    figure, axes = panel(3.7, 2.3)
    axes.axhline(0, color=GREY, linewidth=0.8)
    for i, (each, colour) in enumerate(zip(of, colours, strict=True)):
        curve = each.measured if each.denoised is None else each.denoised
        if curve is not None and curve.mean() > 0:
            own = curve / curve.mean()
            axes.plot(answer.energy, own, color=colour, linewidth=1.3)
            # Where there is most to see; numbers beside colours.
            top = int(np.argmax(own))
            axes.text(answer.energy[top], own[top], f" {i + 1}", fontsize=7.5, color=colour, va="bottom")
    _energies(axes)
    axes.set_ylabel("counts / their mean")
    return as_svg(figure)


@matplotlib.rc_context(RC)
def pixel_picture(answer: ImageAnswer, at: tuple[int, int, int], colour: str) -> str:
    """One pixel: measured in grey, without noise in the colour of its class."""
    figure, axes = panel(3.7, 2.3)
    axes.axhline(0, color=GREY, linewidth=0.8)
    if answer.signal is not None:
        axes.plot(answer.energy, answer.signal[at], color="#777777", linewidth=0.6)
    if answer.denoised is not None:
        axes.plot(answer.energy, answer.denoised[at], color=colour, linewidth=1.6)
    _energies(axes)
    return as_svg(figure)


def _energies(axes: Axes) -> None:
    axes.set(xlabel="energy loss / eV", ylabel="counts")
    # Room for the number at the end.
    box = axes.get_position()
    axes.set_position((box.x0, box.y0, 0.97 * box.width, box.height))
    axes.margins(x=0.01)
    axes.yaxis.set_major_formatter(short_ticks)


def example_pixels(answer: ImageAnswer) -> Iterator[tuple[int, int, int]]:
    """Of each class the pixel that is as certain as half of its others, and the one that is most unlike all."""
    sure, marked, standing_for = certainty(answer), flagged(answer), standing(answer)
    for i in range(len(answer.classes)):
        own = np.argwhere((answer.phase == i) & standing_for)
        if len(own):
            order = np.argsort(sure[tuple(own.T)], kind="stable")
            yield tuple(int(each) for each in own[order[len(own) // 2]])
    if marked.any():
        worst = np.argmax(np.where(marked, answer.unlike, -np.inf))
        yield tuple(int(each) for each in np.unravel_index(worst, marked.shape))


def principal(answer: ImageAnswer) -> tuple[np.ndarray, np.ndarray] | None:
    """(T, H, W, 2) latent coordinates along their two directions of most variance, and the part (2,) of it; None where fewer
    than three pixels or one coordinate leave no plane. Those that stand for their class choose the directions."""
    good = (answer.phase >= 0) & np.isfinite(answer.latent).all(axis=-1)
    chosen = good & standing(answer)
    chosen = chosen if chosen.sum() > 2 else good
    if chosen.sum() < 3 or answer.latent.shape[-1] < 2:
        return None
    points = answer.latent[chosen].astype(float)
    middle = points.mean(axis=0)
    values, vectors = np.linalg.eigh((points - middle).T @ (points - middle))
    vectors = vectors[:, ::-1][:, :2]
    # A direction is one either way; its largest part is positive, so that a page is the same every time.
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), [0, 1]])
    total = values.sum()
    if total <= 0:
        return None
    return (answer.latent.astype(float) - middle) @ vectors, values[::-1][:2] / total


@matplotlib.rc_context(RC)
def latent_picture(answer: ImageAnswer, plane: tuple[np.ndarray, np.ndarray], colours: Sequence[str]) -> str:
    """The plane of `principal`: classes by colour and mark, flagged pixels as crosses."""
    places, parts = plane
    figure, axes = panel(3.7, 3.0)
    marked = flagged(answer)
    used = np.flatnonzero(((answer.phase >= 0) & np.isfinite(places).all(axis=-1)).ravel())
    if len(used) > MOST_POINTS:
        used = np.sort(np.random.default_rng(0).choice(used, MOST_POINTS, replace=False))
    points, phase, marks = places.reshape(-1, 2)[used], answer.phase.ravel()[used], marked.ravel()[used]
    for i, colour in enumerate(colours):
        own = points[(phase == i) & ~marks]
        axes.plot(*own.T, MARKERS[i % len(MARKERS)], color=colour, markersize=2.6, markeredgewidth=0, alpha=0.75)
    axes.plot(*points[marks].T, "x", color=INK, markersize=4, markeredgewidth=0.9)
    axes.set(xlabel=f"first component, {100 * parts[0]:.0f} %", ylabel=f"second component, {100 * parts[1]:.0f} %")
    return as_svg(figure)
