"""A whole dataset through a model, from disk to disk: however many spectra, memory holds some tens of thousands.

A thread reads the next part while the device works; the device has the next batches before those behind are read; other
threads make answers of its outputs and write them. All batches are of one size, so one program is compiled.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa

from data_pipelines.dataset.data import BlockData, Identified
from data_pipelines.errors import DatasetError
from data_pipelines.places import Place, place
from spt_jax.inference.answer_file import AnswerFile, Part
from spt_jax.inference.columns import errors_of, network_of, schema_of, table_of
from spt_jax.inference.compiled import Compiled, Devices
from spt_jax.inference.predict import CHUNK, Model, load
from spt_jax.runs.blueprint import UNKNOWN
from spt_jax.runs.fingerprint import model_fingerprint

# Of one part, which is what a kill costs: 40 MB of spectra, a row group of the file.
PART_ROWS = 2**16
# Spectra on each device at a time: on a CPU what its caches hold.
BATCH_SIZE, BATCH_SIZE_ACCELERATOR = CHUNK, 4096
# Batches that wait for a thread: enough that neither device nor threads do.
AHEAD = 4


@dataclass(frozen=True)
class Answered:
    """rows: in the file. silent: those without answers. before: whether it was whole already. model: that answered."""

    rows: int
    silent: int
    before: bool
    model: Model


def predict_dataset(
    model: Place | str,
    dataset: BlockData,
    out: Path | str,
    splits: Sequence[str] = (),
    batch_size: int = 0,
    devices: Devices | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
    compiled: bool = False,
    source: int | str | None = None,
) -> Answered:
    """What the model in a run folder or exported file says of every example, into the Parquet file `out`.

    After a kill, the same call goes on where it was, to the same rows; a file that is whole is left alone.

    splits: of the dataset, all where not given. batch_size: spectra on each device at a time; 64 on a CPU and 4096
    elsewhere where not given. devices: that rows are cut over, the first one where not given. report: gets the rows
    that are done, and of how many. compiled, source: as of `load`; programs compiled ahead are for one device. Columns are
    those of `columns.schema_of`. Raises UserError for a dataset that does not fit the model, where `out` holds something
    else, and where another process is writing it.
    """
    named, out = place(model), Path(out)
    loaded = load(named, compiled, source)
    names = tuple(dict.fromkeys(splits)) or tuple(name for name, count in dataset.examples.items() if count)
    counts = {name: dataset.count(name) for name in names}
    _check(loaded, dataset, names)
    parts = [
        Part(name, start, min(start + PART_ROWS, count))
        for name, count in counts.items()
        for start in range(0, count, PART_ROWS)
    ]
    job = {
        "spt_jax": _version(),
        "model": model_fingerprint(named),
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "splits": counts,
        "source": None if loaded.blueprint.source == UNKNOWN else loaded.blueprint.source,
        "decisions": loaded.blueprint.decisions and loaded.blueprint.decisions.to_json(),
    }
    file, total = AnswerFile(out, job, schema_of(loaded), parts), sum(counts.values())
    with file.held():
        if file.whole:
            file.clear()
            return Answered(total, 0, True, loaded)
        left = file.missing()
        if left:
            several = devices if devices and devices.devices > 1 else None
            usual = BATCH_SIZE if jax.default_backend() == "cpu" else BATCH_SIZE_ACCELERATOR
            size = (batch_size or usual) * (several.devices if several else 1)
            if several or loaded.domain:
                run = Compiled(network_of(loaded), size, dataset.grid.length, several)
            else:
                run = loaded.compiled(size)
            _answer(loaded, run, dataset, left, file, total, report)
        return Answered(total, file.join(), False, loaded)


def _version() -> str:
    try:
        return version("spt-jax")
    except PackageNotFoundError:  # run from its sources, without being installed
        return "not installed"


def _check(model: Model, dataset: BlockData, splits: Sequence[str]) -> None:
    model.check_grid(dataset.name, dataset.grid)
    found = sorted({absorber for name in splits for absorber in dataset.statistics(name).absorbers})
    if not set(found) & set(model.blueprint.absorbers):
        known = ", ".join(model.blueprint.absorbers)
        raise DatasetError(f"{dataset.name} has spectra of {', '.join(found)}; this model was trained on {known}")


def _answer(
    model: Model,
    run: Compiled,
    dataset: BlockData,
    parts: Sequence[Part],
    file: AnswerFile,
    total: int,
    report: Callable[[int, int], None],
) -> None:
    """Answers and writes these parts, one after the other."""
    done = total - sum(part.rows for part in parts)
    report(done, total)
    workers = max(min(os.cpu_count() or 1, 8), 2)
    waiting: deque[tuple[int, Future[pa.Table]]] = deque()
    written: Future[None] | None = None

    def settle(most: int) -> None:
        nonlocal done
        while len(waiting) > most:
            rows, table = waiting.popleft()
            table.result()
            done += rows
            report(done, total)

    with (
        ThreadPoolExecutor(1) as reading,
        ThreadPoolExecutor(workers) as answering,
        ThreadPoolExecutor(1) as writing,
    ):
        answered = total - sum(part.rows for part in parts)
        for part, examples in _ahead(reading, dataset, parts):
            errors = errors_of(model, examples)
            tables = []
            for begin in range(0, part.rows, run.size):
                rows = slice(begin, min(begin + run.size, part.rows))
                outputs = run.dispatch(*_batch(examples, errors, rows, run.size))
                texts = examples.texts[rows]
                work = partial(_table, model, run, outputs, texts, errors[rows], part.split)
                tables.append(answering.submit(work))
                waiting.append((len(texts), tables[-1]))
                settle(AHEAD + workers)
            if written:
                written.result()
            answered += part.rows
            written = writing.submit(_write, file, part, tables, answered)
        settle(0)
        if written:
            written.result()


def _ahead(reading: ThreadPoolExecutor, dataset: BlockData, parts: Sequence[Part]) -> Iterator[tuple[Part, Identified]]:
    """Every part with its examples, the next one being read meanwhile."""
    readers = {split: dataset.reader(split) for split in {part.split for part in parts}}

    def begin(part: Part) -> Future[Identified]:
        return reading.submit(readers[part.split], part.start, part.stop)

    coming = begin(parts[0])
    for number, part in enumerate(parts):
        examples = coming.result()
        if number + 1 < len(parts):
            coming = begin(parts[number + 1])
        yield part, examples


def _batch(examples: Identified, errors: list[str | None], rows: slice, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(size, L) spectra and (size,) atomic numbers: these rows, and as often as needed the last one again."""
    spectrum, number = examples.rows.spectrum[rows], examples.rows.atomic_number[rows]
    # Nothing is said of these, and what is no number should not go through the network.
    wrong = [row for row, error in enumerate(errors[rows]) if error]
    if wrong:
        spectrum = spectrum.copy()
        spectrum[wrong] = 0
    short = size - len(number)
    return np.pad(spectrum, ((0, short), (0, 0)), mode="edge"), np.pad(number, (0, short), mode="edge")


def _table(
    model: Model, run: Compiled, outputs: jax.Array, texts: pa.Table, errors: list[str | None], split: str
) -> pa.Table:
    found = {name: each[: len(texts)] for name, each in run.read(outputs).items()}
    return table_of(model, found, texts, errors, split)


def _write(file: AnswerFile, part: Part, tables: list[Future[pa.Table]], done: int) -> None:
    file.write(part, pa.concat_tables(table.result() for table in tables).combine_chunks(), done)
