"""The one file that knows of devices: a data-parallel mesh, replicated parameters, batches cut by rows."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from data_pipelines.errors import RunError


def make_mesh() -> Mesh:
    """All devices of all processes along one axis, "data"."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def check_batch(mesh: Mesh, batch_size: int) -> None:
    if batch_size % mesh.size:
        raise RunError(
            f"batch_size {batch_size} does not divide over {mesh.size} devices; use a multiple of {mesh.size}"
        )


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Place every leaf whole on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def cut(mesh: Mesh, batch: Any) -> Any:
    """Inside jit: cut a batch by rows over the devices."""
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec("data")))


def place_batch(mesh: Mesh, batch: Any) -> Any:
    """Outside jit: this process's rows of a batch -> the global batch, cut over all devices."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
