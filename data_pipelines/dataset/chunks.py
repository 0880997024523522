"""Tasks -> files of records, by processes of this machine or by Apache Beam; resumable, whatever ran before.

Tasks are cut into chunks in a fixed order. A finished chunk is one Arrow file, written under a temporary name and
renamed: after a kill the same command goes on with the chunks that are missing.
"""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_pipelines.dataset.beam import Beam
from data_pipelines.dataset.records import Record, run_task
from data_pipelines.dataset.staging import SCHEMA
from data_pipelines.files import replacing, write_atomic
from data_pipelines.places import Place, RemotePath
from data_pipelines.readers.sources import SourceTask
from data_pipelines.schema import EnergyGrid

# A chunk is closed when it holds so many records, or so many tasks: a quarter of a minute's work at the most.
CHUNK_RECORDS = 1024
CHUNK_TASKS = 16


def schema(grid: EnergyGrid) -> pa.Schema:
    """Columns of a chunk: a Record each row. masked is JSON; spectrum and labels are null where the record is dropped."""
    arrays = {"spectrum": pa.list_(pa.float32(), grid.length), "labels": pa.list_(pa.float32(), grid.labels)}
    texts = {"structure": pa.string()} if grid.signals else {}
    return pa.unify_schemas([SCHEMA, pa.schema(texts), pa.schema(arrays)])


def ingest(
    tasks: Sequence[SourceTask],
    grid: EnergyGrid,
    folder: Place,
    workers: int,
    beam: Beam | None,
    report: Callable[[int], None],
) -> list[Place]:
    """Work off all tasks into `folder` and return its files, in the order of the tasks.

    `report(records)` tells of records that are done, those of an earlier run first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chunks = list(_cut(tasks))
    paths = [folder / f"{number:06d}.arrow" for number in range(len(chunks))]
    there = {path.name for path in folder.glob("*.arrow")}
    todo = [(path, chunk) for path, chunk in zip(paths, chunks, strict=True) if path.name not in there]
    report(_records(tasks) - sum(_records(chunk) for _, chunk in todo))
    if todo and beam:
        held = {path: _records(chunk) for path, chunk in todo}
        calls = {path: partial(_run_chunk, chunk, grid, path) for path, chunk in todo}
        beam.run(calls, folder.parent, lambda path: report(held[path]))
    elif todo:
        _run_processes(todo, grid, workers, report)
    return paths


def read(path: Place, work: Path) -> pa.Table:
    """One chunk, mapped into memory; a remote one from a copy in `work`."""
    if isinstance(path, RemotePath):
        copy = work / path.parent.name / path.name
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            with replacing(copy) as partial:
                path.download(partial)
        path = copy
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _records(tasks: Sequence[SourceTask]) -> int:
    return sum(len(task.members) for task in tasks)


def _cut(tasks: Sequence[SourceTask]) -> Iterator[list[SourceTask]]:
    chunk: list[SourceTask] = []
    for task in tasks:
        chunk.append(task)
        if len(chunk) >= CHUNK_TASKS or _records(chunk) >= CHUNK_RECORDS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _run_processes(
    todo: list[tuple[Place, list[SourceTask]]], grid: EnergyGrid, workers: int, report: Callable
) -> None:
    if min(workers, len(todo)) == 1:  # a process more would only cost its start
        for path, chunk in todo:
            _run_chunk(chunk, grid, path)
            report(_records(chunk))
        return
    pool = ProcessPoolExecutor(min(workers, len(todo)), get_context("spawn"), initializer=_start_worker)
    try:
        futures = {pool.submit(_run_chunk, chunk, grid, path): _records(chunk) for path, chunk in todo}
        for future in as_completed(futures):
            future.result()
            report(futures[future])
    except BaseException:
        # Unfinished chunks are simply done again: no reason to wait for them.
        for process in list((pool._processes or {}).values()):
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides on Ctrl-C


def _run_chunk(chunk: list[SourceTask], grid: EnergyGrid, path: Place) -> None:
    table = as_table([record for task in chunk for record in run_task(task, grid)], grid)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    if isinstance(path, RemotePath):
        write_atomic(path, sink.getvalue())
        return
    # Two workers of a cluster may be given one chunk: each writes under a name of its own.
    own = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    write_atomic(own, sink.getvalue())
    os.replace(own, path)


def as_table(records: Sequence[Record], grid: EnergyGrid) -> pa.Table:
    """Records as rows of `schema`."""
    columns = {}
    for field in schema(grid):
        values = [getattr(record, field.name) for record in records]
        if pa.types.is_fixed_size_list(field.type):
            columns[field.name] = _arrays(values, field.type)
        elif field.name == "kin":
            columns[field.name] = [[_unicode(key) for key in keys] for keys in values]
        else:
            columns[field.name] = [_unicode(json.dumps(v) if field.name == "masked" else v) for v in values]
    return pa.table(columns, schema=schema(grid))


def _unicode(text: str) -> str:
    """File names may hold bytes that are no text; Python carries them as lone surrogates, which nothing else accepts."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _arrays(values: list[np.ndarray | None], kind: pa.DataType) -> pa.Array:
    """Rows of equal length, or None, without a Python object for every number."""
    missing = np.array([value is None for value in values], bool)
    rows = [np.zeros(kind.list_size, np.float32) if value is None else value for value in values]
    flat = np.concatenate(rows) if rows else np.empty(0, np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=kind, mask=pa.array(missing))
