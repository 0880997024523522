"""A remote ArrayRecord file of which only what is read is fetched.

array_record reads files of this machine alone. So there is one as long as the remote file and empty, which takes no
disk; the end of it, which says where every record lies, is fetched at once, and a record when it is first asked for.
What was fetched stays until the file is dropped, so a second epoch reads the disk. array_record checks every record.

Where a file ends as those of blocks.py do, uncompressed, the records are found here (the layout is that of
google/array_record: cpp/layout.proto, and of google/riegeli: doc/riegeli_records_file_format.md). Any other file, as
TFDS writes them, is fetched as a whole when it is first read.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
import weakref
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from threading import Lock

from data_pipelines.errors import DatasetError
from data_pipelines.files import scratch
from data_pipelines.places import RemotePath

# Riegeli cuts files into blocks of this size, each with a header, and ArrayRecord puts its last words into the last.
BLOCK, BLOCK_HEADER, CHUNK_HEADER = 1 << 16, 24, struct.Struct("<QQQQQ")
# What is fetched of the end before anything is known: the last words and, of most files, the table of records.
TAIL = 2 * BLOCK


class SparseCopy:
    """`file`: of this machine, in the place of the remote one. Any number of threads may fetch.

    Raises FileNotFoundError where the remote file is not there, DatasetError where this machine has no room for it.
    """

    def __init__(self, path: RemotePath):
        self.path, self._size = path, path.stat().st_size
        number, name = tempfile.mkstemp(dir=scratch())
        os.close(number)
        self.file = Path(name)
        weakref.finalize(self, _remove, name)
        os.truncate(name, self._size)
        self._lock, self._there = Lock(), set[tuple[int, int]]()
        end = max(self._size - TAIL, 0)
        self._fill(end, self._size)
        try:
            self._edges, self._ends = self._table(end)
        except (ValueError, IndexError, struct.error):  # compressed, or damaged, which array_record will say
            self._edges, self._ends = [0, end], None

    def fetch(self, records: Sequence[int], again: bool = False) -> None:
        """Have these records here; again: also if they are."""
        for chunk in sorted({self._chunk(record) for record in records}):
            span = self._edges[chunk], self._edges[chunk + 1]
            if again or span not in self._there:
                self._fill(*span)
                with self._lock:
                    self._there.add(span)

    def _chunk(self, record: int) -> int:
        return min(bisect_right(self._ends, record), len(self._edges) - 2) if self._ends else 0

    def _fill(self, start: int, stop: int) -> None:
        content = self.path.read_range(start, stop)
        try:
            with open(self.file, "r+b", buffering=0) as file:
                file.seek(start)
                file.write(content)
        except OSError as error:
            raise DatasetError(
                f"{self.file.parent}: no room for what is read of {self.path} ({error.strerror}); set XDG_CACHE_HOME"
            ) from None

    def _table(self, fetched: int) -> tuple[list[int], list[int]]:
        """Where each chunk of records begins, and the last ends; and for each, how many records there are to its end."""
        with open(self.file, "rb") as file:
            place = self._size - BLOCK

            def bytes_at(place: int, count: int) -> bytes:
                """Without the headers of blocks."""
                found = b""
                while len(found) < count:
                    place += BLOCK_HEADER if place % BLOCK == 0 else 0
                    file.seek(place)
                    piece = file.read(min(count - len(found), BLOCK - place % BLOCK))
                    if not piece:
                        raise ValueError("cut short")
                    found, place = found + piece, place + len(piece)
                return found

            footer = _field(_records(bytes_at, place)[0], 1)
            if footer < fetched:
                self._fill(footer, fetched)
            told = _records(bytes_at, footer)[1:]
            starts, counts = ([_field(entry, number) for entry in told] for number in (1, 3))
        if not starts or [0, *starts, footer] != sorted({0, *starts, footer}):
            raise ValueError("no order")
        return [*starts, footer], list(accumulate(counts))


def _records(bytes_at, place: int) -> list[bytes]:
    """Of an uncompressed chunk. Raises ValueError for any other."""
    _, size, _, kind, _ = CHUNK_HEADER.unpack(bytes_at(place, CHUNK_HEADER.size))
    content = bytes_at(place, CHUNK_HEADER.size + size)[CHUNK_HEADER.size :]
    if kind & 255 != ord("r") or content[0] != 0:
        raise ValueError("compressed")
    length, begin = _number(content, 1)
    place, sizes = begin, []
    while place < begin + length:
        value, place = _number(content, place)
        sizes.append(value)
    return [content[place + end - own : place + end] for own, end in zip(sizes, accumulate(sizes), strict=True)]


def _field(message: bytes, wanted: int) -> int:
    """A number of a Protocol Buffers message that holds numbers alone."""
    place = 0
    while place < len(message):
        tag, place = _number(message, place)
        value, place = _number(message, place)
        if tag == wanted << 3:
            return value
    raise ValueError(f"no field {wanted}")


def _number(content: bytes, place: int) -> tuple[int, int]:
    """A varint, and where it ends."""
    value = shift = 0
    while True:
        byte = content[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return value, place


def _remove(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name)
