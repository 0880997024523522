"""Input: spectra per second streamed from disk, and how long a device would wait for its batches.

    python -m benchmarks.input_pipeline --folder /tmp/million                # writes 661 MB there, once
    python -m benchmarks.input_pipeline --once --spectra 10000000 --step-ms 0    # 6.6 GB that are removed after
    python -m benchmarks.input_pipeline --folder /tmp/million --store s3://BUCKET/million    # and there, once
    python -m benchmarks.input_pipeline --folder /tmp/million --step-ms 2    # against a faster device
    python -m benchmarks.input_pipeline --small                              # shows that it runs

The set is written once from the spectra of --data: mixtures of two spectra of one element, with noise. The first
epoch begins with the files dropped from the page cache where the system allows it; the second finds in memory
what fits there. The device is simulated: a sleep of --step-ms per batch, which leaves the cores to the input.
The disk's own rate is that of the same files read from one end to the other, and dropped from the page cache before.
Of a set in a store (`moto_server` is one for tests, at AWS_ENDPOINT_URL) the first epoch has the device's steps, too.
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
    from data_pipelines.dataset import blocks, card
    from data_pipelines.dataset.data import Data
    from data_pipelines.dataset.loading import Dataset
    from data_pipelines.dataset.opening import open_data
    from data_pipelines.library import LIBRARY
    from data_pipelines.places import Place, place
except ImportError as error:
    raise SystemExit(f"input_pipeline needs the packages that data are read with: {error}") from None

WARM_UP_BATCHES = 20
# Of a larger set its first files tell the disk's rate.
DISK_BYTES = 2e9
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
        "bytes_per_s": rows / seconds * sum(array[0].nbytes for array in (batch.spectrum, batch.labels, batch.mask)),
        "wait_ms_p50": float(p50),
        "wait_ms_p99": float(p99),
        "wait_share": sum(waits) / seconds if step_ms else None,
    }


def disk_rate(dataset: Dataset) -> float:
    """Bytes per second of the files of the blocks, at most so many of them, read from one end to the other."""
    room, total = bytearray(2**22), 0
    drop_from_memory(dataset)
    began = time.perf_counter()
    for path in sorted((dataset.path / blocks.FOLDER).rglob("*.array_record")):
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(room):
                total += count
        if total > DISK_BYTES:
            break
    return total / (time.perf_counter() - began)


def put(dataset: Dataset, store: Place) -> Data:
    """The set in an object store, written there once."""
    if not (store / card.FILE).exists():
        names = [*dataset.card["files"], card.FILE]
        for number, name in enumerate(names, 1):
            (store / name).upload(dataset.path / name)
            print(f"\rputting {number} of {len(names)} files", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    found = open_data(str(store))
    if found.fingerprint != dataset.fingerprint:
        raise SystemExit(f"{store} holds another dataset ({found.fingerprint}); choose another --store")
    return found


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
    return {"spectra_per_s": batches * batch_size / seconds, "bytes_per_s": None, **waits}


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--data", type=Path, default=LIBRARY, metavar="DATASET", help="whose spectra are mixed")
    parser.add_argument("--folder", type=Path, default=None, help="the set is written here once, and used again")
    parser.add_argument(
        "--once", action="store_true", help="write the set into a temporary folder, and remove it after"
    )
    parser.add_argument(
        "--store", default=None, help="put the set there, once, and stream from there: s3://BUCKET/FOLDER"
    )
    parser.add_argument("--spectra", type=int, default=None, help="1,000,000 where not given; 20,000 with --small")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument(
        "--step-ms", type=float, default=5.0, help="simulated time of a step; 0: only as fast as it goes"
    )
    options = parser.parse_args()
    if not (options.folder or options.small or options.once):
        parser.error("--folder is needed: the set is large and worth keeping (or --once, or --small)")
    count = options.spectra or (20_000 if options.small else 1_000_000)
    with TemporaryDirectory() as scratch:
        dataset = make(options.folder or Path(scratch) / "set", options.data, {"train": count})
        show(run(dataset, options, count))


def run(dataset: Dataset, options, count: int) -> list[dict]:
    rate = disk_rate(dataset)
    drop_from_memory(dataset)
    streamed = put(dataset, place(options.store)) if options.store else dataset
    began = time.perf_counter()
    streamed = open_data(streamed.name)
    streamed.statistics("train")
    opened = time.perf_counter()
    stream = iter(streamed.stream("train", options.batch, seed=0))
    next(stream)
    now = time.perf_counter()
    open_s, first_batch_s = opened - began, now - opened
    steps = count // options.batch
    warm_up = min(WARM_UP_BATCHES, steps // 4)
    take(stream, warm_up)
    # Of a store, what is told is how long a device waits for it.
    first = take(stream, steps - warm_up - 1, options.step_ms if options.store else 0)
    cases = {"first epoch": first, "second epoch": take(stream, steps)}
    if options.step_ms:
        cases[f"{options.step_ms:g} ms a step"] = take(stream, steps, options.step_ms)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    cases["resident"] = resident(dataset, options.batch, steps)
    disk = sum(path.stat().st_size for path in (dataset.path / blocks.FOLDER).rglob("*.array_record"))
    fields = {"length": dataset.grid.points, "batch": options.batch, "spectra": count, "first_batch_s": first_batch_s}
    fields |= {"open_s": open_s, "disk_bytes": disk, "disk_bytes_per_s": rate, "rss_bytes": rss}
    fields |= {"step_ms": options.step_ms, "store": (options.store or "").partition(":")[0]}
    return [
        measure.record("input_pipeline", f"{count:,} spectra, {name}", options, **fields, **case)
        for name, case in cases.items()
    ]


def show(lines: list[dict]) -> None:
    columns = {"spectra_per_s": "spectra/s", "wait_ms_p50": "wait p50, ms", "wait_ms_p99": "p99, ms"}
    measure.show(lines, {**columns, "wait_share": "share waiting"})
    line = lines[0]
    print(
        f"{line['spectra']:,} spectra, batch {line['batch']}: opened in {line['open_s']:.3f} s, first batch after "
        f"{line['first_batch_s']:.2f} s more,\n{line['bytes_per_s'] / 1e6:,.0f} MB/s in the first epoch, "
        f"{line['disk_bytes_per_s'] / 1e6:,.0f} MB/s from the disk alone, {line['disk_bytes'] / 1e6:,.0f} MB on it,\n"
        f"peak memory {line['rss_bytes'] / 2**30:.2f} GiB with all libraries loaded (resident case excluded)"
    )


if __name__ == "__main__":
    main()
