"""What to make of every structure: the options of `spt-jax structures`. Loads no heavy library."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated

from data_pipelines.errors import UserError
from data_pipelines.ranges import Range, check
from data_pipelines.schema import SYMBOLS


@dataclass(frozen=True)
class Variants:
    """How many variants of each structure to make beside the structure itself, and how strong."""

    orderings: Annotated[int, Range(least=1)] = 1
    """Arrangements to make of a structure with partial occupancies."""
    strain: Annotated[int, Range(least=0)] = 0
    """Strained copies."""
    strain_size: Annotated[float, Range(above=0, most=0.2)] = 0.02
    """Largest principal strain of each."""
    thermal: Annotated[int, Range(least=0)] = 0
    """Copies with displaced atoms."""
    thermal_sigma: Annotated[float, Range(above=0, most=0.5)] = 0.05
    """Standard deviation of a displacement along each axis, in Å."""
    delithiate: Annotated[tuple[float, ...], Range(above=0, most=1)] = ()
    """Fractions of lithium to take out, one copy each, along one path: what is out stays out."""
    substitute: tuple[str, ...] = ()
    """Replacements FROM:TO:FRACTION, one copy each, such as Co:Ni:0.25."""
    antisites: Annotated[int, Range(least=0)] = 0
    """Copies with lithium and transition metal changing places."""
    antisite_fraction: Annotated[float, Range(above=0, most=1)] = 0.05
    """Share of the lithium that does, at least one atom."""
    vacancies: Annotated[int, Range(least=0)] = 0
    """Copies with oxygen vacancies."""
    vacancy_fraction: Annotated[float, Range(above=0, most=1)] = 0.05
    """Share of the oxygen that is missing, at least one atom."""
    cell_atoms: Annotated[int, Range(least=1)] = 32
    """Every variant but strain is made in a cell of at least this many atoms."""

    def __post_init__(self) -> None:
        check(self)
        for text in self.substitute:
            parse_substitution(text)


@dataclass(frozen=True)
class Options:
    """Written to options.json, so that a folder holds one kind of set. `elements` are the absorbers, () is all."""

    elements: tuple[str, ...] = ()
    seed: Annotated[int, Range(least=0)] = 0
    variants: Variants = field(default_factory=Variants)

    def __post_init__(self) -> None:
        check(self)
        unknown = set(self.elements) - set(SYMBOLS[1:])
        if unknown:
            raise UserError(f"unknown element {', '.join(sorted(unknown))}")


def parse_substitution(text: str) -> tuple[str, str, float]:
    """ "Co:Ni:0.25" -> its parts."""
    match = re.fullmatch(r"([A-Z][a-z]?):([A-Z][a-z]?):(\d*\.?\d+)", text)
    if not match or not {match[1], match[2]} <= set(SYMBOLS[1:]) or match[1] == match[2]:
        raise UserError(f"substitute {text!r}: write FROM:TO:FRACTION, such as Co:Ni:0.25")
    if not 0 < float(match[3]) <= 1:
        raise UserError(f"substitute {text!r}: the fraction must be above 0 and at most 1")
    return match[1], match[2], float(match[3])
