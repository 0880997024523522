"""All records of a dataset in one place, before any of it is written: what is global is decided here.

Records come from the chunks of new sources and from the parts of an existing dataset alike, so that adding a source
gives what preparing all of them at once would give.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipelines.dataset import contradictions, splits
from data_pipelines.dataset.contradictions import REPEATED, Records
from data_pipelines.schema import EnergyGrid, number_of

TEXTS = ("id", "material", "element", "edge", "site", "settings", "masked", "withheld", "dropped", "detail")
SCHEMA = pa.schema({**{name: pa.string() for name in TEXTS}, "kin": pa.list_(pa.string())})
# Few records differ in these, which are long: each text is held once. A column of ten million would be beyond Arrow's 2 GB.
SHARED = ("settings", "masked")
# Whose ids are Python's at a time.
PIECE_ROWS = 2**16


@dataclass
class Staged:
    """Every record found, source after source.

    table: (N,) rows of SCHEMA, the SHARED columns as dictionaries. source: (N,) index of the record's source. spectra: (N, L) float32 in a file, zero
    where dropped. labels: (N, grid.labels) float32 in a file. split: (N,) index into SPLITS, -1 where dropped. contradictions: as of
    `contradictions.withhold`.
    """

    table: pa.Table
    source: np.ndarray
    spectra: np.memmap
    labels: np.ndarray
    split: np.ndarray
    counts: dict[str, int]
    contradictions: list[dict]

    @property
    def kept(self) -> np.ndarray:
        return np.flatnonzero(self.split >= 0)

    def atomic_numbers(self, rows: np.ndarray) -> np.ndarray:
        """(n,) int32."""
        symbols = self.table["element"].take(rows).combine_chunks().dictionary_encode()
        numbers = np.array([number_of(symbol) for symbol in symbols.dictionary.to_pylist()], np.int32)
        return numbers[symbols.indices.to_numpy()]


def stage(
    sources: Sequence[Iterable[pa.Table]], names: Sequence[str], counts: Sequence[int], grid: EnergyGrid, folder: Path
) -> Staged:
    """Gather `sources` (their names, their numbers of records), drop repeated ids, withhold what they contradict each
    other on, and assign the splits.

    A source is tables with the columns of SCHEMA, spectrum and labels, one after the other. The arrays go into files in
    `folder`, so that the system may take their memory back.
    """
    total = sum(counts)
    spectra = np.lib.format.open_memmap(folder / "spectra.npy", "w+", np.float32, (total, grid.length))
    labels = np.lib.format.open_memmap(folder / "labels.npy", "w+", np.float32, (total, grid.labels))
    labels[:] = np.nan
    tables, place = [], 0
    for source in sources:
        for table in source:
            present = place + np.flatnonzero(table["spectrum"].is_valid().to_numpy())
            for array, column in ((spectra, "spectrum"), (labels, "labels")):
                values = table[column].combine_chunks().flatten().to_numpy()
                array[present] = values.reshape(len(present), array.shape[1])
            tables.append(_held(table.select(SCHEMA.names).cast(SCHEMA)))
            place += len(table)
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    del tables  # they hold the mapped files of all chunks
    source = np.repeat(np.arange(len(counts)), counts)
    table = contradictions.restore(table, labels)
    common = splits.comparable(spectra, grid)
    of = Records(table, source, names, common, labels)
    table, contradicted = contradictions.withhold(of._replace(table=_drop_repeated(of, spectra)))
    kept = np.flatnonzero(pc.equal(table["dropped"], "").to_numpy())
    split, split_counts = np.full(total, -1, np.int8), {}
    if len(kept):
        rows = table.select(["kin", "element", "edge"]).take(kept).combine_chunks()
        absorber = pc.binary_join_element_wise(rows["element"], rows["edge"], " ").combine_chunks().dictionary_encode()
        own = common if len(kept) == total else common[kept]
        split[kept], split_counts = splits.assign(_one_chunk(rows["kin"]), absorber.indices.to_numpy(), own)
    return Staged(table, source, spectra, labels, split, split_counts, contradicted)


def with_arrays(table: pa.Table, arrays: dict[str, np.ndarray], missing: np.ndarray) -> pa.Table:
    """A source's table: (N, M) arrays as columns of lists, null in the rows that are (N,) `missing`."""
    for name, array in arrays.items():
        kind, mask = pa.list_(pa.float32(), array.shape[1]), pa.array(missing)
        table = table.append_column(
            name, pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), type=kind, mask=mask)
        )
    return table


def _held(table: pa.Table) -> pa.Table:
    for name in SHARED:
        table = table.set_column(table.schema.get_field_index(name), name, table[name].dictionary_encode())
    return table


def _one_chunk(column: pa.ChunkedArray) -> pa.ListArray:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _drop_repeated(of: Records, spectra: np.ndarray) -> pa.Table:
    """The first record of each id stays; later ones are dropped and named, with what they say against it."""
    table = of.table
    kept = np.flatnonzero(pc.equal(table["dropped"], "").to_numpy())
    ids = table["id"].take(kept).combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(ids, return_index=True)
    dropped, detail, withheld = {}, {}, {}
    for row in np.delete(np.arange(len(kept)), first):
        here, there = int(kept[row]), int(kept[first[ids[row]]])
        same = "same spectrum" if np.array_equal(spectra[here], spectra[there], equal_nan=True) else "another spectrum"
        said = contradictions.between(of, here, there)
        against = f"; they contradict each other on {', '.join(said)}" if said else ""
        dropped[here] = REPEATED
        detail[here] = f"{table['id'][here]} is also in {of.names[of.source[there]]}, with {same}{against}"
        withheld[here] = json.dumps(said) if said else ""
    return contradictions.changed(table, {"dropped": dropped, "detail": detail, "withheld": withheld})


def shuffled(ids: pa.ChunkedArray) -> np.ndarray:
    """An order of rows that depends on their ids alone."""
    pieces = (ids.slice(start, PIECE_ROWS).to_pylist() for start in range(0, len(ids), PIECE_ROWS))
    key = [np.array([hashlib.sha256(id.encode()).digest()[:16] for id in piece], "S16") for piece in pieces]
    return np.argsort(np.concatenate(key), kind="stable")
