"""What a model says of an image as a page, as lines of text and as arrays in a file."""

from __future__ import annotations

import io
import textwrap
from html import escape

import numpy as np

from data_pipelines.pages import html
from data_pipelines.pages.style import INK
from spt_jax.eels import answer_figures as figures
from spt_jax.eels import series_page
from spt_jax.eels.answer import ImageAnswer
from spt_jax.eels.answer_figures import certainty, class_colours, flagged
from spt_jax.eels.correct import REASONS
from spt_jax.eels.maps import frames_shown, said, varies
from spt_jax.eels.series import PhaseSeries

# Maps of a model with what they show, and their units.
SHOWN = {
    "shift": ("by which energies were too high", "eV"),
    "broadening": ("of the edge beyond the calculated one", "eV"),
    "thickness": ("of the sample", "mean free paths"),
    "exponent": ("r of the background A E⁻ʳ", ""),
    "jump": ("edge over the background below it", ""),
    "noise": ("of a channel, over the height of the edge", ""),
    "misfit": ("scatter about the answer over that of the counts; 1 is noise alone", ""),
}
COLUMNS = 80
# Of the name of a class in a column of text.
LONGEST_NAME = 28
HATCHED = '<span class="key">▨ hatched, or black where pixels are small: unlike any simulated class</span>'


def lines(answer: ImageAnswer) -> list[str]:
    """For a terminal of 80 columns: pixels of each class with their mean certainty and abundance, flagged, left out, notes."""
    facts = _facts(answer)
    head = f"{answer.image.title or 'image'}: {facts['image']}, energies {facts['energies']}, by {answer.model}"
    told = textwrap.wrap(head, COLUMNS, subsequent_indent="  ")
    wide = min(LONGEST_NAME, max(len(name) for name in (*answer.classes, "flagged")))
    for name, pixels, part, sure, share in _counted(answer):
        row = f"  {textwrap.shorten(name, wide, placeholder='…') if len(name) > wide else name:{wide}s} {pixels:>9,} pixels {part:6.1%}"
        told.append(row + (f"  certainty {sure:.2f}  abundance {share:.2f}" if pixels else ""))
    used = int(np.sum(answer.phase >= 0))
    marks = int(flagged(answer).sum())
    told.append(f"  {'flagged':{wide}s} {marks:>9,} pixels {marks / max(used, 1):6.1%}  unlike any simulated class")
    if doubt := _doubt(answer):
        told.append(f"  {doubt}")
    if left := _left_out(answer):
        told += textwrap.wrap(f"left out: {left}", COLUMNS, initial_indent="  ", subsequent_indent="    ")
    for note in answer.notes:
        # It is told above, with the reasons.
        if not note.startswith("left out"):
            told += textwrap.wrap(note, COLUMNS, initial_indent="  ", subsequent_indent="    ")
    return told


def as_npz(answer: ImageAnswer, series: PhaseSeries | None = None) -> bytes:
    """classes (C,), phase, probability, share, latent, unlike, reason and maps as in `ImageAnswer`, energy (L,) with
    class_denoised and class_measured (C, L), NaN where there are none; of a series also its arrays, as series_NAME."""
    arrays = {"classes": np.array(answer.classes), "energy": answer.energy}
    arrays |= {name: getattr(answer, name) for name in ("phase", "probability", "share", "latent", "unlike", "reason")}
    arrays |= {name.replace(" ", "_"): values for name, values in answer.maps.items()}
    nothing = np.full(len(answer.energy), np.nan)
    means = figures.class_spectra(answer)
    for name in ("denoised", "measured"):
        curves = [getattr(each, name) for each in means]
        arrays[f"class_{name}"] = np.stack([nothing if curve is None else curve for curve in curves])
    if series:
        kept = ("times", "fraction", "fraction_error", "flagged", "share", "share_error", "first", "last", "changed")
        arrays |= {f"series_{name}": getattr(series, name) for name in (*kept, "transitions")}
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def as_html(answer: ImageAnswer, name: str, series: PhaseSeries | None = None) -> str:
    """The page. name: of the file."""
    colours = class_colours(len(answer.classes))
    single, used = answer.phase.size == 1, (answer.phase >= 0).any()
    facts = html.tiles({key: escape(value) for key, value in (_facts(answer) | answer.image.facts).items()})
    notes = "".join(f"<li>{escape(each)}</li>" for each in answer.notes) or "<li>nothing was guessed or put right</li>"
    noted = ("Notes", "What was guessed, put right or left out.", f"<ul>{notes}</ul>")
    if not used:
        why = f"<p>{html.judged(False, f'No pixel could be used: {_left_out(answer)}.')}</p>"
        return html.page(name, facts, [("Classes", "There are none.", why), noted])
    sections = [classes_section(answer, colours)]
    if series:
        sections.append(series_page.section(series, answer, colours))
    if not single:
        note = "What each spectrum is a mixture of, from 0 to 1 in all of them."
        sections.append(("Abundances", note, _abundances(answer)))
        if answer.signal is not None or answer.denoised is not None:
            note = (
                "Means over the pixels of a class that are not flagged, over all where most are: as measured (black), without "
                "noise (in colour), and by how much the latter scatters from pixel to pixel (one standard deviation)."
            )
            sections.append(("Spectra", note, _spectra(answer, colours)))
    if answer.signal is not None or answer.denoised is not None:
        note = "Counts above the background, as measured (grey) and without noise (in the colour of the class)."
        note += "" if single else " Of each class a pixel that is as certain as half of the others."
        sections.append(("Pixel" if single else "Pixels", note, _pixels(answer, colours)))
    if plane := figures.principal(answer):
        note = (
            "How the model sees the pixels: each is a point, near to those that look alike; two directions of most variance "
            "of its latent coordinates. Flagged pixels are crosses."
        )
        caption = html.legend(_named(answer, colours))
        sections.append(
            ("Latent space", note, html.panels([html.panel(figures.latent_picture(answer, plane, colours), caption)]))
        )
    if answer.maps:
        sections.append(("Corrections", *_corrections(answer)))
    return html.page(name, facts, [*sections, noted])


