"""Blocks: up to 1024 examples as one ArrayRecord record, so that streaming costs per block and not per example.

FOLDER/<split>-<NNNNN>-of-<NNNNN>.array_record. All blocks of a split hold the same number of rows and all
its shards the same number of blocks, the last of each excepted: so a reader opens two files to know the place of
every row. A dataset has a folder for each of its parts. ArrayRecord keeps a checksum of every block, hence none here; blocks are not compressed, as spectra
shrink by a sixth at most and then read at half the speed.
"""

from __future__ import annotations

import re
import shutil
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from data_pipelines.dataset.ranged import SparseCopy
from data_pipelines.errors import DatasetError
from data_pipelines.places import Place, RemotePath

FOLDER = "blocks"
BLOCK_ROWS = 1024
SHARD_BLOCKS = 64
# Shards that stay open at a time, below the 1024 files that a process may commonly open.
OPEN_SHARDS = 256
# Blocks of a remote set that are asked for at a time: an answer takes 20 to 100 ms, most of which is waiting.
AT_A_TIME = 16
GOLDEN = (5**0.5 - 1) / 2
MAGIC = b"SPTB"
VERSION = 1
HEADER = struct.Struct("<4sIIII")  # magic, version, rows, energies, labels
REMEDY = "prepare the dataset again, with --overwrite"


class Rows(NamedTuple):
    """Examples as stored. spectrum: (N, L) float32. atomic_number: (N,) int32. labels: (N, D) float32, NaN: no label."""

    spectrum: np.ndarray
    atomic_number: np.ndarray
    labels: np.ndarray


def pack(rows: Rows) -> bytes:
    """Header, then the three arrays one after the other, little-endian."""
    header = HEADER.pack(MAGIC, VERSION, *rows.spectrum.shape, rows.labels.shape[1])
    arrays = (rows.spectrum.astype("<f4"), rows.atomic_number.astype("<i4"), rows.labels.astype("<f4"))
    return b"".join([header, *(array.tobytes() for array in arrays)])


def unpack(data: bytes) -> Rows:
    """Views of `data`, nothing copied. Raises ValueError for anything that `pack` does not write."""
    if len(data) < HEADER.size:
        raise ValueError(f"{len(data)} bytes are no block")
    magic, version, rows, energies, labels = HEADER.unpack_from(data)
    if (magic, version) != (MAGIC, VERSION):
        raise ValueError(f"block of format {magic!r} {version}, this version reads {MAGIC!r} {VERSION}")
    if len(data) != HEADER.size + 4 * rows * (energies + 1 + labels):
        raise ValueError(f"block of {len(data)} bytes cannot hold {rows} x ({energies} + 1 + {labels}) values")
    spectrum, rest = HEADER.size, HEADER.size + 4 * rows * energies
    return Rows(
        np.frombuffer(data, "<f4", rows * energies, spectrum).reshape(rows, energies),
        np.frombuffer(data, "<i4", rows, rest),
        np.frombuffer(data, "<f4", rows * labels, rest + 4 * rows).reshape(rows, labels),
    )


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
            writer = ArrayRecordWriter(str(shards[-1]), "group_size:1,uncompressed")
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


