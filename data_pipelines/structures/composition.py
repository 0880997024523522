"""What a CIF says of its atoms in words: labels and type symbols -> elements, and the formula they must add up to.

A label may have several readings: W3 is tungsten, or the third water. `choose` takes those that give the formula.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pymatgen.core import Composition

from data_pipelines.errors import StructureError
from data_pipelines.schema import SYMBOLS

ISOTOPES = {"D": "H", "T": "H"}
FORMULAS = ("_chemical_formula_sum", "_chemical_formula_structural", "_chemical_formula_moiety")
# Share of its amount by which an element may differ from the formula, which is rounded and often that of the ideal
# compound: where all sites are full, and where occupancies were refined.
FULL, REFINED = 0.02, 0.12
MAX_CHOICES = 4096
WATER = re.compile(r"(?i)h2o|hoh|wat|ow|oh2")
HYDROXYL = re.compile(r"[Oo]-?[Hh]")
# Groups that some files take for one atom, with its hydrogens.
GROUP = re.compile(r"([NC])[Hh](\d)")


class Reading(NamedTuple):
    """An element, and how many hydrogens are named with it. `sure` is false where the words alone do not tell."""

    element: str
    hydrogens: int = 0
    sure: bool = True


class Formula(NamedTuple):
    """amounts: element -> how much, isotopes under their element. text: as it stands in the file."""

    amounts: dict[str, float]
    text: str


def readings(text: str, is_label: bool = True) -> list[Reading]:
    """What a site's label, or its type symbol, may stand for, the likeliest first; [] where it names no element.

    >>> [readings(text)[0].element for text in ("Fe3+", "OH", "7Li", "D1", "SiT", "Hw2")]
    ['Fe', 'O', 'Li', 'H', 'Si', 'H']
    >>> [(reading.element, reading.hydrogens) for reading in readings("W3")]
    [('W', 0), ('O', 2)]
    """
    text = re.sub(r"^[\d(\[{]+(?=[A-Za-z])", "", text.strip())
    letters = re.match("[A-Za-z]*", text)[0]
    if WATER.match(text):
        return [Reading("O", 2)]
    if HYDROXYL.match(text):
        return [Reading("O", 1)]
    if group := GROUP.match(text):
        return [Reading(group[1], int(group[2]))]
    one, two = letters[:1].upper(), letters[:2].title()
    if one == "W" and is_label:
        return [Reading("W", sure=False), Reading("O", 2, sure=False)]
    found = [Reading(two)] if len(letters) > 1 and two in SYMBOLS[1:] else []
    if one in ISOTOPES:
        return found or [Reading(ISOTOPES[one], sure=one == "D" or not is_label)]
    if one in SYMBOLS[1:]:
        found.append(Reading(one))
    if is_label and len(found) > 1 and letters[1].isupper() and one in ("C", "H", "N", "O"):
        return [reading._replace(sure=False) for reading in found]  # CO1 may be cobalt, or the carbon of a carbonyl
    return found


def formula_of(block: Mapping[str, object]) -> Formula | None:
    """The first formula of a block that says how much of each element there is."""
    for key in FORMULAS:
        text = block.get(key)
        amounts = parse_formula(text) if isinstance(text, str) else None
        if amounts:
            return Formula(amounts, " ".join(str(text).split()))
    return None


def parse_formula(text: str) -> dict[str, float] | None:
    """Element -> amount; None for what is no plain formula, as one with charges, or with letters for numbers.

    >>> parse_formula("7Li0.5 Co D2 18O2")
    {'Li': 0.5, 'Co': 1.0, 'H': 2.0, 'O': 2.0}
    >>> parse_formula("Cu S O4, 5H2 O"), parse_formula("Fe1-x O")
    ({'Cu': 1.0, 'S': 1.0, 'O': 9.0, 'H': 10.0}, None)
    """
    total: dict[str, float] = defaultdict(float)
    for number, part in enumerate(re.split("[,;·*]", text)):
        part = part.strip()
        times = re.match(r"\d+(?=\()" if number == 0 else r"\d+", part)
        part = part[times.end() :] if times else part
        part = re.sub(r"(?<![A-Za-z0-9.)\]])\d+(?=[A-Z])", "", part)  # mass numbers
        part = re.sub(r"\s+", "", re.sub(r"(?<=\d)\(\d+\)", "", part))  # uncertainties
        part = re.sub(r"(?<!\d)\.(?=\d)", "0.", part)
        for isotope, element in ISOTOPES.items():
            part = re.sub(rf"{isotope}(?![a-z])", element, part)
        if not re.fullmatch(r"([A-Z][a-z]?|[()\[\]{}]|\d+(\.\d+)?)+", part):
            return None
        try:
            amounts = Composition(part).get_el_amt_dict()
        except ValueError:
            return None
        for element, amount in amounts.items():
            total[element] += amount * int(times[0] if times else 1)
    known = set(total) <= set(SYMBOLS[1:])
    return {element: amount for element, amount in total.items() if amount > 0} if known else None


def choose(
    names: Sequence[str], options: Sequence[list[Reading]], amounts: Sequence[float], formula: Formula | None
) -> list[Reading]:
    """One reading of each site: of all that the labels allow those that give the formula, else the likeliest.

    names: labels; options: readings of each; amounts: atoms of each in the cell. Sites of one name have one reading.
    Raises StructureError where a label names nothing, or where it is open what it names.
    """
    for name, found in zip(names, options, strict=True):
        if not found:
            raise StructureError("unknown element", f"{name} names no element")
        if formula is None and not found[0].sure:
            detail = f"{name} alone does not tell its element; _atom_site_type_symbol or _chemical_formula_sum would"
            raise StructureError("ambiguous label", detail)
    if formula is None:
        return [found[0] for found in options]
    groups = {
        name: [r for r in found if r.element in formula.amounts] or found
        for name, found in zip(names, options, strict=True)
    }
    likeliest: list[Reading] = []
    fitting: dict[tuple[str, ...], list[Reading]] = {}
    for choice in itertools.islice(itertools.product(*groups.values()), MAX_CHOICES):
        reading = dict(zip(groups, choice, strict=True))
        chosen = [reading[name] for name in names]
        likeliest = likeliest or chosen
        if formulas(count(chosen, amounts), formula, REFINED):
            fitting[tuple(r.element for r in chosen)] = chosen
    if len(fitting) > 1:
        one, other = itertools.islice(fitting, 2)
        name = next(name for name, a, b in zip(names, one, other, strict=True) if a != b)
        raise StructureError("ambiguous label", f"{name} may be one or another element of {formula.text}")
    return next(iter(fitting.values()), likeliest)


def count(chosen: Sequence[Reading], amounts: Sequence[float]) -> dict[str, float]:
    """Element -> atoms in the cell."""
    total: dict[str, float] = defaultdict(float)
    for reading, amount in zip(chosen, amounts, strict=True):
        total[reading.element] += amount
    return dict(total)


def formulas(found: Mapping[str, float], formula: Formula, tolerance: float) -> float:
    """How many formulas the atoms of a cell are; 0 where they are no multiple of it."""
    wanted = formula.amounts
    if set(found) != set(wanted):
        return 0.0
    times = sum(found.values()) / sum(wanted.values())
    near = all(math.isclose(found[e], times * wanted[e], rel_tol=tolerance, abs_tol=0.01) for e in wanted)
    return times if near else 0.0