def classes_section(answer: ImageAnswer, colours: list[str]) -> tuple[str, str, str]:
    """Title, note and content: maps of classes, certainty and likeness, and a table."""
    return "Classes", _about(answer), _classes(answer, colours)


def _table(answer: ImageAnswer) -> str:
    """Pixels of each class."""
    rows = [
        (
            f"{i} {escape(name)}",
            pixels,
            f"{part:.1%}",
            f"{sure:.2f}" if pixels else "",
            f"{share:.2f}" if pixels else "",
        )
        for i, (name, pixels, part, sure, share) in enumerate(_counted(answer), 1)
    ]
    return html.table(("class", "pixels", "part", "mean certainty", "mean abundance"), rows)


def _facts(answer: ImageAnswer) -> dict[str, str]:
    times, height, width = answer.phase.shape
    if height > 1:
        size = f"{times} of {height} x {width}" if times > 1 else f"{height} x {width}"
    elif width > 1:
        size = f"{times} lines of {width}" if times > 1 else f"line of {width}"
    else:
        size = f"{times} spectra of one pixel" if times > 1 else "one spectrum"
    facts = {"image": size}
    facts["energies"] = f"{len(answer.energy):,}, {answer.energy[0]:.1f} to {answer.energy[-1]:.1f} eV"
    if answer.image.pixel and (height, width) != (1, 1):
        facts["pixel"] = f"{answer.image.pixel[1]:.3g} {answer.image.unit}"
    facts["model"] = answer.model
    used = answer.phase >= 0
    facts["mean certainty"] = f"{np.nanmean(certainty(answer)):.2f}" if used.any() else "none"
    facts["flagged"] = f"{int(flagged(answer).sum()):,} of {int(used.sum()):,}"
    facts["left out"] = f"{int((~used).sum()):,} of {used.size:,}"
    return facts


def _counted(answer: ImageAnswer) -> list[tuple[str, int, float, float, float]]:
    """Of each class its pixels, flagged ones too, their part of those used, mean certainty, mean abundance of all used."""
    sure, used = certainty(answer), max(int(np.sum(answer.phase >= 0)), 1)
    found = []
    for i, name in enumerate(answer.classes):
        own = answer.phase == i
        pixels = int(own.sum())
        mean = (float(sure[own].mean()), float(answer.share[own, i].mean())) if pixels else (np.nan, np.nan)
        found.append((name, pixels, pixels / used, *mean))
    return found


def _left_out(answer: ImageAnswer) -> str:
    """How many pixels and why; "" where none are."""
    out = answer.phase < 0
    why = [
        f"{int(np.sum(out & (answer.reason == i))):,} {reason}"
        for i, reason in enumerate(REASONS)
        if i and (out & (answer.reason == i)).any()
    ]
    return f"{int(out.sum()):,} pixels" + (f" ({', '.join(why)})" if why else "") if out.any() else ""


def _doubt(answer: ImageAnswer) -> str:
    """Where most of an image is unlike what the model knows, its classes are none of these; "" else."""
    if 2 * flagged(answer).sum() <= np.sum(answer.phase >= 0):
        return ""
    return "Most pixels are unlike any simulated class: do not rely on their classes."


def _about(answer: ImageAnswer) -> str:
    times, height, _ = answer.phase.shape
    if answer.phase.size == 1:
        return "What the model says of this one spectrum."
    told = "The most likely class of every pixel, and how probable it is. Pixels left out are grey."
    if left := _left_out(answer):
        told = told[:-1] + f": {left}."
    if doubt := _doubt(answer):
        told += f" {html.judged(False, doubt)}"
    if height > 1 and times > 1:
        told += f" Frames {', '.join(str(i + 1) for i in frames_shown(times))} of {times}, as numbered."
    return told


def _named(answer: ImageAnswer, colours: list[str]) -> list[tuple[str, str]]:
    return [
        (f"{i + 1} {escape(name)}", colour)
        for i, (name, colour) in enumerate(zip(answer.classes, colours, strict=True))
    ]


