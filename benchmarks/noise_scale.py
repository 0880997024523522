"""Gradient noise scale: how many rows of a batch are worth computing at once, as the log says it and as it is measured.

A preset is trained on a prepared dataset; after some epochs the parameters are held, and the gradients of many batches
are compared with their mean: tr(Sigma) / |G|^2, in rows (McCandlish et al. 2018, arXiv 1812.06162). `log` is what the
training log says of the same epoch as `noise_scale`, from the parts that a batch is computed in, at no cost. Up to about
that many rows twice the rows take half the steps; far beyond, more rows save none.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import jax
import numpy as np
from flax import nnx

from benchmarks import measure, workload
from data_pipelines.dataset.opening import open_spectra
from data_pipelines.library import LIBRARY
from spt_jax.training.assemble import Assembly, assemble
from spt_jax.training.loop import steps_per_epoch
from spt_jax.training.noise_scale import noise_scale
from spt_jax.training.step import PART_SQUARE, SQUARE, Quota, make_epoch

BATCHES = 64
# That a batch is computed in, as on so many devices.
PARTS = 8


def direct(made: Assembly, state, data, rng: np.random.Generator) -> float:
    """Rows, from BATCHES gradients at these parameters; |G|^2 is freed of the noise of their mean."""
    batch = made.config.train.batch_size

    @jax.jit
    def gradient(vector: jax.Array, rows, key: jax.Array) -> jax.Array:
        def loss(vector: jax.Array) -> jax.Array:
            keys = jax.random.split(key, batch)
            model = nnx.merge(made.graph, made.flat.unravel(vector), made.constants)
            return made.objective.loss(model, made.objective.views(rows, keys), keys).mean()

        return jax.grad(loss)(vector)

    total, squares = np.zeros(made.flat.size), 0.0
    for number in range(BATCHES):
        chosen = rng.choice(len(data.spectrum), batch, replace=len(data.spectrum) < 2 * batch)
        g = np.asarray(
            gradient(state.params, jax.tree.map(lambda x, own=chosen: x[own], data), jax.random.key(number)), float
        )
        total, squares = total + g, squares + g @ g
    mean = total / BATCHES
    spread = (squares - BATCHES * mean @ mean) / (BATCHES - 1)
    return float(batch * spread / max(mean @ mean - spread / BATCHES, 1e-30))


def compare(options: argparse.Namespace, name: str) -> list[dict]:
    dataset = open_spectra(name)
    config = workload.config_of(options.preset, options.dtype, options.small)
    config = replace(config, train=replace(config.train, batch_size=options.batch, epochs=max(options.epochs)))
    config = replace(config, execution=replace(config.execution, accumulate=PARTS))
    count = dataset.statistics("train").count
    steps = steps_per_epoch(count, options.batch)
    made = assemble(config, dataset.statistics("train"), dataset.grid, dataset.fingerprint, steps)
    data, state = jax.device_put(dataset.split("train").batch), made.state()
    epoch = make_epoch(made.step, steps, (Quota(0, count, options.batch),), 0, lambda batch: batch)
    run, rng, lines = jax.jit(epoch, donate_argnums=0), np.random.default_rng(0), []
    for number in range(1, max(options.epochs) + 1):
        state, sums = run(state, data)
        if number in options.epochs:
            squares = (float(sums[name]) / steps for name in (PART_SQUARE, SQUARE))
            fields = {
                "loss": float(sums["loss"]) / steps,
                "log": noise_scale(options.batch, PARTS, *squares, steps * options.batch),
            }
            fields |= {"direct": direct(made, state, data, rng), "parameters": made.flat.used, "examples": count}
            case = f"{name.rstrip('/').rpartition('/')[2]}, epoch {number}"
            lines.append(
                measure.record("noise_scale", case, options, length=dataset.grid.points, batch=options.batch, **fields)
            )
    return lines


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = measure.parser(__doc__)
    parser.add_argument("--data", nargs="+", default=[str(LIBRARY)], metavar="DATASET", help="of `spt-jax prepare`")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, nargs="+", default=[2, 8, 24], help="after which it is measured")
    options = parser.parse_args(arguments)
    if options.small:
        options.epochs = [2]
    lines = [line for name in options.data for line in compare(options, name)]
    measure.show(lines, {"examples": "examples", "loss": "loss", "log": "log, rows", "direct": "direct, rows"})
    return lines


if __name__ == "__main__":
    main()
