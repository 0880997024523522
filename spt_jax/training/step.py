"""One training step, pure: views, loss, gradient, update, average. And an epoch of them in one dispatch.

Every random number belongs to a row of the batch, and losses are sums over rows: so a batch cut over devices, or
into pieces whose gradients are added, trains as the whole one does. A batch whose loss or gradient is not finite
changes nothing but the number of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from data_pipelines.schema import Batch
from spt_jax.objectives.objective import Objective
from spt_jax.training.flat import Flat
from spt_jax.training.sharding import Layout

StepFunction = Callable[..., tuple["TrainState", dict[str, jax.Array]]]
SKIPPED, PART_SQUARE, SQUARE = "skipped", "gradient_square_of_a_part", "gradient_square"
# Numbers that travel with a gradient besides its losses: its own square.
BESIDE = 1


class TrainState(NamedTuple):
    """All that changes in training: one pytree, donated to every dispatch. params and average are (P,) vectors."""

    step: jax.Array
    seed: jax.Array
    params: jax.Array
    average: jax.Array
    optimiser: Any


def init_state(params: Any, optimiser: optax.GradientTransformation, flat: Flat, seed: int) -> TrainState:
    vector = flat.ravel(params)
    return TrainState(
        jnp.zeros((), jnp.int32), jnp.asarray(seed, jnp.int32), vector, jnp.copy(vector), optimiser.init(vector)
    )


def make_step(
    model_of: Callable[[Any, Any], nnx.Module],
    constants: Any,
    objective: Objective,
    optimiser: optax.GradientTransformation,
    schedule: optax.Schedule,
    ema: float,
    flat: Flat,
    layout: Layout,
    pieces: int = 1,
) -> StepFunction:
    """The step as a function of (state, batch, emphasis), which gives the next state and numbers to add up over steps;
    of a batch that was skipped, `skipped` is 1 and all others are 0.

    model_of: (parameters, constants) -> the network. emphasis: (T,) weight of each loss; 1 / T each where not given.
    layout: how batch and parameters lie on several devices. pieces: that each device computes its rows in. Random
    numbers are the seed folded with the step and split over the rows.
    """
    count = len(objective.names)

    def piece_loss(params: Any, constants: Any, emphasis: jax.Array, rows: Any, keys: jax.Array):
        losses = objective.loss(model_of(params, constants), rows, keys)
        return (emphasis * losses).sum(), losses

    def piece_gradient(vector: jax.Array, constants: Any, emphasis: jax.Array, piece: tuple) -> jax.Array:
        """(P,) gradient of some rows, their losses and its square as extras: together, so that devices exchange one array."""
        gradient, losses = jax.grad(piece_loss, has_aux=True)(flat.unravel(vector), constants, emphasis, *piece)
        square = sum(jnp.vdot(leaf, leaf).astype(jnp.float32) for leaf in jax.tree.leaves(gradient))
        return flat.ravel(gradient, jnp.append(losses, square))

    def step(state: TrainState, batch: Batch, emphasis: jax.Array | None = None):
        emphasis = jnp.full(count, 1 / count) if emphasis is None else emphasis
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        keys = jax.random.split(key, len(batch.spectrum))
        rows = (objective.views(batch, keys), keys)

        gradient = layout.sum_over_rows(piece_gradient, pieces, state.params, (constants, emphasis), rows)
        gradient, extras = flat.take_extras(layout.like_parameters(gradient))
        extras = layout.whole(extras)
        losses, part_square = extras[:-BESIDE], extras[-1]
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        params = layout.like_parameters(optax.apply_updates(state.params, updates))
        # Short memory at first, so that the average does not remember the initial parameters.
        decay = jnp.minimum(ema, (1 + state.step) / (10 + state.step))
        # In this form the average of what is frozen is that to the last bit.
        average = state.average + (1 - decay) * (params - state.average)
        metrics = {"loss": (emphasis * losses).sum(), **dict(zip(objective.names, losses, strict=True))}
        metrics |= {"learning_rate": schedule(state.step), "gradient_norm": jnp.linalg.norm(gradient)}
        metrics |= {PART_SQUARE: part_square, SQUARE: metrics["gradient_norm"] ** 2}
        finite = jnp.isfinite(metrics["loss"] + metrics["gradient_norm"])
        new = TrainState(state.step + 1, state.seed, params, average, optimiser_state)
        new = jax.tree.map(lambda x, was: jnp.where(finite, x, was), new, state._replace(step=state.step + 1))
        metrics = {name: jnp.where(finite, x, 0) for name, x in metrics.items()}
        return new, metrics | {SKIPPED: 1 - finite.astype(jnp.float32)}

    return step


class Quota(NamedTuple):
    """One data set among several that a resident set is made of: its rows, and how many of a batch are drawn of it."""

    start: int
    rows: int
    drawn: int


def make_order(steps: int, quotas: tuple[Quota, ...], seed: int) -> Callable[[jax.Array], jax.Array]:
    """The number of an epoch -> (steps, B) rows of its batches.

    The order is the seed folded with the number, so a restart needs only the step. A set that is drawn of more often
    than it has rows is shuffled anew each time it is through.
    """

    def order_of(key: jax.Array, quota: Quota) -> jax.Array:
        """(steps, drawn) rows of one set."""
        wanted = steps * quota.drawn
        times = -(-wanted // quota.rows)
        if times == 1:
            order = jax.random.permutation(key, quota.rows)
        else:  # one program for any number of times
            order = jax.lax.map(
                lambda each: jax.random.permutation(each, quota.rows), jax.random.split(key, times)
            ).ravel()
        return quota.start + order[:wanted].reshape(steps, quota.drawn)

    def order(number: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(seed + 2**20), number)
        keys = [key] if len(quotas) == 1 else jax.random.split(key, len(quotas))
        return jnp.concatenate([order_of(*each) for each in zip(keys, quotas, strict=True)], axis=1)

    return order


def make_epoch(
    step: StepFunction, steps: int, quotas: tuple[Quota, ...], seed: int, place: Callable[[Batch], Batch]
) -> Callable:
    """(state, whole resident set) -> (state, sums of metrics, with `skipped` of each step): one shuffled epoch as a scan,
    batches gathered on the device. `place` cuts a batch over the devices.
    """
    order = make_order(steps, quotas, seed)

    def epoch(state: TrainState, data: Batch, emphasis: jax.Array | None = None):
        def body(state: TrainState, index: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
            return step(state, place(jax.tree.map(lambda x: x[index], data)), emphasis)

        state, metrics = jax.lax.scan(body, state, order(state.step // steps))
        return state, {name: x if name == SKIPPED else x.sum(axis=0) for name, x in metrics.items()}

    return epoch
