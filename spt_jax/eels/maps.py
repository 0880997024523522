"""Maps of a spectrum image as pictures for a page: frames side by side, a scale bar, lines as curves, numbers in few digits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator

from data_pipelines.pages.style import BLUE, INK, RC, STEPS, as_svg, panel
from data_pipelines.readers.images.image import SpectrumImage

# Of a series are shown at most so many frames.
FRAMES = 6
# Of a map in inches: as wide as a telephone, not higher than its screen.
WIDTH, LEAST_HEIGHT, MOST_HEIGHT = 3.7, 0.55, 3.6
# Between frames, and for the number above each.
GAP, ABOVE = 0.08, 0.14
# Above all: half a number of the scale.
TOP = 0.06
# Lengths of a scale bar.
ROUND = (1, 2, 5)
# Of a picture are drawn at most so many pixels a side.
MOST_PIXELS = 512
LEFT_OUT = "#d8d8d8"
VALUES = matplotlib.colormaps["viridis"].with_extremes(bad=LEFT_OUT)


def varies(values: np.ndarray) -> bool:
    """Whether there is anything to see in a map."""
    known = values[np.isfinite(values)]
    return values.size > 1 and known.size > 0 and bool(np.ptp(known) > 0)


def frames_shown(times: int) -> list[int]:
    """First, last and some between."""
    return sorted({int(i) for i in np.linspace(0, times - 1, min(times, FRAMES))})


def said(number: float) -> str:
    """Three digits, and no powers of ten as far as they can be done without."""
    digits = float(f"{number:.3g}")
    return f"{digits:,.0f}" if abs(digits) >= 1000 else "0" if abs(digits) < 1e-4 else f"{digits:g}"


@FuncFormatter
def short_ticks(number: float, _: int | None) -> str:
    """20k and 3M, as there is little room."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:g}{letter}"
    return f"{number:.4g}"


@matplotlib.rc_context(RC)
def value_map(
    values: np.ndarray, image: SpectrumImage, limits: tuple[float, float] | None = None, whole: bool = False
) -> str:
    """(T, H, W) numbers in viridis with its scale beside it, NaN in grey.

    limits: of the colours; where not given, from the 1st to the 99th percentile. whole: ticks at whole numbers.
    """
    if limits is None:
        low, high = np.nanpercentile(values, [1, 99])
        limits = (float(low), float(high if high > low else np.nanmax(values)))

    def paint(axes: Axes, frame: np.ndarray) -> AxesImage:
        return shown(axes, frame, cmap=VALUES, vmin=limits[0], vmax=limits[1])

    figure, drawn, box = _mosaic(values.astype(float), image, paint)
    side = figure.add_axes(box)
    ticks = figure.colorbar(drawn, cax=side)
    ticks.outline.set_visible(False)
    ticks.ax.tick_params(labelsize=7.5, length=2)
    ticks.locator = MaxNLocator(4, steps=STEPS, integer=whole)
    ticks.formatter = short_ticks
    return as_svg(figure)


@matplotlib.rc_context(RC)
def class_map(
    classes: np.ndarray,
    image: SpectrumImage,
    colours: Sequence[str],
    over: Callable[[Axes, int], None] | None = None,
) -> str:
    """(T, H, W) numbers of classes from -1, left out, in grey. over(axes, number of the frame) draws above a frame."""
    painted = ListedColormap([LEFT_OUT, *colours])

    def paint(axes: Axes, frame: np.ndarray) -> AxesImage:
        return shown(axes, frame, cmap=painted, vmin=-1.5, vmax=len(colours) - 0.5)

    return as_svg(_mosaic(classes, image, paint, over)[0])


def shown(axes: Axes, frame: np.ndarray, **colours: object) -> AxesImage:
    """Each pixel as it is, without mixing."""
    return axes.imshow(frame, aspect="auto", interpolation="none", **colours)


