"""Checkpoints: how long saving one keeps a training step waiting, and what goes on behind it.

The state of a preset is trained and saved in turn: a step, or a save followed by steps while it is written. `blocked` is
the time until training may go on; `behind` until the files are written and have been read back; `restore` until a fresh
process could train. `slower` compares steps while a checkpoint is being written with steps without one. The share of an
epoch is that of what is blocked and slowed down, in --steps steps.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks import measure, workload
from spt_jax.runs.checkpoint import Checkpoints


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = measure.parser(__doc__, preset="large")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=144)
    parser.add_argument("--steps", type=int, default=1000, help="of an epoch, with one checkpoint at its end")
    options = parser.parse_args(arguments)
    if options.small:
        options.batch, options.length, options.repeats = 4, 24, 2
    work = workload.make(
        workload.config_of(options.preset, options.dtype, options.small), options.batch, options.length
    )
    step, state, batch = jax.jit(work.made.step, donate_argnums=0), work.made.state(), jax.device_put(work.batch)
    size = sum(x.nbytes for x in jax.tree.leaves(state))
    state, _ = jax.block_until_ready(step(state, batch))
    blocked, behind, usual, beside = [], [], [], []

    def timed(times: list[float]) -> None:
        nonlocal state
        began = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, batch))
        times.append(time.perf_counter() - began)

    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder))
        checkpoints.save(0, state, work.made.flat.size, {})
        checkpoints.wait()
        for number in range(1, options.repeats + 1):
            for _ in range(3):
                timed(usual)
            began = time.perf_counter()
            checkpoints.save(number, state, work.made.flat.size, {})
            blocked.append(time.perf_counter() - began)
            while not checkpoints.written:
                timed(beside)
            checkpoints.wait()
            behind.append(time.perf_counter() - began)
        checkpoints.close()
        began = time.perf_counter()
        checkpoints = Checkpoints(Path(folder))
        checkpoints.restore(state, work.made.flat.size)
        restore = time.perf_counter() - began
        checkpoints.close()
    own, slowed = np.median(usual), np.median(beside) - np.median(usual) if beside else 0.0
    lost = np.median(blocked) + max(slowed, 0) * len(beside) / options.repeats
    line = measure.record(
        "checkpoints",
        "saved and read back",
        options,
        length=options.length,
        batch=options.batch,
        median_ms=1e3 * own,
        state_bytes=size,
        blocked_ms=1e3 * np.median(blocked),
        behind_ms=1e3 * np.median(behind),
        beside_ms=1e3 * np.median(beside) if beside else None,
        restore_ms=1e3 * restore,
        share=lost / (options.steps * own),
        steps=options.steps,
    )
    columns = {"median_ms": "step ms", "beside_ms": "beside ms", "blocked_ms": "blocked ms", "behind_ms": "behind ms"}
    measure.show([line], {**columns, "restore_ms": "restore ms", "state_bytes": "bytes", "share": "share of an epoch"})
    return [line]


if __name__ == "__main__":
    main()
