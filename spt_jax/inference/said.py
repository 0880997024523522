"""What is said of a spectrum besides its descriptors: how it was read, and why nothing is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data_pipelines.errors import CountedError, UserError, printable
from data_pipelines.readers.measured import Measured
from data_pipelines.spectra.shape import k_edges_near


def whose(spectrum: Measured, known: Sequence[str]) -> str:
    """A question, with what the energies suggest."""
    near = [element for element in k_edges_near(spectrum.energy, spectrum.mu) if f"{element} K" in known]
    suggested = f" (mu rises where the K edge of {' or '.join(near)} is)" if near else ""
    return f"say which element absorbs{suggested}; this model knows {', '.join(known)}"


def provenance(spectrum: Measured | UserError) -> dict[str, Any]:
    if isinstance(spectrum, UserError):
        return {}
    return {name: getattr(spectrum, name) for name in ("channel", "shift", "columns", "foil", "notes")}


def told(name: str, error: UserError) -> str:
    """What is wrong, with the name of the spectrum in it."""
    name = printable(name)
    if name in str(error):
        return str(error)
    return f"{error.reason}: {name}: {error.detail}" if isinstance(error, CountedError) else f"{name}: {error}"
