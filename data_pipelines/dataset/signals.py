"""One site -> its share of a row with several signals: its spectrum and its structure's pair distribution functions, each
in its place, all else NaN. `structures.py` makes structures of such rows."""

from __future__ import annotations

import numpy as np
from pymatgen.core import Structure

from data_pipelines.dataset.sites import Site
from data_pipelines.errors import SpectrumError, StructureError
from data_pipelines.labels.pdf import PdfGrid, pair_distribution, pdf_grid
from data_pipelines.labels.structure import describe_structure
from data_pipelines.schema import STRUCTURE_LABELS, EnergyGrid
from data_pipelines.signals import Signal, parse_signal


class SiteSignals:
    """Of the sites of one task, whose structure is one."""

    def __init__(self, grid: EnergyGrid):
        self.grid, self.signals = grid, tuple(map(parse_signal, grid.signals))
        self._found: dict[tuple[Signal, str], np.ndarray | StructureError] = {}

    def of(self, site: Site, spectrum: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
        """(grid.length,) row, (STRUCTURE_LABELS,) labels, and why some of these or a signal are missing.

        spectrum: (points,) with a unit edge step. labels: (LABELS,) of the site. Raises SpectrumError where no signal is of
        this edge.
        """
        row = np.full((len(self.signals), self.grid.points), np.nan, np.float32)
        masked: dict[str, str] = {}
        places = [i for i, signal in enumerate(self.signals) if self._is(signal, site)]
        if not places:
            asked = ", ".join(self.grid.signals)
            raise SpectrumError("no such signal", f"{site.element} {site.edge} {site.technique}; asked for: {asked}")
        # Of a signal that is named several times, `structures.py` deals the sites out.
        row[places[0]] = spectrum * self._height(site, spectrum)
        for i, signal in enumerate(self.signals):
            if not signal.is_spectrum:
                function = self._function(signal, site)
                if isinstance(function, str):
                    masked[self.grid.signals[i]] = function
                else:
                    row[i] = function
        told, why = np.full(STRUCTURE_LABELS - len(labels), np.nan, np.float32), {}
        if site.structure is not None:
            of = site.element if self.grid.each == "structure" else ""  # of one site its own descriptors say it
            told, why = describe_structure(site.structure.composition, of, labels, site.defects)
        return row.ravel(), np.concatenate([labels, told]), masked | why

    @staticmethod
    def _is(signal: Signal, site: Site) -> bool:
        own = signal.element in ("", site.element)
        return own and signal.edge == site.edge and signal.technique == site.technique

    def _height(self, site: Site, spectrum: np.ndarray) -> float:
        match self.grid.heights:
            case "area":
                return 1 / float(spectrum[: self.grid.common].mean())
            case "share":
                if site.structure is None:
                    raise SpectrumError("no structure", "how many of the atoms absorb is not known")
                return site.structure.composition.get_atomic_fraction(site.element)
        return 1.0

    def _function(self, signal: Signal, site: Site) -> np.ndarray | str:
        """(points,) G(r), or why there is none."""
        if site.structure is None:
            return "no structure"
        of = (signal.element or site.element) if signal.technique == "dPDF" else ""
        if (signal, of) not in self._found:
            self._found[signal, of] = _pdf(site.structure, pdf_grid(self.grid, signal), of or None)
        found = self._found[signal, of]
        return found.reason if isinstance(found, StructureError) else found


def _pdf(structure: Structure, grid: PdfGrid, element: str | None) -> np.ndarray | StructureError:
    try:
        return pair_distribution(structure, grid, element).astype(np.float32)
    except StructureError as error:
        return error
