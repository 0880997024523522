"""Latency of one spectrum and throughput of many: the jitted network, the exported file reloaded, and all of `predict`;
and of a new process from its start to its first answer, with and without a program compiled ahead of time.

`python -m benchmarks.latency`. On a CPU batch 1 runs in a process of its own that is held to --cores.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from benchmarks import measure, workload
from data_pipelines.schema import EnergyGrid
from spt_jax.inference.predict import Model
from spt_jax.runs.ahead import compile_ahead
from spt_jax.runs.export import export, load_exported

COLUMNS = {
    "median_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "spectra_per_s": "spectra/s",
    "max_error": "max error",
    "compile_s": "compile s",
}
# Each call gets another input, as the bands that a spectrum chooses depend on it.
INPUTS = 16
FIRST_ANSWER = """
import sys, time
import numpy as np
from spt_jax.inference.predict import load
began = time.perf_counter()
model = load(sys.argv[1], compiled=sys.argv[2] == "ahead")
print(time.perf_counter() - began)
model.outputs(np.ones((1, model.blueprint.grid.points)), np.array([29]))
"""


def main(argv: list[str] | None = None) -> None:
    options = measure.parser(__doc__)
    options.add_argument("--batches", default=None, help="batch sizes with commas (default: 1,64,1024; --small: 1,4)")
    options.add_argument("--length", type=int, default=144, help="points of a spectrum")
    options.add_argument("--cores", type=int, default=1, help="CPU cores for batch 1; larger batches have all")
    options = options.parse_args(argv)
    batches = [int(b) for b in (options.batches or ("1,4" if options.small else "1,64,1024")).split(",")]
    lines, started = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.spt"
        if find_spec("flatbuffers"):
            model = make_model(options)
            export(model.blueprint, model.network, path)
            ready, key = Path(folder) / "ready.spt", {"length": options.length, "batch": 1}
            program = compile_ahead(model.network, 1, options.length, jax.devices()[0])
            export(model.blueprint, model.network, ready, programs=[program])
            for case, each in {"process start to answer": path, "the same, compiled ahead": ready}.items():
                started.append(measure.record("latency", case, options, **key, **_fresh_process(each, each == ready)))
        else:
            print("flatbuffers is not installed: the exported file is left out")
        for batch in batches:
            if batch == 1 and jax.default_backend() == "cpu":
                # XLA counts its cores once, when a process first uses it.
                spawn = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(1, spawn, initializer=_hold_to, initargs=(options.cores,)) as held:
                    lines += held.submit(run, options, batch, path).result()
            else:
                lines += run(options, batch, path)
    measure.show(lines, COLUMNS)
    for line in started:
        ahead = ", compiled ahead" if "ahead" in line["case"] else ""
        print(f"Exported file{ahead}: {line['export_bytes'] / 1e6:.1f} MB, read in {1e3 * line['load_s']:.0f} ms;")
        print(f"{line['median_ms'] / 1e3:.1f} s from the start of a process to its first answer.")


def make_model(options: argparse.Namespace) -> Model:
    """The preset with random weights, the same in every process."""
    work = workload.make(workload.config_of(options.preset, options.dtype, options.small), 1, options.length)
    return Model(work.made.blueprint, nnx.merge(work.made.graph, work.params, work.constants))


def run(options: argparse.Namespace, batch: int, path: Path) -> list[dict]:
    """Result lines of one batch size, with the file at `path` where there is one."""
    rng, model = np.random.default_rng(), make_model(options)
    grid = model.blueprint.grid
    inputs = [workload.batch_of(rng, batch, grid)[:2] for _ in range(INPUTS)]
    networks = {"jit": model.network}
    if path.exists():
        model = Model(*load_exported(path))
        networks["exported"] = model.network
    cases, fields = {}, {name: {} for name in (*networks, "predict")}
    for name, network in networks.items():
        program, compile_s, peak = measure.compiled(lambda *each, network=network: network(*each), *inputs[0])
        cases[name] = lambda i, program=program: program(*inputs[i])
        fields[name] |= {"compile_s": compile_s, "peak_memory_bytes": peak}
    if len(cases) == 2:
        fields["exported"]["max_error"] = max(_difference(cases["jit"](i), cases["exported"](i)) for i in range(INPUTS))
    if batch == 1:
        energy, spectra = _raw(rng, grid)
        cases["predict"] = lambda i: model.predict(energy, spectra[i], "Cu")
    calls = options.repeats if batch > 1 else (50 if options.small else 1000)
    lines = []
    for name, times in _in_turns(cases, calls, options.trace).items():
        p50, p99 = statistics.median(times), float(np.percentile(times, 99))
        timed = {"calls": calls, "median_ms": p50, "p99_ms": p99, "spectra_per_s": 1e3 * batch / p50, **fields[name]}
        case = f"{name}, batch {batch}"
        lines.append(measure.record("latency", case, options, length=options.length, batch=batch, **timed))
    return lines


def _in_turns(cases: dict[str, Callable], calls: int, trace: Path | None) -> dict[str, list[float]]:
    """ms of each call: all cases once in each round, after one round of warm-up for every input."""
    times = {name: [] for name in cases}
    for i in range(INPUTS):
        jax.block_until_ready([case(i) for case in cases.values()])
    with jax.profiler.trace(str(trace)) if trace else nullcontext():
        for turn in range(calls):
            for name, case in cases.items():
                began = time.perf_counter()
                jax.block_until_ready(case(turn % INPUTS))
                times[name].append(1e3 * (time.perf_counter() - began))
    return times


def _raw(rng: np.random.Generator, grid: EnergyGrid) -> tuple[np.ndarray, np.ndarray]:
    """(N,) eV and (INPUTS, N) mu as a file gives them: finer than the grid, beyond its ends, in another scale."""
    finer = EnergyGrid(grid.start - grid.step, grid.step / 2, 2 * grid.points + 8)
    return finer.absolute("Cu"), 3.7 * workload.spectra(rng, INPUTS, finer)


def _fresh_process(path: Path, ahead: bool) -> dict[str, float]:
    # This process may hold the memory of an accelerator. A program kept from another run would not be compiled.
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    began = time.perf_counter()
    command = [sys.executable, "-c", FIRST_ANSWER, str(path), "ahead" if ahead else "anew"]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    passed = time.perf_counter() - began
    return {"median_ms": 1e3 * passed, "load_s": float(ended.stdout), "export_bytes": path.stat().st_size}


def _difference(first: dict[str, jax.Array], second: dict[str, jax.Array]) -> float:
    return max(float(np.abs(np.asarray(first[name]) - np.asarray(second[name])).max()) for name in first)


def _hold_to(cores: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


if __name__ == "__main__":
    main()
