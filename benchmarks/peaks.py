"""The roofs of this machine: measured matrix-product and memory rates, and data sheets for known accelerators."""

from __future__ import annotations

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

GIB = 2**30 / 1e9
"""In GB: memory is sold in units that are larger by 7 %."""


class Chip(NamedTuple):
    """One device as JAX counts them, from the maker's data sheet; None where that is silent."""

    flops: dict[str, float]
    """Dense peak of matrix products by dtype, TFLOP/s."""
    bandwidth: float
    """Of the main memory, GB/s."""
    memory: float | None = None
    """GB."""
    clock: float | None = None
    """GHz. Of TPUs: peak / (units * their rows * columns * 2), times 2 from v6e on, whose units take two rows a cycle."""
    units: int | None = None
    """Matrix units (MXUs, 128 x 128 up to v5p, then 256 x 256) or streaming multiprocessors."""
    link: float | None = None
    """What it can send to other devices, all links together, GB/s."""
    network: float | None = None
    """Its share of what its machine can send to other slices or machines, GB/s."""


# TPUs: cloud.google.com/tpu/docs, pages v4, v5e, v5p, v6e and tpu7x; link is the interconnect's rate in one direction.
# A device of v5p is a chip of two cores that work as one; of TPU7x, one of a chip's two cores. NVIDIA: data sheets of
# A100, H100 SXM and H200 SXM, without sparsity; link is NVLink in one direction. network: of v5e a pod's 6.4 Tb/s
# by its 256 chips, of v5p 50 Gb/s a chip; of NVIDIA's H boards one 400 Gb/s port each. A device that is not here has no MFU
# and no bound rather than a wrong one.
DATA_SHEETS: dict[str, Chip] = {
    "NVIDIA H200": Chip({"bfloat16": 989.0, "float32": 67.0}, 4800.0, 141.0, 1.98, 132, 450.0, 50.0),
    "NVIDIA H100 80GB HBM3": Chip({"bfloat16": 989.0, "float32": 67.0}, 3350.0, 79.1 * GIB, 1.98, 132, 450.0, 50.0),
    "NVIDIA A100-SXM4-80GB": Chip({"bfloat16": 312.0, "float32": 19.5}, 2039.0, 80 * GIB, 1.41, 108, 300.0),
    "TPU v4": Chip({"bfloat16": 275.0}, 1228.0, 32 * GIB, 1.05, 8, 300.0),
    "TPU v5 lite": Chip({"bfloat16": 197.0}, 819.0, 16 * GIB, 1.5, 4, 200.0, 3.125),
    "TPU v5": Chip({"bfloat16": 459.0}, 2765.0, 95 * GIB, 1.75, 8, 600.0, 6.25),
    "TPU v6 lite": Chip({"bfloat16": 918.0}, 1640.0, 32 * GIB, 1.75, 2, 400.0),
    "TPU7x": Chip({"bfloat16": 1153.5}, 3690.0, 96 * GIB, None, 2, 300.0),
}
# Other names that JAX has had for the same.
DATA_SHEETS["TPU v5p"] = DATA_SHEETS["TPU v5"]
DATA_SHEETS["TPU v5e"], DATA_SHEETS["TPU v6e"] = DATA_SHEETS["TPU v5 lite"], DATA_SHEETS["TPU v6 lite"]


class Roofs(NamedTuple):
    """FLOP/s of a large matrix product and bytes/s of a large elementwise pass, both measured."""

    flops: float
    bandwidth: float

    def shares(self, flops: float, moved: float, seconds: float) -> dict[str, float]:
        """Fields of a result line: work done in `seconds` as shares of the two roofs."""
        return {
            "share_of_matmul_peak": flops / seconds / self.flops,
            "share_of_memory_roof": moved / seconds / self.bandwidth,
        }


def measure_roofs(dtype: str = "float32", small: bool = False) -> Roofs:
    """Best of several: a roof is what the machine can do when nothing disturbs it."""
    cpu = jax.default_backend() == "cpu"
    side = 128 if small else (2048 if cpu else 8192)
    a = jax.random.normal(jax.random.key(0), (side, side)).astype(dtype)
    # In float32 as networks have it: what an accelerator takes for float32 where nothing is said is rounded.
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest" if dtype == "float32" else None))
    count = 2**16 if small else (2**26 if cpu else 2**30)
    x = jnp.zeros(count, jnp.float32)
    scale = jax.jit(lambda x: x * 1.000001 + 1.0)
    return Roofs(2 * side**3 / _best(product, a), 8 * count / _best(scale, x))


def data_sheet(dtype: str) -> tuple[float, float] | None:
    """(FLOP/s, bytes/s) promised for this device, or None where it is unknown."""
    known = DATA_SHEETS.get(jax.devices()[0].device_kind)
    if known is None or dtype not in known.flops:
        return None
    return known.flops[dtype] * 1e12, known.bandwidth * 1e9


def mfu(flops: float, seconds: float, dtype: str) -> float | None:
    """Model FLOPs utilisation against the data sheet; None for an unknown device."""
    sheet = data_sheet(dtype)
    return None if sheet is None else flops / seconds / sheet[0]


def _best(function, argument, rounds: int = 7) -> float:
    jax.block_until_ready(function(argument))
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        jax.block_until_ready(function(argument))
        times.append(time.perf_counter() - began)
    return min(times)
