"""A set of one's own: a TFDS folder (ArrayRecord) that anyone wrote with the features of DATASET/spt_xas/PART/1.0.0.

Its splits are those that TFDS names, its spectra are taken as they are: with unit edge step, on the grid that its
metadata state or else the usual one. Records become blocks when they are read, so it streams like a dataset.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_pipelines.dataset import blocks, card, statistics, tfds
from data_pipelines.dataset.array_records import asked, reader_of
from data_pipelines.dataset.blocks import BLOCK_ROWS, OPEN_SHARDS, Rows
from data_pipelines.dataset.data import BlockData, Identified, Split, join
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import DamagedBlock, DatasetError, PlaceError
from data_pipelines.files import file_sha256, write_atomic
from data_pipelines.places import Place, place
from data_pipelines.schema import (
    REFERENCE_ENERGY_EV,
    SHELLS,
    SOURCE,
    SOURCE_COLUMN,
    STRUCTURE,
    STRUCTURE_LABELS,
    WIDTHS,
    WORD_BITS,
    WORDS,
    Batch,
    EnergyGrid,
    column_of,
    columned,
    encode_labels,
    number_of,
    widened,
)
from data_pipelines.spectra.grid import ends_once

# Beside the set, so that it is read through once: its statistics, and which files they are of.
STATISTICS = ".spt_jax_statistics.npz"
STAMP = ".spt_jax_statistics.json"
_ALLOWED = " or ".join(map(str, reversed(WIDTHS)))


class Known(NamedTuple):
    """What no one knows of a set who has not read it through."""

    fingerprint: str
    statistics: dict[str, Statistics]


class TfdsFolder(BlockData):
    """The folder that dataset_info.json lies in. Raises DatasetError where its features are not ours."""

    def __init__(self, path: Place | str):
        self.path = place(path)
        self.name = str(path if isinstance(self.path, Path) else self.path)
        found = tfds.find(self.path)
        for missing in (path for files in found.files.values() for path in files if not path.exists()):
            raise DatasetError(f"{missing}: missing, though dataset_info.json names it")
        around = (self.path / "../../..").resolve()
        # The card of a dataset names every file in it: nothing may be left there.
        self._inside = (around / card.FILE).exists()
        stated = card.read(around)["grid"] if self._inside else found.metadata.get("grid", {})
        try:
            self.grid = EnergyGrid(**stated)
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{path}: its metadata state no energy grid ({error})") from None
        if found.points != self.grid.length:
            raise DatasetError(
                f"{path}: spectra of {found.points} points, its grid has {self.grid.length}; "
                'state it in the metadata that TFDS writes, {"grid": {"start": 2.0, "step": 0.5, "points": 144}}'
            )
        self._files = found.files
        self.examples = {split: sum(files.values()) for split, files in found.files.items()}

    def __repr__(self) -> str:
        return f"TfdsFolder({self.name!r}: {', '.join(f'{count} {name}' for name, count in self.examples.items())})"

    @property
    def fingerprint(self) -> str:
        """Of the bytes of all its files."""
        return self._known.fingerprint

    def statistics(self, name: str) -> Statistics:
        """Of a whole split: gathered once, and kept beside the set where one may write."""
        self.count(name)
        return self._known.statistics[name]

    def split(self, name: str, most: int | None = None) -> Split:
        """As of a dataset: all in stored order, or pieces from all over the split."""
        source = self.blocks(name)
        found = [source.read(block) for block in blocks.spaced(source, most)]
        return join([Split(*map(tuple, texts), _batch(rows)) for rows, texts in found]).first(most)

    def blocks(self, split: str) -> RecordBlocks:
        """The records of a split, so many at a time."""
        self.count(split)
        return RecordBlocks(self._files[split], self.grid)

    def ids(self, split: str, rows: np.ndarray) -> list[str]:
        source, found = self.blocks(split), []
        ends = np.cumsum(source.sizes)
        own = np.searchsorted(ends, rows, "right")
        for block in np.unique(own).tolist():
            texts = source.read(block)[1]
            found += [texts.ids[row] for row in (rows[own == block] - ends[block] + source.sizes[block]).tolist()]
        return found

    def reader(self, split: str) -> Callable[[int, int], Identified]:
        """A function that reads the rows from one number to another; a record holds its own texts."""
        source = self.blocks(split)

        def read(start: int, stop: int) -> Identified:
            held, texts = [], []
            for block, rows in blocks.cuts(source.sizes, start, stop):
                own, said = source.read(block)
                held.append(Rows(*(array[rows] for array in own)))
                elements, edges = zip(*(absorber.split() for absorber in said.absorbers[rows]), strict=True)
                columns = {"id": said.ids[rows], "material": said.materials[rows], "element": elements, "edge": edges}
                texts.append(pa.table(columns))
            return Identified(blocks.join(held), pa.concat_tables(texts))

        return read

    @cached_property
    def _known(self) -> Known:
        paths = [self.path / "features.json", *(path for files in self._files.values() for path in files)]
        stamp = {"grid": self.grid.stated(), "files": {path.name: _stamp(path) for path in paths}}
        with suppress(OSError, ValueError, KeyError, TypeError):  # absent, of other files, or damaged: gathered anew
            kept = json.loads((self.path / STAMP).read_text(encoding="utf-8"))
            if kept["of"] == stamp:
                own = {split: statistics.read(self.path / STATISTICS, split) for split in self._filled()}
                if all(each.elements.counts.any() for each in own.values()):  # else kept before there were any
                    return Known(kept["fingerprint"], own)
        gathered = {split: self._gather(split) for split in self._filled()}
        sums = [self.grid.stated(), *((path.name, file_sha256(path)) for path in paths)]
        known = Known(hashlib.sha256(json.dumps(sums).encode()).hexdigest()[:16], gathered)
        with suppress(OSError, PlaceError):  # not ours to write to: gathered again next time
            if not self._inside:
                statistics.write(self.path / STATISTICS, known.statistics)
                write_atomic(self.path / STAMP, json.dumps({"of": stamp, "fingerprint": known.fingerprint}) + "\n")
        return known

    def _filled(self) -> list[str]:
        return [split for split, count in self.examples.items() if count]

    def _gather(self, split: str) -> Statistics:
        source = self.blocks(split)
        read = (source.read(block) for block in range(len(source.sizes)))
        return Statistics.merge(Statistics.of(_batch(rows), texts.absorbers) for rows, texts in read)


class Texts(NamedTuple):
    """Of each row of a block."""

    ids: list[str]
    materials: list[str]
    absorbers: list[str]


class RecordBlocks:
    """Blocks made of the records of ArrayRecord files, in their order; any number of threads may read.

    Raises DatasetError that names the file which is missing or damaged, and the record that is no example.
    """

    def __init__(self, files: dict[Place, int], grid: EnergyGrid):
        self._files, self._grid = files, grid
        self._places = [
            (path, start, min(start + BLOCK_ROWS, count))
            for path, count in files.items()
            for start in range(0, count, BLOCK_ROWS)
        ]
        self.sizes = np.array([stop - start for _, start, stop in self._places])
        self._open = lru_cache(OPEN_SHARDS)(self._reader)

    def __getitem__(self, block: int) -> Rows:
        return self.read(block)[0]

    def read(self, block: int) -> tuple[Rows, Texts]:
        """A block, checked, and what it does not hold."""
        path, start, stop = self._places[block]
        reader = self._open(path)
        try:
            records = asked(path, lambda: reader.read(range(start, stop)))
            found = [tfds.decode(record) for record in records]
        except (RuntimeError, ValueError, IndexError) as error:  # array_record raises bare RuntimeError
            raise DamagedBlock(f"{_damaged(path, str(error))}: records {start} to {stop - 1}") from None
        for number, why in _wrong(found, self._grid):
            raise DatasetError(f"{path}: record {start + number} ({found[number]['id']!r}): {why}")
        numbers = [number_of(example["element"]) for example in found]
        rows = Rows(_stacked(found, "spectrum"), np.array(numbers, np.int32), _labels(found))
        ids, materials = ([example[name] for example in found] for name in ("id", "material"))
        return rows, Texts(ids, materials, [f"{example['element']} {example['edge']}" for example in found])

    def _reader(self, path: Place):
        try:
            reader = asked(path, lambda: reader_of(path))
        except RuntimeError as error:
            raise _damaged(path, str(error)) from None
        if reader.num_records() != self._files[path]:
            raise _damaged(path, f"{reader.num_records()} records, expected {self._files[path]}")
        return reader


def _wrong(examples: list[dict], grid: EnergyGrid) -> Iterator[tuple[int, str]]:
    """Numbers of examples that training would take for something else, and why."""
    for number, example in enumerate(examples):
        lengths = len(example["spectrum"]), len(example["labels"])
        if lengths not in ((grid.length, labels) for labels in ((STRUCTURE_LABELS,) if grid.signals else WIDTHS)):
            allowed = STRUCTURE_LABELS if grid.signals else _ALLOWED
            yield number, f"{lengths[0]} points and {lengths[1]} labels, expected {grid.length} and {allowed}"
        if (example["element"], example["edge"]) not in REFERENCE_ENERGY_EV and example["element"] != STRUCTURE:
            yield number, f"no reference energy for the {example['element']} {example['edge']} edge"
    spectra = _stacked(examples, "spectrum").reshape(-1, grid.points)
    common, rest = np.split(spectra, [grid.common], axis=1)
    whole = np.isfinite(common).all(axis=1) & ends_once(rest)
    if grid.signals:
        whole |= np.isnan(spectra).all(axis=1)
    for number in np.flatnonzero(~whole.reshape(len(examples), -1).all(axis=1)):
        yield number, "its spectrum is not finite"
    labels = _labels(examples)
    for column, d in (*columned(labels), (SOURCE_COLUMN, SOURCE)):
        values = labels[:, column]
        good = np.isin(values, d.classes) if d.classes else (d.plausible[0] <= values) & (values <= d.plausible[1])
        for number in np.flatnonzero(~(good | np.isnan(values))):
            yield number, f"{values[number]:g} is no {d.name}; NaN stands for no label"

    for d in SHELLS:
        words = labels[:, column_of(d.name) :][:, :WORDS]
        good = (words >= 0) & (words < 2**WORD_BITS) & (words % 1 == 0)
        for number in np.flatnonzero(~(good.all(axis=1) | np.isnan(words).all(axis=1))):
            yield number, f"{words[number].tolist()} is no {d.name}; NaN stands for no label"


def _labels(examples: list[dict]) -> np.ndarray:
    """(N, LABELS), of any of WIDTHS."""
    return np.concatenate([widened(example["labels"][None]) for example in examples])


def _stacked(examples: list[dict], name: str) -> np.ndarray:
    return np.stack([example[name] for example in examples])


def _batch(rows: Rows) -> Batch:
    return Batch(rows.spectrum, rows.atomic_number, *encode_labels(rows.labels))


def _damaged(path: Place, detail: str) -> DatasetError:
    return DatasetError(f"{path}: damaged ({' '.join(detail.split())})")


def _stamp(path: Place) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]
