"""The one file that knows of devices: a mesh with one axis, batches cut over it by rows, parameters whole or shared out.

The rule: axis 0 of whatever is cut lies over the axis "data". Parameters are one vector, so sharing them out is
the same rule. The gradient of a batch is the sum of the gradients of its cuts: one all-reduce of one array in each
step, or, with parameters shared out, one reduce-scatter and one all-gather.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from data_pipelines.errors import RunError

CUT, WHOLE = PartitionSpec("data"), PartitionSpec()


def join_processes(silence: float = 100.0) -> None:
    """Make this process one of several that train together: before anything else of JAX. silence: seconds after which JAX
    itself ends all where one does not answer, as before training begins.

    Where the launcher does not tell JAX by itself (TPU pods and SLURM do), JAX_COORDINATOR_ADDRESS (host:port),
    JAX_NUM_PROCESSES and JAX_PROCESS_ID say so.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    place = {name: os.environ.get(f"JAX_{name.upper()}") for name in ("num_processes", "process_id")}
    try:
        jax.distributed.initialize(
            os.environ.get("JAX_COORDINATOR_ADDRESS"),
            heartbeat_timeout_seconds=max(int(silence), 10),
            **{k: v if v is None else int(v) for k, v in place.items()},
        )
    except (ValueError, RuntimeError) as error:
        raise RunError(f"cannot join the other processes: {' '.join(str(error).split())}") from None


def make_mesh() -> Mesh:
    """All devices of all processes along one axis, "data"."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


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
    share_parameters: bool = False

    @property
    def devices(self) -> int:
        return self.mesh.size if self.mesh else 1

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
            shared = self.share_parameters and x.shape == (vector_size,)
            return _put(x, NamedSharding(self.mesh, CUT if shared else WHOLE))

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
        return self.cut(vector) if self.share_parameters else self.whole(vector)

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

        def everywhere(*parts: Any) -> jax.Array:
            mine = on_device(*parts)
            if self.share_parameters:
                return jax.lax.psum_scatter(mine, "data", tiled=True)
            return jax.lax.psum(mine, "data")

        # By shard_map, because no partitioner knows how to part a kernel.
        out = CUT if self.share_parameters else WHOLE
        run = jax.shard_map(everywhere, mesh=self.mesh, in_specs=(WHOLE, WHOLE, CUT), out_specs=out, check_vma=False)
        return run(self.whole(params), whole, rows) / (self.devices * pieces)
