"""Predictions as a table, JSON or CSV, the last two piece by piece: there may be more than memory holds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from data_pipelines.errors import printable
from data_pipelines.schema import descriptor
from spt_jax.inference.prediction import Prediction, Value

_READ = ("channel", "shift", "columns", "foil", "notes")
_TRUST = ("strangeness", "warnings")


def as_table(prediction: Prediction, coverage: float) -> Table:
    """One spectrum's descriptors with the likelier alternatives of each class, and the interval of each value."""
    table = Table(
        title=escape(printable(f"{prediction.name} ({prediction.absorber.removesuffix(' -')})")),
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("descriptor")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column(f"probabilities, {100 * coverage:g} % interval")
    for name, v in prediction.values.items():
        told = [*v.elements.items(), *sorted(v.probabilities.items(), key=lambda item: -item[1])[:4]]
        sure = "  ".join(f"{value}: {100 * p:.0f} %" for value, p in told if p >= 0.005)
        sure = f"{v.interval[0]:.3f} to {v.interval[1]:.3f}" if v.interval else sure
        table.add_row(name, _said(v), v.unit, sure)
    said = [f"[bold yellow]warning: {escape(warning)}[/]" for warning in prediction.warnings]
    said += [f"note: {escape(note)}" for note in prediction.notes]
    if said:
        table.caption, table.caption_justify = "\n".join(said), "left"
    return table


def _said(v: Value) -> str:
    if isinstance(v.value, tuple):
        return " ".join(v.value) or "-"
    return str(v.value) if v.probabilities else f"{v.value:.3f}"


def legend(names: Iterable[str]) -> str:
    """What the short names stand for, a line each."""
    names = list(names)
    width = max(5, *map(len, names)) if names else 5
    return "\n".join(f"{name:{width}s}  {descriptor(name).meaning}" for name in names)


def as_json(predictions: Iterable[Prediction]) -> Iterator[str]:
    """One list with an object for each spectrum, which has an `error` where there are no descriptors."""
    before = "[\n"
    for each in predictions:
        text = _writable(json.dumps(row_of(each), indent=1, ensure_ascii=False))
        yield before + "\n".join(f" {line}" for line in text.split("\n"))
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _writable(text: str) -> str:
    """Names of files that are no UTF-8 have halves of surrogates in them; an escape, which JSON reads back."""
    return text.encode("utf-8", "backslashreplace").decode()


def row_of(each: Prediction) -> dict[str, object]:
    """The object of one spectrum."""
    row: dict[str, object] = {
        "file": each.name,
        "absorber": each.absorber,
        "descriptors": {n: _entry(n, v) for n, v in each.values.items()},
    }
    row |= {"channel": each.channel, "shift": each.shift, "columns": each.columns}
    row |= {"foil": None if each.foil is None else round(each.foil, 3), "notes": list(each.notes)}
    if each.strangeness is not None:
        row |= {"strangeness": round(each.strangeness, 3), "warnings": list(each.warnings)}
        row["nearest"] = [{"material": n.material, "distance": round(n.distance, 4)} for n in each.nearest]
    return row | ({"error": each.error} if each.error else {})


def _entry(name: str, v: Value) -> dict:
    found: dict = {"value": v.value, "unit": v.unit, "meaning": descriptor(name).meaning}
    chances = v.elements if isinstance(v.value, tuple) else v.probabilities
    if chances or isinstance(v.value, tuple):
        found["probabilities"] = {str(value): round(p, 6) for value, p in chances.items()}
    return {**found, "interval": list(v.interval)} if v.interval else found


def as_csv(predictions: Iterable[Prediction]) -> Iterator[str]:
    """One row for each file and descriptor, of a shell for each element that may be there; and one for each error.

    probability: of the class or the element named; low, high: ends of the interval of a value; then how the spectrum was
    read, with the notes in one cell, and how strange it is to the model, above 0 with a warning.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["file", "absorber", "descriptor", "value", "unit", "probability", "low", "high", *_READ, *_TRUST, "error"]
    )
    for each in predictions:
        foil = "" if each.foil is None else round(each.foil, 3)
        read = [each.channel, each.shift, each.columns, foil, "; ".join(each.notes)]
        read += ["" if each.strangeness is None else round(each.strangeness, 3), "; ".join(each.warnings)]
        for name, v in each.values.items():
            if isinstance(v.value, tuple):
                for symbol, p in v.elements.items():
                    writer.writerow([each.name, each.absorber, name, symbol, v.unit, p, "", "", *read, ""])
                continue
            sure = [v.probabilities.get(int(v.value), ""), *(v.interval or ("", ""))]
            writer.writerow([each.name, each.absorber, name, v.value, v.unit, *sure, *read, ""])
        if each.error:
            writer.writerow([each.name, each.absorber, *[""] * 6, *read, each.error])
        yield _writable(text.getvalue())
        text.seek(0)
        text.truncate()
    yield text.getvalue()
