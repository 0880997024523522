"""Streaming: the most memory that training takes, by the number of spectra on disk; it should not hang on it.

    python -m benchmarks.streaming_memory --folder /tmp/streamed     # 1,000,000 and 10,000,000; 8 GB there, once
    python -m benchmarks.streaming_memory --small                    # shows that it runs

One epoch of a network so small that reading is most of the work, by `spt-jax train` in a process of its own; the
system tells the largest resident memory of the process when it ends. Validation spectra are held in memory, up to a
limit (JUDGED in spt_jax/training/loop.py) that sets of 700,000 and more reach with their tenth.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import measure

try:
    from benchmarks.mixtures import make
    from data_pipelines.library import LIBRARY
except ImportError as error:
    raise SystemExit(f"streaming_memory needs the packages that data are read with: {error}") from None

NETWORK = "--model.width 4 --model.blocks 1 --model.bands 0 --model.attention none --model.hidden 8".split()
SCHEDULE = "--train.epochs 1 --train.warmup-epochs 0 --train.input stream".split()


# A process begins with the memory of the one that starts it, and the system counts that: so a small one starts it.
CHILD = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def train(data: Path, out: Path, options: argparse.Namespace) -> dict:
    """One epoch: seconds, and bytes at the peak."""
    command = [sys.executable, "-m", "spt_jax.launch", "train", options.preset, "--data", str(data), "--out", str(out)]
    command += [*NETWORK, *SCHEDULE, "--train.batch-size", str(options.batch), "--execution.dtype", options.dtype]
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", CHILD, *command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"train failed: {(done.stderr.strip().splitlines() or ['no word of why'])[-1]}")
    peak = int(done.stdout) * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": time.perf_counter() - began, "peak_rss_bytes": peak, "peak_gib": peak / 2**30}


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = measure.parser(__doc__, preset="tiny")
    parser.add_argument("--data", type=Path, default=LIBRARY, metavar="DATASET", help="whose spectra are mixed")
    parser.add_argument("--folder", type=Path, default=None, help="the sets are written here once, and used again")
    parser.add_argument("--spectra", type=int, nargs="+", default=None, help="training spectra; --small: 2000, 4000")
    parser.add_argument("--validation", type=int, default=None, help="validation spectra; a tenth where not given")
    parser.add_argument("--batch", type=int, default=1024)
    options = parser.parse_args(arguments)
    if not (options.folder or options.small):
        parser.error("--folder is needed: the sets are large and worth keeping (or --small)")
    sizes = options.spectra or ([2000, 4000] if options.small else [1_000_000, 10_000_000])
    lines: list[dict] = []
    with TemporaryDirectory() as scratch:
        for count in sizes:
            folder = (options.folder or Path(scratch)) / f"spectra-{count}"
            held = options.validation or max(count // 10, 1)
            dataset = make(folder, options.data, {"train": count, "validation": held})
            fields = train(folder, Path(scratch) / f"run-{count}", options)
            fields |= {"spectra": count, "validation": held, "spectra_per_s": count / fields["seconds"]}
            fields["growth"] = fields["peak_rss_bytes"] / (lines or [fields])[0]["peak_rss_bytes"]
            key = {"length": dataset.grid.points, "batch": options.batch}
            lines.append(measure.record("streaming_memory", f"{count:,} spectra", options, **key, **fields))
    columns = {"peak_gib": "peak, GiB", "growth": "of the first", "seconds": "s", "spectra_per_s": "spectra/s"}
    measure.show(lines, columns)
    return lines


if __name__ == "__main__":
    main()
