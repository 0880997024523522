"""All records of a dataset in one place, before any of it is written: what is global is decided here.

Records come from the chunks of new sources and from the parts of an existing dataset alike, so that adding a source
gives what preparing all of them at once would give.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipelines.dataset import splits
from data_pipelines.schema import DESCRIPTORS, SYMBOLS, EnergyGrid

TEXTS = ("id", "material", "element", "edge", "settings", "masked", "dropped", "detail")
SCHEMA = pa.schema({**{name: pa.string() for name in TEXTS}, "kin": pa.list_(pa.string())})


@dataclass
class Staged:
    """Every record found, source after source.

    table: (N,) rows of SCHEMA. source: (N,) index of the record's source. spectra: (N, L) float32 in a file, zero
    where dropped. labels: (N, D) float32. split: (N,) index into SPLITS, -1 where dropped.
    """

    table: pa.Table
    source: np.ndarray
    spectra: np.memmap
    labels: np.ndarray
    split: np.ndarray
    counts: dict[str, int]

    @property
    def kept(self) -> np.ndarray:
        return np.flatnonzero(self.split >= 0)

    def atomic_numbers(self, rows: np.ndarray) -> np.ndarray:
        """(n,) int32."""
        symbols = self.table["element"].take(rows).combine_chunks().dictionary_encode()
        numbers = np.array([SYMBOLS.index(symbol) for symbol in symbols.dictionary.to_pylist()], np.int32)
        return numbers[symbols.indices.to_numpy()]


def stage(
    sources: Sequence[Iterable[pa.Table]], names: Sequence[str], counts: Sequence[int], grid: EnergyGrid, folder: Path
) -> Staged:
    """Gather `sources` (their names, their numbers of records), drop repeated ids, and assign the splits.

    A source is tables with the columns of SCHEMA, spectrum and labels, one after the other. The spectra go into a file in `folder`.
    """
    total = sum(counts)
    spectra = np.lib.format.open_memmap(folder / "spectra.npy", "w+", np.float32, (total, grid.points))
    labels = np.full((total, len(DESCRIPTORS)), np.nan, np.float32)
    tables, place = [], 0
    for source in sources:
        for table in source:
            present = place + np.flatnonzero(table["spectrum"].is_valid().to_numpy())
            for array, column in ((spectra, "spectrum"), (labels, "labels")):
                values = table[column].combine_chunks().flatten().to_numpy()
                array[present] = values.reshape(len(present), array.shape[1])
            tables.append(table.select(SCHEMA.names).cast(SCHEMA))
            place += len(table)
    table = pa.concat_tables(tables).combine_chunks()
    del tables  # they hold the mapped files of all chunks
    source = np.repeat(np.arange(len(counts)), counts)
    table = _drop_repeated(table, source, names, spectra)
    kept = np.flatnonzero(pc.equal(table["dropped"], "").to_numpy())
    split, split_counts = np.full(total, -1, np.int8), {}
    if len(kept):
        rows = table.take(kept).combine_chunks()
        absorber = pc.binary_join_element_wise(rows["element"], rows["edge"], " ").combine_chunks().dictionary_encode()
        common = spectra[:, : grid.common]
        own = common if len(kept) == total else common[kept]
        split[kept], split_counts = splits.assign(_one_chunk(rows["kin"]), absorber.indices.to_numpy(), own)
    return Staged(table, source, spectra, labels, split, split_counts)


def _one_chunk(column: pa.ChunkedArray) -> pa.ListArray:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _drop_repeated(table: pa.Table, source: np.ndarray, names: Sequence[str], spectra: np.ndarray) -> pa.Table:
    """The first record of each id stays; later ones are dropped and named."""
    kept = np.flatnonzero(pc.equal(table["dropped"], "").to_numpy())
    ids = table["id"].take(kept).combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(ids, return_index=True)
    again = np.delete(np.arange(len(kept)), first)
    if not len(again):
        return table
    dropped, detail = table["dropped"].to_pylist(), table["detail"].to_pylist()
    for row in again:
        here, there = kept[row], kept[first[ids[row]]]
        same = "same spectrum" if np.array_equal(spectra[here], spectra[there], equal_nan=True) else "another spectrum"
        dropped[here] = "duplicate id"
        detail[here] = f"{table['id'][here]} is also in {names[source[there]]}, with {same}"
    for name, values in (("dropped", dropped), ("detail", detail)):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
    return table


def shuffled(ids: pa.ChunkedArray) -> np.ndarray:
    """An order of rows that depends on their ids alone."""
    key = [hashlib.sha256(id.encode()).digest()[:16] for id in ids.to_pylist()]
    return np.argsort(np.array(key, "S16"), kind="stable")
