"""What a run folder tells of its training: its settings, its log, its attempts, and where it stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple

from data_pipelines.errors import RunError
from data_pipelines.places import Place
from spt_jax.runs.attempts import read_attempts
from spt_jax.runs.folder import CHANGES, LENGTH, LOG, members_of, read_config, read_whole_lines
from spt_jax.runs.goodput import DONE, Attempt, Span, attempts_of, shares, spans_of
from spt_jax.runs.loss_spikes import LossSpike, loss_spikes

# A run that wrote its last line so many seconds ago is at work; longer, as many times its longest silence so far, and
# before its first step, when it reads and compiles.
QUIET, TIMES, BEGINNING = 120.0, 3.0, 900.0
SIGNALS = ("SIGTERM", "SIGINT")


Word = Literal["done", "running", "starting", "stopped", "failed", "silent", "not begun"]


class Standing(NamedTuple):
    """word: in short. told: in a sentence."""

    word: Word
    told: str


@dataclass(frozen=True)
class RunHistory:
    """A run as it was read. Times are unix seconds."""

    place: Place
    config: dict
    log: list[dict]
    lines: list[dict]
    """Of attempts; none of a run of a version that did not write them."""
    changed: float | None
    """When the log was last written, where there is one."""
    damaged: int
    """Line of the log from which on it cannot be read, counted from 1; 0 where all of it can."""

    @cached_property
    def attempts(self) -> list[Attempt]:
        return attempts_of(self.lines)

    @cached_property
    def spans(self) -> list[Span]:
        return spans_of(self.lines)

    @cached_property
    def shares(self) -> dict[str, float]:
        """Of the wall time; empty where it is not known."""
        return shares(self.spans)

    @property
    def goodput(self) -> float | None:
        return self.shares.get("compute")

    @cached_property
    def spikes(self) -> list[LossSpike]:
        """Where it was asked for more epochs the learning rate rises again, and the loss with it."""
        lengthened = [each["after_epoch"] for each in self.config.get(CHANGES, ()) if set(LENGTH) & set(each["from"])]
        return loss_spikes(self.log, lengthened)

    @property
    def told(self) -> list[dict]:
        return [line for line in self.lines if line["event"] == "told"]

    @property
    def noise_scale(self) -> float | None:
        """The newest, in rows."""
        return next((line["noise_scale"] for line in reversed(self.log) if line.get("noise_scale")), None)

    @property
    def scores(self) -> dict[str, float]:
        """The newest validation: by descriptor, or by member of an ensemble."""
        return next((line["validation"] for line in reversed(self.log) if "validation" in line), {})

    @property
    def score(self) -> float | None:
        return next((line["score"] for line in reversed(self.log) if line.get("score") is not None), None)

    def counted(self, name: Literal["skipped", "asked_again"]) -> int:
        return sum(line.get(name, 0) for line in self.log)

    def standing(self, now: float) -> Standing:
        """Where it stands, as seen at `now`."""
        epoch = self.log[-1]["epoch"] if self.log else 0
        step = self.attempts[-1].reached if self.attempts else self.log[-1]["step"] if self.log else 0
        # A copy of a run was changed when it was copied.
        last = max((line["at"] for line in self.lines), default=self.changed)
        if last is None:
            return Standing("not begun", "not begun: it has settings, and no log yet")
        ago, where = f"{lasting(now - last)} ago", f"after epoch {epoch}, step {step:,}"
        if self.attempts and (why := self.attempts[-1].why):
            if why == DONE:
                return Standing("done", f"done {where}, {ago}")
            if why in SIGNALS:
                return Standing("stopped", f"stopped by {why} {where}, {ago}; the same command goes on")
            return Standing("failed", f"failed {where}, {ago}: {why}")
        if self.log and not self.lines and epoch >= self.log[-1].get("epochs", math.inf):
            return Standing("done", f"done {where}, {ago}")
        begun = self.log if not self.lines else self.attempts[-1].reached > self.attempts[-1].begin
        if now - last <= (max(QUIET, TIMES * self._longest()) if begun else BEGINNING):
            word: Word = "running" if begun else "starting"
            return Standing(word, f"{word} {where}, last heard of {ago}")
        return Standing(
            "silent", f"silent {where}, for {lasting(now - last)}: killed, or stuck; the same command goes on"
        )

    def _longest(self) -> float:
        """Seconds between two lines of the last attempt."""
        if not self.attempts:
            return max((line.get("seconds", 0.0) for line in self.log), default=0.0)
        own = [line["at"] for line in self.lines if line["attempt"] == self.attempts[-1].number]
        return max((b - a for a, b in pairwise(own)), default=0.0)


def read_history(out: Place) -> list[RunHistory]:
    """Of a run; of a folder of several runs that answer together, each of them. Raises RunError for any other folder."""
    config = read_config(out)
    path = out / LOG
    if not path.exists() and (members := members_of(out)) and "train" not in config:
        return [each for name in members for each in read_history(out / name)]
    if "train" not in config:
        raise RunError(f"{out}: its settings say nothing of training; not a run folder of `spt-jax train`")
    changed = path.stat().st_mtime_ns / 1e9 if path.exists() else None
    log, damaged = read_whole_lines(out)
    log = [line for line in log if {"loss", "step"} <= line.keys()]
    return [RunHistory(out, config, log, read_attempts(out), changed, damaged)]


def read_histories(places: Sequence[Place]) -> list[RunHistory]:
    """Of all, each once, in their order. Raises as `read_history`."""
    found = {str(each.place): each for out in places for each in read_history(out)}
    return list(found.values())


def short_names(places: Sequence[Place]) -> list[str]:
    """For each as many of its last names as tell it from the others."""
    parts = [str(place.absolute()).split("/") for place in places]
    deepest = max(map(len, parts), default=1)
    for depth in range(1, deepest):
        names = ["/".join(each[-depth:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return ["/".join(each) for each in parts]


def lasting(seconds: float) -> str:
    """A time as people say it, to two places.

    >>> [lasting(each) for each in (0.42, 75, 4000, 200_000)]
    ['0.4 s', '1 min 15 s', '1 h 6 min', '2 d 7 h']
    """
    seconds = max(seconds, 0.0)
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = timedelta(seconds=round(seconds))
    hours, left = divmod(whole.seconds, 3600)
    minutes, left = divmod(left, 60)
    units = {"d": whole.days, "h": hours, "min": minutes, "s": left}
    first = next(i for i, count in enumerate(units.values()) if count)
    return " ".join(f"{count} {unit}" for unit, count in list(units.items())[first : first + 2] if count)
