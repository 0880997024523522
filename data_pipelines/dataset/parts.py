"""A dataset folder on disk: one part for each source, and a part that does not change is never written again.

    DATASET/data_card.json            names the parts and the checksum of every file; nothing else is part of the dataset
    DATASET/blocks/PART/...           the examples for training, in blocks
    DATASET/spt_xas/PART/1.0.0/...    the same examples in the same order, for anyone who reads TFDS
    DATASET/ledger/PART.parquet       every record that was found, kept or dropped and why, and where it lies
    DATASET/statistics/PART.npz       mean, covariance, elements and labels of each split, as training needs them

A part is named after its content, so that a new one never stands in the way of the old one: the card, written last,
changes the dataset from one state to the next, and a kill at any moment leaves one of the two.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipelines.dataset import blocks, statistics
from data_pipelines.dataset.elements import ElementStatistics
from data_pipelines.dataset.splits import SPLITS
from data_pipelines.dataset.staging import SCHEMA, Staged, shuffled, with_arrays
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import DatasetError
from data_pipelines.places import Place, RemotePath
from data_pipelines.schema import Batch, EnergyGrid, encode_labels, widened

if TYPE_CHECKING:  # imports pymatgen, which reading does not need
    from data_pipelines.dataset.beam import Beam

P = TypeVar("P", bound=Place)
LEDGER = "ledger"
TFDS = "spt_xas"
STATISTICS = "statistics"
FOLDERS = (blocks.FOLDER, TFDS, LEDGER, STATISTICS)
# Of a row group.
LEDGER_ROWS = 2**16


def name_of(source: str, key: str, staged: Staged, rows: np.ndarray) -> str:
    """Name of the part of one source: readable, then a hash of what decides its bytes. rows: (n,) of its records."""
    readable = re.sub(r"[^a-z0-9]+", "_", source.lower()).strip("_")[:40] or "source"
    digest = hashlib.sha256(key.encode() + staged.split[rows].astype("<i1").tobytes())
    own = staged.table.select(["withheld", "detail"]).take(rows)
    if pc.any(pc.not_equal(own["withheld"], "")).as_py():
        digest.update(json.dumps(own.to_pydict()).encode())
    return f"{readable}_{digest.hexdigest()[:8]}"


def paths(dataset: P, part: str) -> dict[str, P]:
    names = {
        blocks.FOLDER: f"{blocks.FOLDER}/{part}",
        TFDS: f"{TFDS}/{part}",
        LEDGER: f"{LEDGER}/{part}.parquet",
        STATISTICS: f"{STATISTICS}/{part}.npz",
    }
    return {kind: dataset / name for kind, name in names.items()}  # type: ignore[misc]


def of_file(name: str) -> str:
    """The part that a file belongs to, by its name in the dataset."""
    return PurePosixPath(name).parts[1].partition(".")[0]


def files(dataset: Path, part: str) -> list[Path]:
    """All files of a part."""
    found = []
    for path in paths(dataset, part).values():
        found += [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sorted(found)


def write(
    dataset: Path,
    part: str,
    staged: Staged,
    source: int,
    grid: EnergyGrid,
    scratch: Path,
    overwrite: bool,
    beam: Beam | None,
) -> None:
    """Write the part of one source. What is there stays, from before or from a run that was killed, unless `overwrite`."""
    from data_pipelines.dataset import tfds  # loads TFDS, which reading does not need

    rows = np.flatnonzero(staged.source == source)
    kept = rows[staged.split[rows] >= 0]
    kept = kept[shuffled(staged.table["id"].take(kept))] if len(kept) else kept
    order = {name: kept[staged.split[kept] == i] for i, name in enumerate(SPLITS)}
    order = {name: own for name, own in order.items() if len(own)}
    target = paths(dataset, part)
    for path in target.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        if overwrite:
            _remove(path)
    partial = scratch / "part"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if order and not target[blocks.FOLDER].exists():
        blocks.write(partial / "blocks", {name: _portions(staged, own) for name, own in order.items()})
        (partial / "blocks").rename(target[blocks.FOLDER])
    if not target[LEDGER].exists():
        _write_ledger(partial / "ledger", staged, rows, order)
        (partial / "ledger").rename(target[LEDGER])
    if order and not target[TFDS].exists():
        tfds.write(partial, part, target[blocks.FOLDER], target[LEDGER], grid, beam)
        (partial / TFDS / part).rename(target[TFDS])
    if order and not target[STATISTICS].exists():
        statistics.write(target[STATISTICS], {name: measure(dataset, part, name) for name in order})
    shutil.rmtree(partial)


def _portions(staged: Staged, rows: np.ndarray) -> Iterator[blocks.Rows]:
    for start in range(0, len(rows), blocks.BLOCK_ROWS):
        own = rows[start : start + blocks.BLOCK_ROWS]
        yield blocks.Rows(staged.spectra[own], staged.atomic_numbers(own), staged.labels[own])


def _write_ledger(path: Path, staged: Staged, rows: np.ndarray, order: dict[str, np.ndarray]) -> None:
    """All records of a source in the order found; split "" where dropped, and the row in it."""
    split, place = np.full(len(staged.source), -1, np.int8), np.full(len(staged.source), -1)
    for number, own in enumerate(order.values()):
        split[own], place[own] = number, np.arange(len(own))
    names = np.array([*order, ""], object)
    added = pa.schema({"split": pa.string(), "row": pa.int64()})
    with pq.ParquetWriter(path, pa.unify_schemas([SCHEMA, added]), compression="zstd") as writer:
        for start in range(0, len(rows), LEDGER_ROWS):
            own = rows[start : start + LEDGER_ROWS]
            table = staged.table.take(own).cast(SCHEMA)
            columns = [*table.columns, pa.array(names[split[own]], pa.string()), pa.array(place[own])]
            writer.write_table(pa.table(columns, schema=writer.schema), row_group_size=LEDGER_ROWS)


def ledger(
    dataset: Place, part: str, columns: Sequence[str] | None = None, filters: pc.Expression | None = None
) -> pa.Table:
    """Raises DatasetError that names the file where it is missing or damaged."""
    path = paths(dataset, part)[LEDGER]
    with _reading(path):
        return pq.read_table(_readable(path), columns=columns, filters=filters)


def _readable(path: Place) -> Path | IO[bytes]:
    """For Arrow, which opens files of this machine by itself; of a remote one it fetches the columns it needs."""
    return path if isinstance(path, Path) else path.open("rb")


@contextmanager
def _reading(path: Place) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DatasetError(f"{path}: missing; {blocks.REMEDY}") from None
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: damaged ({str(error).splitlines()[0]}); {blocks.REMEDY}") from None


def told(dataset: Place, part: str, split: str) -> Statistics:
    """The statistics of a part's split as they were stored.

    What a part from before that does not say of each element by itself is gathered from its blocks.
    """
    stored = statistics.read(paths(dataset, part)[STATISTICS], split)
    if stored.elements.counts.any():
        return stored
    source = blocks.Blocks([paths(dataset, part)[blocks.FOLDER]], split)
    held = (source[block] for block in range(len(source)))
    found = (ElementStatistics.of(own.spectrum, own.atomic_number) for own in held)
    return replace(stored, elements=reduce(ElementStatistics.both, found))


def measure(dataset: Place, part: str, split: str) -> Statistics:
    """The statistics of a part's split from its blocks and its ledger, a block and a piece of columns in memory."""
    source = blocks.Blocks([paths(dataset, part)[blocks.FOLDER]], split)
    held = (source[block] for block in range(len(source)))
    rows = (Batch(own.spectrum, own.atomic_number, *encode_labels(own.labels)) for own in held)
    return replace(Statistics.merge(Statistics.of(own, ()) for own in rows), absorbers=_absorbers(dataset, part, split))


