"""Several signals: structures per second of the preset `fusion` beside spectra per second of `dense`, whose trunk it has.

A structure here is three spectra and a PDF. Training is whole steps, inference the compiled network. With --explain also how
long all 32 choices of five signals take, for 1,000 structures: what Shapley values are made of.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import jax
import numpy as np
from flax import nnx

from benchmarks import measure, workload
from benchmarks.train_step import our_step
from benchmarks.workload import Workload
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.schema import STRUCTURE, EnergyGrid
from spt_jax.explain.signals import answers_by_subset, shapley
from spt_jax.inference.predict import Model
from spt_jax.reports.trivial import trivial_answers
from spt_jax.training.assemble import assemble

EXPLAINED = ("Ni K", "Mn K", "Co K", "O K", "PDF")
EXPLAINED_ROWS = 1_000


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = measure.parser(__doc__, "fusion")
    parser.add_argument("--batch", type=int, nargs="+", default=[64], help="rows of a batch")
    parser.add_argument("--explain", action="store_true", help="time all choices of five signals instead")
    parser.add_argument("--length", type=int, default=144, help="numbers of a signal")
    options = parser.parse_args(arguments)
    if options.small:
        options.batch, options.repeats, options.length = [4], 2, 24
    if options.explain:
        return _explain(options)
    cases: dict[str, Callable] = {}
    sizes: dict[str, int] = {}
    for batch in options.batch:
        for name, config in (
            ("fusion", workload.fusion_config(options.dtype, options.small)),
            ("dense", workload.config_of("dense", options.dtype, options.small)),
        ):
            work = workload.make(config, batch, options.length)
            for what, call in (("train", our_step(work)), ("infer", _inference(work))):
                cases[f"{name} {what} B={batch}"], sizes[f"{name} {what} B={batch}"] = call, batch
    timings = measure.interleaved(cases, options.repeats, options.trace)
    lines = [_line(options, name, timings[name], sizes[name]) for name in cases]
    measure.show(lines, {"median_ms": "ms", "rows_per_s": "rows/s"})
    return lines


def _explain(options: argparse.Namespace) -> list[dict]:
    rows = 100 if options.small else EXPLAINED_ROWS
    grid = EnergyGrid(points=options.length, step=72 / options.length, signals=EXPLAINED)
    batch = workload.structures_of(np.random.default_rng(0), rows, grid)
    config = workload.fusion_config(options.dtype, options.small)
    made = assemble(config, Statistics.of(batch, [f"{STRUCTURE} -"] * rows), grid, "none", 1)
    model = Model(made.blueprint, nnx.merge(made.graph, made.params, made.constants))
    nothing = trivial_answers(batch, batch)
    given = model, batch.spectrum, batch.atomic_number, len(EXPLAINED), nothing
    lines = []
    for case in ("choices, first", "choices, again"):
        begun = time.perf_counter()
        found = answers_by_subset(*given)
        worth = {name: shapley(own) for name, own in found.items()}
        seconds = time.perf_counter() - begun
        assert all(np.allclose(own.sum(axis=0), found[name][-1] - found[name][0]) for name, own in worth.items())
        timing = measure.Timing(1e3 * seconds, 1e3 * seconds, 1e3 * seconds, 1)
        lines.append(_line(options, f"{case}: {2 ** len(EXPLAINED)} of {rows} structures", timing, rows))
    measure.show(lines, {"median_ms": "ms", "rows_per_s": "rows/s"})
    return lines


def _inference(work: Workload) -> Callable:
    inputs = jax.device_put((work.params, work.batch.spectrum, work.batch.atomic_number))
    program = jax.jit(work.apply)
    return lambda: program(*inputs)


def _line(options: argparse.Namespace, name: str, timing: measure.Timing, batch: int) -> dict:
    return measure.record(
        "fusion_speed",
        name,
        options,
        median_ms=timing.median_ms,
        low_ms=timing.low_ms,
        high_ms=timing.high_ms,
        rows_per_s=1e3 * batch / timing.median_ms,
        length=options.length,
        batch=batch,
    )


if __name__ == "__main__":
    main()
