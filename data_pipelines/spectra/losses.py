"""Edges in energy loss: where they begin, which one a spectrum shows, and the windows that belong to one."""

from __future__ import annotations

import re

import numpy as np

from data_pipelines.errors import UserError

# Onsets in eV as they are seen in oxides and other compounds (Ahn and Krivanek, EELS Atlas, 1983), rounded.
ONSETS = {
    "Li K": 55, "Be K": 111, "P L": 132, "S L": 165, "B K": 188, "Cl L": 200, "C K": 284, "K L": 294, "Ca L": 346,
    "N K": 401, "Sc L": 402, "Ti L": 456, "V L": 513, "O K": 532, "Cr L": 575, "Mn L": 640, "F K": 685, "Fe L": 708,
    "Co L": 779, "Ba M": 781, "La M": 832, "Ni L": 855, "Ce M": 883, "Cu L": 931, "Nd M": 978, "Zn L": 1020,
    "Na K": 1072, "Ga L": 1115, "Ge L": 1217, "Mg K": 1305, "Al K": 1560, "Si K": 1839, "P K": 2146, "S K": 2472,
}  # fmt: skip
# In parts of the onset: the background is taken from the first to the second below it, the area up to the third above it.
FURTHEST, NEAREST, ABOVE = 0.13, 0.02, 0.08
FEWEST_CHANNELS = 8
# A spectrum shows an edge where it rises above the background by this part of it, in the mean over so many eV.
RISE, OVER = 0.1, 12.0


def onset_of(edge: str) -> float:
    """eV of "O K", "Mn L", "Mn L3" or "532".

    >>> onset_of("Mn L2,3"), onset_of("o k"), onset_of("530.5")
    (640.0, 532.0, 530.5)
    """
    try:
        return float(edge)
    except ValueError:
        pass
    if found := re.fullmatch(r"([A-Za-z]{1,2})[ -_]?([KLMklm])[\d,]*", edge.strip()):
        name = f"{found[1].capitalize()} {found[2].upper()}"
        if name in ONSETS:
            return float(ONSETS[name])
    raise UserError(f"no edge {edge!r} is known; name its onset in eV, or one of {', '.join(ONSETS)}")


def windows_of(onset: float, energy: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    """(background, area), eV each, cut to energies that there are. Raises UserError where the edge lies outside of them."""
    first, last = float(energy[0]), float(energy[-1])
    begin, end = max(onset * (1 - FURTHEST), first), onset * (1 - NEAREST)
    if not first < onset < last or np.sum((energy >= begin) & (energy <= end)) < FEWEST_CHANNELS:
        room = "" if onset >= last or onset <= first else "; too little lies in front of it"
        raise UserError(f"an edge at {onset:g} eV cannot be read from energies of {first:.1f} to {last:.1f} eV{room}")
    # Peaks in front of the edge belong to it.
    return (begin, end), (onset * (1 - NEAREST / 2), min(onset * (1 + ABOVE), last))


def likely_edge(energy: np.ndarray, counts: np.ndarray) -> tuple[str, float] | None:
    """The first edge of ONSETS that rises above the power law in front of it, and its onset; None where none does.

    The first, because nothing but background lies in front of it. energy, counts: (E,) of one spectrum of many counts.
    """
    for name, onset in ONSETS.items():
        try:
            (begin, end), (_, last) = windows_of(onset, energy)
        except UserError:
            continue
        front = (energy >= begin) & (energy <= end) & (counts > 0) & (energy > 0)
        behind = (energy >= onset) & (energy <= min(onset + OVER, last))
        if front.sum() < FEWEST_CHANNELS or not behind.any():
            continue
        law = np.polynomial.Polynomial.fit(np.log(energy[front]), np.log(counts[front]), 1, w=np.sqrt(counts[front]))
        if (counts[behind] / np.exp(law(np.log(energy[behind])))).mean() > 1 + RISE:
            return name, float(onset)
    return None
