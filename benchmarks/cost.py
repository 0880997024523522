"""Work of the whole network and of its training, counted from the configuration: what shares of a roof are taken of.

XLA's own cost analysis counts the body of a scan once. Operations and bytes are those of `spt_jax/model/flops.py`;
`tests/benchmarks/test_cost.py` counts the programs themselves.
"""

from __future__ import annotations

from spt_jax.config import ExecutionConfig, ModelConfig
from spt_jax.model.flops import Cost
from spt_jax.model.plan import folding_cost, make_plan
from spt_jax.model.spt import EMBEDDING_KERNEL

SIZES = {"float32": 4, "bfloat16": 2}


def forward_cost(config: ModelConfig, execution: ExecutionConfig, length: int, outputs: int, batch: int) -> Cost:
    """Forward pass of SPT for a batch of spectra of `length` energies; outputs: numbers that the heads put out."""
    d, features = config.width, length * (config.readout_channels + 1) + config.width
    dense = features * config.hidden + (config.hidden_layers - 1) * config.hidden**2 + config.hidden * outputs
    # Noise filter and band input come before all that is learnt. The embedding is no product.
    before = 2 * length**2 * (3 if config.denoise else 1)
    flops = before + 2 * length * d * config.readout_channels + 2 * dense
    total = Cost(batch * flops, 4 * dense, batch * 2 * before)
    dtype = execution.dtype
    total += _moved(config, dtype, length, batch, 4)
    for i in range(config.blocks):
        if config.bands:
            total += _folding(config, execution, length, batch, i == 0)
        if config.attention != "none":
            # The norm before it, and the sum with what came in.
            total += attention_cost(config, dtype, length, batch) + _moved(config, dtype, length, batch, 5)
    return total


def _folding(config: ModelConfig, execution: ExecutionConfig, length: int, batch: int, first: bool) -> Cost:
    """Norm, choice of bands, folded convolutions, their fusion, and the sum with what came in."""
    d, plan = config.width, make_plan(config, length, execution.folding)
    folded = config.bands if plan is None else len(plan)
    transformed = EMBEDDING_KERNEL * (1 + d / length) if first else d
    choice = 0 if config.band_mode == "fixed" else round(4 * length * config.highest_band * transformed)
    fusion = 2 * (2 + folded) * d**2 if config.fusion == "query" else 0
    flops = choice + fusion + 2 * length * d**2
    convolved = in_dtype(folding_cost(config, length, batch, execution.folding), execution.dtype)
    # Each folded sequence is activated, averaged for its key, and summed.
    convolved += _moved(config, execution.dtype, length, batch, 9 + 4 * folded)
    return convolved + Cost(batch * flops, 0, batch * 2 * choice)


def attention_cost(config: ModelConfig, dtype: str, length: int, batch: int) -> Cost:
    """Forward pass of one attention layer: scores, values, their sum over the window, its projection."""
    d, window = config.width, 2 * config.window + 1
    full = config.attention == "gatv2"  # scores from whole hidden vectors, summed over the window as values are
    scores = 2 * d + window if full else 2 * config.attention_heads
    flops = 2 * length * d * (scores + 2 * d + window)
    return Cost(batch * flops, 0) + _moved(config, dtype, length, batch, 7 + window * (2 if full else 1))


def _moved(config: ModelConfig, dtype: str, length: int, batch: int, passes: float) -> Cost:
    """The hidden sequence written or read `passes` times."""
    return Cost(0, passes * SIZES[dtype] * length * batch * config.width)


def in_dtype(cost: Cost, dtype: str) -> Cost:
    """A cost counted in float32, of arithmetic in another."""
    return cost._replace(bytes=cost.bytes * SIZES[dtype] / SIZES["float32"])
