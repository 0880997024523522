"""What to make of every structure: the options of `spt-jax structures`. Loads no heavy library."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from data_pipelines.errors import UserError
from data_pipelines.schema import SYMBOLS


@dataclass(frozen=True)
class Variants:
    """How many variants of each structure to make beside the structure itself, and how strong."""

    orderings: int = 1
    """Arrangements to make of a structure with partial occupancies."""
    strain: int = 0
    """Strained copies."""
    strain_size: float = 0.02
    """Largest principal strain of each."""
    thermal: int = 0
    """Copies with displaced atoms."""
    thermal_sigma: float = 0.05
    """Standard deviation of a displacement along each axis, in Å."""
    delithiate: tuple[float, ...] = ()
    """Fractions of lithium to take out, one copy each, along one path: what is out stays out."""
    substitute: tuple[str, ...] = ()
    """Replacements FROM:TO:FRACTION, one copy each, such as Co:Ni:0.25."""
    antisites: int = 0
    """Copies with lithium and transition metal changing places."""
    antisite_fraction: float = 0.05
    """Share of the lithium that does, at least one atom."""
    vacancies: int = 0
    """Copies with oxygen vacancies."""
    vacancy_fraction: float = 0.05
    """Share of the oxygen that is missing, at least one atom."""
    cell_atoms: int = 32
    """Every variant but strain is made in a cell of at least this many atoms."""

    def __post_init__(self) -> None:
        if min(self.strain, self.thermal, self.antisites, self.vacancies) < 0 or self.orderings < 1:
            raise UserError("counts of variants must not be negative, and orderings at least 1")
        if not (0 < self.strain_size <= 0.2 and 0 < self.thermal_sigma <= 0.5):
            raise UserError("strain-size must be within 0 and 0.2, thermal-sigma within 0 and 0.5 Å")
        fractions = (*self.delithiate, self.antisite_fraction, self.vacancy_fraction)
        if not all(0 < fraction <= 1 for fraction in fractions):
            raise UserError("fractions must be above 0 and at most 1")
        for text in self.substitute:
            parse_substitution(text)


@dataclass(frozen=True)
class Options:
    """Written to options.json, so that a folder holds one kind of set. `elements` are the absorbers, () is all."""

    elements: tuple[str, ...] = ()
    seed: int = 0
    variants: Variants = field(default_factory=Variants)

    def __post_init__(self) -> None:
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
