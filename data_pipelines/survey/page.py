"""The data card as one self-contained HTML page: what a dataset holds, looks like, repeats, leaks and lacks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

import numpy as np

from data_pipelines.dataset import calculations
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.splits import NEAR_DUPLICATE
from data_pipelines.files import write_atomic
from data_pipelines.pages import html
from data_pipelines.schema import REFERENCE_ENERGY_EV, STRUCTURE, STRUCTURES, EnergyGrid, descriptor, site_kind
from data_pipelines.signals import named_apart, parse_signal
from data_pipelines.survey import figures
from data_pipelines.survey.look import FEW, Report, Survey, look, outliers, read

FILE = "data_card.html"
OUTLIERS = 9
CLOSEST = 12
MOST_ELEMENTS = 12  # of a shell that are named
NAMED = 100  # dropped records and straddling materials that are named; the rest is counted

Drawn = Callable[[str, str], str]

_SPECTRA = (
    "Of each absorber: the mean (thick), the middle 50 and 90 % of all spectra at each energy (bands), and some spectra "
    f"(thin). Fewer than {FEW} spectra have no bands."
)
_OUTLIERS = (
    "Spectra that are farthest from all spectra of other materials, in medians of that distance for their absorber; the "
    f"farthest of each material, absorbers with {FEW} such distances or more. Orange: the spectrum; blue: its nearest; "
    "grey: 50 and 90 % of the absorber. Odd is not wrong: look for a bad normalisation, a shifted edge, a failed run."
)
_DUPLICATES = (
    "How far each spectrum is from its nearest of the same absorber and another material: the largest difference at any "
    f"energy, in edge steps. Below {NEAR_DUPLICATE:g} (dashed line) two spectra are near duplicates, and "
    f"<code>prepare</code> keeps them in one split. Equal spectra are drawn at {figures.NEAREST_DRAWN:.5f}."
)
_LEAKAGE = (
    "Each spectrum of a split against all of the earlier split. A spectrum closer than "
    f"{NEAR_DUPLICATE:g} edge steps to one of another split, or a material in two splits, lets a model score "
    "by memory."
)


def write_page(dataset: Dataset, path: Path, report: Report = lambda stage, done, total: None) -> None:
    """Write the page of `dataset` to `path`; `report(stage, done, total)` is called as work goes on.

    Raises DatasetError where a split cannot be read.
    """
    seen = look(read(dataset, report), report)
    write_atomic(path, as_html(f"Data card: {dataset.path.resolve().name}", seen, dataset.card, report))


def as_html(title: str, seen: Survey, card: dict, report: Report = lambda stage, done, total: None) -> str:
    """The page. Pictures take the time: `report` counts them, of the most that there can be."""
    grid, examples = EnergyGrid(**card["grid"]), seen.examples
    total = len(np.unique(examples.absorbers)) * max(len(grid.signals), 1) + len(examples.descriptors) + OUTLIERS
    done = itertools.count(1)

    def drawn(svg: str, caption: str) -> str:
        report("drawing", next(done), total)
        return html.panel(svg, caption)

    sections = (
        ("Contents", "Where the spectra came from, and where they went.", _contents(seen, card)),
        ("Signals" if grid.signals else "Spectra", _SPECTRA + _sampled(seen), _spectra(seen, card, drawn)),
        ("Descriptors", "What there is to learn, for sites of each kind.", _descriptors(seen, drawn) + _shells(card)),
        ("Label coverage", "Share of the sites of an absorber that carry a label, and how many.", _coverage(seen)),
        *(() if grid.signals else (("Outliers", _OUTLIERS + _sampled(seen), _outliers(seen, card, drawn)),)),
        ("Near duplicates", _DUPLICATES + _sampled(seen), _near_duplicates(seen, card)),
        ("Split leakage", _LEAKAGE, _leakage(seen)),
        ("Dropped and masked", "Every record that is not here, every label that is not, and why.", _missing(card)),
    )
    report("drawing", total, total)
    return html.page(title, _facts(seen, card), sections)


def _facts(seen: Survey, card: dict) -> str:
    examples = seen.examples
    if not seen.across:
        leakage = "one split only"
    elif seen.leaks or seen.straddling:
        leakage = html.judged(False, f"FAIL: {seen.leaks} spectra, {len(seen.straddling)} materials")
    else:
        whole = all(len(part.rows) == (examples.splits == later).sum() for (_, later), part in seen.across.items())
        leakage = _verdict(True) + ("" if whole else " in a sample")
    facts = {
        "spectra": f"{len(examples.ids):,}",
        "materials": f"{len(np.unique(examples.materials)):,}",
        "absorbers": f"{len(np.unique(examples.absorbers))}",
        "records dropped": f"{card['records']['dropped']:,} of {card['records']['found']:,}",
        "split leakage": leakage,
    }
    return html.tiles(facts)


def _contents(seen: Survey, card: dict) -> str:
    examples, grid = seen.examples, EnergyGrid(**card["grid"])
    splits = list(card["splits"])
    rows = []
    for absorber in np.unique(examples.absorbers):
        of = examples.absorbers == absorber
        counts = [int((of & (examples.splits == split)).sum()) for split in splits]
        # A split without an absorber can say nothing of it.
        told = [count or html.judged(False, "0") for count in counts]
        rows.append([absorber, int(of.sum()), len(np.unique(examples.materials[of])), *told])
    if len(rows) > 1:
        totals = [int((examples.splits == split).sum()) for split in splits]
        rows.append(["all", len(examples.ids), len(np.unique(examples.materials)), *totals])
    materials = ", ".join(f"{split} {part['materials']:,}" for split, part in card["splits"].items())
    sources = [
        [escape(s["name"]), s["records"], s["materials_without_spectra"], f"<code>{s['sha256'][:16]}</code>"]
        for s in card["sources"]
    ]
    first, *_, last = energy = grid.relative()
    some = f" All spectra have those to {energy[grid.common - 1]:g} eV." if grid.common < grid.points else ""
    return (
        f"<p>{grid.points} energies, {first:g} to {last:g} {figures.ENERGY}, step {grid.step:g} eV.{some} "
        f"Materials in the splits: {materials}.</p>"
        + html.table(["source", "records", "materials without spectra", "sha256"], sources)
        + html.table(["absorber", "spectra", "materials", *splits], rows)
        + _calculations(card.get("calculations", []))
    )


def _calculations(made: list[dict]) -> str:
    rows = [list(map(escape, row)) for row in calculations.rows(made)]
    mixed = "".join(f"<li>{escape(line)}</li>" for line in calculations.mixtures(made))
    table = html.table(["calculated by", "settings", "spectra"], rows)
    return table + (f"<p>Mixtures of calculations:</p><ul>{mixed}</ul>" if mixed else "")


def _spectra(seen: Survey, card: dict, drawn: Drawn) -> str:
    examples, grid = seen.examples, EnergyGrid(**card["grid"])
    energy, panels = grid.relative(), []
    if grid.signals:
        return html.panels(_signals(seen, grid, drawn))
    for absorber in np.unique(examples.absorbers):
        of = seen.sample[examples.absorbers[seen.sample] == absorber]
        anchor = REFERENCE_ENERGY_EV.get(tuple(absorber.split()))
        shown = f"{len(of):,} of {(examples.absorbers == absorber).sum():,}" if _is_sampled(seen) else f"{len(of):,}"
        caption = f"<b>{absorber}</b> · {shown} spectra" + (f" · reference {anchor:g} eV" if anchor else "")
        panels.append(drawn(figures.element(energy, examples.spectrum[of]), caption))
    return html.panels(panels)


def _signals(seen: Survey, grid: EnergyGrid, drawn: Drawn) -> Iterator[str]:
    """A panel of each signal, of each absorber's rows where rows have one."""
    examples = seen.examples
    for absorber in np.unique(examples.absorbers):
        of = seen.sample[examples.absorbers[seen.sample] == absorber]
        slots = examples.spectrum[of].reshape(len(of), len(grid.signals), grid.points)
        for place, name in enumerate(named_apart(grid.signals)):
            own = slots[np.isfinite(slots[:, place, 0]), place]
            if len(own):
                is_spectrum = parse_signal(grid.signals[place]).is_spectrum
                svg = figures.element(grid.relative(), own) if is_spectrum else figures.function(own)
                whose = "" if absorber.startswith(STRUCTURE) else f"{absorber}: "
                yield drawn(svg, f"<b>{whose}{name}</b> · {len(own):,} of {len(of):,} rows")


