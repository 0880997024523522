"""Rows of sites -> rows of structures: what a beamline sees, which cannot tell sites apart.

A signal of a structure is the mean of what its sites give, a label their common value, or the mean of a number. A signal
that is named n times holds n sites apart, and means of more. Structures come in the order of their first site.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from data_pipelines.dataset.contradictions import REPEATED, changed
from data_pipelines.dataset.staging import SCHEMA, with_arrays
from data_pipelines.labels.structure import DEFECTS
from data_pipelines.schema import LABELS, NAMES, STRUCTURE, EnergyGrid, column_of, columned
from data_pipelines.signals import parse_signal

DIFFER = "its sites differ"
NO_PRISTINE = "no cell of its parent without the defect"
APART = "energies disagree"
# Edges of one element in one structure: its oxidation states differ by 5 at the most, 2 eV each at the most.
FURTHEST_EV = 10.0


def of_sites(tables: Iterable[pa.Table], grid: EnergyGrid) -> list[pa.Table]:
    """Tables of records as `chunks.py` writes them -> the same of what `grid.each` asks for; dropped records stay.

    A defect whose parent has no cell without it is masked: the parent alone would tell it.
    """
    tables = list(tables)
    whole = pa.concat_tables(tables).combine_chunks() if tables else None
    if whole is None or not len(whole):
        return tables
    spectra, labels = _array(whole, "spectrum"), _array(whole, "labels")
    rows = np.flatnonzero(whole["spectrum"].is_valid().to_numpy())
    table = whole.select([*SCHEMA.names, "structure"])
    if grid.each == "structure":
        table, rows, spectra, labels = _gathered(table, rows, spectra, labels, grid)
    table = _without_parent(table, rows, labels)
    missing = np.ones(len(table), bool)
    missing[rows] = False
    arrays = {"spectrum": spectra, "labels": labels}
    full = {name: np.zeros((len(table), own.shape[1]), np.float32) for name, own in arrays.items()}
    for name, own in arrays.items():
        full[name][rows] = own
    return [with_arrays(table.select(SCHEMA.names), full, missing)]


def _array(table: pa.Table, name: str) -> np.ndarray:
    """(n, M) of the rows that have it; writable."""
    column = table[name].combine_chunks()
    return column.flatten().to_numpy().reshape(-1, column.type.list_size).copy()


def _gathered(
    table: pa.Table, rows: np.ndarray, spectra: np.ndarray, labels: np.ndarray, grid: EnergyGrid
) -> tuple[pa.Table, np.ndarray, np.ndarray, np.ndarray]:
    """Records, the numbers of those that have (n, ...) spectra and labels, and these: of structures."""
    own = any(signal.is_spectrum and not signal.element for signal in map(parse_signal, grid.signals))
    told = table.take(rows).to_pylist()
    dropped: dict[int, tuple[str, str]] = {}
    groups: dict[tuple[str, str], list[int]] = {}
    seen: set[str] = set()
    for i, each in enumerate(told):
        if each["id"] in seen:
            dropped[i] = REPEATED, f"{each['id']} is there twice in one source"
            continue
        seen.add(each["id"])
        groups.setdefault((each["structure"], each["element"] if own else ""), []).append(i)
    records, found, values = [], [], []
    for (structure, element), members in groups.items():
        apart = _furthest(spectra[members], grid)
        if apart > FURTHEST_EV:
            detail = f"{structure}: edges of one signal lie {apart:.1f} eV apart"
            dropped |= {i: (APART, detail) for i in members}
            continue
        first = told[members[0]]
        mean, why = _common(labels[members], [json.loads(told[i]["masked"]) for i in members], bool(element))
        absorber = {} if element else {"element": STRUCTURE, "edge": "-"}
        name = f"{structure} {element}".strip()
        said = {"id": name, "site": "", "masked": json.dumps(why), "detail": "", "withheld": "", **absorber}
        records.append({**first, **said})
        found.append(_mean(_dealt(spectra[members], grid)))
        values.append(mean)
    lost = table.take(np.setdiff1d(np.arange(len(table)), rows)).to_pylist()
    lost += [{**told[i], "dropped": reason, "detail": detail} for i, (reason, detail) in sorted(dropped.items())]
    made = pa.Table.from_pylist(records + lost, table.schema)
    width = spectra.shape[1], labels.shape[1]
    arrays = [
        np.stack(each) if each else np.zeros((0, w), np.float32) for each, w in zip((found, values), width, strict=True)
    ]
    return made, np.arange(len(records)), *arrays


def _mean(spectra: np.ndarray) -> np.ndarray:
    """(n, L) -> (L,) of those that are known; NaN where none is."""
    known = np.isfinite(spectra)
    total = np.where(known, spectra, 0).sum(axis=0, dtype=np.float64)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan).astype(np.float32)


def _dealt(spectra: np.ndarray, grid: EnergyGrid) -> np.ndarray:
    """(n, L) rows of which each has its spectrum in the first place of its signal -> dealt out over all such places."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(grid.signals):
        places.setdefault(name, []).append(place)
    slots = spectra.reshape(len(spectra), len(grid.signals), grid.points)
    for first, *more in places.values():
        if more and parse_signal(grid.signals[first]).is_spectrum:
            for number, row in enumerate(np.flatnonzero(np.isfinite(slots[:, first, 0])).tolist()):
                if place := number % (1 + len(more)):
                    slots[row, more[place - 1]], slots[row, first] = slots[row, first].copy(), np.nan
    return slots.reshape(spectra.shape)


