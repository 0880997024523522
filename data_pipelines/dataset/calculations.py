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

UNSTATED = "a code not stated"
# Named in the text; the card has all.
MOST = 8


def stated(text: str | None) -> dict:
    """Settings as a source has them: JSON of an object; any other text names the code."""
    try:
        settings = json.loads(text or "{}")
    except ValueError:
        settings = text
    return settings if isinstance(settings, dict) else {CODE: text}


def as_text(settings: dict) -> str:
    """As the ledger has them: JSON, "" where nothing is stated."""
    return json.dumps(settings, sort_keys=True) if settings else ""


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
        code = str(settings.pop(CODE, UNSTATED))
        found.append({CODE: code, "settings": settings, "elements": dict(sorted(counts.items()))})
    return found


def version(settings: str) -> float:
    """The major version of FEFF that settings of a record state, NaN where they name none of SOURCE.

    >>> version('{"code": "FEFF 9.6.4"}'), version("")
    (9.0, nan)
    """
    found = re.match(r"feff\s*(\d+)", str(stated(settings).get(CODE)), re.IGNORECASE)
    return float(found[1]) if found and SOURCE.accepts(int(found[1])) else math.nan


def as_lines(calculations: Sequence[dict]) -> Iterator[str]:
    """For a card of 80 columns."""
    for code, settings, elements in rows(calculations):
        yield from wrapped("made by   ", f"{code}: {elements}")
        yield from wrapped(" " * 12, settings)
    yield from (line for mixture in mixtures(calculations) for line in wrapped("mixture   ", mixture))


def rows(calculations: Sequence[dict]) -> Iterator[tuple[str, str, str]]:
    """Code, settings and elements as texts: the most frequent, then all others in one. Of a code that was told before,
    only the settings that differ."""
    before: dict[str, dict] = {}
    for each in calculations[:MOST]:
        own, first = each["settings"], before.setdefault(each[CODE], each["settings"])
        alike = own is not first and own.keys() == first.keys()
        named = {name: value for name, value in own.items() if not alike or first[name] != value}
        settings = ", ".join(f"{name} {value}".strip() for name, value in named.items()) or "settings not stated"
        settings = f"as before, but {settings}" if alike else settings
        yield each[CODE], settings, _counted(each["elements"])
    rest = calculations[MOST:]
    if rest:
        counts = sum((Counter(each["elements"]) for each in rest), Counter())
        yield f"{len(rest)} more", "other settings", _counted(dict(sorted(counts.items())))


def mixtures(calculations: Sequence[dict]) -> Iterator[str]:
    """A line for each element that is not of one calculation."""
    codes: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for each in calculations:
        for element, count in each["elements"].items():
            codes[element][each[CODE]].append(count)
    for element, own in sorted(codes.items()):
        if sum(map(len, own.values())) > 1:
            told = (
                f"{sum(n)} by {code}" + (f" with {len(n)} settings" if len(n) > 1 else "") for code, n in own.items()
            )
            yield f"{element}: {', '.join(told)}"


def _counted(elements: dict[str, int]) -> str:
    return "  ".join(f"{element}\xa0{count}" for element, count in elements.items())


def wrapped(head: str, text: str) -> list[str]:
    """A paragraph of a text card."""
    lines = textwrap.wrap(text, 80, initial_indent=head, subsequent_indent=" " * 12, break_long_words=False)
    return [line.replace("\xa0", " ") for line in lines]
