"""Blocks: up to 1024 examples as one ArrayRecord record, so that streaming costs per block and not per example.

FOLDER/<split>-<NNNNN>-of-<NNNNN>.array_record. All blocks of a split hold the same number of rows and all
its shards the same number of blocks, the last of each excepted: so a reader opens two files to know the place of
every row. A dataset has a folder for each of its parts. ArrayRecord keeps a checksum of every block, hence none here;
blocks are not compressed, as spectra shrink by a sixth at most and then read at half the speed.
"""

from __future__ import annotations

import os
import re
import shutil
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from data_pipelines.dataset.array_records import REMEDY as REMEDY
from data_pipelines.dataset.array_records import ArrayRecords, asked, block_writer, reader_of
from data_pipelines.dataset.packing import Rows as Rows
from data_pipelines.dataset.packing import join as join
from data_pipelines.dataset.packing import pack, unpack
from data_pipelines.errors import DamagedBlock, DatasetError, UserError
from data_pipelines.places import Place, RemotePath

FOLDER = "blocks"
BLOCK_ROWS = 1024
SHARD_BLOCKS = 64
# Shards that stay open at a time, below the 1024 files that a process may commonly open.
OPEN_SHARDS = 256
# Blocks of a remote set that are asked for at a time: an answer takes 20 to 100 ms, most of which is waiting.
AT_A_TIME = 16
# Bytes that headers and the index of a file may move a block by.
SLACK = 2**17
GOLDEN = (5**0.5 - 1) / 2


