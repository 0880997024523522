"""One training step, pure: augment, loss, gradient, update, average. And an epoch of them in one dispatch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from data_pipelines.schema import Batch
from spt_jax.config import TrainConfig
from spt_jax.training.losses import Task, joint_loss


class TrainState(NamedTuple):
    """All that changes in training: one pytree, donated to every dispatch."""

    step: jax.Array
    params: Any
    average: Any
    optimiser: Any


def augment(key: jax.Array, spectrum: jax.Array, config: TrainConfig, step_ev: float) -> jax.Array:
    """Physically plausible copies of (B, L) spectra: energy shift, edge-step error, detector noise."""
    shift_key, scale_key, sigma_key, noise_key = jax.random.split(key, 4)
    column = (spectrum.shape[0], 1)
    # mu(E - s) to first order: s stays below the grid step.
    shift = config.energy_shift * jax.random.truncated_normal(shift_key, -2, 2, column)
    slope = jnp.gradient(spectrum, axis=1) / step_ev
    scale = 1 + config.amplitude * jax.random.normal(scale_key, column)
    sigma = config.noise * jax.random.uniform(sigma_key, column)
    return (spectrum - shift * slope) * scale + sigma * jax.random.normal(noise_key, spectrum.shape)


def mix_share(key: jax.Array, batch: Batch, other: Batch, alpha: float) -> jax.Array:
    """(B,) share of each spectrum in its mixture with another one: mixup (arXiv 1710.09412).

    A measured spectrum is a mean over sites, so mixtures of one element are physical; two elements are not mixed.
    """
    if not alpha:
        return jnp.ones(batch.spectrum.shape[0])
    share = jax.random.beta(key, alpha, alpha, (batch.spectrum.shape[0],))
    return jnp.where(batch.atomic_number == other.atomic_number, jnp.maximum(share, 1 - share), 1.0)


def make_optimiser(config: TrainConfig, steps: int, steps_per_epoch: int) -> optax.GradientTransformation:
    """AdamW with warm-up and cosine decay, clipped gradients, weight decay on matrices only."""
    warmup = min(int(config.warmup_epochs * steps_per_epoch), steps // 2)
    schedule = optax.warmup_cosine_decay_schedule(0, config.learning_rate, warmup, steps, 0.01 * config.learning_rate)
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(schedule, weight_decay=config.weight_decay, mask=partial(jax.tree.map, lambda x: x.ndim > 1)),
    )


def init_state(params: Any, optimiser: optax.GradientTransformation) -> TrainState:
    return TrainState(jnp.zeros((), jnp.int32), params, jax.tree.map(jnp.copy, params), optimiser.init(params))


def make_step(
    graph: nnx.GraphDef,
    constants: Any,
    optimiser: optax.GradientTransformation,
    tasks: tuple[Task, ...],
    config: TrainConfig,
    step_ev: float,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The step as a function of (state, batch). Its random numbers are the seed folded with the step: no state of their own."""

    def loss(params: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        augment_key, mix_key, dropout_key = jax.random.split(key, 3)
        spectrum = augment(augment_key, batch.spectrum, config, step_ev)
        other = jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), batch)
        share = mix_share(mix_key, batch, other, config.mixup)
        spectrum = share[:, None] * spectrum + (1 - share[:, None]) * jnp.roll(spectrum, 1, axis=0)
        outputs = nnx.merge(graph, params, constants)(spectrum, batch.atomic_number, dropout_key)
        return joint_loss(outputs, ((batch, share), (other, 1 - share)), tasks, config.label_smoothing)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        (total, losses), gradient = jax.value_and_grad(loss, has_aux=True)(state.params, batch, key)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        # Short memory at first, so that the average does not remember the initial parameters.
        decay = jnp.minimum(config.ema, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.average, params)
        return TrainState(state.step + 1, params, average, optimiser_state), {"loss": total, **losses}

    return step


def make_epoch(step: Callable, steps: int, batch_size: int, seed: int, place: Callable[[Batch], Batch]) -> Callable:
    """(state, whole resident set) -> (state, mean metrics): one shuffled epoch as a scan, batches gathered on the device.

    The order is the seed folded with the epoch number, so a restart needs only the step. `place` cuts a batch
    over the devices.
    """

    def epoch(state: TrainState, data: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        number = state.step // steps
        key = jax.random.fold_in(jax.random.key(seed + 2**20), number)
        order = jax.random.permutation(key, data.labels.shape[0])[: steps * batch_size]

        def body(state: TrainState, index: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
            return step(state, place(jax.tree.map(lambda x: x[index], data)))

        state, metrics = jax.lax.scan(body, state, order.reshape(steps, batch_size))
        return state, jax.tree.map(jnp.mean, metrics)

    return epoch
