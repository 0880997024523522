"""A series as a table of numbers, a row for each spectrum, and as a few lines on a screen."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from spt_jax.series.order import Axis
from spt_jax.series.series import Followed, Quantity


def as_csv(series: Followed) -> str:
    """A row for each spectrum in order, then one for each that was left out, with the reason in `error`.

    NAME: what the model decides; NAME_mean, _low, _high: as of `Quantity`; NAME_level: what the parts of the series have;
    NAME_probabilities of classes and elements; NAME_fraction and its error of each reference.
    """
    rows: list[dict[str, object]] = []
    place, compared = series.axis.place, series.compared
    levels = {each.name: each.level(place) for each in series.quantities}
    for i, prediction in enumerate(series.predictions):
        row: dict[str, object] = {"file": prediction.name, "absorber": prediction.absorber}
        row[series.axis.label] = f"{place[i]:.10g}"
        row |= {"E0": f"{compared.e0[i]:.2f}", "edge_step": f"{compared.step[i]:.6g}"}
        for each in series.quantities:
            row[each.name] = _number(each.value[i])
            if (value := prediction.values.get(each.name)) and value.probabilities:
                row[f"{each.name}_mean"] = _number(each.mean[i])
                row[f"{each.name}_probabilities"] = _chances(value.probabilities)
            if np.isfinite(each.low[i]):
                row |= {f"{each.name}_low": _number(each.low[i]), f"{each.name}_high": _number(each.high[i])}
            row[f"{each.name}_level"] = _number(levels[each.name][i])
        for name, value in prediction.values.items():
            if isinstance(value.value, tuple):
                row |= {name: " ".join(value.value), f"{name}_probabilities": _chances(value.elements)}
        fit = series.fits[i]
        for name, fraction, error in zip(series.names, fit.fractions, fit.errors, strict=True):
            row |= {f"{name}_fraction": f"{fraction:.5f}", f"{name}_error": f"{error:.5f}"}
        row |= {"fractions_sum": f"{fit.total:.5f}", "fractions_sum_error": f"{fit.total_error:.5f}"}
        row |= {"R_factor": f"{fit.r_factor:.3e}", "fit_shift_eV": f"{fit.shift:.3f}"}
        row |= {"channel": prediction.channel, "shift": prediction.shift, "columns": prediction.columns}
        row["foil"] = "" if prediction.foil is None else f"{prediction.foil:.3f}"
        rows.append({**row, "notes": "; ".join(series.notes[i]), "error": ""})
    rows += [{"file": name, "error": error} for name, error in series.left_out]
    text = io.StringIO()
    # A descriptor may be told of some spectra only; notes and error come last.
    names = dict.fromkeys(name for row in rows for name in row if name not in ("notes", "error"))
    writer = csv.DictWriter(text, [*names, "notes", "error"], lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _number(value: float) -> str:
    return f"{value:.6g}" if value == value else ""


def _chances(chances: dict) -> str:
    return " ".join(f"{each}:{p:.3f}" for each, p in chances.items() if p >= 0.0005)


def as_table(series: Followed) -> Table:
    """Every quantity: at both ends, its trend, and where it changes."""
    axis = series.axis
    along = "by name" if axis.order == "name" else f"along {axis.label}"
    head = f"{series.absorber}, {len(series.predictions)} spectra {along}"
    table = Table(title=head, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("")
    for column in ("first", "last", "rho", "p", f"slope / {axis.unit}", "95 %", "changes at"):
        table.add_column(column, justify="right")
    for each in series.quantities:
        known = each.mean[each.known]
        ends = [_short(known[i]) for i in (0, -1)] if len(known) else ["-", "-"]
        if each.trend is None:
            table.add_row(each.name, *ends)
            continue
        own = each.trend
        limits = f"{own.low:.2g} to {own.high:.2g}"
        told = (f"{own.rho:+.2f}", f"{own.p:.4f}", f"{own.slope:.2g}", limits, changes(each, axis))
        table.add_row(each.name, *ends, *told)
    return table


def _short(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 1000 else f"{value:.3f}"


def changes(quantity: Quantity, axis: Axis) -> str:
    """The middles between the places where parts of the series meet."""
    return ", ".join(f"{(low + high) / 2:.4g}" for low, high in quantity.changes(axis.place)) or "-"


def lines(series: Followed) -> Iterator[str]:
    """What else is found, a sentence each."""
    asked = sum(each.trend is not None for each in series.quantities)
    yield (
        f"p: share of all orders of these spectra with as large a rho; {asked} are asked at once, so count what is below "
        f"{0.05 / asked:.4f}"
    )
    yield f"species: {series.components}"
    if series.components.by_indicator > max(len(series.predictions) / 2, 2):
        yield "  nearly as many as spectra: no mixtures of a few species, or energies and steps that drift"
    yield str(series.compared)
    fits = series.fits
    kind = "the two ends of the series, as no references are given" if series.ends else "the references"
    yield f"fractions of {kind}, in the first, middle and last spectrum; not negative, not forced to a sum of 1:"
    for i, name in enumerate(series.names):
        told = (f"{fit.fractions[i]:.3f} ± {fit.errors[i]:.3f}" for fit in (fits[0], fits[len(fits) // 2], fits[-1]))
        yield f"  {name}: {', '.join(told)}"
    sums, factors = [fit.total for fit in fits], [fit.r_factor for fit in fits]
    yield (
        f"  sum {min(sums):.3f} to {max(sums):.3f}; R-factor {min(factors):.1e} to {max(factors):.1e}; condition number of "
        f"the references {fits[0].condition:.0f}"
    )
    doubtful = Counter(kind for fit in fits for kind in fit.doubts)
    for kind, count in doubtful.items():
        yield f"  {kind} in {count} of {len(fits)} spectra: see the notes in the CSV file"
    if unlike := sum(bool(each.warnings) for each in series.predictions):
        yield f"unlike what this model learnt: {unlike} of {len(series.predictions)} spectra; do not rely on their answers"
    if series.split:
        yield (
            f"OS is split between two neighbouring states in {series.split} of {len(series.predictions)} spectra: two sites, a "
            "mixed valence, or doubt; what is said of them is a mean over the sites"
        )
