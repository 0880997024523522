"""The one file that knows of devices: a mesh, batches cut over it by rows, parameters whole or shared out.

The rule for any mesh, of axes "slice", "data" and "fsdp": rows lie over all three; the vectors of parameters and optimiser
over "fsdp" alone, and are the same elsewhere. Between slices (pods, machines) the network is slow, inside it is fast. The
gradient of a batch is the sum of the gradients of its cuts, one vector: with one slice one all-reduce, or a reduce-scatter
and an all-gather where parameters are shared out; with several it is reduced inside the slices first, so that of n
devices of a slice each sends one n-th of it to the other slices.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from data_pipelines.errors import RunError

SLICE, DATA, FSDP = AXES = "slice", "data", "fsdp"
CUT, SHARED, WHOLE = PartitionSpec(AXES), PartitionSpec(FSDP), PartitionSpec()


def join_processes(silence: float = 100.0) -> None:
    """Make this process one of several that train together: before anything else of JAX. silence: seconds; JAX itself ends
    all where one does not answer for twice as long, as before training begins: later heartbeat.py says who it is.

    Where the launcher does not tell JAX by itself (TPU pods and SLURM do), JAX_COORDINATOR_ADDRESS (host:port),
    JAX_NUM_PROCESSES and JAX_PROCESS_ID say so.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # Its handler takes SIGTERM without a word until training sets its own: who is told to stop while it starts must stop.
    jax.config.update("jax_enable_preemption_service", False)
    place = {name: os.environ.get(f"JAX_{name.upper()}") for name in ("num_processes", "process_id")}
    try:
        jax.distributed.initialize(
            os.environ.get("JAX_COORDINATOR_ADDRESS"),
            heartbeat_timeout_seconds=max(int(2 * silence), 20),
            **{k: v if v is None else int(v) for k, v in place.items()},
        )
    except (ValueError, RuntimeError) as error:
        raise RunError(f"cannot join the other processes: {' '.join(str(error).split())}") from None


def make_mesh(fsdp: int = 1, slices: int = 0, devices: Sequence[Any] = ()) -> Mesh:
    """All devices of all processes, or those given. fsdp: devices of a slice that share the parameters out, 0: all of it.
    slices: 0 as found. Raises RunError for numbers that do not fit each other."""
    devices = list(devices or jax.devices())
    found = len({getattr(each, "slice_index", 0) for each in devices})
    if found > 1 and slices not in (0, found):
        raise RunError(f"there are {found} slices, not {slices}; leave --execution.slices")
    slices = slices or found
    if len(devices) % slices:
        raise RunError(
            f"{slices} slices of one size cannot be made of {_devices(len(devices))}; give other --execution.slices"
        )
    inside = len(devices) // slices
    if inside % (fsdp or inside):
        raise RunError(
            f"parameters cannot be shared out among {fsdp} devices, as a slice has {_devices(inside)}: give a divisor of "
            "that as --execution.fsdp, or 0 for all of them"
        )
    shape = (slices, inside // (fsdp or inside), fsdp or inside)
    if found > 1:
        placed = mesh_utils.create_hybrid_device_mesh((1, *shape[1:]), (slices, 1, 1), devices)
    elif slices > 1:
        placed = np.array(devices).reshape(shape)
    else:
        placed = mesh_utils.create_device_mesh(shape, devices)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * 3)


def _devices(count: int) -> str:
    return f"{count} device{'s' * (count != 1)}"


def any_process(flag: int) -> int:
    """The largest flag of all processes, the same for each: they must stop at the same step, or wait for ever."""
    if jax.process_count() == 1:
        return flag
    return int(multihost_utils.process_allgather(np.int32(flag)).max())


def _put(x: Any, sharding: NamedSharding) -> jax.Array:
    """An array that every process has whole -> one global array."""
    if jax.process_count() == 1:
        return jax.device_put(x, sharding)
    whole = np.asarray(x)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


