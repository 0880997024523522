"""One training step on virtual devices or in several processes, measured: `python -m benchmarks.scaling.measured JSON`.

A process of its own, because the number of devices is fixed when JAX starts; of several processes each runs this, and
the first prints what was found.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from typing import Any

MESHES = {"whole": (1, 1), "shared": (0, 1), "two slices": (1, 2)}


def on_devices(options: argparse.Namespace, devices: int, mesh: str) -> dict[str, Any]:
    """On so many virtual devices of one process, which share all cores."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return _first([_start(options, mesh, {"XLA_FLAGS": flags})], f"{devices} virtual devices")


def in_processes(options: argparse.Namespace, count: int) -> dict[str, Any]:
    """In so many processes of one device each, which meet on this machine; each has one core, and shares it where there
    are more processes than cores."""
    cores = sorted(os.sched_getaffinity(0))
    with socket.socket() as reserved:  # held meanwhile, or another could take the port
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("localhost", 0))
        address = f"localhost:{reserved.getsockname()[1]}"
        started = []
        for number in range(count):
            place = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count), "JAX_PROCESS_ID": str(number)}
            started.append(_start(options, "whole", place if count > 1 else {}, cores[number % len(cores)]))
        return _first(started, f"{count} processes")


def _start(options: argparse.Namespace, mesh: str, place: dict[str, str], core: int | None = None) -> subprocess.Popen:
    asked = {name: getattr(options, name) for name in ("preset", "dtype", "small", "batch", "length", "repeats")}
    command = [sys.executable, "-m", "benchmarks.scaling.measured", json.dumps(asked | {"mesh": mesh, "core": core})]
    environment = {**os.environ, "NPROC": "16", "JAX_PLATFORMS": "cpu", **place}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _first(started: list[subprocess.Popen], name: str) -> dict[str, Any]:
    """What the first process found. Raises SystemExit with the last word of one that failed."""
    said = [process.communicate() for process in started]
    for process, (_, error) in zip(started, said, strict=True):
        if process.returncode:
            raise SystemExit(f"{name}: {error.strip().splitlines()[-1]}")
    return json.loads(said[0][0].splitlines()[-1])


def measured(asked: dict[str, Any]) -> dict[str, Any]:
    """In this process: the step's time, the time of its exchange alone, and what its program exchanges, in bytes."""
    import jax
    import jax.numpy as jnp

    from benchmarks import measure, workload
    from benchmarks.compile.traffic import count
    from benchmarks.train_step import Running
    from spt_jax.training.sharding import SLICE, Layout, join_processes, make_mesh

    if asked["core"] is not None:
        os.sched_setaffinity(0, {asked["core"]})
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        join_processes()
    layout = Layout(make_mesh(*MESHES[asked["mesh"]]))
    config = workload.config_of(asked["preset"], asked["dtype"], asked["small"])
    work = workload.make(config, asked["batch"] * layout.devices, asked["length"], layout=layout)
    mine = len(work.batch.labels) // jax.process_count()
    start = jax.process_index() * mine
    rows = layout.place_rows(jax.tree.map(lambda x: x[start : start + mine], work.batch))
    step = Running(work.made.step, work.made.state(), rows)

    def add(vector: jax.Array, rows: jax.Array) -> jax.Array:
        return layout.sum_over_rows(lambda vector, rows: vector * rows.sum(), 1, vector, (), rows)

    vector = layout.place(jnp.ones(work.made.flat.size), work.made.flat.size)
    exchange = jax.jit(add).lower(vector, rows.labels).compile()
    times = measure.interleaved({"step": step, "exchange": lambda: exchange(vector, rows.labels)}, asked["repeats"])
    found = count(step.program.as_text(), layout.mesh.shape[SLICE]).collectives
    return {
        "median_ms": times["step"].median_ms,
        "low_ms": times["step"].low_ms,
        "high_ms": times["step"].high_ms,
        "exchange_ms": times["exchange"].median_ms if layout.devices > 1 else 0.0,
        "compile_s": step.compile_s,
        "peak_memory_bytes": step.peak_memory_bytes,
        "inside": sum(each.sent for each in found if not each.far),
        "between": sum(each.sent for each in found if each.far),
        "count": len(found),
        "vector_bytes": 4 * work.made.flat.size,
        # Of the process that measures: the one that writes the line may see an accelerator.
        "device": measure.stamp()["device"],
    }


if __name__ == "__main__":
    print(json.dumps(measured(json.loads(sys.argv[1]))))
