"""Whether an answer is to be believed: how far a spectrum is from all that the model learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines.schema import SYMBOLS
from spt_jax.scoring.domain import Domain, Neighbour


class Trust(NamedTuple):
    """strangeness: as of `Domain`, the mean over views. nearest: to the likeliest view. warnings: a sentence each."""

    strangeness: float
    nearest: tuple[Neighbour, ...]
    warnings: tuple[str, ...]


def trust(domain: Domain, views: Sequence[np.ndarray], absorber: str, measured: bool) -> Trust:
    """(L,) views of one spectrum on the model's grid, the likeliest first; absorber: "Cu K"."""
    number = SYMBOLS.index(absorber.split()[0])
    strangeness = float(domain.strangeness(np.stack(views), np.full(len(views), number), measured).mean())
    nearest = domain.nearest(views[0], number)
    if strangeness <= 0:
        return Trust(strangeness, nearest, ())
    where = (
        f"nearest is that of {nearest[0].material} at {nearest[0].distance:.2f} edge steps"
        if nearest
        else "none is of it"
    )
    return Trust(strangeness, nearest, (f"unlike what this model learnt: of its {absorber} spectra, {where}",))