def write(
    folder: Path,
    splits: Mapping[str, Iterable[Rows]],
    block_rows: int = BLOCK_ROWS,
    shard_blocks: int = SHARD_BLOCKS,
) -> None:
    """Write `folder` from rows that come in portions of any size; it appears when complete, or not at all.

    At most one block and one portion are held in memory.
    """
    partial = folder.with_name(f".{folder.name}-partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for split, portions in splits.items():
            _write_split(partial, split, _regroup(portions, block_rows), shard_blocks)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_split(folder: Path, split: str, blocks: Iterator[Rows], shard_blocks: int) -> None:
    shards: list[Path] = []
    writer = None
    for number, block in enumerate(blocks):
        if number % shard_blocks == 0:
            if writer:
                writer.close()
            shards.append(folder / f"{split}-{len(shards):05d}")
            writer = block_writer(shards[-1])
        writer.write(pack(block))
    if writer:
        writer.close()
    for path in shards:
        path.rename(folder / f"{path.name}-of-{len(shards):05d}.array_record")


def _regroup(portions: Iterable[Rows], size: int) -> Iterator[Rows]:
    """Rows in groups of `size`, the last one smaller."""
    held: list[Rows] = []
    count = 0
    for portion in portions:
        start = 0
        while start < len(portion.spectrum):
            part = Rows(*(array[start : start + size - count] for array in portion))
            held.append(part)
            start, count = start + len(part.spectrum), count + len(part.spectrum)
            if count == size:
                yield join(held)
                held, count = [], 0
    if held:
        yield join(held)


def cuts(sizes: np.ndarray, start: int, stop: int) -> Iterator[tuple[int, slice]]:
    """Where the rows from `start` to `stop` of a source lie: numbers of blocks of (blocks,) sizes, and which rows of each.

    >>> list(cuts(np.array([4, 4, 2]), 3, 9))
    [(0, slice(3, 4, None)), (1, slice(0, 4, None)), (2, slice(0, 1, None))]
    """
    ends = np.cumsum(sizes)
    block = int(np.searchsorted(ends, start, "right"))
    while start < stop:
        first, end = int(ends[block] - sizes[block]), min(int(ends[block]), stop)
        yield block, slice(start - first, end - first)
        start, block = end, block + 1


class BlockSource(Protocol):
    """Examples in blocks, wherever they lie. sizes: (blocks,) rows of each."""

    sizes: np.ndarray

    def __getitem__(self, block: int) -> Rows: ...


def gather(source: BlockSource, chosen: np.ndarray) -> Rows:
    """Some blocks one after the other, at least one; no more than a block is held besides them."""
    sizes, first = source.sizes[chosen], source[chosen[0]]
    whole = Rows(*(np.empty((sizes.sum(), *array.shape[1:]), array.dtype) for array in first))
    if isinstance(source, Blocks):
        source.fetch(chosen)
    for block, end in zip(chosen, np.cumsum(sizes), strict=True):
        for array, values in zip(whole, source[block], strict=True):
            array[end - len(values) : end] = values
    return whole


def places(source: BlockSource, chosen: np.ndarray) -> np.ndarray:
    """(n,) numbers of all rows of these blocks."""
    ends = np.cumsum(source.sizes)
    return np.concatenate([np.arange(ends[block] - source.sizes[block], ends[block]) for block in chosen])


def spaced(source: BlockSource, most: int | None = None) -> np.ndarray:
    """(n,) ascending numbers of blocks from all over, just enough to hold `most` rows; of all where None."""
    if most is None:
        return np.arange(len(source.sizes))
    if most < 1:
        raise DatasetError(f"at least one example must be asked for, not {most}")
    # Numbers whose multiple of the golden ratio has a small fraction lie at two or three distances, next to equal.
    order = np.argsort(np.arange(len(source.sizes)) * GOLDEN % 1)
    enough = np.searchsorted(np.cumsum(source.sizes[order]), most) + 1
    return np.sort(order[:enough])


class Blocks:
    """Random access to the blocks of one split in `folders`, one after the other; any number of threads may read.

    sizes: (blocks,) rows of each block. remote: whether any lies in a store. Raises DatasetError that names the file which is
    missing or damaged, and DamagedBlock for a block that others can do without.
    """

    def __init__(self, folders: Sequence[Place], split: str, expected: Sequence[int | None] | None = None):
        """expected: rows of each folder, by which the last block is known even where it is damaged."""
        shards = [_shards(folder, split) for folder in folders]
        self._paths, self._split = [path for own in shards for path in own], split
        self.remote = any(isinstance(folder, RemotePath) for folder in folders)
        # A bounded cache rather than one reader per shard for good: shards may outnumber the files a process may open.
        self._open = lru_cache(OPEN_SHARDS)(self._reader)
        self._first: list[int] = []
        sizes: list[int] = []
        shard = 0
        for own, told in zip(shards, expected or [None] * len(shards), strict=True):
            last = shard + len(own) - 1
            counts = [self._records(shard)] * (last - shard) + [self._records(last)]
            rows = [self._rows(shard, counts[0])] * sum(counts)
            try:
                rows[-1] = len(self._read(last, counts[-1] - 1).spectrum)
            except DamagedBlock:
                rows[-1] = (told or 0) - sum(rows[:-1])
                if not 0 < rows[-1] <= rows[0]:
                    raise
            self._first += (len(sizes) + np.cumsum([0, *counts[:-1]])).tolist()
            sizes += rows
            shard = last + 1
        self._counts = np.diff([*self._first, len(sizes)])
        self.sizes = np.array(sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def rows(self) -> int:
        return int(self.sizes.sum())

    def __getitem__(self, block: int) -> Rows:
        if not 0 <= block < len(self):
            raise IndexError(f"block {block} of {len(self)}")
        shard, place = self._place(block)
        # A damaged footer is no error to array_record: it reports fewer records.
        try:
            if self._records(shard) != self._counts[shard]:
                raise self._damaged(shard, f"{self._records(shard)} blocks, expected {self._counts[shard]}")
            found = self._read(shard, place)
            if len(found.spectrum) != self.sizes[block]:
                raise self._damaged(shard, f"{len(found.spectrum)} rows, expected {self.sizes[block]}")
        except DamagedBlock as error:
            first = int(self.sizes[:block].sum())
            rows = f"block {place}, rows {first} to {first + self.sizes[block] - 1} of {self._split}"
            raise DamagedBlock(f"{error.what}: {rows}", REMEDY) from None
        return found

    def fetch(self, chosen: Iterable[int]) -> None:
        """Have these blocks of a remote set here, several asked for at a time; of a set on this machine, nothing."""
        own = [block for block in chosen if isinstance(self.path(block), RemotePath)]
        if own:
            with ThreadPoolExecutor(AT_A_TIME) as pool:
                list(pool.map(self.fetch_one, own))

    def fetch_one(self, block: int) -> None:
        shard, place = self._place(block)
        self._open(shard).fetch([place])

    def expect(self, block: int) -> None:
        """Ask the system, where it can be asked, to read a block of this machine while others are in use. Where it lies is
        known to some pages."""
        if not hasattr(os, "posix_fadvise"):
            return
        shard, place = self._place(block)
        with suppress(OSError), open(self._paths[shard], "rb", buffering=0) as file:  # reading it tells what is wrong
            each = os.fstat(file.fileno()).st_size // int(self._counts[shard])
            begin = max(place * each - SLACK, 0)
            os.posix_fadvise(file.fileno(), begin, each + 2 * SLACK, os.POSIX_FADV_WILLNEED)

    def path(self, block: int) -> Place:
        """The file that a block lies in."""
        return self._paths[self._place(block)[0]]

    def _place(self, block: int) -> tuple[int, int]:
        """The shard that a block lies in, and where in it."""
        shard = bisect_right(self._first, block) - 1
        return shard, block - self._first[shard]

    def _records(self, shard: int) -> int:
        return self._open(shard).num_records()

    def _rows(self, shard: int, records: int) -> int:
        """Of the blocks of a shard but the last: of the first that can be read."""
        for place in range(records):
            try:
                return len(self._read(shard, place).spectrum)
            except DamagedBlock:
                if place == records - 1:
                    raise
        raise AssertionError  # a shard has blocks

    def _read(self, shard: int, place: int) -> Rows:
        def read() -> bytes:
            try:
                return self._open(shard).read([place])[0]
            except RuntimeError:
                self._open.cache_clear()  # a file that was replaced on its server is opened anew
                raise

        try:
            return unpack(asked(self._paths[shard], read))
        except FileNotFoundError:  # a remote one that was there
            raise DatasetError(f"{self._paths[shard]}: missing; {REMEDY}") from None
        except UserError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:  # array_record raises bare RuntimeError
            raise self._damaged(shard, str(error)) from None

    def _reader(self, shard: int) -> ArrayRecords:
        path = self._paths[shard]
        try:
            if isinstance(path, Path) and not path.exists():
                raise FileNotFoundError
            reader = asked(path, lambda: reader_of(path))
            records = reader.num_records()
        except FileNotFoundError:
            raise DatasetError(f"{path}: missing; {REMEDY}") from None
        except RuntimeError as error:
            raise self._damaged(shard, str(error)) from None
        if records == 0:
            raise self._damaged(shard, "no blocks")
        return reader

    def _damaged(self, shard: int, detail: str) -> DamagedBlock:
        return DamagedBlock(f"{self._paths[shard]}: damaged ({' '.join(detail.split())})", REMEDY)


def _shards(folder: Place, split: str) -> list[Place]:
    """All shards that a split must have, by what the name of the first one found says."""
    found = sorted(folder.glob(f"{split}-*-of-*.array_record"))
    if not found:
        raise DatasetError(f"{folder}: missing, or without blocks of split {split!r}; {REMEDY}")
    count = int(re.fullmatch(r".*-of-(\d+)\.array_record", found[0].name)[1])
    return [folder / f"{split}-{i:05d}-of-{count:05d}.array_record" for i in range(count)]