def _classes(answer: ImageAnswer, colours: list[str]) -> str:
    if answer.phase.size == 1:
        rows = [
            (escape(name), f"{answer.probability[0, 0, 0, i]:.3f}", f"{answer.share[0, 0, 0, i]:.3f}")
            for i, name in enumerate(answer.classes)
        ]
        odd = float(answer.unlike.item())
        verdict = f"{'unlike any' if odd > 1 else 'like a'} simulated class ({odd:.2f}; above 1 is unlike)"
        return html.table(("class", "probability", "abundance"), rows) + f"<p>{html.judged(odd <= 1, verdict)}</p>"
    marks = flagged(answer).any()
    legend = html.legend(_named(answer, colours)) + (HATCHED if marks else "")
    pictures = [html.panel(figures.classes_picture(answer), f"<b>class</b> {legend}")]
    sure = certainty(answer)
    # Of a live measurement a frame may have none.
    if np.isfinite(sure).any():
        low, middle, high = (f"{each:.2f}" for each in np.nanpercentile(sure, [5, 50, 95]))
        caption = f"<b>certainty</b>, probability of the class: {middle} <span>({low} to {high})</span>"
        limits = (1 / max(len(answer.classes), 2), 1.0)
        pictures.append(html.panel(figures.values_picture(sure, answer, "probability", limits), caption))
        odd = np.where(answer.phase >= 0, answer.unlike, np.nan)
        caption = f"<b>unlike</b>, how far from all simulated classes: above 1 a pixel is flagged <span>({int(flagged(answer).sum()):,})</span>"
        pictures.append(
            html.panel(
                figures.values_picture(odd, answer, "unlike", (0.0, max(2.0, float(np.nanpercentile(odd, 99))))),
                caption,
            )
        )
    return html.panels(pictures) + _table(answer)


def _abundances(answer: ImageAnswer) -> str:
    return html.panels(
        html.panel(
            figures.values_picture(answer.share[..., i], answer, "abundance", (0.0, 1.0)),
            f"<b>{i + 1} {escape(name)}</b> <span>mean {_mean(answer.share[..., i])}</span>",
        )
        for i, name in enumerate(answer.classes)
    )


def _mean(values: np.ndarray) -> str:
    return said(float(np.nanmean(values))) if np.isfinite(values).any() else "none"


def _spectra(answer: ImageAnswer, colours: list[str]) -> str:
    means = figures.class_spectra(answer)
    pictures = [
        html.panel(
            figures.spectrum_picture(answer, each, colour),
            f'<b style="color: {colour}">■</b> <b>{i + 1} {escape(name)}</b> <span>{each.counted}</span>',
        )
        for i, (each, name, colour) in enumerate(zip(means, answer.classes, colours, strict=True))
        if each.pixels
    ]
    if len(pictures) > 1:
        caption = f"<b>against each other</b>, each over its mean {html.legend(_named(answer, colours))}"
        pictures.append(html.panel(figures.compared_picture(answer, means, colours), caption))
    return html.panels(pictures)


def _pixels(answer: ImageAnswer, colours: list[str]) -> str:
    pictures, sure, marks = [], certainty(answer), flagged(answer)
    for at in figures.example_pixels(answer):
        phase, (time, row, column) = int(answer.phase[at]), at
        where = [f"frame {time + 1}"] * (answer.phase.shape[0] > 1) + [f"row {row + 1}"] * (answer.phase.shape[1] > 1)
        where += [f"column {column + 1}"] * (answer.phase.shape[2] > 1)
        odd = f", <b>flagged</b>, unlike {said(float(answer.unlike[at]))}" if marks[at] else ""
        place = f", <span>{', '.join(where)}</span>" if where else ""
        caption = f"<b>{phase + 1} {escape(answer.classes[phase])}</b>, {100 * sure[at]:.0f} %{odd}{place}"
        pictures.append(html.panel(figures.pixel_picture(answer, at, INK if marks[at] else colours[phase]), caption))
    return html.panels(pictures)


def _corrections(answer: ImageAnswer) -> tuple[str, str]:
    known = {key: values for key, values in answer.maps.items() if np.isfinite(values).any()}
    about = {key: SHOWN.get(key, ("", "")) for key in known}
    if answer.phase.size == 1:
        rows = [(key, said(float(values.item())), about[key][1], about[key][0]) for key, values in known.items()]
        return "Of this one spectrum.", html.table(("", "value", "unit", "what it is"), rows)
    pictures = []
    for key, values in known.items():
        if varies(values):
            low, middle, high = (said(float(each)) for each in np.nanpercentile(values, [5, 50, 95]))
            what, unit = about[key]
            caption = (
                f"<b>{escape(key)}</b>{f', {what}' if what else ''}: {middle} {unit} <span>({low} to {high})</span>"
            )
            pictures.append(html.panel(figures.values_picture(values, answer, unit or key), caption))
    same = [key for key in answer.maps if key not in known or not varies(known[key])]
    note = "What was found in every pixel on the way. Colours go from the 1st to the 99th percentile."
    note += f" The same everywhere, and not drawn: {escape(', '.join(same))}." if same else ""
    return note, html.panels(pictures)