def _descriptors(seen: Survey, drawn: Drawn) -> str:
    examples, panels, unlabelled = seen.examples, [], []
    kinds = _site_kinds(examples.absorbers)
    for d, column in zip(examples.descriptors, examples.labels.T, strict=True):
        values = {kind: column[(kinds == kind) & np.isfinite(column)] for kind in d.sites}
        values = {kind: of for kind, of in values.items() if len(of)}
        if d in STRUCTURES and d.kind == "regression" and not any(of.any() for of in values.values()):
            continue  # a metal that is in none
        if not values:
            unlabelled.append(html.named(d))
            continue
        sites = html.sites({kind: len(of) for kind, of in values.items()})
        panels.append(drawn(figures.labels(d, values), f"{html.named(d)}<br>{sites}"))
    return html.panels(panels) + (f"<p>No site has a label of {', '.join(unlabelled)}.</p>" if unlabelled else "")


def _shells(card: dict) -> str:
    """A row for each shell and kind of site, where the dataset has their labels."""
    rows = []
    for name, kinds in card.get("shells", {}).items():
        for kind, found in kinds.items():
            most = list(found["counts"].items())[:MOST_ELEMENTS]
            told = "  ".join(f"{symbol} {_per_cent(n / found['labelled'])}" for symbol, n in most)
            rows.append([f"<b>{name}</b> {descriptor(name).meaning}", kind, found["labelled"], told])
    return html.table(["shell", "sites", "labelled", f"share of these that have it, of {MOST_ELEMENTS} elements"], rows)


