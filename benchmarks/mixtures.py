"""Large sets without large libraries: mixtures of two spectra of one element, with noise, as a dataset on disk."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.dataset import blocks, card, parts, statistics
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.staging import SCHEMA
from data_pipelines.schema import SYMBOLS

PORTION = 32 * blocks.BLOCK_ROWS
NOISE = 0.005
PART = "mixtures"


def mixtures(source: blocks.Rows, count: int, seed: int = 0) -> Iterator[blocks.Rows]:
    """`count` spectra in portions: a convex mixture of two of one element, with noise, labelled as the stronger one."""
    order = np.argsort(source.atomic_number, kind="stable")
    source = blocks.Rows(*(array[order] for array in source))
    first = np.searchsorted(source.atomic_number, source.atomic_number, "left")
    last = np.searchsorted(source.atomic_number, source.atomic_number, "right")
    rng = np.random.default_rng(seed)
    for begin in range(0, count, PORTION):
        rows = min(PORTION, count - begin)
        one = rng.integers(len(order), size=rows)
        two = rng.integers(first[one], last[one])
        share = rng.uniform(0.5, 1, (rows, 1)).astype(np.float32)
        spectrum = share * source.spectrum[one] + (1 - share) * source.spectrum[two]
        spectrum += np.float32(NOISE) * rng.standard_normal(spectrum.shape, np.float32)
        yield blocks.Rows(spectrum, source.atomic_number[one], source.labels[one])
        print(f"\rwriting {begin + rows:,} of {count:,}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def make(folder: Path, data: Path, counts: Mapping[str, int]) -> Dataset:
    """The set in `folder`, so many of each split, written where there is none. Another set there is left alone.

    All that training reads, as `prepare` writes it, and not what it does not read: the same examples for TFDS.
    """
    origin = Dataset(data)
    sizes = ", ".join(f"{count} {split}" for split, count in counts.items())
    fingerprint = f"{sizes} mixtures of {origin.fingerprint}"
    if (folder / card.FILE).exists():
        found = Dataset(folder)
        if found.fingerprint != fingerprint:
            raise SystemExit(f"{folder} holds another dataset ({found.fingerprint}); choose another --folder")
        return found
    where, source = parts.paths(folder, PART), train_rows(origin)
    for path in where.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    schema = SCHEMA.append(pa.field("split", pa.string())).append(pa.field("row", pa.int64()))
    with pq.ParquetWriter(where[parts.LEDGER], schema, compression="zstd") as ledger:
        splits = {
            split: _entered(ledger, split, mixtures(source, count, seed))
            for seed, (split, count) in enumerate(counts.items())
        }
        blocks.write(where[blocks.FOLDER], splits)
    statistics.write(where[parts.STATISTICS], {split: parts.measure(folder, PART, split) for split in counts})
    total = sum(counts.values())
    own = {**origin.card["sources"][0], "part": PART, "records": total, "splits": dict(counts)}
    document = {**origin.card, "sources": [own], "fingerprint": fingerprint}
    document |= {"records": {"found": total, "kept": total, "dropped": 0}, "dropped_by_reason": {}, "dropped": []}
    document["splits"] = {split: {"examples": count, "materials": count} for split, count in counts.items()}
    card.write(folder, {**document, "files": card.checksums(folder, parts.files(folder, PART))})
    return Dataset(folder)


def _entered(ledger: pq.ParquetWriter, split: str, portions: Iterable[blocks.Rows]) -> Iterator[blocks.Rows]:
    """The portions as they are, each entered in the ledger; every spectrum is a material of its own."""
    symbols, row = np.array(SYMBOLS, object), 0
    for rows in portions:
        count = len(rows.atomic_number)
        places = np.arange(row, row + count)
        ids = [f"{split}-{place:09d}" for place in places]
        columns = dict.fromkeys(SCHEMA.names, [""] * count) | {"id": ids, "material": ids, "kin": [[id] for id in ids]}
        columns |= {"element": symbols[rows.atomic_number], "edge": ["K"] * count}
        columns |= {"split": [split] * count, "row": places}
        ledger.write_table(pa.table(columns, ledger.schema), row_group_size=2**16)
        yield rows
        row += count


def train_rows(dataset: Dataset) -> blocks.Rows:
    """The training split as stored."""
    source = dataset.blocks("train")
    return blocks.gather(source, blocks.spaced(source))
