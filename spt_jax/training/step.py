"""One training step, pure: augment, loss, gradient, update, average. And an epoch of them in one dispatch.

Every random number belongs to a row of the batch, and losses are sums over rows: so a batch cut over devices, or
into pieces whose gradients are added, trains as the whole one does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from data_pipelines.schema import Batch
from spt_jax.config import TrainConfig
from spt_jax.objectives.augment import augment, mix_share
from spt_jax.objectives.labels import Task, task_losses
from spt_jax.training.flat import Flat
from spt_jax.training.sharding import Layout

StepFunction = Callable[..., tuple["TrainState", dict[str, jax.Array]]]


class TrainState(NamedTuple):
    """All that changes in training: one pytree, donated to every dispatch. params and average are (P,) vectors."""

    step: jax.Array
    seed: jax.Array
    params: jax.Array
    average: jax.Array
    optimiser: Any


def make_optimiser(config: TrainConfig, steps: int, steps_per_epoch: int, flat: Flat) -> optax.GradientTransformation:
    """AdamW with warm-up and cosine decay, clipped gradients, weight decay on matrices only."""
    warmup = min(int(config.warmup_epochs * steps_per_epoch), steps // 2)
    schedule = optax.warmup_cosine_decay_schedule(0, config.learning_rate, warmup, steps, 0.01 * config.learning_rate)

    def decay(updates: jax.Array, params: jax.Array) -> jax.Array:
        return updates + config.weight_decay * flat.matrices() * params

    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(),
        optax.stateless(decay),
        optax.scale_by_learning_rate(schedule),
    )


def init_state(params: Any, optimiser: optax.GradientTransformation, flat: Flat, seed: int) -> TrainState:
    vector = flat.ravel(params)
    return TrainState(
        jnp.zeros((), jnp.int32), jnp.asarray(seed, jnp.int32), vector, jnp.copy(vector), optimiser.init(vector)
    )


def make_step(
    graph: nnx.GraphDef,
    constants: Any,
    optimiser: optax.GradientTransformation,
    tasks: tuple[Task, ...],
    config: TrainConfig,
    step_ev: float,
    flat: Flat,
    layout: Layout | None = None,
) -> StepFunction:
    """The step as a function of (state, batch, emphasis).

    emphasis: (T,) weight of each task's loss; 1 / T each (the joint loss) where not given. layout: how batch and
    parameters lie on several devices. Random numbers are the seed folded with the step and split over the rows.
    """
    layout = layout or Layout()
    names = [task.name for task in tasks]

    def piece_loss(params: Any, batch: Batch, other: Batch, share: jax.Array, keys: jax.Array, emphasis: jax.Array):
        outputs = nnx.merge(graph, params, constants)(batch.spectrum, batch.atomic_number, keys)
        losses = task_losses(outputs, ((batch, share), (other, 1 - share)), tasks, config.label_smoothing)
        return (emphasis * losses).sum(), losses

    def piece_gradient(vector: jax.Array, emphasis: jax.Array, piece: tuple) -> jax.Array:
        """(P,) gradient of some rows, their losses as extras: together, so that devices exchange one array."""
        gradient, losses = jax.grad(piece_loss, has_aux=True)(flat.unravel(vector), *piece, emphasis)
        return flat.ravel(gradient, losses)

    def step(state: TrainState, batch: Batch, emphasis: jax.Array | None = None):
        emphasis = jnp.full(len(tasks), 1 / len(tasks)) if emphasis is None else emphasis
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        keys = jax.vmap(lambda row: jax.random.split(row, 3))(jax.random.split(key, len(batch.spectrum)))
        other = jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), batch)
        share = mix_share(keys[:, 0], batch, other, config.mixup)
        spectrum = augment(keys[:, 1], batch.spectrum, config, step_ev)
        spectrum = share[:, None] * spectrum + (1 - share[:, None]) * jnp.roll(spectrum, 1, axis=0)
        rows = (batch._replace(spectrum=spectrum), other, share, keys[:, 2])

        gradient = layout.sum_over_rows(piece_gradient, config.accumulate, state.params, emphasis, rows)
        gradient, losses = flat.take_extras(layout.like_parameters(gradient))
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        params = layout.like_parameters(optax.apply_updates(state.params, updates))
        # Short memory at first, so that the average does not remember the initial parameters.
        decay = jnp.minimum(config.ema, (1 + state.step) / (10 + state.step))
        average = decay * state.average + (1 - decay) * params
        metrics = {"loss": (emphasis * losses).sum(), **dict(zip(names, losses, strict=True))}
        return TrainState(state.step + 1, state.seed, params, average, optimiser_state), metrics

    return step


def make_epoch(step: Callable, steps: int, batch_size: int, seed: int, place: Callable[[Batch], Batch]) -> Callable:
    """(state, whole resident set) -> (state, mean metrics): one shuffled epoch as a scan, batches gathered on the device.

    The order is the seed folded with the epoch number, so a restart needs only the step. `place` cuts a batch
    over the devices.
    """

    def epoch(state: TrainState, data: Batch, emphasis: jax.Array | None = None):
        number = state.step // steps
        key = jax.random.fold_in(jax.random.key(seed + 2**20), number)
        order = jax.random.permutation(key, data.labels.shape[0])[: steps * batch_size]

        def body(state: TrainState, index: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
            return step(state, place(jax.tree.map(lambda x: x[index], data)), emphasis)

        state, metrics = jax.lax.scan(body, state, order.reshape(steps, batch_size))
        return state, jax.tree.map(lambda x: x.mean(axis=0), metrics)

    return epoch
