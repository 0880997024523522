"""A dataset folder made by `spt-jax prepare` -> arrays: a split at once (resident), or a stream of batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipelines.dataset import blocks, card, parts
from data_pipelines.dataset.blocks import REMEDY, Blocks
from data_pipelines.dataset.data import BlockData, Identified, LateSplit, Split, Texts
from data_pipelines.dataset.identities import Identities
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import DatasetError
from data_pipelines.files import file_sha256
from data_pipelines.places import Place, place
from data_pipelines.schema import NAMES, Batch, EnergyGrid, encode_labels


class Dataset(BlockData):
    """A folder made by `spt-jax prepare`. Raises DatasetError where it is missing, damaged or of another format."""

    def __init__(self, path: Place | str):
        self.path = place(path)
        self.name = str(path if isinstance(self.path, Path) else self.path)
        self.card = card.read(self.path)
        self.grid = EnergyGrid(**self.card["grid"])
        if tuple(self.card["descriptors"])[: len(NAMES)] != NAMES:
            raise DatasetError(f"{path}: made with descriptors {', '.join(self.card['descriptors'])}; prepare it again")
        self.fingerprint = self.card["fingerprint"]
        self.examples = {name: own["examples"] for name, own in self.card["splits"].items()}

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}: {', '.join(f'{count} {name}' for name, count in self.examples.items())})"

    def split(self, name: str, most: int | None = None) -> Split:
        """All examples of one split, in stored order: part after part.

        With `most`, so many at most: whole blocks from all over it, the last one cut. The others are not read, and where
        there are any, texts when they are asked for.
        """
        source = self.blocks(name)
        chosen = blocks.spaced(source, most)
        held = blocks.gather(source, chosen)
        batch = Batch(held.spectrum, held.atomic_number, *encode_labels(held.labels))
        rows = None if most is None else blocks.places(source, chosen)

        def texts() -> Texts:
            found = self._ledger(name, ("id", "material", "element", "edge"), rows)
            if len(found["id"]) != len(held.spectrum):
                raise self._damaged(f"{len(found['id'])} {name} examples in the ledger, {len(held.spectrum)} in blocks")
            absorbers = (f"{element} {edge}" for element, edge in zip(found["element"], found["edge"], strict=True))
            return tuple(found["id"][:most]), tuple(found["material"][:most]), tuple(absorbers)[:most]

        if len(chosen) < len(source):
            return LateSplit(Batch(*(array[:most] for array in batch)), texts)
        return Split(*texts(), Batch(*(array[:most] for array in batch)))

    def statistics(self, name: str) -> Statistics:
        """Of a whole split: read as `prepare` stored it, or of a dataset from before that, gathered block by block."""
        self.count(name)
        whole = Statistics.merge(self._statistics(part, name) for part in self._parts(name))
        self._check(whole.count, name, "in its statistics")
        return whole

    def kin(self, name: str) -> list[list[str]]:
        """What each example of a split shares with those that it must not be parted from, in stored order."""
        return self._ledger(name, ("kin",))["kin"]

    def blocks(self, split: str) -> Blocks:
        """The blocks of one split, part after part."""
        self.count(split)
        own = self._parts(split)
        folders = [parts.paths(self.path, part)[blocks.FOLDER] for part in own]
        found = Blocks(folders, split, list(own.values()))
        self._check(found.rows, split, "in blocks")
        return found

    def ids(self, split: str, rows: np.ndarray) -> list[str]:
        return self._ledger(split, ("id",), rows)["id"]

    def reader(self, split: str) -> Callable[[int, int], Identified]:
        """A function that reads the rows from one number to another, with what the ledger says of them."""
        source, identities = self.blocks(split), Identities(self.path, self._parts(split), split)

        def read(start: int, stop: int) -> Identified:
            own = blocks.cuts(source.sizes, start, stop)
            held = [blocks.Rows(*(array[rows] for array in source[block])) for block, rows in own]
            return Identified(blocks.join(held), identities.read(start, stop))

        return read

    def _check(self, found: int, split: str, where: str) -> None:
        if found != self.count(split):
            raise self._damaged(f"{found} {split} examples {where}, {self.count(split)} in the data card")

    def _statistics(self, part: str, split: str) -> Statistics:
        path = parts.paths(self.path, part)[parts.STATISTICS]
        stored = f"{parts.STATISTICS}/{path.name}" in self.card["files"]
        return (parts.told if stored else parts.measure)(self.path, part, split)

    def _ledger(self, split: str, columns: tuple[str, ...], rows: np.ndarray | None = None) -> dict[str, list]:
        """Columns of the ledger for all examples of a split, or those at `rows` (n,) ascending, in stored order."""
        found: dict[str, list] = {column: [] for column in columns}
        first = 0
        for part, count in self._parts(split).items():
            wanted = pc.field("split") == split
            if rows is not None:
                begin, end = np.searchsorted(rows, (first, first + count))
                wanted &= pc.field("row").isin(pa.array(rows[begin:end] - first))
            ledger = parts.ledger(self.path, part, [*columns, "row"], wanted).sort_by("row")
            for column, values in found.items():
                values += ledger[column].to_pylist()
            first += count
        return found

    def _parts(self, split: str) -> dict[str, int]:
        """The parts that have examples of this split, and how many."""
        return {own["part"]: own["splits"][split] for own in self.card["sources"] if own["splits"].get(split)}

    def _damaged(self, detail: str) -> DatasetError:
        for name, sha256 in self.card["files"].items():
            path = self.path / name
            if not path.exists():
                return DatasetError(f"{path}: missing; {REMEDY}")
            if file_sha256(path) != sha256:
                return DatasetError(f"{path}: damaged (checksum differs from the data card); {REMEDY}")
        return DatasetError(f"{self.path}: cannot be read ({detail})")
