"""How runs go: where each stands, what its time went into, what its loss did."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.live import Live as Redrawn

from data_pipelines.errors import UserError
from data_pipelines.ranges import Range, check
from spt_jax.commands.places_named import Named
from spt_jax.commands.screen import console

if TYPE_CHECKING:
    from spt_jax.runs.history import RunHistory


@dataclass(frozen=True)
class Runs:
    """How runs go, while they train and after: epochs, loss, score, speed, goodput, restarts and loss spikes of each.

    Goodput is the share of the wall time that went into steps of training that were kept. Of one run the whole account
    of its time is shown, its attempts and what was told on the way; of several, the settings in which they differ.

      spt-jax runs run
      spt-jax runs a b gs://BUCKET/c --html runs.html
    """

    runs: Annotated[tyro.conf.Positional[tuple[Named, ...]], tyro.conf.arg(metavar="RUN...")]
    """Run folders of `spt-jax train`, and folders of `spt-jax ensemble`; also in object stores."""
    html: Path | None = None
    """File for a page with pictures of loss, score, learning rate, gradient norm, speed and goodput."""
    follow: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Read them again and again until all are done, or Ctrl-C."""
    every: Annotated[float, Range(above=0)] = 5.0
    """Seconds between, with --follow."""

    def __post_init__(self) -> None:
        check(self)
        if not self.runs:
            raise UserError("no RUN given")

    def run(self) -> None:
        from spt_jax.reports.runs_text import overview

        found = self._read()
        if not self.follow:
            console.print(overview(found, time.time()), highlight=False)
            return
        # Ctrl-C is how this ends.
        try:
            self._follow(found)
        except KeyboardInterrupt:
            return

    def _follow(self, found: list[RunHistory]) -> None:
        from spt_jax.reports.runs_text import overview

        with Redrawn(overview(found, time.time()), console=console, auto_refresh=False) as screen:
            while any(each.standing(time.time()).word != "done" for each in found):
                time.sleep(self.every)
                found = self._read()
                screen.update(overview(found, time.time()), refresh=True)

    def _read(self) -> list[RunHistory]:
        """As they are now, also as the page."""
        from data_pipelines.files import write_atomic
        from spt_jax.reports.runs_page import runs_page
        from spt_jax.runs.history import read_histories

        found = read_histories(self.runs)
        if self.html:
            write_atomic(self.html, runs_page(found, time.time(), self.every if self.follow else 0))
        return found
