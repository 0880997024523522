"""The grid of rows that are counts of electrons about one edge of energy loss, and what such a row's labels are.

A row has sums of counts in `groups` equal parts of the window in front of the edge, which say what background lies under
it, and then `points` channels of the edge itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from data_pipelines.errors import RunError
from data_pipelines.ranges import Range, check
from data_pipelines.schema import EnergyGrid

CLASS_COLUMN, DOMAIN_COLUMN = 0, 1
"""Columns of labels of such a row: index of its class, where that is known, and what it is: 0 a calculated edge, whose sums
are 0, else the number of the image that it was measured in, from 1."""


@dataclass(frozen=True)
class LossGrid(EnergyGrid):
    """start: energy loss of the first channel of the edge, eV, not above a reference energy; step and points as of
    EnergyGrid."""

    edge: str = ""
    """As `spectra.losses.onset_of` takes it, "O K"."""
    front: Annotated[tuple[float, float], Range(above=0)] = (1.0, 2.0)
    """Window of the background, eV."""
    groups: Annotated[int, Range(least=4)] = 16
    classes: tuple[str, ...] = ()
    """What a pixel may be, in the order of their indices."""

    def __post_init__(self) -> None:
        for name in ("front", "classes"):  # lists, where read from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))
        super().__post_init__()
        check(self)
        if not self.front[0] < self.front[1] <= self.start - self.step / 2 + 1e-6:
            raise RunError(
                f"the background from {self.front[0]:g} to {self.front[1]:g} eV must end in front of the edge's first "
                f"channel, {self.start:g} eV"
            )

    def __str__(self) -> str:
        """For an error message."""
        first, *_, last = self.relative()
        return f"of energy losses about {self.edge}, {self.points} points from {first:.1f} to {last:.1f} eV, classes {', '.join(self.classes)}"

    @property
    def length(self) -> int:
        """Numbers in a row."""
        return self.groups + self.points

    @property
    def labels(self) -> int:
        """Columns of labels of a row."""
        return 2

    @property
    def gaps(self) -> bool:
        return False

    def stated(self) -> dict:
        """As it is written down."""
        more = {"edge": self.edge, "front": list(self.front), "groups": self.groups, "classes": list(self.classes)}
        return {"start": self.start, "step": self.step, "points": self.points, **more}

    def borders(self) -> tuple[np.ndarray, np.ndarray]:
        """(groups + 1,) and (points + 1,) eV, between which a row's counts are summed."""
        edge = self.start + self.step * (np.arange(self.points + 1) - 0.5)
        return np.linspace(*self.front, self.groups + 1), edge

    def middles(self) -> np.ndarray:
        """(length,) eV, of every sum."""
        return np.concatenate([(each[:-1] + each[1:]) / 2 for each in self.borders()])

    def logs(self) -> np.ndarray:
        """(length,) logarithm of the energy of every sum, 0 in the middle of the front: what a power law is linear in."""
        middles = self.middles()
        return np.log(middles) - np.log(middles[: self.groups]).mean()

    def widths(self) -> np.ndarray:
        """(length,) eV, of every sum."""
        return np.concatenate([np.diff(each) for each in self.borders()])


def grid_of(stated: dict) -> EnergyGrid:
    """What `stated()` wrote."""
    return LossGrid(**stated) if "edge" in stated else EnergyGrid(**stated)
