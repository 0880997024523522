"""Floating-point operations of one matrix product or convolution in a compiled program."""

from __future__ import annotations

import math
import re

import numpy as np

from benchmarks.compile.hlo import Array, Computation, Instruction


def product_flops(each: Instruction, around: Computation) -> float:
    """Twice the multiply-adds; 0 of anything else."""
    if each.opcode == "dot":
        left = around[each.operands[0]].arrays[0]
        contracted = math.prod(left.dims[axis] for axis in each.numbers("lhs_contracting_dims"))
        return 2.0 * contracted * math.prod(each.arrays[0].dims)
    if each.opcode == "convolution":
        left, right = (around[name].arrays[0] for name in each.operands)
        return _convolution(each, left, right)
    return 0.0


def _convolution(each: Instruction, left: Array, right: Array) -> float:
    """A TPU's compiler writes products as convolutions, batches as dilated windows: only what meets is counted."""
    lhs, rhs, out = re.match(r"(\w+)_(\w+)->(\w+)", each.attribute("dim_labels")).groups()
    window = dict(re.findall(r"(\w+)=([^ ]+)", each.attribute("window") or ""))
    result = each.arrays[0]
    total = 2.0 * result.dims[out.index("b")] * result.dims[out.index("f")] * right.dims[rhs.index("i")]
    for number in range(len(lhs) - 2):
        axis = str(number)

        def entry(name: str, default: str, number: int = number) -> str:
            return window[name].split("x")[number] if name in window else default

        total *= _meeting(
            left.dims[lhs.index(axis)],
            right.dims[rhs.index(axis)],
            result.dims[out.index(axis)],
            int(entry("stride", "1")),
            int(entry("pad", "0_0").split("_")[0]),
            int(entry("lhs_dilate", "1")),
            int(entry("rhs_dilate", "1")),
        )
    return total


def _meeting(size: int, kernel: int, results: int, stride: int, pad: int, spread: int, kernel_spread: int) -> int:
    """Pairs of a result and a kernel's entry along one axis that meet a number of the left side, and no padding."""
    at = np.arange(results)[:, None] * stride + np.arange(kernel)[None] * kernel_spread - pad
    return int(((at >= 0) & (at <= (size - 1) * spread) & (at % spread == 0)).sum())
