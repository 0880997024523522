"""Ensembles: all experts trained in one program with stacked parameters, in turns, and one program after the other."""

from __future__ import annotations

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure, workload
from spt_jax.training.ensemble import emphasis, experts, run_members
from spt_jax.training.step import Quota, make_epoch


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = measure.parser(__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=144, help="energies of a spectrum")
    parser.add_argument("--members", type=int, default=7, help="experts")
    options = parser.parse_args(arguments)
    steps = 2
    if options.small:
        options.batch, options.repeats, options.length, options.members = 2, 2, 24, 2
    work = workload.make(
        workload.config_of(options.preset, options.dtype, options.small), options.batch * steps, options.length
    )
    state, shares = work.made.state(), (Quota(0, options.batch * steps, options.batch),)
    epoch = make_epoch(work.made.step, steps, shares, 0, lambda batch: batch)
    members = experts(work.config, work.made.objective.names, Path())[: options.members]
    weights = jnp.stack([emphasis(member, work.made.objective) for member in members])
    states = jax.tree.map(lambda x: jnp.stack([x] * len(members)), state)
    data = jax.device_put(work.batch)

    ways, compile_s = {}, {}
    for name, stacked in (("stacked", True), ("in turns, one program", False)):
        program, began = run_members(epoch, stacked), time.perf_counter()
        running = program.lower(states, weights, data).compile()
        compile_s[name] = time.perf_counter() - began
        ways[name] = _carried(running, jax.tree.map(jnp.copy, states), weights, data)
    began = time.perf_counter()
    alone = jax.jit(epoch, donate_argnums=0).lower(state, data, weights[0]).compile()
    compile_s["one after the other"] = time.perf_counter() - began
    singles = [_carried(alone, jax.tree.map(jnp.copy, state), data, weight) for weight in weights]
    ways["one after the other"] = lambda: [single() for single in singles]

    first = {name: ways[name]() for name in ways}
    losses = {name: np.asarray(first[name]["loss"]) for name in ("stacked", "in turns, one program")}
    expected = np.array([float(each["loss"]) for each in first["one after the other"]])
    timings = measure.interleaved(ways, options.repeats, options.trace)
    reference = timings["one after the other"].median_ms
    lines = []
    for name, timing in timings.items():
        error = float(np.abs(losses[name] - expected).max()) if name in losses else 0.0
        speed = len(members) * steps * options.batch / timing.median_ms * 1e3
        lines.append(
            measure.record(
                "ensemble",
                f"{len(members)} experts, {name}",
                options,
                median_ms=timing.median_ms / steps,
                spectra_per_s=speed,
                ratio=reference / timing.median_ms,
                max_error=error,
                compile_s=compile_s[name],
                batch=options.batch,
                length=options.length,
            )
        )
    columns = {"median_ms": "ms a step", "spectra_per_s": "spectra/s", "ratio": "ratio", "max_error": "error"}
    measure.show(lines, columns | {"compile_s": "compile s"})
    return lines


def _carried(program, state, *arguments):
    """A call that carries its state on; where arguments stand in the program does not matter here."""
    held = [state]

    def call():
        held[0], metrics = program(held[0], *arguments)
        return metrics

    return call


if __name__ == "__main__":
    main()
