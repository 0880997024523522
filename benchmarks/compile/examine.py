"""Any function that JAX can compile, compiled for a chip that is not there, and what its program says."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from benchmarks.compile import ptx, schedule, targets, twins
from benchmarks.compile.bound import fitting_batch
from benchmarks.compile.report import Report
from benchmarks.compile.targets import Target
from benchmarks.compile.traffic import count
from data_pipelines.errors import UserError
from spt_jax.runs.targets import ptxas
from spt_jax.training import sharding


def place(target: Target, chips: int, slices: int = 1, fsdp: int = 1) -> Mesh:
    """A mesh of devices that are not there, with the trainer's axes."""
    there = targets.devices(target, chips, slices)
    if hasattr(sharding, "AXES"):
        return sharding.make_mesh(fsdp, slices, there)
    # A commit before there were several may be compared with.
    return Mesh(np.array(there), ("data",), axis_types=(AxisType.Auto,))


def examine(
    function: Callable,
    *arguments: Any,
    target: str = "v5e",
    chips: int = 1,
    dtype: str = "bfloat16",
    flops: float | None = None,
    donate: int | tuple[int, ...] = (),
    batch: int | None = None,
    slices: int = 1,
) -> Report:
    """Compile a function (or what jax.jit made of one) for a target.

    arguments: arrays or jax.ShapeDtypeStruct, in trees; those without a sharding of their own are whole on each device.
    dtype: whose peak its arithmetic is held against. flops: of a call, where they are known better than from the
    program (those inside a kernel are unknown to the compiler). batch: as the message shall have it where the program
    does not fit. slices: that the chips are in. Raises UserError for an unknown target, a compiler that is not installed, a program too large.
    """
    found = targets.find(target, chips, slices)
    there = targets.devices(found, chips, slices)
    whole = NamedSharding(place(found, chips, slices), PartitionSpec()) if chips > 1 else SingleDeviceSharding(there[0])

    def shape(x: Any) -> jax.ShapeDtypeStruct:
        own = x.sharding if isinstance(x, jax.ShapeDtypeStruct) else None
        x = x if hasattr(x, "dtype") else np.asarray(x)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=own or whole)

    jitted = function if hasattr(function, "trace") else jax.jit(function, donate_argnums=donate)
    with tempfile.TemporaryDirectory(prefix="compiled-") as name:
        folder = _empty(schedule.dump_folder()) if found.platform == "tpu" else Path(name)
        options = {} if found.platform == "tpu" else {"xla_dump_to": name}
        lowered = jitted.trace(*jax.tree.map(shape, arguments)).lower(lowering_platforms=(found.platform,))
        began = time.perf_counter()
        try:
            program = lowered.compile(compiler_options=options)
        except jax.errors.JaxRuntimeError as error:
            raise too_large(error, found, batch) or error from None
        seconds = time.perf_counter() - began
        text = program.as_text()
        if found.platform == "tpu":
            kernels = schedule.read_folder(folder)
            called = schedule.read_calls(folder)
            owners = twins.owners(text, called, {kernel.name for kernel in kernels})
            unscheduled = len(set(called) - owners.keys())
        else:
            kernels, owners = ptx.read_folder(folder, ptxas())
            unscheduled = 0
    sizes = program.memory_analysis()
    memory = {
        "arguments": sizes.argument_size_in_bytes,
        "results": sizes.output_size_in_bytes,
        "aliased": sizes.alias_size_in_bytes,
        "temporary": sizes.temp_size_in_bytes,
    }
    by_compiler = (program.cost_analysis() or {}).get("flops")
    known = (found, chips, dtype, seconds, memory, by_compiler, flops)
    report = Report(*known, count(text, slices), kernels, owners, slices, unscheduled)
    if found.chip and found.chip.memory and report.peak_bytes > found.chip.memory * 1e9:
        raise does_not_fit(found, report.peak_bytes, found.chip.memory * 1e9, memory["arguments"], batch)
    return report


def does_not_fit(target: Target, needed: float, memory: float, fixed: float, batch: int | None) -> UserError:
    line = f"needs {needed / 1e9:,.1f} GB of memory, and {target.label} has {memory / 1e9:,.1f}"
    if batch:
        fits = fitting_batch(batch, needed, memory, fixed)
        line += f"; --batch {fits} would fit" if fits else "; no batch would fit"
    return UserError(line)


def too_large(error: Exception, target: Target, batch: int | None) -> UserError | None:
    """A compiler's complaint about the chip's memory in our words; None for any other, such as one about VMEM."""
    found = re.search(r"\(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])\)", str(error))
    found = found or re.search(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm", str(error))
    if "RESOURCE_EXHAUSTED" not in str(error) or found is None:
        return None
    needed, memory = (float(found[at]) * 1024 ** " KMGT".index(found[at + 1]) for at in (1, 3))
    return does_not_fit(target, needed, memory, 0.0, batch)


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
