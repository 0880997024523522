"""How a gradient becomes an update: the learning rate over the run, AdamW, and what stays frozen."""

from __future__ import annotations

from fnmatch import fnmatchcase

import jax
import optax

from data_pipelines.errors import RunError
from spt_jax.config import TrainConfig
from spt_jax.training.flat import Flat

# Share of the run over which the schedule `stable` falls, and of the peak that a falling schedule ends at.
FALL, END = 0.2, 0.01


def make_schedule(config: TrainConfig, steps_per_epoch: int) -> optax.Schedule:
    """Step -> learning rate; the shapes are those that `TrainConfig.schedule` describes."""
    peak, steps = config.learning_rate, config.epochs * steps_per_epoch
    warmup = int(config.warmup_epochs * steps_per_epoch)
    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0, peak, warmup, max(steps, warmup + 1), END * peak)
    rise = optax.linear_schedule(0, peak, warmup) if warmup else optax.constant_schedule(peak)
    if config.schedule == "constant":
        return optax.join_schedules([rise, optax.constant_schedule(peak)], [warmup])
    fall = max(int(FALL * steps), 1)
    parts = [rise, optax.constant_schedule(peak), optax.linear_schedule(peak, END * peak, fall)]
    return optax.join_schedules(parts, [warmup, max(steps - fall, warmup)])


def make_optimiser(config: TrainConfig, schedule: optax.Schedule, flat: Flat) -> optax.GradientTransformation:
    """AdamW with clipped gradients, weight decay on matrices only, and no update of what is frozen."""
    matrices, moving = flat.mask(lambda name, shape: len(shape) > 1), moving_mask(config.freeze, flat)

    def decay(updates: jax.Array, params: jax.Array) -> jax.Array:
        return updates + config.weight_decay * matrices() * params

    def held(updates: jax.Array, params: jax.Array) -> jax.Array:
        return updates * moving()

    return optax.chain(
        *([optax.stateless(held)] if config.freeze else []),  # or what is frozen would count in the clipping
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(),
        optax.stateless(decay),
        optax.scale_by_learning_rate(schedule),
        *([optax.stateless(held)] if config.freeze else []),
    )


def moving_mask(freeze: tuple[str, ...], flat: Flat):
    """The mask of all parameters that no pattern names. Raises RunError for a pattern that names none."""
    for pattern in freeze:
        if not any(fnmatchcase(name, pattern) for name in flat.names):
            raise RunError(f"freeze: no parameter is called {pattern!r}; there are {', '.join(flat.names[:4])}, ...")
    return flat.mask(lambda name, shape: not any(fnmatchcase(name, pattern) for pattern in freeze))
