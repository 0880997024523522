"""The blocks of SPT as TPU kernels: which networks they take, and how the reference's parameters are laid out for them."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx

from spt_jax.config import ExecutionConfig, ModelConfig
from spt_jax.model.tpu import attention, bands
from spt_jax.model.tpu.folds import BandShape, BandWeights, Head
from spt_jax.model.tpu.tile import LANES, SUBLANES
from spt_jax.shapes import Array, Float, Int

# On the chip of a v5p; a v5e has twice as much. The backward pass of k bands holds about k + 10 arrays (L, d, 128).
CHIP_BYTES = 64 * 2**20


def refusal(config: ModelConfig, execution: ExecutionConfig, length: int) -> str | None:
    """Why the kernels do not take a network; None where they do."""
    size = length * config.width * LANES * jnp.dtype(execution.dtype).itemsize
    reasons = {
        "kernel is not 3": bool(config.bands) and config.kernel != 3,
        "fusion is not query": bool(config.bands) and config.fusion != "query",
        "attention is gatv2": config.attention == "gatv2",
        f"width is no multiple of {SUBLANES}": config.width % SUBLANES != 0,
        "channels of an attention head are no multiple of 8": config.attention != "none"
        and (config.width // config.attention_heads) % 8 != 0,
        "length times width is too large for the chip's memory": size * (config.bands + 10) > CHIP_BYTES,
    }
    found = [reason for reason, holds in reasons.items() if holds]
    return "; ".join(found) or None


def band_update(
    h: Float[Array, "L B d"],
    chosen: Int[Array, "B k"],
    keep: Float[Array, "B d"],
    norm: nnx.LayerNorm,
    block: nnx.Module,
    execution: ExecutionConfig,
) -> Float[Array, "L B d"]:
    """h plus `keep` times what a `BandBlock` makes of its norm."""
    weights = BandWeights(
        *_norm(norm),
        block.weights[...],
        _column(block.bias),
        *_linear(block.out),
        Head(_column(block.query), *_linear(block.context), *_linear(block.project), *_linear(block.key)),
    )
    shape = BandShape(len(h), block.config.highest_band, execution.dtype)
    tiles, batch = _tiles(h, keep)
    chosen = jnp.pad(jnp.sort(chosen, axis=1), ((0, tiles[0].shape[-1] - batch), (0, 0))).T
    return bands.band_update(shape, tiles[0], chosen, tiles[1], weights)[..., :batch].swapaxes(1, 2)


def attention_update(
    h: Float[Array, "L B d"], keep: Float[Array, "B d"], norm: nnx.LayerNorm, layer: nnx.Module, dtype: str
) -> Float[Array, "L B d"]:
    """h plus `keep` times what a `BandedAttention` makes of its norm."""
    weights = attention.AttentionWeights(
        *_norm(norm), *_linear(layer.value), *_linear(layer.source), layer.target.kernel[...].T, *_linear(layer.out)
    )
    shape = attention.AttentionShape(len(h), layer.heads, layer.reach, dtype)
    tiles, batch = _tiles(h, keep)
    return attention.attention_update(shape, *tiles, weights)[..., :batch].swapaxes(1, 2)


def _tiles(h: Float[Array, "L B d"], keep: Float[Array, "B d"]) -> tuple[tuple[Array, Array], int]:
    """Both with the batch last, filled up with zeros to whole tiles, and the batch as it was."""
    batch = len(keep)
    missing = -batch % LANES
    h, keep = h.swapaxes(1, 2), keep.astype(jnp.float32).T
    if missing:
        h, keep = jnp.pad(h, ((0, 0), (0, 0), (0, missing))), jnp.pad(keep, ((0, 0), (0, missing)))
    return (h, keep), batch


def _column(x: nnx.Param) -> Array:
    return x[...].reshape(-1, 1)


def _linear(layer: nnx.Linear) -> tuple[Array, Array]:
    return layer.kernel[...].T, _column(layer.bias)


def _norm(norm: nnx.LayerNorm) -> tuple[Array, Array]:
    return _column(norm.scale), _column(norm.bias)
