"""Train step: spectra per second of augmentation, forward, backward and update, as a share of this machine's roofs.

`fixed` and `per_sample` are the band modes; `epoch` runs many steps in one dispatch, the data resident and shuffled
on the device. The comparison with PyTorch is `benchmarks.torch_peer`.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from benchmarks import measure, peaks, workload
from benchmarks.cost import forward_cost
from benchmarks.workload import Workload
from spt_jax.config import ExecutionConfig
from spt_jax.model.flops import Cost
from spt_jax.model.plan import make_plan
from spt_jax.training.step import Quota, TrainState, make_epoch

STEPS_PER_DISPATCH = 8


class Running:
    """A compiled step or epoch that carries its state from call to call, donated."""

    def __init__(self, function: Callable, state: TrainState, *data: Any):
        self.program, self.compile_s, self.peak_memory_bytes = measure.compiled(
            function, state, *data, donate_argnums=0
        )
        self._state, self._data = state, data

    def __call__(self) -> dict[str, jax.Array]:
        self._state, metrics = self.program(self._state, *self._data)
        return metrics


def our_step(work: Workload) -> Running:
    """One training step on the workload's batch per call."""
    return Running(work.made.step, work.made.state(), jax.device_put(work.batch))


def our_epoch(work: Workload, batch_size: int, steps: int) -> Running:
    """`steps` steps per call on batches drawn from the workload's resident spectra."""
    shares = (Quota(0, len(work.batch.labels), batch_size),)
    epoch = make_epoch(work.made.step, steps, shares, 0, lambda batch: batch)
    return Running(epoch, work.made.state(), jax.device_put(work.batch))


def step_cost(work: Workload, batch_size: int) -> Cost:
    """Counted work of one training step."""
    outputs = sum(max(task.classes, 1) for task in work.tasks)
    config = work.config
    return forward_cost(config.model, config.execution, work.grid.points, outputs, batch_size).training()


def loss_error(work: Workload) -> float:
    """Largest difference of the outputs to those of the plain taps, in float32, on the workload's batch."""
    plain = work.executed(ExecutionConfig(folding="taps", kernels="off"))
    outputs = [
        jax.jit(w.apply)(work.params, work.batch.spectrum[:8], work.batch.atomic_number[:8]) for w in (work, plain)
    ]
    heads = [task.name for task in work.tasks]
    return max(float(np.abs(np.asarray(outputs[0][h]) - np.asarray(outputs[1][h])).max()) for h in heads)


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = measure.parser(__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[64], help="batch sizes")
    parser.add_argument("--length", type=int, default=144, help="energies of a spectrum")
    parser.add_argument("--width", type=int, default=None, help="another width than the preset's")
    parser.add_argument("--mode", nargs="+", default=["fixed", "per_sample"], help="band modes")
    parser.add_argument(
        "--kernels", choices=("auto", "off"), nargs="+", default=["auto"], help="off: blocks as XLA programs alone"
    )
    options = parser.parse_args(arguments)
    if options.small:
        options.batch, options.repeats, options.length = [4], 2, 24
    roofs = peaks.measure_roofs(options.dtype, options.small)
    print(f"roofs: {roofs.flops / 1e9:,.0f} GFLOP/s {options.dtype} matrix products, {roofs.bandwidth / 1e9:,.1f} GB/s")
    lines = []
    for batch in options.batch:
        lines += _one_batch(options, batch, roofs)
    columns = {"median_ms": "ms", "spectra_per_s": "spectra/s", "share_of_matmul_peak": "matmul"}
    columns |= {"share_of_memory_roof": "memory", "max_error": "error", "compile_s": "compile s"}
    measure.show(lines, columns)
    return lines


def _one_batch(options: argparse.Namespace, batch: int, roofs: peaks.Roofs) -> list[dict]:
    cases: dict[str, tuple[Workload, Running, int]] = {}
    fields, told = ({"width": options.width}, f" d={options.width}") if options.width else ({}, "")
    for mode, kernels in itertools.product(options.mode, options.kernels):
        config = workload.config_of(options.preset, options.dtype, options.small, band_mode=mode, **fields)
        config = replace(config, execution=replace(config.execution, kernels=kernels))
        steps = 2 if options.small else STEPS_PER_DISPATCH
        work = workload.make(config, batch * steps, options.length)
        one = replace(work, batch=jax.tree.map(lambda x: x[:batch], work.batch))
        name = f"{mode} B={batch}{told}" + ("" if kernels == "auto" else " kernels off")
        try:
            cases[name] = (work, our_step(one), 1)
            cases[f"{name} epoch"] = (work, our_epoch(work, batch, steps), steps)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise SystemExit(f"batch {batch} does not fit this device's memory; try --batch {batch // 2}") from None
    timings = measure.interleaved({name: case[1] for name, case in cases.items()}, options.repeats, options.trace)
    lines = []
    for name, (work, running, steps) in cases.items():
        seconds = timings[name].median_ms / 1e3 / steps
        cost = step_cost(work, batch)
        plan = make_plan(work.config.model, options.length, work.config.execution.folding)
        lines.append(
            measure.record(
                "train_step",
                name,
                options,
                median_ms=1e3 * seconds,
                low_ms=timings[name].low_ms / steps,
                high_ms=timings[name].high_ms / steps,
                spectra_per_s=batch / seconds,
                **roofs.shares(cost.flops, cost.bytes, seconds),
                mfu=peaks.mfu(cost.flops, seconds, options.dtype),
                max_error=loss_error(work),
                compile_s=running.compile_s,
                peak_memory_bytes=running.peak_memory_bytes,
                length=options.length,
                width=work.config.model.width,
                batch=batch,
                folding="spectral" if plan else "taps",
                flops_per_spectrum=cost.flops / batch,
            )
        )
    return lines


if __name__ == "__main__":
    main()
