"""One Parquet file of answers, and the folder beside it that holds its parts until it is whole.

    OUT                 appears when all is answered; its metadata `spt_jax` say which model answered what
    OUT.parts/job.json  whose parts lie here, and how many rows are done
    OUT.parts/lock      which process writes them
    OUT.parts/SPLIT-ROW.parquet   a part, of the rows from this one on; whole or absent

The files themselves say what is done: a kill at any moment costs the parts that were being answered.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.errors import UserError
from data_pipelines.files import locked, read_json, replacing, write_atomic

JOB, LOCK, METADATA = "job.json", "lock", b"spt_jax"


@dataclass(frozen=True)
class Part:
    """The rows of a split from `start` to `stop`."""

    split: str
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


class AnswerFile:
    """The file `out` of one job, in `parts`. job: what it says of itself, as JSON; schema: of all parts.

    Raises UserError where `out`, or the folder beside it, holds the answers of another job.
    """

    def __init__(self, out: Path, job: dict, schema: pa.Schema, parts: Sequence[Part]):
        self.out, self.folder, self._job, self._parts = out, out.with_name(f"{out.name}.parts"), job, tuple(parts)
        self._schema = schema.with_metadata({METADATA: json.dumps(job)})
        self.whole = self._is_there()

    @contextmanager
    def held(self) -> Iterator[None]:
        """What follows needs it, unless the file is whole: no other process writes it meanwhile; makes the folder.

        Raises UserError where one does. Afterwards `whole` is of now.
        """
        if self.whole:
            yield
            return
        with locked(self.folder / LOCK, str(self.out)):
            self.whole = self._is_there()
            yield

    def missing(self) -> list[Part]:
        """What is left to be answered."""
        left = [part for part in self._parts if not self._is_whole(part)]
        self._note(sum(part.rows for part in self._parts) - sum(part.rows for part in left))
        return left

    def write(self, part: Part, table: pa.Table, done: int) -> None:
        """A part, whole or not at all; done: rows that are answered with it."""
        with replacing(self._path(part)) as partial:
            pq.write_table(table, partial, compression="zstd")
        self._note(done)

    def join(self) -> int:
        """All parts become `out`, a row group each, and the folder goes; returns how many rows have no answers."""
        silent = 0
        with replacing(self.out) as partial, pq.ParquetWriter(partial, self._schema, compression="zstd") as writer:
            for part in self._parts:
                table = pq.read_table(self._path(part))
                silent += len(table) - table["error"].null_count
                writer.write_table(table.replace_schema_metadata(self._schema.metadata), row_group_size=part.rows)
        self.clear()
        return silent

    def clear(self) -> None:
        """Remove the parts: those of a file that is whole are not needed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_there(self) -> bool:
        if self.out.exists():
            self._check(_told(self.out), self.out)
            return True
        if (self.folder / JOB).exists():
            self._check(read_json(self.folder / JOB), self.folder)
        return False

    def _path(self, part: Part) -> Path:
        return self.folder / f"{part.split}-{part.start:012d}.parquet"

    def _is_whole(self, part: Part) -> bool:
        with suppress(OSError, pa.ArrowException):
            return pq.read_metadata(self._path(part)).num_rows == part.rows
        return False

    def _note(self, done: int) -> None:
        write_atomic(self.folder / JOB, json.dumps({**self._job, "done": done}, indent=1) + "\n")

    def _check(self, found: dict, place: Path) -> None:
        differing = [
            name for name in self._job if name not in ("dataset", "decisions") and found.get(name) != self._job[name]
        ]
        if found.get("dataset", {}).get("fingerprint") != self._job["dataset"]["fingerprint"]:
            differing.append("dataset")
        if differing:
            raise UserError(
                f"{place} holds answers with another {', '.join(differing)}; remove it, or choose another --out"
            )


def _told(out: Path) -> dict:
    """What a file says of itself."""
    try:
        return json.loads((pq.read_schema(out).metadata or {})[METADATA])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        raise UserError(f"{out} exists and holds no answers of `spt-jax predict`; choose another --out") from None
