"""A preset's programs, ready to be compiled for devices that are not there: step, epoch and inference, with shapes.

The network is made on this machine, as the trainer makes it; from there on only shapes are used. On several chips the
batch is cut over the mesh by the trainer's own `Layout`, and the state is whole on each, or shared out if configured.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import wraps
from inspect import signature
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from benchmarks import workload
from benchmarks.compile import targets
from benchmarks.compile.request import Request
from benchmarks.cost import forward_cost
from spt_jax.training.sharding import CUT, WHOLE, Layout
from spt_jax.training.step import Quota, make_epoch

try:
    from spt_jax.model.kernels import meant_for
except ImportError:  # a commit before there were kernels may be compared with
    meant_for = nullcontext

STEPS = 8
"""Of an epoch: the program holds one, and runs it so many times."""


class Prepared(NamedTuple):
    """A function, its arguments as shapes, and what it does: FLOPs on each chip and spectra of all, counted."""

    function: Callable
    arguments: tuple[Any, ...]
    donate: tuple[int, ...]
    flops: float
    spectra: int


def prepare(request: Request, mesh: Mesh) -> Prepared:
    """Raises SystemExit for an unknown preset."""
    config = workload.config_of(request.preset, request.dtype, request.small)
    # Where the process stands says nothing of the target.
    target = targets.find(request.target, request.chips, request.slices)
    kernels = "off" if request.kernels == "off" else {"tpu": "tpu", "cuda": "gpu"}[target.platform]
    if hasattr(config.execution, "kernels"):  # a commit before them may be compared with
        config = replace(config, execution=replace(config.execution, kernels=kernels))
    rows = request.batch * request.chips
    layout = Layout(mesh) if request.chips > 1 else Layout()
    # The statistics of a few hundred spectra: their number changes no shape.
    work = workload.make(config, 256, request.length)
    made = replace(work.made, layout=layout)
    placed = _Placed(mesh, layout, made.flat.size)
    outputs = sum(max(task.classes, 1) for task in work.tasks)
    cost = forward_cost(config.model, config.execution, request.length, outputs, request.batch)

    def batch(count: int, spec: PartitionSpec) -> Any:
        return jax.tree.map(lambda x: placed.shape((count, *x.shape[1:]), x.dtype, spec), work.batch)

    if request.program == "inference":
        given = batch(rows, CUT)
        params = jax.tree.map(lambda x: placed.shape(x.shape, x.dtype, WHOLE), work.params)
        arguments = (params, given.spectrum, given.atomic_number)
        return Prepared(_meant(work.apply, target), arguments, (), cost.flops, rows)
    state = jax.tree.map(placed.state, jax.eval_shape(work.made.state))
    if request.program == "step":
        return Prepared(_meant(made.step, target), (state, batch(rows, CUT)), (0,), cost.training().flops, rows)
    epoch = make_epoch(made.step, STEPS, (Quota(0, STEPS * rows, rows),), 0, layout.cut)
    data = batch(STEPS * rows, WHOLE)
    return Prepared(_meant(epoch, target), (state, data), (0,), STEPS * cost.training().flops, STEPS * rows)


def _meant(function: Callable, target: targets.Target) -> Callable:
    """The function, traced for this chip."""
    # A commit before the kind was told may be compared with.
    told = (target.platform, target.kind)[: len(signature(meant_for).parameters)]

    @wraps(function)
    def traced(*arguments: Any) -> Any:
        with meant_for(*told):
            return function(*arguments)

    return traced


class _Placed:
    """Shapes with the place that `Layout` gives their arrays."""

    def __init__(self, mesh: Mesh, layout: Layout, vector_size: int):
        self._mesh, self._layout, self._vector_size = mesh, layout, vector_size

    def shape(self, shape: tuple[int, ...], dtype: Any, spec: PartitionSpec) -> jax.ShapeDtypeStruct:
        alone = self._layout.mesh is None
        sharding = SingleDeviceSharding(self._mesh.devices.flat[0]) if alone else NamedSharding(self._mesh, spec)
        return jax.ShapeDtypeStruct(shape, np.dtype(dtype), sharding=sharding)

    def state(self, x: Any) -> jax.ShapeDtypeStruct:
        return self.shape(x.shape, x.dtype, self._layout.vector if x.shape == (self._vector_size,) else WHOLE)
