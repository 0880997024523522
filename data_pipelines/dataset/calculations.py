"""Which calculations a dataset is made of: versions of FEFF and their settings, and where one element has several."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import pyarrow as pa

from data_pipelines.run_tree import CODE
from data_pipelines.schema import SOURCE

UNSTATED = "no stated code"
# Named in the text; the card has all.
MOST = 8


def of_records(table: pa.Table) -> list[dict]:
    """What records were calculated with, most frequent first: code, settings, and how many of each element.

    table: columns settings (JSON, or "" where the source states none) and element.
    """
    elements: dict[str, Counter] = defaultdict(Counter)
    for row in table.group_by(["settings", "element"]).aggregate([([], "count_all")]).to_pylist():
        elements[row["settings"]][row["element"]] += row["count_all"]
    found = []
    for said, counts in sorted(elements.items(), key=lambda item: (-item[1].total(), item[0])):
        settings = json.loads(said or "{}")
        code = settings.pop(CODE, UNSTATED)
        found.append({CODE: code, "settings": settings, "elements": dict(sorted(counts.items()))})
    return found


def version(settings: str) -> float:
    """The major version of FEFF that settings of a record state, NaN where they name none of SOURCE.

    >>> version('{"code": "FEFF 9.6.4"}'), version("")
    (9.0, nan)
    """
    stated = re.match(r"feff\s*(\d+)", str(json.loads(settings or "{}").get(CODE, "")), re.IGNORECASE)
    return float(stated[1]) if stated and SOURCE.accepts(int(stated[1])) else math.nan


def as_lines(calculations: Sequence[dict]) -> Iterator[str]:
    """For a card of 80 columns; what is mixed is said in words."""
    for each in calculations[:MOST]:
        counts = "  ".join(f"{element} {n}" for element, n in each["elements"].items())
        settings = ", ".join(f"{name} {value}".strip() for name, value in each["settings"].items())
        yield from _wrapped("made by   ", f"{each[CODE]}: {counts}")
        yield from _wrapped(" " * 12, settings or "no stated settings")
    rest = calculations[MOST:]
    if rest:
        yield f"            and {sum(sum(each['elements'].values()) for each in rest)} with {len(rest)} other settings"
    for element in sorted({element for each in calculations for element in each["elements"]}):
        own = [each for each in calculations if element in each["elements"]]
        if len(own) > 1:
            codes: dict[str, list[int]] = defaultdict(list)
            for each in own:
                codes[each[CODE]].append(each["elements"][element])
            told = [
                f"{sum(counts)} by {code}" + (f" with {len(counts)} settings" if len(counts) > 1 else "")
                for code, counts in codes.items()
            ]
            yield from _wrapped("mixture   ", f"{element}: {' and '.join(told)}")


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(text, 80, initial_indent=head, subsequent_indent=" " * 12, break_long_words=False)