def _absorbers(dataset: Place, part: str, split: str) -> dict[str, int]:
    path, found = paths(dataset, part)[LEDGER], Counter()
    with _reading(path), pq.ParquetFile(_readable(path)) as file:
        for piece in file.iter_batches(columns=["element", "edge", "split"]):
            own = piece.filter(pc.equal(piece["split"], split))
            for entry in pc.value_counts(pc.binary_join_element_wise(own["element"], own["edge"], " ")).to_pylist():
                found[entry["values"]] += entry["counts"]
    return dict(sorted(found.items()))


def records(dataset: Place, part: str, grid: EnergyGrid) -> Iterable[pa.Table]:
    """The part as it was ingested: tables for `stage`."""
    table = ledger(dataset, part)
    split, place = np.array(table["split"].to_pylist()), table["row"].to_numpy()
    arrays = {
        "spectrum": np.zeros((len(table), grid.length), np.float32),
        "labels": np.zeros((len(table), grid.labels), np.float32),
    }
    for name in SPLITS:
        own = np.flatnonzero(split == name)
        if not len(own):
            continue
        source = blocks.Blocks([paths(dataset, part)[blocks.FOLDER]], name)
        held = blocks.gather(source, blocks.spaced(source))
        for column, values in (("spectrum", held.spectrum), ("labels", widened(held.labels))):
            arrays[column][own] = values[place[own]]
    for name in (name for name in SCHEMA.names if name not in table.column_names):  # a dataset from before there was
        table = table.append_column(name, pa.array([""] * len(table), pa.string()))
    yield with_arrays(table.select(SCHEMA.names), arrays, split == "")


def remove_others(dataset: Place, parts: Iterable[str]) -> None:
    """Remove what belongs to no part: the rest of an older state, or of a run that was killed."""
    if isinstance(dataset, RemotePath):
        kept = set(parts)
        for folder in FOLDERS:
            for path in (dataset / folder).rglob("*"):
                if of_file(path.relative_to(dataset).as_posix()) not in kept:
                    path.unlink(missing_ok=True)
        return
    wanted = {path for part in parts for path in paths(dataset, part).values()}
    for folder in FOLDERS:
        for path in (dataset / folder).iterdir() if (dataset / folder).is_dir() else ():
            if path not in wanted:
                _remove(path)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
