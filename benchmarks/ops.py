"""Single operations, forward and backward: the folded convolution by DFT for each period and by taps, and attention.

Beside each time stand its error against a plain float64 computation and its shares of the measured roofs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import measure, peaks, workload
from benchmarks.cost import attention_cost, in_dtype
from spt_jax.model.attention import BandedAttention
from spt_jax.model.flops import Cost, spectral_cost, tap_cost
from spt_jax.model.folding import fixed_tap_convolutions, tap_convolutions
from spt_jax.model.spectral import Grid, spectral


def forward_and_backward(function: Callable) -> Callable:
    """Value and gradients of the sum of squares, as one function of the arguments."""
    return jax.value_and_grad(lambda *xs: (function(*xs) ** 2).sum(), argnums=(0, 1))


def exact_convolution(h: np.ndarray, weights: np.ndarray, grid: Grid) -> np.ndarray:
    """(L, B, d) in float64, tap by tap."""
    (up, left), (length, batch, width) = grid.reach, h.shape
    padded = np.zeros((grid.rows + 2 * up, grid.period + 2 * left, batch, width))
    inner = np.zeros((grid.rows * grid.period, batch, width))
    inner[:length] = h
    padded[up : up + grid.rows, left : left + grid.period] = inner.reshape(grid.rows, grid.period, batch, width)
    result, middle = 0.0, grid.size // 2
    for r in range(-up, up + 1):
        for c in range(-left, left + 1):
            part = padded[up + r : up + r + grid.rows, left + c : left + c + grid.period]
            result = result + part @ weights[middle + r, middle + c].astype(np.float64)
    return result.reshape(-1, batch, weights.shape[-1])[:length]


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = measure.parser(__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=144, help="energies of a spectrum")
    parser.add_argument("--frequencies", type=int, nargs="+", default=[1, 2, 3, 6, 12])
    options = parser.parse_args(arguments)
    if options.small:
        options.batch, options.repeats, options.length, options.frequencies = 2, 2, 24, [1, 3]
    roofs = peaks.measure_roofs(options.dtype, options.small)
    ratio = roofs.flops / roofs.bandwidth
    print(f"roofs: {roofs.flops / 1e9:,.0f} GFLOP/s, {roofs.bandwidth / 1e9:,.1f} GB/s, {ratio:.0f} FLOP per byte")
    lines = folding(options, roofs) + attention(options, roofs)
    columns = {"median_ms": "ms", "share_of_matmul_peak": "matmul", "share_of_memory_roof": "memory"}
    measure.show(lines, columns | {"max_error": "error", "compile_s": "compile s"})
    return lines


def folding(options: argparse.Namespace, roofs: peaks.Roofs) -> list[dict]:
    config = workload.config_of(options.preset, options.dtype, options.small).model
    rng, width, size = np.random.default_rng(), config.width, config.kernel
    h = jnp.asarray(rng.normal(size=(options.length, options.batch, width)), options.dtype)
    weights = jnp.asarray(rng.normal(size=(size, size, width, width)) / size / width**0.5, jnp.float32)
    cases: dict[str, tuple[Callable, Cost, float]] = {}
    for frequency in options.frequencies:
        grid = Grid(options.length, -(-options.length // frequency), size)
        exact = exact_convolution(np.asarray(h, np.float64), np.asarray(weights, np.float64), grid)
        for name, way in {"one DFT": grid._replace(apart=False), "DFT apart": grid._replace(apart=True)}.items():
            convolve = partial(spectral, grid=way)
            error = float(np.abs(np.asarray(jax.jit(convolve)(h, weights), np.float64) - exact).max())
            cost = in_dtype(spectral_cost(way, options.batch, width), options.dtype)
            cases[f"fold p={grid.period}, {name}"] = (convolve, cost, error)
    if size <= 5:
        periods = jnp.asarray(rng.integers(8, options.length + 1, (options.batch, config.bands)), jnp.int32)
        cost = in_dtype(tap_cost(options.length, size, config.bands, options.batch, width), options.dtype)
        taps = lambda h, w: jnp.stack(tap_convolutions(h, w, periods))  # noqa: E731
        found, error = np.asarray(jax.jit(taps)(h, weights), np.float64), 0.0
        for row in range(min(options.batch, 2)):
            for slot in range(config.bands):
                grid = Grid(options.length, int(periods[row, slot]), size)
                exact = exact_convolution(np.asarray(h[:, row : row + 1], np.float64), np.asarray(weights), grid)
                error = max(error, float(np.abs(found[slot, :, row] - exact[:, 0]).max()))
        cases[f"fold any {config.bands} periods, taps"] = (taps, cost, error)
        shared = tuple(-(-options.length // frequency) for frequency in range(1, config.bands + 1))
        cost = tap_cost(options.length, size, config.bands, options.batch, width, fixed=True)
        cost = in_dtype(cost, options.dtype)
        taps = lambda h, w: jnp.stack(fixed_tap_convolutions(h, w, shared))  # noqa: E731
        found, error = np.asarray(jax.jit(taps)(h, weights), np.float64), 0.0
        for slot, period in enumerate(shared):
            grid = Grid(options.length, period, size)
            exact = exact_convolution(np.asarray(h, np.float64), np.asarray(weights, np.float64), grid)
            error = max(error, float(np.abs(found[slot] - exact).max()))
        cases[f"fold {config.bands} fixed periods, taps"] = (taps, cost, error)
    return _timed(options, roofs, "folding", cases, h, weights)


def attention(options: argparse.Namespace, roofs: peaks.Roofs) -> list[dict]:
    config = workload.config_of(options.preset, options.dtype, options.small).model
    rng, d, reach = np.random.default_rng(), config.width, config.window
    h = jnp.asarray(rng.normal(size=(options.length, options.batch, d)), options.dtype)
    cases = {}
    for order in ("gatv1", "gatv2"):
        layer = BandedAttention(d, config.attention_heads, reach, order, dtype=options.dtype, rngs=nnx.Rngs(0))
        graph, params = nnx.split(layer)
        cost = attention_cost(replace(config, attention=order), options.dtype, options.length, options.batch)

        def run(h: jax.Array, params: nnx.State, graph: nnx.GraphDef = graph) -> jax.Array:
            return nnx.merge(graph, params)(h)

        exact = jax.jit(run)(h.astype(jnp.float32), params)
        error = float(jnp.abs(jax.jit(run)(h[:, :1], params).astype(jnp.float32) - exact[:, :1]).max())
        cases[f"attention {order}"] = (run, cost, error), params
    lines = []
    for name, (case, params) in cases.items():
        lines += _timed(options, roofs, "attention", {name: case}, h, params)
    return lines


def _timed(options: argparse.Namespace, roofs: peaks.Roofs, kind: str, cases: dict, *inputs) -> list[dict]:
    """Forward and backward of each case, in turns."""
    programs = {name: measure.compiled(forward_and_backward(case[0]), *inputs) for name, case in cases.items()}
    calls = {name: (lambda program=program: program(*inputs)) for name, (program, _, _) in programs.items()}
    timings = measure.interleaved(calls, options.repeats, options.trace)
    lines = []
    for name, (_, cost, error) in cases.items():
        seconds = timings[name].median_ms / 1e3
        lines.append(
            measure.record(
                "ops",
                name,
                options,
                median_ms=timings[name].median_ms,
                spectra_per_s=options.batch / seconds,
                **roofs.shares(*cost.training()[:2], seconds),
                max_error=error,
                compile_s=programs[name][1],
                peak_memory_bytes=programs[name][2],
                kind=kind,
                batch=options.batch,
                length=options.length,
            )
        )
    return lines


if __name__ == "__main__":
    main()
