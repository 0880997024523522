"""A dataset folder -> arrays: the whole split at once (resident), or a resumable Grain stream of batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import grain
import numpy as np

from data_pipelines import card, tfds_builder
from data_pipelines.errors import DatasetError
from data_pipelines.files import file_sha256
from data_pipelines.schema import NAMES, SYMBOLS, Batch, EnergyGrid, encode_labels


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
        """Endless shuffled batches of this host's share. Its iterator's state restores the exact position."""
        source = self._source(split)
        if batch_size > len(source) // shards:
            raise DatasetError(
                f"batch_size {batch_size} exceeds the {len(source) // shards} {split} examples of a host"
            )
        checked = _Checked(source, self._damaged)
        examples = grain.MapDataset.source(checked)[shard::shards].shuffle(seed).map(_single).repeat()
        batches = examples.batch(batch_size, drop_remainder=True)
        # Grain's own default would read hundreds of batches ahead before the first one comes.
        return batches.to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=8))

    def _source(self, split: str):
        count = self.card["splits"].get(split, {}).get("examples", 0)
        if not count:
            known = ", ".join(name for name, part in self.card["splits"].items() if part["examples"])
            raise DatasetError(f"{self.path}: no examples in split {split!r}; it has {known}")
        try:
            return tfds_builder.data_source(self.path, split)
        except Exception as error:
            raise self._damaged(error) from None

    def _read(self, split: str) -> list[dict]:
        try:
            source = self._source(split)
            return [source[i] for i in range(len(source))]
        except DatasetError:
            raise
        except Exception as error:  # array_record raises bare RuntimeError, TFDS many others
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> DatasetError:
        for name, sha256 in self.card["files"].items():
            path = self.path / name
            if not path.exists():
                return DatasetError(f"{path}: missing; prepare the dataset again")
            if file_sha256(path) != sha256:
                return DatasetError(f"{path}: damaged (checksum differs from the data card); prepare the dataset again")
        return DatasetError(f"{self.path}: cannot be read ({type(error).__name__}: {error})")


class _Checked:
    """A data source whose read errors name the damaged file."""

    def __init__(self, source: Any, damaged: Callable[[Exception], DatasetError]):
        self._rows, self._damaged = source, damaged

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict:
        try:
            return self._rows[index]
        except Exception as error:
            raise self._damaged(error) from None


def _single(row: dict) -> Batch:
    labels, mask = encode_labels(row["labels"][None])
    number = np.int32(SYMBOLS.index(row["element"].decode()))
    return Batch(row["spectrum"], number, labels[0], mask[0])
