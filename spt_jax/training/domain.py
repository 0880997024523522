"""The networks of a `scoring.domain.Domain`, fitted to the spectra of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from data_pipelines.dataset.data import Data, Split
from data_pipelines.schema import EnergyGrid
from spt_jax.config import LabelsConfig
from spt_jax.objectives.strange import strange, usual
from spt_jax.scoring.domain import Domain, inputs

NETS, HIDDEN, BATCH, RATE = 3, 192, 256, 2e-3
# As many steps as spectra, within these.
FEWEST, MOST = 200, 5000
STRETCH = 500
COMPONENTS = 24
SEEN = LabelsConfig(energy_shift=0.6, broadening=4.0, background=0.05, noise=0.01, amplitude=0.02)
"""How measured spectra may differ from calculated ones and still be of their kind."""

Layers = list[tuple[jax.Array, jax.Array]]


class Spectra(NamedTuple):
    """(N, P) training spectra in the order of their elements, (N,) atomic numbers; (N,) where the first of the row's
    element stands and how many there are; (N,) chance to be drawn, larger for elements that have few."""

    spectrum: jax.Array
    atomic_number: jax.Array
    first: jax.Array
    count: jax.Array
    chance: jax.Array

    @classmethod
    def of(cls, spectrum: np.ndarray, atomic_number: np.ndarray) -> Spectra:
        order = np.argsort(atomic_number, kind="stable")
        _, first, which, count = np.unique(
            atomic_number[order], return_index=True, return_inverse=True, return_counts=True
        )
        chance = 1 / np.sqrt(count[which])
        each = spectrum[order], atomic_number[order], first[which], count[which], chance / chance.sum()
        return cls(*map(jnp.asarray, each))


def fit_domain(
    data: Data,
    names: Mapping[str, str] | None = None,
    seed: int = 0,
    report: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Domain:
    """names: of materials, for people, as "TiO2 (mp-390)"; their ids where not given. Thresholds are of the validation
    split. Of 9,000 spectra two minutes of a core."""
    train, validation = data.split("train"), data.split("validation")
    spectrum, number = _common(train, data.grid)
    grid = EnergyGrid(data.grid.start, data.grid.step, data.grid.common)
    mean, std = spectrum.mean(axis=0), spectrum.std(axis=0)
    elements = np.unique(number)
    steps = min(max(len(spectrum), FEWEST), MOST)
    nets = _fit(Spectra.of(spectrum, number), grid, (mean, std, elements), seed, steps, report)
    components = np.linalg.svd(spectrum - mean, full_matrices=False)[2][:COMPONENTS]
    found = Domain(
        mean=mean,
        std=std,
        elements=elements,
        nets=nets,
        thresholds=(0.0, 0.0),
        components=components,
        coefficients=(spectrum - mean) @ components.T,
        atomic_number=number,
        materials=tuple((names or {}).get(material, material) for material in train.materials),
    )
    return found.with_false_alarms(*_common(validation, data.grid))


def _common(split: Split, grid: EnergyGrid) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(split.batch.spectrum[:, : grid.common], np.float32), np.asarray(split.batch.atomic_number)


def _fit(
    spectra: Spectra,
    grid: EnergyGrid,
    scale: tuple[np.ndarray, np.ndarray, np.ndarray],
    seed: int,
    steps: int,
    report: Callable[[str, int, int], None],
) -> tuple[tuple[tuple[np.ndarray, np.ndarray], ...], ...]:
    """NETS of them; one program learns them all, side by side."""
    first, stream = jax.random.split(jax.random.key(seed))
    layers = jax.vmap(lambda key: _fresh(key, 2 * grid.points + len(scale[2]) + 1))(jax.random.split(first, NETS))
    optimiser = optax.adamw(optax.cosine_decay_schedule(RATE, steps), weight_decay=1e-3)
    state = layers, optimiser.init(layers)

    def step(state: tuple[Layers, optax.OptState], key: jax.Array) -> tuple[tuple[Layers, optax.OptState], None]:
        layers, moments = state
        given, truth = _examples(key, spectra, grid, scale)

        def loss(layers: Layers) -> jax.Array:
            each = jax.vmap(lambda own: optax.sigmoid_binary_cross_entropy(_output(own, given), truth).mean())(layers)
            return each.sum()

        updates, moments = optimiser.update(jax.grad(loss)(layers), moments, layers)
        return (optax.apply_updates(layers, updates), moments), None

    run = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys)[0], donate_argnums=0)
    keys = jax.random.split(stream, steps)
    for start in range(0, steps, STRETCH):
        report("domain", start, steps)
        state = run(state, keys[start : start + STRETCH])
    layers = jax.tree.map(np.asarray, jax.block_until_ready(state[0]))
    report("domain", steps, steps)
    return tuple(tuple((weights[i], bias[i]) for weights, bias in layers) for i in range(NETS))


def _examples(
    key: jax.Array, spectra: Spectra, grid: EnergyGrid, scale: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[jax.Array, jax.Array]:
    """(2 BATCH, F) inputs, half of them strange, and (2 BATCH,) 1 where they are."""
    row, other, share, mixed, told, blurred, made = jax.random.split(key, 7)
    rows = jax.random.choice(row, len(spectra.chance), (2 * BATCH,), p=spectra.chance)
    place = jax.random.uniform(other, rows.shape) * spectra.count[rows]
    others = spectra.first[rows] + place.astype(jnp.int32)
    # A sample has several sites: half of the examples are mixtures of two of one element.
    own = jnp.where(jax.random.uniform(mixed, rows.shape) < 0.5, 1.0, 0.5 + jax.random.uniform(share, rows.shape) / 2)
    spectrum = own[:, None] * spectra.spectrum[rows] + (1 - own)[:, None] * spectra.spectrum[others]
    seen = usual(jax.random.split(blurred, 2 * BATCH), spectrum, SEEN, grid)
    odd = strange(jax.random.split(made, BATCH), seen[:BATCH], grid)
    mean, std, elements = scale
    every = jnp.concatenate([odd, seen[BATCH:]])
    is_element = (spectra.atomic_number[rows][:, None] == elements) & (jax.random.uniform(told, (len(rows), 1)) < 0.5)
    return inputs(every, is_element, mean, std), (jnp.arange(2 * BATCH) < BATCH).astype(jnp.float32)


def _fresh(key: jax.Array, width: int) -> Layers:
    widths = (width, HIDDEN, HIDDEN, 1)
    keys = jax.random.split(key, len(widths) - 1)
    return [
        (jax.random.normal(key, (into, out)) * np.sqrt(2 / into), jnp.zeros(out))
        for key, (into, out) in zip(keys, pairwise(widths), strict=True)
    ]


def _output(layers: Layers, given: jax.Array) -> jax.Array:
    for weights, bias in layers[:-1]:
        given = jax.nn.relu(given @ weights + bias)
    weights, bias = layers[-1]
    return (given @ weights + bias)[:, 0]
