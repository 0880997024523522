"""Predictions as a table, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json

from rich.box import SIMPLE_HEAD
from rich.table import Table

from spt_jax.inference.predict import Value

Result = tuple[str, str, dict[str, Value]]
"""File, absorber, predicted descriptors."""


def as_table(file: str, absorber: str, values: dict[str, Value]) -> Table:
    """One spectrum's descriptors with the likelier alternatives of each class."""
    table = Table(title=f"{file} ({absorber})", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("descriptor")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("class probabilities")
    for name, v in values.items():
        likely = sorted(v.probabilities.items(), key=lambda item: -item[1])[:4]
        chances = "  ".join(f"{value}: {100 * p:.0f} %" for value, p in likely if p >= 0.005)
        table.add_row(name, str(v.value) if v.probabilities else f"{v.value:.3f}", v.unit, chances)
    return table


def as_json(results: list[Result]) -> str:
    def entry(v: Value) -> dict:
        chances = {str(value): round(p, 6) for value, p in v.probabilities.items()}
        return {"value": v.value, "unit": v.unit, **({"probabilities": chances} if chances else {})}

    rows = [
        {"file": file, "absorber": absorber, "descriptors": {name: entry(v) for name, v in values.items()}}
        for file, absorber, values in results
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def as_csv(results: list[Result]) -> str:
    """One row per file and descriptor; `probability` is that of the class named."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "absorber", "descriptor", "value", "unit", "probability"])
    for file, absorber, values in results:
        for name, v in values.items():
            chance = v.probabilities[int(v.value)] if v.probabilities else ""
            writer.writerow([file, absorber, name, v.value, v.unit, chance])
    return text.getvalue()
