"""The blocks of SPT with Triton kernels: which networks they take, and what of a layer they compute."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from spt_jax.config import ExecutionConfig, ModelConfig
from spt_jax.model.gpu.attention import WindowTile, attend
from spt_jax.model.gpu.fusion import fuse_bands
from spt_jax.model.gpu.rows import Tile
from spt_jax.shapes import Array, Float, Int

WIDEST = 128  # of a tile that a multiprocessor's registers hold


class Keys(NamedTuple):
    """What the shares of the bands are computed from, beside the means of their features."""

    query: Array  # (B, d)
    kernel: Array  # (d, d), of the keys
    bias: Array  # (d,)


def refusal(config: ModelConfig, execution: ExecutionConfig, length: int) -> str | None:
    """Why the kernels do not take a network; None where they do."""
    reasons = {
        "arithmetic is not bfloat16": execution.dtype != "bfloat16",
        "kernel is not 3": bool(config.bands) and config.kernel != 3,
        "fusion is not query": bool(config.bands) and config.fusion != "query",
        "a fold is one point wide": bool(config.bands) and length <= config.highest_band,
        "attention is gatv2": config.attention == "gatv2",
        f"width exceeds {WIDEST}": config.width > WIDEST,
    }
    found = [reason for reason, holds in reasons.items() if holds]
    return "; ".join(found) or None


def shares(keys: Keys, means: Float[Array, "k B d"]) -> Float[Array, "B k"]:
    """Of each band in the fusion, as `BandBlock` weighs them by a query."""
    dtype = keys.query.dtype
    key = means.astype(dtype) @ keys.kernel.astype(dtype) + keys.bias.astype(dtype)
    score = jnp.einsum("bd,kbd->bk", keys.query, key).astype(jnp.float32)
    return jax.nn.softmax(score / math.sqrt(means.shape[-1]), axis=-1)


def fused_bands(
    block: nnx.Module, h: Float[Array, "L B d"], periods: Int[Array, "B k"], interpret: bool = False
) -> tuple[Float[Array, "L B d"], Float[Array, "B k"]]:
    """What a `BandBlock` makes of h before its last layer, and the share of each band in it."""
    context = block.project(jax.nn.gelu(block.context(h.mean(axis=0))))
    keys = Keys(context + block.query[...].astype(h.dtype), block.key.kernel[...], block.key.bias[...])
    rows = block.config.highest_band + 1
    points = max(16, 1 << (rows - 1).bit_length())
    warps = 4 if h.shape[-1] <= 64 else 8
    tile = Tile(points, warps=warps, interpret=interpret)
    return fuse_bands(tile, shares, h, block.weights[...], block.bias[...], periods, keys)


def mixed(layer: nnx.Module, h: Float[Array, "L B d"], interpret: bool = False) -> Float[Array, "L B d"]:
    """What a `BandedAttention` (gatv1) makes of h before its last layer."""
    tile = WindowTile(layer.reach, interpret=interpret)
    return attend(layer.value(h), layer.source(h), layer.target(h), tile)
