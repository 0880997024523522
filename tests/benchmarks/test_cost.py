"""Counted work against the programs themselves: every product of a traced program, and XLA's own count.

A traced program shows the matrix products alone, and a scan with its length; XLA counts every operation, and the body
of a scan once. Our counts, of products and of sums over taps and windows, lie between the two.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend import core

from benchmarks import workload
from benchmarks.cost import attention_cost, forward_cost, in_dtype
from benchmarks.ops import forward_and_backward
from spt_jax.config import ExecutionConfig
from spt_jax.model.attention import BandedAttention
from spt_jax.model.flops import spectral_cost, tap_cost
from spt_jax.model.folding import fixed_tap_convolutions, tap_convolutions
from spt_jax.model.spectral import Grid, spectral


class Products(NamedTuple):
    """Matrix products of a program: operations, and bytes of operands and results."""

    flops: int
    bytes: int


def products(function: Callable, *arguments) -> Products:
    """Those that the results of a function hang on, counted one by one in its trace."""
    program = jax.make_jaxpr(function)(*arguments).jaxpr
    return Products(*np.sum([(0, 0), *_walk(program, times=1)], axis=0))


def _walk(program: core.Jaxpr, times: int) -> Iterator[tuple[int, int]]:
    needed = {id(variable) for variable in program.outvars}
    for step in reversed(program.eqns):
        if not needed & {id(variable) for variable in step.outvars}:
            continue
        needed |= {id(variable) for variable in step.invars}
        if step.primitive.name == "dot_general":
            (contracted, _), _ = step.params["dimension_numbers"]
            left, right, result = (v.aval for v in (*step.invars, *step.outvars))
            each = 2 * math.prod(left.shape[axis] for axis in contracted) * result.size
            yield times * each, times * sum(x.size * x.dtype.itemsize for x in (left, right, result))
        inner = times * (step.params["length"] if step.primitive.name == "scan" else 1)
        for value in step.params.values():
            for each in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(each, (core.ClosedJaxpr, core.Jaxpr)):
                    yield from _walk(getattr(each, "jaxpr", each), inner)


def by_xla(function: Callable, *arguments) -> dict[str, float]:
    return jax.jit(function).lower(*arguments).compile().cost_analysis()


def test_a_scan_is_counted_as_often_as_it_runs_and_dead_products_never():
    """The reason why XLA's count is not the one that is used."""
    h, w = jnp.ones((3, 4)), jnp.ones((4, 4))

    def scanned(h, w):
        unused = w @ w  # noqa: F841
        return jax.lax.scan(lambda h, _: (h @ w, None), h, length=7)[0]

    assert products(scanned, h, w) == (7 * 2 * 3 * 4 * 4, 7 * 4 * (3 * 4 + 4 * 4 + 3 * 4))
    assert by_xla(scanned, h, w)["flops"] < 3 * 2 * 3 * 4 * 4


GRIDS = [Grid(24, 24, 3), Grid(24, 7, 3), Grid(30, 10, 11), Grid(17, 4, 5)]


def sequence(length: int, batch: int, width: int, size: int) -> tuple[jax.Array, jax.Array]:
    return jnp.ones((length, batch, width)), jnp.ones((size, size, width, width))


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_dft_of_a_folded_convolution_takes_what_is_counted(grid, apart):
    grid, batch, width = grid._replace(apart=apart), 96, 12
    given, convolve = sequence(grid.length, batch, width, grid.size), partial(spectral, grid=grid)
    cost, found = spectral_cost(grid, batch, width), products(convolve, *given)
    assert found.flops == cost.flops
    assert products(forward_and_backward(convolve), *given).flops == cost.training().flops
    # The matrices of the waves are not counted: they do not grow with the batch.
    assert cost.bytes == pytest.approx(found.bytes, rel=0.15)


@pytest.mark.parametrize("fixed", [True, False])
def test_taps_take_what_is_counted(fixed, rng):
    length, batch, width, size, periods = 24, 8, 12, 3, 3
    h, w = sequence(length, batch, width, size)
    any_of = jnp.asarray(rng.integers(4, 24, (batch, periods)), jnp.int32)

    def taps(h, w):
        return jnp.stack(fixed_tap_convolutions(h, w, (24, 12, 8)) if fixed else tap_convolutions(h, w, any_of))

    cost = tap_cost(length, size, periods, batch, width, fixed)
    sums = periods * size**2 * length * batch * width
    assert cost.flops == products(taps, h, w).flops + sums
    # A sum is its own gradient, once more.
    assert cost.training().flops == products(forward_and_backward(taps), h, w).flops + 2 * sums


@pytest.mark.parametrize("order", ["gatv1", "gatv2"])
def test_attention_takes_what_is_counted(order, rng):
    config = replace(workload.config_of("base", "float32").model, attention=order)
    length, batch, d = 48, 8, config.width
    layer = BandedAttention(d, config.attention_heads, config.window, order, dtype="float32", rngs=nnx.Rngs(0))
    graph, params = nnx.split(layer)

    def run(h, params):
        return nnx.merge(graph, params)(h)

    h, cost = jnp.ones((length, batch, d)), attention_cost(config, "float32", length, batch)
    sums = 2 * length * batch * d * (2 * config.window + 1) * (2 if order == "gatv2" else 1)
    assert cost.flops == products(run, h, params).flops + sums
    assert cost.training().flops == products(forward_and_backward(run), h, params).flops + 3 * sums


NETWORKS = {
    "base": ("base", {}),
    "11 x 11, fixed": ("inception", {"band_mode": "fixed"}),
    "without bands": ("base", {"bands": 0, "denoise": False}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_takes_what_is_counted(name):
    preset, fields = NETWORKS[name]
    config = workload.config_of(preset, "float32", blocks=1, hidden=32, **fields)
    batch, length = 16, 60
    work = workload.make(config, batch, length)
    given = work.params, work.batch.spectrum, work.batch.atomic_number
    outputs = sum(max(task.classes, 1) for task in work.tasks)
    cost = forward_cost(config.model, config.execution, length, outputs, batch)

    def loss(params, spectrum, atomic_number):
        outputs = work.apply(params, spectrum, atomic_number)
        return sum((outputs[task.name] ** 2).sum() for task in work.tasks)

    for counted, function in ((cost, work.apply), (cost.training(), jax.value_and_grad(loss))):
        found, whole = products(function, *given), by_xla(function, *given)
        moved = whole["bytes accessed"] / counted.bytes
        print(
            f"products {found.flops / counted.flops:.3f}, XLA {whole['flops'] / counted.flops:.3f}, bytes {moved:.2f}"
        )
        assert found.flops <= counted.flops <= 1.1 * found.flops
        assert counted.flops <= whole["flops"] <= 1.2 * counted.flops
        # What a program moves hangs on the compiler: the count is that of one which fuses well.
        assert 0.8 <= moved <= 2.5


def test_half_the_bytes_in_half_the_precision():
    config = workload.config_of("base", "float32").model
    full, half = (forward_cost(config, ExecutionConfig(dtype=dtype), 144, 40, 64) for dtype in ("float32", "bfloat16"))
    assert half.flops == full.flops and full.bytes / 2 < half.bytes < 0.52 * full.bytes
    cost = spectral_cost(GRIDS[0], 8, 8)
    assert in_dtype(cost, "bfloat16") == (cost.flops, cost.bytes / 2, cost.spared)