def _furthest(spectra: np.ndarray, grid: EnergyGrid) -> float:
    """How far the edges of one signal lie apart in (n, L) rows, eV: the first energies at half the edge step."""
    slots, furthest = spectra.reshape(len(spectra), len(grid.signals), grid.points), 0.0
    for place, signal in enumerate(map(parse_signal, grid.signals)):
        own = slots[np.isfinite(slots[:, place, 0]), place, : grid.common]
        if signal.is_spectrum and len(own) > 1:
            above = own > 0.5 * own[:, -grid.common // 4 :].mean(axis=1, keepdims=True)
            furthest = max(furthest, grid.step * float(np.ptp(above.argmax(axis=1))))
    return furthest


def _common(labels: np.ndarray, masked: list[dict[str, str]], absorber: bool) -> tuple[np.ndarray, dict[str, str]]:
    """(n, D) labels of sites -> (D,) of their structure, and why some are masked. absorber: are all of one element?"""
    found, why = np.full(labels.shape[1], np.nan, np.float32), {}
    source = labels[:, LABELS - 1]
    if (source == source[0]).all():
        found[LABELS - 1] = source[0]
    for column, d in columned(labels):
        values = labels[np.isfinite(labels[:, column]), column]
        if d.name in NAMES and not absorber:
            continue
        if not len(values):
            if reason := next((each[d.name] for each in masked if d.name in each), ""):
                why[d.name] = reason
        elif d.kind == "class" and (values != values[0]).any():
            why[d.name] = DIFFER
        else:
            found[column] = values.mean(dtype=np.float64)
    why |= {name: reason for each in masked for name, reason in each.items() if name not in why and _is_signal(name)}
    return found, why


def _is_signal(name: str) -> bool:
    try:
        return bool(parse_signal(name))
    except ValueError:
        return False


def _without_parent(table: pa.Table, rows: np.ndarray, labels: np.ndarray) -> pa.Table:
    """Labels of defects that no other cell of the parent is without are masked, in place."""
    parent = np.array([(kin or [""])[0] for kin in table["kin"].take(rows).to_pylist()])
    masks: dict[int, str] = {}
    for names in DEFECTS:
        columns = [column_of(name) for name in names]
        for one in np.unique(parent[labels[:, columns[0]] == 1]):
            of = parent == one
            if not (labels[of, columns[0]] == 0).any():
                for i in np.flatnonzero(of & np.isfinite(labels[:, columns[0]])):
                    row = int(rows[i])
                    said = json.loads(masks.get(row) or table["masked"][row].as_py())
                    masks[row] = json.dumps(said | dict.fromkeys(names, NO_PRISTINE))
                labels[np.ix_(of, columns)] = np.nan
    return changed(table, {"masked": masks}) if masks else table