@dataclass(frozen=True)
class Layout:
    """Where arrays lie: on one device without a mesh."""

    mesh: Mesh | None = None

    @property
    def devices(self) -> int:
        return self.mesh.size if self.mesh else 1

    @property
    def vector(self) -> PartitionSpec:
        """Of a vector of parameters."""
        return SHARED if self.mesh and self.mesh.shape[FSDP] > 1 else WHOLE

    def check_batch(self, batch_size: int, pieces: int, whole_batch: bool) -> None:
        """Raises RunError for a batch that does not divide, or whose rows may not be parted."""
        parts = self.devices * pieces
        if batch_size % parts:
            over = f"{self.devices} devices" + (f" in {pieces} pieces each" if pieces > 1 else "")
            raise RunError(f"batch_size {batch_size} does not divide over {over}; use a multiple of {parts}")
        if whole_batch and parts > 1:
            raise RunError("band_mode batch needs the whole batch on one device in one piece; use per_sample or fixed")

    def place(self, state: Any, vector_size: int) -> Any:
        """Outside jit: put a state on the devices; its vectors of parameters are shared out if so configured."""
        if self.mesh is None:
            return state

        def put(x: jax.Array) -> jax.Array:
            return _put(x, NamedSharding(self.mesh, self.vector if x.shape == (vector_size,) else WHOLE))

        return jax.tree.map(put, state)

    def place_whole(self, tree: Any) -> Any:
        """Outside jit: every leaf whole on every device."""
        if self.mesh is None:
            return jax.device_put(tree)
        return jax.tree.map(lambda x: _put(x, NamedSharding(self.mesh, WHOLE)), tree)

    def place_rows(self, batch: Any) -> Any:
        """Outside jit: this process's rows of a batch -> the global batch, cut over all devices."""
        if self.mesh is None:
            return jax.device_put(batch)
        sharding = NamedSharding(self.mesh, CUT)
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)

    def by_rows(self, function: Callable) -> Callable:
        """Of a function of rows that gives rows: each device has its own, and nothing crosses between them."""
        if self.mesh is None:
            return function
        return jax.shard_map(function, mesh=self.mesh, in_specs=CUT, out_specs=CUT, check_vma=False)

    def cut(self, tree: Any) -> Any:
        """Inside jit: cut by rows over the devices."""
        return tree if self.mesh is None else jax.lax.with_sharding_constraint(tree, NamedSharding(self.mesh, CUT))

    def whole(self, x: jax.Array) -> jax.Array:
        """Inside jit: the same on every device."""
        return x if self.mesh is None else jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, WHOLE))

    def like_parameters(self, vector: jax.Array) -> jax.Array:
        """Inside jit: laid out as the parameters are."""
        if self.mesh is None:
            return vector
        return jax.lax.with_sharding_constraint(vector, NamedSharding(self.mesh, self.vector))

    def sum_over_rows(self, function: Callable, pieces: int, params: jax.Array, whole: tuple, rows: Any) -> jax.Array:
        """Mean over devices and pieces of function(params, *whole, part of the rows), an array laid out as parameters.

        whole: what is the same on every device. A sharded array must come so, and not with `function`. Each device
        adds up its own pieces one after the other; only their sum crosses between devices.
        """

        def on_device(params: jax.Array, whole: tuple, rows: Any) -> jax.Array:
            if pieces == 1:
                return function(params, *whole, rows)
            parts = jax.tree.map(lambda x: x.reshape(pieces, -1, *x.shape[1:]), rows)
            first, rest = (jax.tree.map(lambda x, cut=cut: x[cut], parts) for cut in (0, slice(1, None)))

            def add(total: jax.Array, part: Any) -> tuple[jax.Array, None]:
                return total + function(params, *whole, part), None

            return jax.lax.scan(add, function(params, *whole, first), rest)[0]

        if self.devices == 1:
            return on_device(params, whole, rows) / pieces

        # By shard_map, because no partitioner knows how to part a kernel.
        specs = {"in_specs": (WHOLE, WHOLE, CUT), "out_specs": self.vector}
        run = jax.shard_map(lambda *parts: self._added(on_device(*parts)), mesh=self.mesh, check_vma=False, **specs)
        return run(self.whole(params), whole, rows) / (self.devices * pieces)

    def _added(self, mine: jax.Array) -> jax.Array:
        """On each device: its vector -> the sum over all, or its share of that."""
        size = self.mesh.shape
        if size[FSDP] > 1:
            mine = jax.lax.psum_scatter(mine, FSDP, tiled=True)
        # What the slice has in common is cut again for the way to the other slices. A TPU's compiler does that by itself,
        # and gathers where it would make of this one a second all-reduce.
        if size[SLICE] > 1 and size[DATA] > 1 and self.mesh.devices.flat[0].platform != "tpu":
            mine = jax.lax.psum_scatter(mine, DATA, tiled=True)
            return jax.lax.all_gather(jax.lax.psum(mine, SLICE), DATA, tiled=True)
        rest = tuple(axis for axis in (SLICE, DATA) if size[axis] > 1)
        return jax.lax.psum(mine, rest) if rest else mine
