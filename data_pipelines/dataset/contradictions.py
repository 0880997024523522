"""What two sources say of one site and cannot both be true of: it is withheld from all who say anything there, and told.

Records are of one site where their structure and surroundings agree (`Record.site`), or where their spectra are equal.
Two sources contradict each other on a label where no value of the one is a value of the other. They do so on the
spectrum where these differ by more than calculations of one site ever do; then all labels of the site are in doubt.

No record is taken away by it, and what was withheld stands in the ledger. So all is found anew, from what the sources
said, whenever one is added.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data_pipelines.dataset.splits import near_duplicates
from data_pipelines.schema import DESCRIPTORS, NAMES, SHELL_NAMES, WORDS, Descriptor, column_of

REASON = "sources contradict"
REPEATED = "duplicate id"
SPECTRUM = "spectrum"
# Spectra of one absorber whose mu agrees to this in edge steps are one calculation, written twice. In 8,700 K edges of
# oxides none that do have different labels; of those that agree to ten times this every thirtieth pair has.
EQUAL = 1e-3
# Of labels that are numbers, in Å or elementary charges: a table may round them.
ROUNDED = 0.02
# Largest |mu_i - mu_j|, in the higher white line of the two. Equivalent sites with the same settings differ by up to
# 0.04; with more cycles of self-consistency by 0.13; FEFF 9 and 10 with other radii and core holes, in structures that
# are nearly the same, by 0.39. A shift of 5 eV makes 0.5 to 1, another site of the same element 0.1 to 0.6.
APART = {"same settings": 0.2, "other settings": 0.5}


class Records(NamedTuple):
    """All that is asked: table, (N,) rows of staging.SCHEMA; (N,) source and the sources' names; spectra (N, L) without
    a gap; labels (N, LABELS), which are changed in place."""

    table: pa.Table
    source: np.ndarray
    names: Sequence[str]
    spectra: np.ndarray
    labels: np.ndarray


class Contradiction(NamedTuple):
    """what: a descriptor or "spectrum". detail: who says what. rows: of the site, whoever they belong to."""

    what: str
    detail: str
    rows: np.ndarray


def between(of: Records, row: int, other: int) -> dict[str, float]:
    """What two records contradict each other on, if they are of one site: descriptor -> label of `row`, and "spectrum"
    -> how far apart they are, as in APART."""
    texts = [[text(of.table, name, i) for name in ("site", "element", "edge")] for i in (row, other)]
    equal = np.abs(of.spectra[row] - of.spectra[other]).max() < EQUAL
    if texts[0][1:] != texts[1][1:] or not (equal or (texts[0][0] and texts[0] == texts[1])):
        return {}
    difference = np.abs(of.labels[row] - of.labels[other])
    said = {
        d.name: float(of.labels[row, column])
        for column, d in enumerate(DESCRIPTORS)
        if difference[column] > _tolerance(d)
    }
    return said | ({SPECTRUM: _distance(of, row, other)} if _are_apart(of, row, other) else {})


def restore(table: pa.Table, labels: np.ndarray) -> pa.Table:
    """Records of a ledger as their source gave them: what was withheld is filled in again, in place."""
    rows = np.flatnonzero(pc.and_(pc.not_equal(table["withheld"], ""), pc.equal(table["dropped"], "")).to_numpy())
    masks = {}
    for row in rows.tolist():
        masked = json.loads(text(table, "masked", row))
        for name, values in json.loads(text(table, "withheld", row)).items():
            labels[row, column_of(name) :][: len(values)] = values
            del masked[name]
        masks[row] = json.dumps(masked)
    empty = dict.fromkeys(masks, "")
    return changed(table, {"masked": masks, "withheld": empty, "detail": empty})


def withhold(of: Records) -> tuple[pa.Table, list[dict]]:
    """The table with what is withheld and why, and every contradiction for the data card: what, detail, records."""
    found = [*_on_labels(of), *_on_spectra(of)]
    withheld: dict[int, dict] = defaultdict(dict)
    details: dict[int, list[str]] = defaultdict(list)
    for each in found:
        names = (*NAMES, *SHELL_NAMES) if each.what == SPECTRUM else (each.what,)
        for row in each.rows.tolist():
            details[row].append(each.detail)
            for name in names:
                values = of.labels[row, column_of(name) :][: WORDS if name in SHELL_NAMES else 1]
                if np.isfinite(values).all():
                    withheld[row][name] = values.tolist()
                    values[:] = np.nan
    masks = {
        row: json.loads(text(of.table, "masked", row)) | dict.fromkeys(own, REASON) for row, own in withheld.items()
    }
    changes = {
        "masked": {row: json.dumps(own) for row, own in masks.items()},
        "withheld": {row: json.dumps(own) for row, own in withheld.items()},
        "detail": {row: "; ".join(details[row]) for row in withheld},
    }
    told = [{"what": each.what, "detail": each.detail, "records": len(each.rows)} for each in found]
    return changed(of.table, changes), told


def text(table: pa.Table, name: str, row: int) -> str:
    return table[name][row].as_py()


def changed(table: pa.Table, changes: dict[str, dict[int, str]]) -> pa.Table:
    """changes: column -> row -> new text."""
    for name, texts in changes.items():
        if texts:
            column = table[name].to_pylist()
            for row, new in texts.items():
                column[row] = new
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, pa.array(column, table.schema.field(place).type))
    return table


def _on_labels(of: Records) -> Iterator[Contradiction]:
    rows, group = _one_site(of)
    twins = _twins(of)
    for column, d in enumerate(DESCRIPTORS):
        known = np.isfinite(of.labels[rows, column])
        own, site, value = rows[known], group[known], of.labels[rows[known], column]
        low, high = (np.full(len(rows), edge) for edge in (np.inf, -np.inf))
        np.minimum.at(low, site, value)
        np.maximum.at(high, site, value)
        told: dict[int, str] = {}
        for members in _grouped(site, np.flatnonzero((high - low > _tolerance(d))[site])):
            pair = _disagreeing(of.source[own[members]], value[members], _tolerance(d))
            if pair:
                told[int(site[members[0]])] = ", ".join(_says(of, own[members[i]], value[members[i]]) for i in pair)
        for row, other, said in twins:
            if d.name in said:
                both = f"{_says(of, other, of.labels[other, column])}, {_says(of, row, said[d.name])}"
                told.setdefault(int(group[np.searchsorted(rows, other)]), both)
        for number, both in sorted(told.items()):
            yield Contradiction(d.name, f"{d.name} {both}", own[site == number])


def _disagreeing(source: np.ndarray, values: np.ndarray, tolerance: float) -> tuple[int, int] | None:
    """Where the first of two sources that have no value in common begin."""
    for one, other in combinations(dict.fromkeys(source.tolist()), 2):
        a, b = np.flatnonzero(source == one), np.flatnonzero(source == other)
        if (np.abs(np.unique(values[a])[:, None] - np.unique(values[b])) > tolerance).all():
            return int(a[0]), int(b[0])
    return None


def _on_spectra(of: Records) -> Iterator[Contradiction]:
    """Of each site the first spectrum of each source speaks for it."""
    kept = np.flatnonzero(pc.and_(pc.equal(of.table["dropped"], ""), pc.not_equal(of.table["site"], "")).to_numpy())
    site = _codes(of, kept, ("site", "edge"))
    _, first = np.unique(site * len(of.names) + of.source[kept], return_index=True)
    shared = np.bincount(site[first], minlength=1)[site[first]] > 1
    pairs = [
        pair
        for speakers in _grouped(site, first[shared])
        for pair in combinations(kept[speakers].tolist(), 2)
        if _are_apart(of, *pair)
    ]
    pairs += [(other, row) for row, other, said in _twins(of) if SPECTRUM in said]
    told: dict[int, tuple[int, int]] = {}
    for pair in pairs:
        told.setdefault(int(site[np.searchsorted(kept, pair[0])]), pair)
    for number, pair in sorted(told.items()):
        both = " and ".join(_who(of, row) for row in pair)
        yield Contradiction(SPECTRUM, f"{SPECTRUM} of {both} cannot be of one site", kept[site == number])


def _one_site(of: Records) -> tuple[np.ndarray, np.ndarray]:
    """Rows that have labels, and (n,) numbers below n, equal for records of one site."""
    kept = np.flatnonzero(pc.equal(of.table["dropped"], "").to_numpy())
    kept = kept[np.isfinite(of.labels[kept, : len(DESCRIPTORS)]).any(axis=1)]
    if len(np.unique(of.source[kept])) < 2:
        return kept, np.arange(len(kept))
    links, _ = near_duplicates(_codes(of, kept, ("element", "edge")), of.spectra[kept], EQUAL)
    placed = np.flatnonzero(pc.not_equal(of.table["site"].take(kept), "").to_numpy())
    site = len(kept) + _codes(of, kept[placed], ("site", "edge"))
    ends = np.concatenate([links[:, 0], placed]), np.concatenate([links[:, 1], site])
    nodes = len(kept) + len(placed)
    _, group = connected_components(coo_array((np.ones(len(ends[0]), bool), ends), (nodes, nodes)), False)
    return kept, np.unique(group[: len(kept)], return_inverse=True)[1]


def _twins(of: Records) -> list[tuple[int, int, dict[str, float]]]:
    """Records that were dropped as repeated, the one that has their id, and what the former say against the latter."""
    said = pc.and_(pc.equal(of.table["dropped"], REPEATED), pc.not_equal(of.table["withheld"], ""))
    rows, ids = np.flatnonzero(said.to_numpy()), of.table["id"]
    if not len(rows):
        return []
    same = pc.and_(pc.is_in(ids, value_set=ids.take(rows).combine_chunks()), pc.equal(of.table["dropped"], ""))
    first = {ids[row].as_py(): row for row in np.flatnonzero(same.to_numpy()).tolist()}
    return [(row, first[ids[row].as_py()], json.loads(text(of.table, "withheld", row))) for row in rows.tolist()]


def _grouped(key: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """`rows` in groups of one key, each in order."""
    rows = rows[np.lexsort((rows, key[rows]))]
    return np.split(rows, np.flatnonzero(np.diff(key[rows])) + 1) if len(rows) else []


def _codes(of: Records, rows: np.ndarray, columns: Sequence[str]) -> np.ndarray:
    """(n,) integers, equal for equal texts in all `columns`."""
    texts = pc.binary_join_element_wise(*(of.table[name].take(rows) for name in columns), " ")
    return texts.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)


def _distance(of: Records, row: int, other: int) -> float:
    one, two = of.spectra[row], of.spectra[other]
    return float(np.abs(one - two).max() / max(one.max(), two.max()))


def _are_apart(of: Records, row: int, other: int) -> bool:
    one, two = (text(of.table, "settings", i) for i in (row, other))
    return _distance(of, row, other) > APART["same settings" if one and one == two else "other settings"]


def _tolerance(d: Descriptor) -> float:
    return 0 if d.kind == "class" else ROUNDED


def _says(of: Records, row: int, value: float) -> str:
    return f"{value:.6g} in {_who(of, row)}"


def _who(of: Records, row: int) -> str:
    return f"{of.names[of.source[row]]} ({text(of.table, 'id', row)})"
