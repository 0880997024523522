"""The signals of one structure that lie side by side in a row: spectra of several edges, and pair distribution functions.

A signal has a name of one to three words:

    Ni K        XANES of an edge, the mean over the structure's sites of that element
    O K EELS    the same edge as energy loss
    XANES       XANES of the row's own absorber, whichever that is; EELS likewise
    PDF, nPDF   the pair distribution function, of X-rays or neutrons
    dPDF        the differential one: pairs with the row's absorber alone; `dPDF Ni` those with nickel
"""

from __future__ import annotations

from typing import NamedTuple

from data_pipelines.errors import RunError

SPECTRA = ("XANES", "EELS")
FUNCTIONS = ("PDF", "dPDF", "nPDF")
TECHNIQUES = (*SPECTRA, *FUNCTIONS)


class Signal(NamedTuple):
    """element: "" for that of the row's absorber, or of a PDF of all pairs. edge: "" of a function of r."""

    element: str
    edge: str
    technique: str

    @property
    def is_spectrum(self) -> bool:
        return self.technique in SPECTRA


def parse_signal(name: str) -> Signal:
    """Raises RunError for what is no name of a signal.

    >>> parse_signal("Ni K"), parse_signal("dPDF Ni").element
    (Signal(element='Ni', edge='K', technique='XANES'), 'Ni')
    """
    match name.split():
        case [technique] if technique in SPECTRA:
            return Signal("", "K", technique)
        case [technique] if technique in FUNCTIONS:
            return Signal("", "", technique)
        case ["dPDF", element]:
            return Signal(element, "", "dPDF")
        case [element, edge]:
            return Signal(element, edge, "XANES")
        case [element, edge, technique] if technique in SPECTRA:
            return Signal(element, edge, technique)
    raise RunError(
        f"signal {name!r} is not known; give an edge as 'Ni K' or 'O K EELS', or one of {', '.join(TECHNIQUES)}"
    )


def named_apart(names: tuple[str, ...]) -> tuple[str, ...]:
    """The same, numbered where one is there several times.

    >>> named_apart(("O K", "Ni K", "O K"))
    ('O K 1', 'Ni K', 'O K 2')
    """
    return tuple(
        f"{name} {names[: i + 1].count(name)}" if names.count(name) > 1 else name for i, name in enumerate(names)
    )