def join(parts: list[Rows]) -> Rows:
    return Rows(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


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

    sizes: (blocks,) rows of each block. Raises DatasetError that names the file which is missing or damaged.
    """

    def __init__(self, folders: Sequence[Place], split: str):
        shards = [_shards(folder, split) for folder in folders]
        self._paths = [path for own in shards for path in own]
        # A bounded cache rather than one reader per shard for good: shards may outnumber the files a process may open.
        self._open = lru_cache(OPEN_SHARDS)(self._reader)
        self._first: list[int] = []
        sizes: list[int] = []
        shard = 0
        for own in shards:
            last = shard + len(own) - 1
            counts = [self._records(shard)] * (last - shard) + [self._records(last)]
            rows = [len(self._read(shard, 0).spectrum)] * sum(counts)
            rows[-1] = len(self._read(last, counts[-1] - 1).spectrum)
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
        shard = bisect_right(self._first, block) - 1
        place = block - self._first[shard]
        # A damaged footer is no error to array_record: it reports fewer records.
        if self._records(shard) != self._counts[shard]:
            raise self._damaged(shard, f"{self._records(shard)} blocks, expected {self._counts[shard]}")
        found = self._read(shard, place)
        if len(found.spectrum) != self.sizes[block]:
            raise self._damaged(shard, f"{len(found.spectrum)} rows in block {place}, expected {self.sizes[block]}")
        return found

    def fetch(self, chosen: Iterable[int]) -> None:
        """Have these blocks of a remote set here, several asked for at a time; of a set on this machine, nothing."""
        own = [block for block in chosen if isinstance(self.path(block), RemotePath)]
        if own:
            with ThreadPoolExecutor(AT_A_TIME) as pool:
                list(pool.map(self._fetch_one, own))

    def _fetch_one(self, block: int) -> None:
        shard = bisect_right(self._first, block) - 1
        self._open(shard).fetch([block - self._first[shard]])

    def path(self, block: int) -> Place:
        """The file that a block lies in."""
        return self._paths[bisect_right(self._first, block) - 1]

    def _records(self, shard: int) -> int:
        return self._open(shard).num_records()

    def _read(self, shard: int, place: int) -> Rows:
        reader = self._open(shard)
        try:
            return unpack(reader.read([place])[0])
        except FileNotFoundError:  # a remote one that was there
            raise DatasetError(f"{self._paths[shard]}: missing; {REMEDY}") from None
        except (RuntimeError, ValueError, IndexError) as error:  # array_record raises bare RuntimeError
            raise self._damaged(shard, str(error)) from None

    def _reader(self, shard: int) -> ArrayRecordReader | RemoteReader:
        path = self._paths[shard]
        try:
            if isinstance(path, Path) and not path.exists():
                raise FileNotFoundError
            reader = reader_of(path)
            records = reader.num_records()
        except FileNotFoundError:
            raise DatasetError(f"{path}: missing; {REMEDY}") from None
        except RuntimeError as error:
            raise self._damaged(shard, str(error)) from None
        if records == 0:
            raise self._damaged(shard, "no blocks")
        return reader

    def _damaged(self, shard: int, detail: str) -> DatasetError:
        return DatasetError(f"{self._paths[shard]}: damaged ({' '.join(detail.split())}); {REMEDY}")


class RemoteReader:
    """As ArrayRecordReader, of a remote file; what is damaged on its way is fetched once more."""

    def __init__(self, path: RemotePath):
        self._copy = SparseCopy(path)
        self._reader = reader_of(self._copy.file)
        self.num_records, self.fetch, self.close = self._reader.num_records, self._copy.fetch, self._reader.close

    def read(self, records: Sequence[int]) -> list[bytes]:
        self.fetch(records)
        try:
            return self._reader.read(records)
        except RuntimeError:
            self._copy.fetch(records, again=True)
            return self._reader.read(records)


def reader_of(path: Place) -> ArrayRecordReader | RemoteReader:
    """Any ArrayRecord file at random access, without threads of its own. Raises RuntimeError for a damaged one, and
    FileNotFoundError for a remote one that is not there."""
    if isinstance(path, RemotePath):
        return RemoteReader(path)
    return ArrayRecordReader(str(path), "readahead_buffer_size:0,max_parallelism:0")


def write_all(path: Path, records: Iterable[bytes]) -> None:
    """Any ArrayRecord file, its records one by one at random access."""
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def read_all(path: Place) -> Iterator[bytes]:
    """All records of any ArrayRecord file. Raises DatasetError that names it where it is missing or damaged."""
    try:
        reader = reader_of(path)
        for start in range(0, reader.num_records(), BLOCK_ROWS):
            yield from reader.read(range(start, min(start + BLOCK_ROWS, reader.num_records())))
        reader.close()
    except FileNotFoundError:
        raise DatasetError(f"{path}: missing; {REMEDY}") from None
    except (RuntimeError, ValueError, IndexError) as error:  # array_record raises bare RuntimeError
        raise DatasetError(f"{path}: damaged ({' '.join(str(error).split())}); {REMEDY}") from None


def _shards(folder: Place, split: str) -> list[Place]:
    """All shards that a split must have, by what the name of the first one found says."""
    found = sorted(folder.glob(f"{split}-*-of-*.array_record"))
    if not found:
        raise DatasetError(f"{folder}: missing, or without blocks of split {split!r}; {REMEDY}")
    count = int(re.fullmatch(r".*-of-(\d+)\.array_record", found[0].name)[1])
    return [folder / f"{split}-{i:05d}-of-{count:05d}.array_record" for i in range(count)]
