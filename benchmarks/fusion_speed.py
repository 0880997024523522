"""Several signals: structures per second of the preset `fusion` beside spectra per second of `dense`, whose trunk it has.

A structure here is three spectra and a PDF. Training is whole steps, inference the compiled network.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import jax

from benchmarks import measure, workload
from benchmarks.train_step import our_step
from benchmarks.workload import Workload


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = measure.parser(__doc__, "fusion")
    parser.add_argument("--batch", type=int, nargs="+", default=[64], help="rows of a batch")
    parser.add_argument("--length", type=int, default=144, help="numbers of a signal")
    options = parser.parse_args(arguments)
    if options.small:
        options.batch, options.repeats, options.length = [4], 2, 24
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