def _coverage(seen: Survey) -> str:
    examples = seen.examples
    rows = {}
    for absorber in np.unique(examples.absorbers):
        of, cells = examples.absorbers == absorber, []
        for d, labelled in zip(examples.descriptors, np.isfinite(examples.labels[of]).sum(axis=0), strict=True):
            share = labelled / of.sum()
            if site_kind(absorber.split()[0]) not in d.sites:
                cells.append(("·", "none"))
                continue
            colour = f"rgba(31, 111, 159, {0.08 + 0.37 * share:.2f})" if labelled else "#f3d3b0"
            cells.append((f"{_per_cent(share)}<small>{labelled:,}</small>", colour))
        rows[absorber] = cells
    note = '<p class="note">A dot: the descriptor is not defined for such sites.</p>'
    return html.shaded(["", *(d.name for d in examples.descriptors)], rows) + note


def _outliers(seen: Survey, card: dict, drawn: Drawn) -> str:
    examples, energy = seen.examples, EnergyGrid(**card["grid"]).relative()
    panels = []
    for pair in outliers(seen, OUTLIERS):
        absorber = examples.absorbers[pair.row]
        of = seen.sample[examples.absorbers[seen.sample] == absorber]
        svg = figures.outlier(
            energy, examples.spectrum[of], examples.spectrum[pair.row], examples.spectrum[pair.partner]
        )
        caption = (
            f"<b>{absorber}</b> · {_named(seen, pair.row)}<br>{pair.distance:.3f} edge steps, {pair.ratio:.1f} medians, "
            f"from {_named(seen, pair.partner)}"
        )
        panels.append(drawn(svg, caption))
    return html.panels(panels) if panels else f"<p>No absorber has {FEW} spectra to compare.</p>"


def _near_duplicates(seen: Survey, card: dict) -> str:
    made = (
        "<p>Counted by <code>prepare</code>, also within one material: {near_duplicate_pairs:,} pairs of near duplicates. "
        "With materials and formulas they tie the dataset into {families:,} families, each in one split; "
        "{moved_to_their_family:,} spectra were moved to that of their family.</p>"
    ).format(**card["duplicates"])
    rows, distance, _ = seen.neighbours
    known = np.isfinite(distance)
    if not known.any():
        return f"{made}<p>No absorber has spectra of two materials.</p>"
    table = []
    for absorber in np.unique(seen.examples.absorbers):
        of = distance[known & (seen.examples.absorbers[rows] == absorber)]
        if len(of):
            closest, median = f"{of.min():.4f}", f"{np.median(of):.4f}"
            table.append([absorber, len(of), int((of < NEAR_DUPLICATE).sum()), closest, median])
    svg = html.panel(figures.distances(distance[known], NEAR_DUPLICATE), "")
    alone = f"<p>{(~known).sum():,} spectra: no other material has their absorber.</p>" if not known.all() else ""
    header = ["absorber", "spectra", "near duplicates", "closest", "median"]
    return f'<div class="beside">{svg}<div>{html.table(header, table)}{alone}{made}</div></div>'


