"""A whole structure -> its descriptors: content, means over the sites of each metal, and the defects that were put in.

Content is counted in the structure. Whether oxygen is missing, or lithium has changed places with a metal, no structure
says of itself: that is told by whoever made it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from pymatgen.core import Composition, Element

from data_pipelines.schema import METALS, NAMES, STRUCTURE_NAMES, descriptor

# Of the sites of a metal, the mean.
MEANS = ("OS", "CN", "MBL")
# That a defect is there, and how much of it.
DEFECTS = (("vacancy", "vacancies"), ("antisite", "antisites"))
NOT_TOLD = "the source does not say which defects there are"
NO_NUMBER = "the source does not say how many"
VACANCIES = re.compile(r"vacancies (\d+) of (\d+) O\b")
EXCHANGES = re.compile(r"exchanges (\d+) of (\d+)")


class Defects(NamedTuple):
    """Of a structure, as its maker tells: is there one, and the share of the oxygen or lithium sites; None: not told."""

    vacancy: bool | None = None
    vacancies: float | None = None
    antisite: bool | None = None
    antisites: float | None = None


UNTOLD = Defects()
# Kinds of variants of a library -> is an oxygen missing, has lithium changed places.
VARIANTS = dict.fromkeys(("base", "thermal", "strain", "li_vac", "tm_sub"), (False, False))
VARIANTS |= {"o_vac": (True, False), "antisite": (False, True)}


def defects_of_steps(steps: Iterable[Mapping]) -> Defects:
    """What `spt-jax structures` did, of provenance.json: of a structure without such a step, that it has no defect."""
    missing = exchanged = 0.0
    for step in steps:
        match step["name"]:
            case "oxygen vacancies":
                missing = 1 - (1 - missing) * (1 - step["removed"] / step["of"])
            case "antisites":
                exchanged += step["pairs"] / step["of"]
    return Defects(missing > 0, missing, exchanged > 0, exchanged)


def defects_of_row(row: Mapping) -> Defects:
    """Of a library: columns has_O_vacancy and has_antisite, or else what kind of variant it is; and counts in proto_note
    where they are there."""
    vacancy, antisite = (_flag(row.get(name)) for name in ("has_O_vacancy", "has_antisite"))
    if vacancy is None and antisite is None and row.get("variant") in VARIANTS:
        vacancy, antisite = VARIANTS[row["variant"]]
    note = row.get("proto_note") or ""
    return Defects(vacancy, _share(vacancy, VACANCIES.search(note)), antisite, _share(antisite, EXCHANGES.search(note)))


def _flag(value: object) -> bool | None:
    return None if value is None else bool(value)


def _share(there: bool | None, found: re.Match | None) -> float | None:
    if not there:
        return None if there is None else 0.0
    return int(found[1]) / int(found[2]) if found and int(found[2]) else None


def describe_structure(
    composition: Composition, element: str, site_labels: np.ndarray, defects: Defects
) -> tuple[np.ndarray, dict[str, str]]:
    """(len(STRUCTURES),) float32 as one site of it tells them, NaN where it does not, and why: name -> reason.

    element, site_labels: of the site, (LABELS,); "" for content and defects alone. The mean over sites of what they tell is
    the structure's.
    """
    found = dict.fromkeys(STRUCTURE_NAMES, np.nan)
    masked: dict[str, str] = {}
    amounts = {symbol: float(amount) for symbol, amount in composition.get_el_amt_dict().items()}
    metal = sum(amount for symbol, amount in amounts.items() if Element(symbol).is_transition_metal)
    for symbol in METALS:
        if metal:
            found[f"x_{symbol}"] = amounts.get(symbol, 0.0) / metal
        else:
            masked[f"x_{symbol}"] = "no transition metal"
    if element in METALS:
        for name in MEANS:
            found[f"{name}_{element}"] = float(site_labels[NAMES.index(name)])
    told = {name: value for name, value in defects._asdict().items() if value is not None}
    found |= {name: float(value) for name, value in told.items()}
    for there, amount in DEFECTS:
        unknown = dict.fromkeys((there, amount), NO_NUMBER if there in told else NOT_TOLD)
        masked |= {name: reason for name, reason in unknown.items() if name not in told}
    for name, value in found.items():
        if np.isfinite(value) and not descriptor(name).accepts(value):
            found[name], masked[name] = np.nan, "outside the plausible range"
    return np.array([found[name] for name in STRUCTURE_NAMES], np.float32), masked
