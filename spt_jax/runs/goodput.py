"""What the wall time of a run went into, over all of its attempts, from what training wrote down (attempts.py).

Goodput is the share that was computing of steps that were kept: the rest is waiting, saving, starting, and doing again
what a stop has lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

PARTS = {
    "compute": "steps that were kept",
    "input": "devices waited for data",
    "checkpoint": "saving",
    "validation": "judging",
    "compile": "compiling programs",
    "start": "process, data and model, at first",
    "restart": "the same again; work done again",
    "stopped": "nobody ran, or wrote anything down",
    "other": "none of these",
}
DONE = "done"


class Attempt(NamedTuple):
    """One process, or one group of them, at work on a run."""

    number: int
    at: float
    """When it went on, unix seconds."""
    begin: int
    """Step that it went on at."""
    reached: int
    """Last step that it wrote down."""
    repeated: int
    """How many of its steps a later attempt did again."""
    said: dict
    """Its line of the start; empty where that is lost."""
    why: str
    """How it ended; empty for one that runs or was killed."""
    last: float
    """When it wrote its last line, unix seconds."""


class Span(NamedTuple):
    """A piece of the wall time. begin, end: seconds since the run was first started; the times after a run was done and
    before it was asked for more are left out."""

    attempt: int
    begin: float
    end: float
    seconds: dict[str, float]
    """By part; they sum to the length."""


def attempts_of(lines: Sequence[dict]) -> list[Attempt]:
    """In their order. One that found the run done and did nothing more is left out."""
    found: list[Attempt] = []
    for number, own in _by_attempt(lines).items():
        steps = [line["step"] for line in own if line["event"] == "steps"]
        said = next((line for line in own if line["event"] == "start"), {})
        begin = said.get("step", min(steps, default=found[-1].reached if found else 0))
        why = next((line["why"] for line in own if line["event"] == "stop"), "")
        if found and found[-1].why == why == DONE and not steps:
            continue
        reached = max(steps, default=begin)
        found.append(Attempt(number, own[0]["at"], begin, reached, 0, said, why, own[-1]["at"]))
    kept = _kept(found)
    return [each._replace(repeated=int(max(each.reached - max(kept[each.number], each.begin), 0))) for each in found]


def spans_of(lines: Sequence[dict]) -> list[Span]:
    """The wall time from the first start to the last line, piece by piece.

    Work of steps that a later attempt did again is `restart`, by the share of a span's steps. Where a clock was set
    back, what a line says of its seconds counts.
    """
    found: list[Span] = []
    tried, grouped = attempts_of(lines), _by_attempt(lines)
    kept, before, now = _kept(tried), None, 0.0

    def add(number: int, seconds: dict[str, float]) -> None:
        nonlocal now
        length = math.fsum(seconds.values())
        if length > 0:
            found.append(Span(number, now, now + length, seconds))
            now += length

    for each in tried:
        ready = each.said.get("ready", 0.0)
        if before is not None and before.why != DONE:
            pause = max(each.at - before.last, 0.0)
            ready = min(ready, pause)
            add(each.number, {"stopped": pause - ready})
        add(each.number, {"start" if before is None else "restart": ready})
        at, step = each.at, each.begin
        own = [line for line in grouped[each.number] if line["event"] != "start"]
        for line in own:
            # What is told in between is no end of anything.
            if line["event"] == "told" and line is not own[-1]:
                continue
            seconds = {part: max(line.get("seconds", {}).get(part, 0.0), 0.0) for part in PARTS}
            seconds["other"] += max(line["at"] - at - math.fsum(seconds.values()), 0.0)
            reached = line["step"] if line["event"] == "steps" else step
            share = _share(step, reached, kept[each.number])
            lost = (1 - share) * math.fsum(seconds.values())
            seconds = {part: share * spent for part, spent in seconds.items()}
            seconds["restart"] += lost
            add(each.number, seconds)
            at, step = line["at"], reached
        before = each
    return found


def shares(spans: Sequence[Span]) -> dict[str, float]:
    """Of the wall time, by part; they sum to 1. Empty where no time has passed."""
    sums = {part: math.fsum(span.seconds.get(part, 0.0) for span in spans) for part in PARTS}
    whole = math.fsum(sums.values())
    return {part: each / whole for part, each in sums.items()} if whole > 0 else {}


def goodput_since(spans: Sequence[Span]) -> list[tuple[float, float]]:
    """(seconds since the first start, goodput of all the time until then), at the end of each span."""
    computed, found = 0.0, []
    for span in spans:
        computed += span.seconds.get("compute", 0.0)
        found.append((span.end, computed / span.end))
    return found


def _by_attempt(lines: Sequence[dict]) -> dict[int, list[dict]]:
    grouped: dict[int, list[dict]] = {}
    for line in lines:
        grouped.setdefault(line["attempt"], []).append(line)
    return dict(sorted(grouped.items()))


def _kept(tried: Sequence[Attempt]) -> dict[int, float]:
    """By number of an attempt: the step up to which what it did was kept, as no later one went on before it."""
    least: float = math.inf
    kept: dict[int, float] = {}
    for each in reversed(tried):
        kept[each.number] = least
        least = min(least, each.begin)
    return kept


def _share(begin: int, reached: int, kept: float) -> float:
    """Of the steps from `begin` to `reached` that were kept; all or nothing where there are none."""
    if reached <= begin:
        return float(begin <= kept)
    return min(max((kept - begin) / (reached - begin), 0.0), 1.0)