def _leakage(seen: Survey) -> str:
    examples = seen.examples
    if not seen.across:
        return "<p>There is one split only: nothing to compare.</p>"
    summary, pairs = [], []
    for (earlier, later), part in seen.across.items():
        total, known = int((examples.splits == later).sum()), np.isfinite(part.distance)
        compared = f"{len(part.rows):,} of {total:,}" if len(part.rows) < total else f"all {total:,}"
        nearest = f"{part.distance.min():.4f}" if known.any() else "no absorber in both"
        verdict = _verdict(not part.near_duplicates)
        summary.append([f"{later} against {earlier}", compared, nearest, part.near_duplicates, verdict])
        pairs += zip(
            part.distance[known].tolist(), part.rows[known].tolist(), part.partner[known].tolist(), strict=True
        )
    closest = [
        [f"{d:.4f}", examples.absorbers[a], _named(seen, a), _named(seen, b), _verdict(d >= NEAR_DUPLICATE)]
        for d, a, b in sorted(pairs)[:CLOSEST]
    ]
    straddling = [[escape(name), ", ".join(splits)] for name, splits in list(seen.straddling.items())[:NAMED]]
    return (
        html.table(["splits", "spectra compared", "closest", "near duplicates", "verdict"], summary)
        + f"<p>Materials in two splits: {len(seen.straddling):,} {_verdict(not straddling)}</p>"
        + html.table(["material", "splits"], straddling)
        + "<p>The closest pairs across splits:</p>"
        + html.table(["distance", "absorber", "spectrum", "its nearest", "verdict"], closest)
    )


def _missing(card: dict) -> str:
    counts = card["records"]
    text = f"<p>{counts['found']:,} records found = {counts['kept']:,} kept + {counts['dropped']:,} dropped.</p>"
    text += html.table(["dropped because", "records"], [[escape(r), n] for r, n in card["dropped_by_reason"].items()])
    if card["dropped"]:
        named = [[escape(d["id"]), escape(d["reason"]), escape(d["detail"])] for d in card["dropped"][:NAMED]]
        which = "The" if len(named) == len(card["dropped"]) else f"{NAMED} of the"
        table = html.table(["record", "reason", "detail"], named)
        text += f"<details><summary>{which} dropped records by name</summary>{table}</details>"
    contradicted = [[escape(each["detail"]), each["records"]] for each in card.get("contradictions", [])[:NAMED]]
    text += html.table(["sources contradict each other", "records"], contradicted)
    masked = [
        [name, escape(reason), n] for name, reasons in card["masked_by_reason"].items() for reason, n in reasons.items()
    ]
    return text + (html.table(["label", "masked because", "sites"], masked) or "<p>No label is masked.</p>")


def _site_kinds(absorbers: np.ndarray) -> np.ndarray:
    names, index = np.unique(absorbers, return_inverse=True)
    return np.array([site_kind(name.split()[0]) for name in names])[index]


def _is_sampled(seen: Survey) -> bool:
    return len(seen.sample) < len(seen.examples.ids)


def _sampled(seen: Survey) -> str:
    """For the notes; empty where all spectra are looked at."""
    if not _is_sampled(seen):
        return ""
    return (
        f" Looked at here: {len(seen.sample):,} of {len(seen.examples.ids):,} spectra, shared out evenly over the "
        "absorbers; distances are from these to all."
    )


def _named(seen: Survey, row: int) -> str:
    examples = seen.examples
    name, material = str(examples.ids[row]), str(examples.materials[row])
    of = "" if material in name else f" of {escape(material)}"
    return f'<span class="id">{escape(name)}{of} <small>({examples.splits[row]})</small></span>'


def _verdict(good: bool) -> str:
    return html.judged(good, "pass" if good else "FAIL")


def _per_cent(share: float) -> str:
    """Only none is 0 % and only all is 100 %."""
    if 0 < share < 0.01:
        return "<1 %"
    return ">99 %" if 0.99 < share < 1 else f"{100 * share:.0f} %"
