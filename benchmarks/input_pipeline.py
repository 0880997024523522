"""Input: spectra per second streamed from disk, and how long a device would wait for its batches.

    python -m benchmarks.input_pipeline --folder /tmp/million                # writes 617 MB there, once
    python -m benchmarks.input_pipeline --folder /tmp/million --step-ms 2    # against a faster device
    python -m benchmarks.input_pipeline --small                              # shows that it runs

The set is written once from the spectra of --data: mixtures of two spectra of one element, with noise. The first
epoch begins with the files dropped from the page cache where the system allows it; the second finds in memory
what fits there. The device is simulated: a sleep of --step-ms per batch, which leaves the cores to the input.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np

from benchmarks import measure

try:
    import data_pipelines.dataset.stream  # noqa: F401  for Grain, which would be missed late
    from benchmarks.mixtures import make
    from data_pipelines.dataset import blocks
    from data_pipelines.dataset.loading import Dataset
    from data_pipelines.library import LIBRARY
except ImportError as error:
    raise SystemExit(f"input_pipeline needs the packages that data are read with: {error}") from None

WARM_UP_BATCHES = 20
RESIDENT_ROWS = 128 * blocks.BLOCK_ROWS


def drop_from_memory(dataset: Dataset) -> None:
    """Ask the system to forget the files, so that the next reader meets the disk."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in dataset.path.rglob("*.array_record"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def take(stream: Iterator, batches: int, step_ms: float = 0) -> dict:
    """Consume `batches`, each followed by a device step: spectra per second, and the waits for the next batch."""
    waits, rows = [], 0
    began = time.perf_counter()
    for _ in range(batches):
        asked = time.perf_counter()
        batch = next(stream)
        waits.append(time.perf_counter() - asked)
        rows += len(batch.spectrum)
        if step_ms:
            time.sleep(step_ms / 1e3)
    seconds = time.perf_counter() - began
    p50, p99 = 1e3 * np.percentile(waits, [50, 99])
    return {
        "spectra_per_s": rows / seconds,
        "wait_ms_p50": float(p50),
        "wait_ms_p99": float(p99),
        "wait_share": sum(waits) / seconds if step_ms else None,
    }


def resident(dataset: Dataset, batch_size: int, batches: int) -> dict:
    """Batches picked inside the device's own program from spectra that lie on it: the host hands over nothing."""
    source = dataset.blocks("train")
    held = blocks.gather(source, blocks.spaced(source, RESIDENT_ROWS))
    data = jax.device_put((held.spectrum, held.atomic_number))

    @jax.jit
    def pick(data, step):
        rows = jax.random.randint(jax.random.fold_in(jax.random.key(0), step), (batch_size,), 0, len(data[0]))
        return jax.tree.map(lambda array: array[rows], data)

    jax.block_until_ready(pick(data, np.int32(batches)))
    began = time.perf_counter()
    for step in range(batches):
        jax.block_until_ready(pick(data, np.int32(step)))
    seconds = time.perf_counter() - began
    waits = dict.fromkeys(("wait_ms_p50", "wait_ms_p99", "wait_share"), 0.0)
    return {"spectra_per_s": batches * batch_size / seconds, **waits}


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--data", type=Path, default=LIBRARY, metavar="DATASET", help="whose spectra are mixed")
    parser.add_argument("--folder", type=Path, default=None, help="the set is written here once, and used again")
    parser.add_argument("--spectra", type=int, default=None, help="1,000,000 where not given; 20,000 with --small")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument(
        "--step-ms", type=float, default=5.0, help="simulated time of a step; 0: only as fast as it goes"
    )
    options = parser.parse_args()
    if not (options.folder or options.small):
        parser.error("--folder is needed: the set is large and worth keeping (or --small)")
    count = options.spectra or (20_000 if options.small else 1_000_000)
    with TemporaryDirectory() as scratch:
        dataset = make(options.folder or Path(scratch) / "set", options.data, {"train": count})
        show(run(dataset, options, count))


def run(dataset: Dataset, options, count: int) -> list[dict]:
    drop_from_memory(dataset)
    began = time.perf_counter()
    stream = iter(dataset.stream("train", options.batch, seed=0))
    next(stream)
    first_batch_s = time.perf_counter() - began
    steps = count // options.batch
    warm_up = min(WARM_UP_BATCHES, steps // 4)
    take(stream, warm_up)
    cases = {"first epoch": take(stream, steps - warm_up - 1), "second epoch": take(stream, steps)}
    if options.step_ms:
        cases[f"{options.step_ms:g} ms a step"] = take(stream, steps, options.step_ms)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    cases["resident"] = resident(dataset, options.batch, steps)
    disk = sum(path.stat().st_size for path in (dataset.path / blocks.FOLDER).rglob("*.array_record"))
    fields = {"length": dataset.grid.points, "batch": options.batch, "spectra": count, "first_batch_s": first_batch_s}
    fields |= {"disk_bytes": disk, "rss_bytes": rss, "step_ms": options.step_ms}
    return [
        measure.record("input_pipeline", f"{count:,} spectra, {name}", options, **fields, **case)
        for name, case in cases.items()
    ]


def show(lines: list[dict]) -> None:
    columns = {"spectra_per_s": "spectra/s", "wait_ms_p50": "wait p50, ms", "wait_ms_p99": "p99, ms"}
    measure.show(lines, {**columns, "wait_share": "share waiting"})
    line = lines[0]
    print(
        f"{line['spectra']:,} spectra, batch {line['batch']}: first batch after {line['first_batch_s']:.2f} s, "
        f"{line['disk_bytes'] / 1e6:,.0f} MB on disk,\npeak memory {line['rss_bytes'] / 2**30:.2f} GiB "
        f"with all libraries loaded (resident case excluded)"
    )


if __name__ == "__main__":
    main()
