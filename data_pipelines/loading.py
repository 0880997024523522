"""A dataset folder -> arrays: the whole split at once (resident), or a resumable Grain stream of batches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import grain
import numpy as np

from data_pipelines import card, tfds_builder
from data_pipelines.blocks import REMEDY, Blocks
from data_pipelines.errors import DatasetError
from data_pipelines.files import file_sha256
from data_pipelines.schema import NAMES, SYMBOLS, Batch, EnergyGrid, encode_labels
from data_pipelines.stream import WINDOW_ROWS, Batches


@dataclass(frozen=True)
class Split:
    """One whole split in memory. ids, materials and absorbers ("Cu K") are for reports; `batch` is what a model trains on."""

    ids: tuple[str, ...]
    materials: tuple[str, ...]
    absorbers: tuple[str, ...]
    batch: Batch


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

    def split(self, name: str) -> Split:
        """All examples of one split, in stored order."""
        rows = self._read(name)
        spectrum = np.stack([row["spectrum"] for row in rows])
        labels, mask = encode_labels(np.stack([row["labels"] for row in rows]))
        elements = [row["element"].decode() for row in rows]
        numbers = np.array([SYMBOLS.index(e) for e in elements], np.int32)
        return Split(
            tuple(row["id"].decode() for row in rows),
            tuple(row["material"].decode() for row in rows),
            tuple(f"{e} {row['edge'].decode()}" for e, row in zip(elements, rows, strict=True)),
            Batch(spectrum, numbers, labels, mask),
        )

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
        count = self._count(split)
        if not card.has_blocks(self.card):
            raise DatasetError(
                f"{self.path}: made without the blocks that streaming reads; the same `spt-jax prepare` again adds them"
            )
        found = Blocks(self.path, split)
        if found.rows != count:
            raise self._damaged(f"{found.rows} {split} examples in blocks, {count} in the data card")
        return found

    def _count(self, split: str) -> int:
        count = self.card["splits"].get(split, {}).get("examples", 0)
        if not count:
            known = ", ".join(name for name, part in self.card["splits"].items() if part["examples"])
            raise DatasetError(f"{self.path}: no examples in split {split!r}; it has {known}")
        return count

    def _read(self, split: str) -> list[dict]:
        self._count(split)
        try:
            source = tfds_builder.data_source(self.path, split)
            return [source[i] for i in range(len(source))]
        except Exception as error:  # array_record raises bare RuntimeError, TFDS many others
            raise self._damaged(f"{type(error).__name__}: {error}") from None

    def _damaged(self, detail: str) -> DatasetError:
        for name, sha256 in self.card["files"].items():
            path = self.path / name
            if not path.exists():
                return DatasetError(f"{path}: missing; {REMEDY}")
            if file_sha256(path) != sha256:
                return DatasetError(f"{path}: damaged (checksum differs from the data card); {REMEDY}")
        return DatasetError(f"{self.path}: cannot be read ({detail})")
