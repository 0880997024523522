"""The roofs of this machine: measured matrix-product and memory rates, and data sheets for known accelerators."""

from __future__ import annotations

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

# Dense peak TFLOP/s by dtype and memory GB/s, from the makers' data sheets. A device that is not here has no
# MFU rather than a wrong one.
DATA_SHEETS: dict[str, tuple[dict[str, float], float]] = {
    "NVIDIA H200": ({"bfloat16": 989.0, "float32": 67.0}, 4800.0),
    "NVIDIA H100 80GB HBM3": ({"bfloat16": 989.0, "float32": 67.0}, 3350.0),
    "NVIDIA A100-SXM4-80GB": ({"bfloat16": 312.0, "float32": 19.5}, 2039.0),
    "TPU v4": ({"bfloat16": 275.0}, 1228.0),
    "TPU v5 lite": ({"bfloat16": 197.0}, 819.0),
    "TPU v5p": ({"bfloat16": 459.0}, 2765.0),
    "TPU v6 lite": ({"bfloat16": 918.0}, 1640.0),
}


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
    product = jax.jit(lambda a: a @ a)
    count = 2**16 if small else (2**26 if cpu else 2**30)
    x = jnp.zeros(count, jnp.float32)
    scale = jax.jit(lambda x: x * 1.000001 + 1.0)
    return Roofs(2 * side**3 / _best(product, a), 8 * count / _best(scale, x))


def data_sheet(dtype: str) -> tuple[float, float] | None:
    """(FLOP/s, bytes/s) promised for this device, or None where it is unknown."""
    known = DATA_SHEETS.get(jax.devices()[0].device_kind)
    if known is None or dtype not in known[0]:
        return None
    return known[0][dtype] * 1e12, known[1] * 1e9


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
