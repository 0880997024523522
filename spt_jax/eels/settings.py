"""What a user may say about the correction of a spectrum image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from data_pipelines.errors import UserError
from data_pipelines.ranges import Range, check


@dataclass(frozen=True)
class ImageConfig:
    """How a spectrum image is corrected."""

    edge: str = ""
    """The edge whose signal is wanted: "O K", "Mn L", or its onset in eV. Where not given, the first one that rises."""
    background: Annotated[tuple[float, float] | None, Range(above=0)] = None
    """Window in which the power law is fitted, eV; where not given, in front of the edge."""
    area: Annotated[tuple[float, float] | None, Range(above=0)] = None
    """Window whose area is mapped, eV; where not given, from the onset on."""
    align: Literal["auto", "zero-loss", "features", "none"] = "auto"
    """How energies are aligned: by the zero-loss peak of a low-loss image; by what spectra have in common with their mean,
    which takes a chemical shift for a shift; auto: zero-loss where there is one for each pixel, else none."""
    reach: Annotated[float, Range(above=0, most=50)] = 4.0
    """Largest shift that is looked for, eV."""
    spikes: Annotated[float, Range(least=0, most=100)] = 8.0
    """Channels that stand out by so many standard deviations are spikes; 0 leaves them."""
    deconvolve: bool = True
    """Take plural scattering out, where there is a low-loss image."""
    normalise: bool = False
    """Divide each signal by its mean in the area window."""

    def __post_init__(self) -> None:
        check(self)
        for name in ("background", "area"):
            window = getattr(self, name)
            if window and not window[0] < window[1]:
                raise UserError(f"{name} goes from low to high, not from {window[0]:g} to {window[1]:g} eV")
