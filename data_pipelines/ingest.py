"""Sources -> labelled examples -> dataset, resumable and the same bytes whatever the number of workers.

Tasks are cut into chunks in a fixed order; a finished chunk is one JSON-lines file, written under a
temporary name and renamed. After a kill the same command goes on with the chunks that are missing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from data_pipelines import blocks, card, splits, tfds_builder
from data_pipelines.errors import SourceError
from data_pipelines.files import write_atomic
from data_pipelines.records import Record, run_task
from data_pipelines.schema import DESCRIPTORS, REFERENCE_ENERGY_EV, SYMBOLS, EnergyGrid
from data_pipelines.sources import Source, Task, open_source

# Raise with any change of the rules (checks, labels, splits) that the fingerprint does not see by itself.
RECIPE = 2
CHUNK_TASKS = 16
WORK = ".prepare"


def prepare(
    sources: list[Path],
    out: Path,
    grid: EnergyGrid,
    workers: int,
    overwrite: bool = False,
    report: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> dict:
    """Ingest `sources` into the dataset folder `out` and return its data card.

    `report(stage, done, total)` is called as work goes on. Raises SourceError for what cannot be read.
    """
    existing = card.read(out) if (out / card.FILE).exists() else None
    work = out / WORK
    opened = [open_source(path, work) for path in sources]
    key = _fingerprint(opened, grid)
    if existing and not overwrite:
        shutil.rmtree(work, ignore_errors=True)
        if existing["fingerprint"] == key:
            if not card.has_blocks(existing):
                _finish(out, existing)
            return existing
        raise SourceError(
            f"{out} holds a dataset of other sources or another grid; choose another --out, or --overwrite"
        )

    tasks = [task for source in opened for task in source.tasks]
    records = _unique(list(_ingest(tasks, grid, work / key, workers, report)))
    kept = [record.example() for record in records if not record.dropped]
    if not kept:
        _abandon(out)
        reasons = sorted({f"{record.dropped} ({record.detail})" for record in records})
        raise SourceError(f"no usable spectrum in {', '.join(map(str, sources))}: {'; '.join(reasons[:3])}")
    assigned, split_counts = splits.assign(kept)
    report("writing", 0, len(kept))
    tfds_builder.write(out, kept, assigned, grid)
    document = card.make(opened, records, kept, assigned, split_counts, grid, key)
    _finish(out, document)
    shutil.rmtree(work)
    report("writing", len(kept), len(kept))
    return document


def _finish(out: Path, document: dict) -> None:
    """Blocks of the same examples in the order of TFDS, which is a shuffled one; then the card."""
    present = [split for split, part in document["splits"].items() if part["examples"]]
    blocks.write(out, {split: _stored(out, split) for split in present})
    card.write(out, document)


def _stored(out: Path, split: str) -> Iterator[blocks.Rows]:
    source = tfds_builder.data_source(out, split)
    for start in range(0, len(source), blocks.BLOCK_ROWS):
        rows = [source[i] for i in range(start, min(start + blocks.BLOCK_ROWS, len(source)))]
        yield blocks.Rows(
            np.stack([row["spectrum"] for row in rows]),
            np.array([SYMBOLS.index(row["element"].decode()) for row in rows], np.int32),
            np.stack([row["labels"] for row in rows]),
        )


def _fingerprint(opened: list[Source], grid: EnergyGrid) -> str:
    """Same fingerprint, same dataset: sources, grid with its anchors, and descriptor table."""
    table = [(d.name, d.kind, d.sites, d.classes, d.plausible) for d in DESCRIPTORS]
    text = json.dumps(
        [RECIPE, [(s.name, s.sha256) for s in opened], asdict(grid), list(REFERENCE_ENERGY_EV.items()), table]
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _ingest(tasks: list[Task], grid: EnergyGrid, parts: Path, workers: int, report: Callable) -> Iterator[Record]:
    parts.mkdir(parents=True, exist_ok=True)
    chunks = [tasks[i : i + CHUNK_TASKS] for i in range(0, len(tasks), CHUNK_TASKS)]
    paths = [parts / f"{number:06d}.jsonl" for number in range(len(chunks))]
    todo = [(path, chunk) for path, chunk in zip(paths, chunks, strict=True) if not path.exists()]
    total = sum(len(task.members) for task in tasks)
    done = total - sum(len(task.members) for _, chunk in todo for task in chunk)
    report("ingesting", done, total)
    if todo:
        pool = ProcessPoolExecutor(min(workers, len(todo)), get_context("spawn"), initializer=_start_worker)
        try:
            futures = {pool.submit(_run_chunk, chunk, grid, path): chunk for path, chunk in todo}
            for future in as_completed(futures):
                future.result()
                done += sum(len(task.members) for task in futures[future])
                report("ingesting", done, total)
        except BaseException:
            # Unfinished chunks are simply done again: no reason to wait for them.
            for process in list((pool._processes or {}).values()):
                process.kill()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line in file:
                yield Record(**json.loads(line))


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides on Ctrl-C


def _run_chunk(chunk: list[Task], grid: EnergyGrid, path: Path) -> None:
    records = [record for task in chunk for record in run_task(task, grid)]
    write_atomic(path, "".join(json.dumps(asdict(record)) + "\n" for record in records))


def _abandon(out: Path) -> None:
    """Leave nothing of a run that cannot succeed."""
    shutil.rmtree(out / WORK)
    if not any(out.iterdir()):
        out.rmdir()


def _unique(records: list[Record]) -> list[Record]:
    """The first record of each id stays; later ones are dropped and named."""
    seen: dict[str, Record] = {}
    for record in records:
        if record.dropped:
            continue
        if record.id in seen:
            first = seen[record.id]
            same = "same spectrum" if first.spectrum == record.spectrum else "another spectrum"
            record.dropped, record.detail = "duplicate id", f"{record.id} is also in {first.source}, with {same}"
        else:
            seen[record.id] = record
    return records
