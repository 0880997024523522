"""A dataset folder -> arrays: the whole split at once (resident), or a resumable Grain stream of batches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import grain
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipelines.dataset import blocks, card, parts, statistics
from data_pipelines.dataset.blocks import REMEDY, Blocks
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.dataset.stream import WINDOW_ROWS, Batches
from data_pipelines.errors import DatasetError
from data_pipelines.files import file_sha256
from data_pipelines.schema import NAMES, Batch, EnergyGrid, encode_labels


@dataclass(frozen=True)
class Split:
    """One whole split in memory. ids, materials and absorbers ("Cu K") are for reports; `batch` is what a model trains on."""

    ids: tuple[str, ...]
    materials: tuple[str, ...]
    absorbers: tuple[str, ...]
    batch: Batch

    def first(self, most: int | None) -> Split:
        """So many rows at most; all where None."""
        texts = (column[:most] for column in (self.ids, self.materials, self.absorbers))
        return Split(*texts, Batch(*(array[:most] for array in self.batch)))


def spaced(source: Blocks, most: int) -> np.ndarray:
    """(n,) numbers of blocks at equal distances that hold some `most` rows."""
    if most < 1:
        raise DatasetError(f"at least one example must be asked for, not {most}")
    count = min(-(-most * len(source) // source.rows), len(source))
    return ((np.arange(count) + 0.5) * len(source) / count).astype(int)


class Dataset:
    """A folder made by `spt-jax prepare`. Raises DatasetError where it is missing, damaged or of another format."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.card = card.read(self.path)
        self.grid = EnergyGrid(**self.card["grid"])
        if tuple(self.card["descriptors"]) != NAMES:
            raise DatasetError(f"{path}: made with descriptors {', '.join(self.card['descriptors'])}; prepare it again")

    @cached_property
    def fingerprint(self) -> str:
        return self.card["fingerprint"]

    def split(self, name: str, most: int | None = None) -> Split:
        """All examples of one split, in stored order: part after part.

        With `most`, so many at most: whole blocks at equal distances, the last one cut. The others are not read.
        """
        source = self._blocks(name)
        chosen = np.arange(len(source)) if most is None else spaced(source, most)
        held = source.read(chosen)
        texts = self._ledger(
            name, ("id", "material", "element", "edge"), None if most is None else source.places(chosen)
        )
        if len(texts["id"]) != len(held.spectrum):
            raise self._damaged(f"{len(texts['id'])} {name} examples in the ledger, {len(held.spectrum)} in blocks")
        absorbers = tuple(f"{element} {edge}" for element, edge in zip(texts["element"], texts["edge"], strict=True))
        batch = Batch(held.spectrum, held.atomic_number, *encode_labels(held.labels))
        return Split(tuple(texts["id"]), tuple(texts["material"]), absorbers, batch).first(most)

    def statistics(self, name: str) -> Statistics:
        """Of a whole split: read as `prepare` stored it, or of a dataset from before that, gathered block by block."""
        self._count(name)
        whole = Statistics.merge(self._statistics(part, name) for part in self._parts(name))
        self._check(whole.count, name, "in its statistics")
        return whole

    def _statistics(self, part: str, split: str) -> Statistics:
        path = parts.paths(self.path, part)[parts.STATISTICS]
        stored = path.relative_to(self.path).as_posix() in self.card["files"]
        return statistics.read(path, split) if stored else parts.measure(self.path, part, split)

    def kin(self, name: str) -> list[list[str]]:
        """What each example of a split shares with those that it must not be parted from, in stored order."""
        return self._ledger(name, ("kin",))["kin"]

    def stream(self, split: str, batch_size: int, seed: int, shard: int = 0, shards: int = 1) -> grain.IterDataset:
        """Endless shuffled batches of this host's share. Its iterator's state restores the exact position.

        An epoch is `examples // shards // batch_size` batches, the same on every host, and shows a row at most once;
        what is left out, less than a batch of each host and less than a row for each, is drawn anew every epoch.
        """
        source = self._blocks(split)
        if batch_size > source.rows // shards:
            raise DatasetError(
                f"batch_size {batch_size} exceeds the {source.rows // shards} {split} examples of a host"
            )
        batches = grain.MapDataset.source(Batches(source, batch_size, seed, shard, shards))
        # Reading ahead by half a window hides the reading of the next one.
        ahead = min(max(WINDOW_ROWS // 2 // batch_size, 4), 128)
        return batches.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=ahead))

    def _blocks(self, split: str) -> Blocks:
        self._count(split)
        found = Blocks([parts.paths(self.path, part)[blocks.FOLDER] for part in self._parts(split)], split)
        self._check(found.rows, split, "in blocks")
        return found

    def _count(self, split: str) -> int:
        """Examples of a split, of which there must be one."""
        count = self.card["splits"].get(split, {}).get("examples", 0)
        if not count:
            known = ", ".join(name for name, own in self.card["splits"].items() if own["examples"])
            raise DatasetError(f"{self.path}: no examples in split {split!r}; it has {known}")
        return count

    def _check(self, found: int, split: str, where: str) -> None:
        if found != self._count(split):
            raise self._damaged(f"{found} {split} examples {where}, {self._count(split)} in the data card")

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
