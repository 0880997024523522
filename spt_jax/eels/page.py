"""A corrected spectrum image as a page, as lines of text and as arrays in a file."""

from __future__ import annotations

import io
from html import escape

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from data_pipelines.pages import html
from data_pipelines.pages.style import BLUE, GREY, INK, ORANGE, OTHERS, RC, as_svg, panel
from spt_jax.eels.correct import REASONS, UNITS, CorrectedImage
from spt_jax.eels.maps import LEFT_OUT, class_map, frames_shown, line_map, said, short_ticks, value_map, varies

# Maps in the order in which they are looked at, with what they show.
SHOWN = {
    "area": "signal in the area window",
    "shift": "by which energies were too high, beyond what all have in common",
    "shift error": "standard deviation of the shift, as counts scatter",
    "exponent": "r of the background A E⁻ʳ",
    "exponent error": "standard deviation of r, as counts scatter",
    "amplitude": "background in the middle of its window",
    "misfit": "scatter about the background over that of single electrons",
    "thickness": "of the sample",
    "spikes": "channels replaced",
    "filled": "channels that were no numbers or dead",
    "negative": "channels below zero, used as they are",
    "reason": "why a pixel is left out",
}
# Of these the notes tell the sum.
COUNTS = ("spikes", "filled", "negative", "reason")


def lines(found: CorrectedImage) -> list[str]:
    """What was read and done, for a terminal."""
    facts = _facts(found)
    first = f"{found.image.title or 'image'}: {facts.pop('image')}, " + ", ".join(f"{k} {v}" for k, v in facts.items())
    told = [first, *(f"  {note}" for note in found.notes)]
    for name in SHOWN:
        if name in found.maps and name not in COUNTS and found.maps[name].size == 1:
            told.append(f"  {name:15s} {said(found.maps[name].item()):>10s}  {UNITS[name]}".rstrip())
        elif name in found.maps and name not in COUNTS and varies(found.maps[name]):
            low, middle, high = (said(each) for each in np.nanpercentile(found.maps[name], [5, 50, 95]))
            told.append(f"  {name:15s} {middle:>10s}  ({low} to {high})  {UNITS[name]}".rstrip())
    return told


def as_npz(found: CorrectedImage) -> bytes:
    """energy (E,), sum_NAME (E,) and maps (T, H, W) by their names, with _ for blanks."""
    arrays = {"energy": found.energy} | {f"sum_{name}": values for name, values in found.sums.items()}
    arrays |= {name.replace(" ", "_"): values for name, values in found.maps.items()}
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def as_html(found: CorrectedImage, name: str) -> str:
    """The page. name: of the file."""
    begin, end = found.windows["background"]
    edge = f"{escape(found.edge)}: the" if found.edge else "The"
    spectrum = html.panels(
        [
            html.panel(_spectrum(found), "<b>sum of all good pixels</b>, and the background below it"),
            html.panel(_signal(found), "<b>signal</b>: what is left above the background, all good pixels"),
        ]
    )
    note = (
        f"{edge} power law is fitted in every pixel between {begin:.1f} and {end:.1f} eV (grey); the area is taken between "
        f"{found.windows['area'][0]:.1f} and {found.windows['area'][1]:.1f} eV (orange)."
    )
    line = found.image.shape[1] == 1
    # Of a line the gaps show what is left out.
    drawn = {key: values for key, values in found.maps.items() if varies(values) and not (line and key == "reason")}
    same = [key for key in SHOWN if key in found.maps and key not in drawn]
    pictures = [html.panel(_picture(found, key), _caption(found, key)) for key in SHOWN if key in drawn]
    frames = frames_shown(found.image.shape[0])
    which = (
        ""
        if len(frames) == 1
        else f" Frames {', '.join(str(i + 1) for i in frames)} of {found.image.shape[0]}, {'from dark to light' if line else 'as numbered'}."
    )
    about = (
        "Pixels left out are gaps."
        if line
        else "Colours go from the 1st to the 99th percentile; pixels left out are grey."
    )
    about += which
    if same:
        about += f" The same everywhere, and not drawn: {', '.join(same)}."
    notes = "".join(f"<li>{escape(each)}</li>" for each in found.notes) or "<li>nothing was guessed or put right</li>"
    sections = [("Spectrum", note, spectrum)]
    if pictures:
        sections.append(("Maps", about, html.panels(pictures)))
    elif found.maps["reason"].size == 1:
        rows = [
            (key, said(found.maps[key].item()), UNITS[key], SHOWN[key])
            for key in SHOWN
            if key in found.maps and key != "reason"
        ]
        sections.append(("Numbers", "Of this one spectrum.", html.table(("", "value", "unit", "what it is"), rows)))
    sections.append(("Notes", "What was guessed, put right or left out.", f"<ul>{notes}</ul>"))
    return html.page(name, html.tiles({key: escape(value) for key, value in _facts(found).items()}), sections)


