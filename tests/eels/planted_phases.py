"""Calculated edges of three classes as files, and a spectrum image of these phases: what a model of images is made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data_pipelines.spectra.phases import CalculatedEdge, PhaseImage, PhasePlanting, phase_image

LINES = {"layered": 535.0, "rock salt": 544.0, "spinel": 539.0}
# eV of a calculation, absolute.
CALCULATED = np.linspace(525.0, 610.0, 171)


def calculated(line: float, energy: np.ndarray = CALCULATED) -> np.ndarray:
    """(N,) an edge at 532 eV with a line of its own."""
    rise = 0.5 + 0.5 * np.tanh(energy - 532)
    return rise * (1 + 3 * np.exp(-(((energy - line) / 1.5) ** 2)))


def write_theory(folder: Path, lines: Mapping[str, float] = LINES) -> Path:
    """FOLDER/CLASS/one.txt."""
    for kind, line in lines.items():
        (folder / kind).mkdir(parents=True)
        np.savetxt(folder / kind / "one.txt", np.column_stack([CALCULATED, calculated(line)]))
    return folder


def write_image(path: Path, counts: np.ndarray, offset: float = 440.0, step: float = 0.3) -> Path:
    """.npy with its calibration beside it. counts: (..., E)."""
    np.save(path, counts)
    path.with_suffix(".json").write_text(f'{{"offset": {offset}, "step": {step}, "pixel": 2, "unit": "nm"}}')
    return path


def planted(seed: int = 0, **how: float) -> PhaseImage:
    """As `PhasePlanting`, 12 x 14 pixels of exact theory where nothing else is said."""
    given = {"height": 12, "width": 14, "grain": 2.0, "dose": 1e4, "misplaced": 0.0, "bent": 0.0, "blurred": 0.0}
    given |= {"drift": 0.0, "mixed": 0.2, "thickness": 0.0} | how
    edges = {kind: [CalculatedEdge(CALCULATED, calculated(line))] for kind, line in LINES.items()}
    return phase_image(PhasePlanting(**given), edges, np.random.default_rng(seed))
