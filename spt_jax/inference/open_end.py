"""A spectrum that ends before the model's grid does: what the model takes the rest to be, and that it does so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines.schema import SYMBOLS, EnergyGrid
from spt_jax.scoring.domain import Domain
from spt_jax.scoring.open_end import OpenEnd


class Ending(NamedTuple):
    """known: (L,) bool, where the spectrum is. expected: (M,) mu at the others. half: (M,) half widths of a band about it
    that held nine of ten points of training spectra of the element, edge steps; None where that was never measured."""

    known: np.ndarray
    expected: np.ndarray
    half: np.ndarray | None


def open_end_of(network: object, std: Sequence[float], domain: Domain | None) -> OpenEnd | None:
    """What a network expects beyond the end of a spectrum; std: (L,) of its training spectra. None where it reads whole
    spectra only, or does not show it."""
    if domain and domain.open_end:
        return domain.open_end
    gaps = getattr(network, "gaps", None)
    return gaps and OpenEnd.of(gaps.mean[...], gaps.components[...], np.array(std))


def ending(open_end: OpenEnd, row: np.ndarray, absorber: str) -> Ending | None:
    """(L,) spectrum on the grid, NaN where it is not known, of "Cu K"; None where all of it is."""
    known = np.isfinite(row)
    if known.all():
        return None
    expected, std = open_end.expected(row[None], known)
    width = open_end.width(SYMBOLS.index(absorber.split()[0]))
    return Ending(known, expected[0], std * width if np.isfinite(width) else None)


def end_note(grid: EnergyGrid, row: np.ndarray, absorber: str, found: Ending | None) -> str:
    """A sentence where there is an end; "" where there is none. found: None too where the model does not show what it
    expects."""
    known = np.isfinite(row)
    if known.all():
        return ""
    energy = grid.relative()
    said = (
        f"the spectrum ends {energy[known][-1]:g} eV above the reference energy; the rest, to {energy[-1]:g} eV, is what "
        "the model expects after such a beginning"
    )
    if found is None or found.half is None:
        return said
    near = f"within {found.half.mean():.2f} edge steps of that"
    return f"{said}; nine in ten points of calculated {absorber.split()[0]} spectra lie {near}"
