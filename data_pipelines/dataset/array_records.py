"""Files of ArrayRecord: opened, read at random access, written. Of this machine, or of an object store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from data_pipelines import faults
from data_pipelines.dataset.ranged import SparseCopy
from data_pipelines.errors import DatasetError
from data_pipelines.places import Place, RemotePath

T = TypeVar("T")
REMEDY = "prepare the dataset again, with --overwrite"
# What array_record says of faults that pass, since it raises one kind of error for all.
PASSING = {os.strerror(number): number for number in faults.PASSING}
# Records that are read together.
AT_ONCE = 1024


def asked(path: Place, call: Callable[[], T]) -> T:
    """What array_record answers, asked again where it says that a fault may pass."""

    def ask() -> T:
        try:
            return call()
        except RuntimeError as error:  # of any kind
            number = next((number for words, number in PASSING.items() if words in str(error)), None)
            if number is None:
                raise
            raise OSError(number, os.strerror(number)) from None

    return faults.retried(str(path), "read", ask)


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


ArrayRecords: TypeAlias = ArrayRecordReader | RemoteReader


def reader_of(path: Place) -> ArrayRecords:
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
        for start in range(0, reader.num_records(), AT_ONCE):
            yield from reader.read(range(start, min(start + AT_ONCE, reader.num_records())))
        reader.close()
    except FileNotFoundError:
        raise DatasetError(f"{path}: missing; {REMEDY}") from None
    except (RuntimeError, ValueError, IndexError) as error:  # array_record raises bare RuntimeError
        raise DatasetError(f"{path}: damaged ({' '.join(str(error).split())}); {REMEDY}") from None


def block_writer(path: Path) -> ArrayRecordWriter:
    """Of records that are read one by one and are not worth compressing."""
    return ArrayRecordWriter(str(path), "group_size:1,uncompressed")