def _mosaic(
    values: np.ndarray,
    image: SpectrumImage,
    paint: Callable[[Axes, np.ndarray], AxesImage],
    over: Callable[[Axes, int], None] | None = None,
) -> tuple[Figure, AxesImage, tuple[float, float, float, float]]:
    """A picture of the frames in rows, what was painted last, and the box of a scale beside them."""
    kept = frames_shown(len(values))
    height, width = values.shape[1:]
    down, across = image.pixel or (1.0, 1.0)
    aspect = height * down / (width * across)
    room, above = WIDTH - 0.75, ABOVE if len(kept) > 1 else 0.0

    def one(columns: int) -> tuple[float, float]:
        """Width and height of a frame, inches."""
        rows = -(-len(kept) // columns)
        most = (MOST_HEIGHT - rows * above - (rows - 1) * GAP) / rows
        high = float(np.clip((room - (columns - 1) * GAP) / columns * aspect, LEAST_HEIGHT / rows, most))
        return min((room - (columns - 1) * GAP) / columns, max(high / aspect, 0.12)), high

    columns = max(range(1, len(kept) + 1), key=lambda count: np.prod(one(count)))
    rows = -(-len(kept) // columns)
    wide, high = one(columns)
    bar = 0.3 if image.pixel else 0.05
    total = rows * (high + above) + (rows - 1) * GAP + bar + 0.04 + TOP
    figure = Figure(figsize=(WIDTH, total))
    step = max(1, -(-max(height * rows, width * columns) // (2 * MOST_PIXELS)))
    for place, number in enumerate(kept):
        row, column = divmod(place, columns)
        left, top = 0.02 + column * (wide + GAP), TOP + row * (high + above + GAP) + above
        axes = figure.add_axes((left / WIDTH, 1 - (top + high) / total, wide / WIDTH, high / total))
        drawn = paint(axes, values[number, ::step, ::step])
        # What is drawn above counts pixels as they were.
        drawn.set_extent((-0.5, width - 0.5, height - 0.5, -0.5))
        axes.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        for spine in axes.spines.values():
            spine.set_visible(False)
        if over:
            over(axes, number)
        if above:
            figure.text(left / WIDTH, 1 - (top - 0.03) / total, f"{number + 1}", fontsize=7, va="bottom")
    if image.pixel:
        _scale_bar(figure, image, wide, width)
    right = 0.02 + columns * wide + (columns - 1) * GAP
    begin, top = bar + 0.04, total - TOP - above
    return figure, drawn, ((right + 0.08) / WIDTH, begin / total, 0.1 / WIDTH, (top - begin) / total)


def _scale_bar(figure: Figure, image: SpectrumImage, wide: float, columns: int) -> None:
    """A round length below the map, of about a quarter of one frame."""
    across = image.pixel[1]
    length = _round(columns * across / 4)
    part = length / (columns * across) * wide / WIDTH
    left, bottom = 0.02 / WIDTH, 0.17 / figure.get_figheight()
    axes = figure.add_axes((left, bottom, part, 0.045 / figure.get_figheight()))
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.fill_between([0, 1], 0, 1, color=INK, linewidth=0)
    figure.text(left + part + 0.05 / WIDTH, bottom, f"{length:g} {image.unit}", fontsize=8, va="center")


def _round(length: float) -> float:
    power = 10.0 ** np.floor(np.log10(length))
    return float(power * max(step for step in ROUND if step * power <= length * (1 + 1e-9)))


def positions(image: SpectrumImage, width: int) -> tuple[np.ndarray, str]:
    """(W,) places along a line of pixels, and what they are."""
    if image.pixel:
        return np.arange(width) * image.pixel[1], f"position / {image.unit}"
    return np.arange(width), "pixel"


@matplotlib.rc_context(RC)
def line_map(values: np.ndarray, image: SpectrumImage, label: str, limits: tuple[float, float] | None = None) -> str:
    """(T, 1, W) numbers of a line, or a series of lines: a curve for each, from dark to light; of one pixel along time.
    limits: what the axis shows at least."""
    figure, axes = panel(WIDTH, 1.9)
    values = values.astype(float)
    width = values.shape[2]
    along, below = positions(image, width) if width > 1 else (np.arange(1, len(values) + 1), "frame")
    curves = [values[i, 0] for i in frames_shown(len(values))] if width > 1 else [values[:, 0, 0]]
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(curves)))
    for curve, colour in zip(curves, colours if len(curves) > 1 else [BLUE], strict=True):
        axes.plot(along, curve, ".-", color=colour, linewidth=0.8, markersize=3)
    axes.set(xlabel=below, ylabel=label)
    if limits:
        own, room = axes.get_ylim(), 0.03 * (limits[1] - limits[0])
        axes.set_ylim(min(own[0], limits[0] - room), max(own[1], limits[1] + room))
    axes.yaxis.set_major_formatter(short_ticks)
    return as_svg(figure)


@matplotlib.rc_context(RC)
def strip(
    values: np.ndarray,
    image: SpectrumImage,
    colours: Sequence[str] | None = None,
    limits: tuple[float, float] | None = None,
    over: Callable[[Axes, np.ndarray], None] | None = None,
    marked: np.ndarray | None = None,
) -> str:
    """(T, 1, W) of a line of pixels: one strip along its positions; of a series of lines, times downward; of one pixel, along
    time. Numbers of classes where there are `colours`, else numbers in viridis. over(axes, marked as it is laid) draws above."""
    flat, along, label = _laid(values, image)
    several = len(flat) > 1
    figure = Figure(figsize=(WIDTH, height := 2.6 if several else 0.95))
    left, right = 0.52 if several else 0.12, 0.12 if colours else 0.75
    low, top = 0.42, 0.06
    box = (left / WIDTH, low / height, 1 - (left + right) / WIDTH, 1 - (low + top) / height)
    axes = figure.add_axes(box)
    if colours:
        drawn = shown(axes, flat, cmap=ListedColormap([LEFT_OUT, *colours]), vmin=-1.5, vmax=len(colours) - 0.5)
    else:
        low_value, high_value = limits or np.nanpercentile(flat, [1, 99])
        drawn = shown(axes, flat.astype(float), cmap=VALUES, vmin=low_value, vmax=high_value)
        side = figure.add_axes((1 - 0.65 / WIDTH, box[1], 0.1 / WIDTH, box[3]))
        ticks = figure.colorbar(drawn, cax=side)
        ticks.outline.set_visible(False)
        ticks.ax.tick_params(labelsize=7.5, length=2)
        ticks.locator = MaxNLocator(4, steps=STEPS)
        ticks.formatter = short_ticks
    half = (along[1] - along[0]) / 2 if len(along) > 1 else 0.5
    drawn.set_extent((along[0] - half, along[-1] + half, len(flat) + 0.5, 0.5))
    axes.set(xlabel=label, ylabel="frame" if several else "", xlim=(along[0] - half, along[-1] + half))
    axes.set_ylim(len(flat) + 0.5, 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS, integer=label in ("frame", "pixel")))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS, integer=True))
    if not several:
        axes.set(yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if over and marked is not None:
        over(axes, _laid(marked, image)[0])
    return as_svg(figure)


def _laid(values: np.ndarray, image: SpectrumImage) -> tuple[np.ndarray, np.ndarray, str]:
    """(rows, columns) of a strip, what its columns are at, and what that is."""
    times, _, width = values.shape
    if width == 1:
        return values.reshape(1, times), np.arange(1, times + 1), "frame"
    return values[:, 0], *positions(image, width)
