"""Building a dataset: seconds, memory and bytes of `spt-jax prepare` from ten thousand to a million spectra.

    python -m benchmarks.build --folder /tmp/build          # 10,000, 100,000 and 1,000,000; 3 GB there
    python -m benchmarks.build --small                      # shows that it runs
    python -m benchmarks.build --folder /tmp/build --prepare --beam DirectRunner

The source is a Parquet table of spectra with labels and without structures: mixtures of two spectra of --data of one
element, with noise, on their own energies. So what is timed is reading, checking, the grid, repeated ids, near
duplicates, splits and writing in both forms; descriptors have their own benchmark. The time of a line over that of
the line before, and the bytes, show whether it stays linear.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from benchmarks import measure

try:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from benchmarks.input_pipeline import take
    from benchmarks.mixtures import mixtures, train_rows
    from data_pipelines.dataset.loading import Dataset
    from data_pipelines.library import LIBRARY
    from data_pipelines.schema import NAMES, SYMBOLS
except ImportError as error:
    raise SystemExit(f"build needs the packages that data are read with: {error}") from None

SAMPLING_S = 0.2


def write_table(path: Path, origin: Dataset, count: int) -> None:
    """`count` mixtures of the training spectra of a dataset, as a table that `spt-jax prepare` reads."""
    partial = path.with_suffix(".partial")
    writer, number = None, 0
    for rows in mixtures(train_rows(origin), count):
        elements = [SYMBOLS[z] for z in rows.atomic_number]
        columns = {
            "id": [f"mix-{i:09d}" for i in range(number, number + len(elements))],
            "absorber": elements,
            "omega": [origin.grid.absolute(element) for element in elements],
            "mu": list(rows.spectrum),
            **{name: pa.array(rows.labels[:, i], from_pandas=True) for i, name in enumerate(NAMES)},
        }
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(partial, table.schema)
        writer.write_table(table, row_group_size=4096)
        number += len(elements)
    writer.close()
    partial.rename(path)


def tree_bytes(root: int) -> int | None:
    """Memory of a process and its children, shared pages counted once; None where the system does not tell."""
    total, todo = 0, [root]
    try:
        while todo:
            process = Path("/proc") / str(todo.pop())
            total += next(
                1024 * int(line.split()[1])
                for line in (process / "smaps_rollup").read_text().splitlines()
                if line.startswith("Pss:")
            )
            for thread in (process / "task").iterdir():
                todo += map(int, (thread / "children").read_text().split())
    except OSError:
        return total or None
    return total


def build(table: Path, out: Path, more: Sequence[str] = ()) -> dict:
    """One `spt-jax prepare`, with more options, in a process of its own."""
    command = [sys.executable, "-m", "spt_jax.launch", "prepare", str(table), "--out", str(out), "--overwrite", *more]
    began, peak = time.perf_counter(), 0
    with TemporaryFile("w+") as said:  # a pipe that nobody reads would stop it when full
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        while process.poll() is None:
            peak = max(peak, tree_bytes(process.pid) or 0)
            time.sleep(SAMPLING_S)
        seconds = time.perf_counter() - began
        said.seek(0)
        if process.returncode:
            raise SystemExit(f"prepare failed: {said.read().strip().splitlines()[-1]}")
    return {"seconds": seconds, "peak_tree_bytes": peak or None}


def main(arguments: list[str] | None = None) -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--data", type=Path, default=LIBRARY, metavar="DATASET", help="whose spectra are mixed")
    parser.add_argument("--folder", type=Path, default=None, help="tables and datasets are written here")
    parser.add_argument("--spectra", type=int, nargs="+", default=None, help="sizes; --small: 500 and 1000")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--prepare", nargs=argparse.REMAINDER, default=[], help="options of prepare, up to the end")
    options = parser.parse_args(arguments)
    if not (options.folder or options.small):
        parser.error("--folder is needed: the sets are large (or --small)")
    sizes = options.spectra or ([500, 1000] if options.small else [10_000, 100_000, 1_000_000])
    lines = []
    with TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for count in sizes:
            table, out = folder / f"mixtures-{count}.parquet", folder / f"dataset-{count}"
            if not table.exists():
                write_table(table, Dataset(options.data), count)
            fields = build(table, out, options.prepare)
            dataset = Dataset(out)
            kept, disk = dataset.card["records"]["kept"], sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
            batch = min(options.batch, dataset.card["splits"]["train"]["examples"] // 4)
            stream = iter(dataset.stream("train", batch, seed=0))
            take(stream, 2)
            steps = max(min(count, 200_000) // batch, 2)
            fields |= {"spectra": count, "kept": kept, "disk_bytes": disk, "disk_mb": disk / 1e6}
            fields |= {"built_per_s": count / fields["seconds"], **take(stream, steps)}
            fields["peak_gib"] = fields["peak_tree_bytes"] / 2**30 if fields["peak_tree_bytes"] else None
            key = {"length": dataset.grid.points, "batch": batch}
            case = f"{count:,} spectra" + (f", {' '.join(options.prepare)}" if options.prepare else "")
            lines.append(measure.record("build", case, options, **key, **fields))
    columns = {"seconds": "s", "built_per_s": "built/s", "peak_gib": "peak, GiB", "disk_mb": "MB", "kept": "kept"}
    measure.show(lines, {**columns, "spectra_per_s": "streamed/s"})


if __name__ == "__main__":
    main()
