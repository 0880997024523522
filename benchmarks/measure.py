"""How everything here is measured: cases interleaved in one run, warm-up apart, results as JSON lines.

Machines are shared and noisy, so a ratio of two cases is only worth something when they ran in turns. Lines of equal
`key` measure the same thing; no others are compared.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks import history

KEY = ("benchmark", "case", "preset", "device", "dtype", "length", "batch")
PEERS = ("torch_eager", "torch_compile", "torch_merged")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "libtpu", "jax-cuda12-plugin")


class Timing(NamedTuple):
    """Median and quartiles of a case, in ms, over `repeats` calls."""

    median_ms: float
    low_ms: float
    high_ms: float
    repeats: int


def parser(doc: str, preset: str = "base") -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    options = argparse.ArgumentParser(
        description=doc.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    options.add_argument("--preset", default=preset, help="a preset of spt_jax.config")
    options.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="arithmetic of the network"
    )
    options.add_argument("--json", type=Path, default=None, metavar="FILE", help="append results to this file")
    options.add_argument("--trace", type=Path, default=None, metavar="DIR", help="write a profile for TensorBoard")
    options.add_argument("--repeats", type=int, default=15, help="timed rounds, all cases once in each")
    options.add_argument("--small", action="store_true", help="tiny shapes: shows that it runs, not how fast")
    return options


def interleaved(cases: dict[str, Callable[[], Any]], repeats: int, trace: Path | None = None) -> dict[str, Timing]:
    """Time every case once per round, `repeats` rounds, after one warm-up round. Each call waits for its result.

    A case must do the same work at each call. Compile before: see `compiled`. Of two calls in a row the second is
    timed: caches, and threads that still spin, are those of the case before in the first.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    for call in cases.values():
        jax.block_until_ready(call())
    with jax.profiler.trace(str(trace)) if trace else nullcontext():
        for _ in range(repeats):
            for name, call in cases.items():
                jax.block_until_ready(call())
                began = time.perf_counter()
                jax.block_until_ready(call())
                times[name].append(1e3 * (time.perf_counter() - began))
    return {name: summary(each) for name, each in times.items()}


def summary(times: list[float]) -> Timing:
    """Median and quartiles of times in ms."""
    quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
    return Timing(statistics.median(times), quartiles[0], quartiles[2], len(times))


def compiled(function: Callable, *arguments: Any, **options: Any) -> tuple[Callable, float, int | None]:
    """jit-compile for these arguments: the program, seconds it took, and bytes at its peak (None where unknown)."""
    began = time.perf_counter()
    program = jax.jit(function, **options).lower(*arguments).compile()
    seconds = time.perf_counter() - began
    memory = program.memory_analysis()
    peak = None
    if memory is not None:
        peak = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
        peak += memory.temp_size_in_bytes
    return program, seconds, peak


def stamp() -> dict[str, Any]:
    """Where and with what: device, commit (with "+" where code differs from it), versions."""
    device = jax.devices()[0]
    kind = device.device_kind
    if device.platform == "cpu":
        kind = f"{_cpu_name()} x{_cores()}"
    return {"device": kind, "commit": history.commit(), "versions": {p: v for p in PACKAGES if (v := _version(p))}}


def record(
    benchmark: str,
    case: str,
    options: argparse.Namespace,
    path: Path | None = None,
    *,
    length: int | None,
    batch: int | None,
    **fields: Any,
) -> dict:
    """One result line, unknown fields null, appended to --json (or `path`) where one is given. Extra fields are kept.

    length: energies of a spectrum, batch: spectra of a call, None where there is no such thing. What else changes the
    work must stand in `case`.
    """
    line = {"benchmark": benchmark, "case": case, "preset": options.preset, "dtype": options.dtype, **stamp()}
    line |= {"length": length, "batch": batch}
    line |= dict.fromkeys(("median_ms", "spectra_per_s"), None) | {"vs": dict.fromkeys(PEERS)}
    line |= dict.fromkeys(("share_of_matmul_peak", "share_of_memory_roof", "max_error", "compile_s"), None)
    line |= {"peak_memory_bytes": None, "small": options.small, **fields}
    if target := (path or options.json):
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return line


def key(line: dict) -> tuple:
    """What a line measured. None also stands for a field that lines of before it was a part of the key do not have."""
    return tuple(line.get(name) for name in KEY)


def read(path: Path) -> list[dict]:
    """The lines of a result file, oldest first, those of tiny runs left out: they show nothing but that it runs."""
    lines = []
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}") from None
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
            if not line["small"]:
                lines.append(line)
        except (ValueError, TypeError, KeyError):
            raise SystemExit(f"{path}, line {number}: not a result line") from None
    return lines


def show(lines: list[dict], columns: dict[str, str]) -> None:
    """A plain table of result lines: column field -> heading. At most 80 columns where the case names allow."""
    rows = [["case", *columns.values()]]
    rows += [[line["case"], *(_cell(line.get(field)) for field in columns)] for line in lines]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()