def _facts(found: CorrectedImage) -> dict[str, str]:
    times, height, width, channels = found.image.shape
    size = f"{height} x {width}" if height > 1 else f"line of {width}" if width > 1 else "one spectrum"
    facts = {"image": f"{times} of {size}" if times > 1 else size}
    facts["energies"] = f"{channels:,}, {found.energy[0]:.1f} to {found.energy[-1]:.1f} eV"
    if found.image.pixel:
        facts["pixel"] = f"{found.image.pixel[1]:.3g} {found.image.unit}"
    if found.image.seconds:
        facts["time of a pixel"] = f"{found.image.seconds:.3g} s"
    left = int(np.sum(found.maps["reason"] > 0))
    facts["pixels left out"] = f"{left:,} of {found.maps['reason'].size:,}"
    return facts | found.image.facts


@matplotlib.rc_context(RC)
def _spectrum(found: CorrectedImage) -> str:
    figure, axes = panel(4.6, 2.9)
    energy, (low, high) = found.energy, found.known
    # The zero loss or a plasmon would flatten everything else.
    near = _near(found)
    sums = {name: values[low:high] for name, values in found.sums.items()}
    own = near[low:high]
    _windows(axes, found)
    axes.plot(energy[low:high][own], sums["aligned"][own], color=INK, linewidth=1)
    axes.plot(energy[low:high][own], sums["background"][own], color=BLUE, linewidth=1.2)
    axes.set(xlabel="energy loss / eV", ylabel="counts")
    top = sums["aligned"][own].max()
    axes.set_ylim(min(0, sums["aligned"][own].min()), 1.05 * top)
    axes.yaxis.set_major_formatter(short_ticks)
    return as_svg(figure)


@matplotlib.rc_context(RC)
def _signal(found: CorrectedImage) -> str:
    figure, axes = panel(4.6, 2.9)
    low, high = found.known
    own = _near(found)[low:high]
    _windows(axes, found)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.plot(found.energy[low:high][own], found.sums["signal"][low:high][own], color=INK, linewidth=1)
    axes.set(xlabel="energy loss / eV", ylabel="counts")
    axes.yaxis.set_major_formatter(short_ticks)
    return as_svg(figure)


def _near(found: CorrectedImage) -> np.ndarray:
    """(E,) bool: from a little in front of the windows to far behind them."""
    begin, end = found.windows["background"][0], found.windows["area"][1]
    return (found.energy >= begin - 0.5 * (end - begin)) & (found.energy <= end + 1.5 * (end - begin))


def _windows(axes: Axes, found: CorrectedImage) -> None:
    axes.axvspan(*found.windows["background"], color=GREY, alpha=0.35, linewidth=0)
    axes.axvspan(*found.windows["area"], color=ORANGE, alpha=0.18, linewidth=0)


def _caption(found: CorrectedImage, name: str) -> str:
    values, unit = found.maps[name], UNITS[name]
    if name == "reason":
        colours = (LEFT_OUT, *OTHERS)
        return f"<b>left out</b> {html.legend((REASONS[i], colours[i]) for i in np.unique(values))}"
    if name in COUNTS:
        return f"<b>{name}</b>, {SHOWN[name]}: {int(np.nansum(values)):,}"
    low, middle, high = (said(each) for each in np.nanpercentile(values, [5, 50, 95]))
    return f"<b>{name}</b>, {SHOWN[name]}: {middle} {unit} <span>({low} to {high})</span>"


def _picture(found: CorrectedImage, name: str) -> str:
    values = found.maps[name]
    if values.shape[1] == 1:
        return line_map(values, found.image, UNITS[name] or name)
    if name == "reason":
        return class_map(values - 1, found.image, OTHERS[: len(REASONS) - 1])
    return value_map(values, found.image, whole=name in COUNTS)
