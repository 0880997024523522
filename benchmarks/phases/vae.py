"""The plain variational autoencoder of arXiv 2312.05201, and its way to classes.

It learns from the pixels of the image alone. Labelled calculated spectra are projected into its latent space afterwards, each
as Gaussian samples, and a Gaussian process or the nearest of them classify the pixels. Sizes, loss and schedule are the ones
of the paper's published program; this is another one. Spectra have mean one.
"""

from __future__ import annotations

import time
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from benchmarks.phases.classical import nearest
from benchmarks.phases.task import PhaseAnswers, PhaseTask

POINTS, LATENT, FLAT = 240, 16, (15, 64)
ENCODER = ((16, 7), (32, 7), (32, 3), (64, 3))
DECODER = ((32, 3), (32, 3), (16, 7), (1, 7))
DROPOUT, SLOPE = 0.2, 0.3
RATE, BATCH, EPOCHS = 5e-4, 16, 30
# Gaussian samples of a labelled spectrum; fewer where there are many, because a Gaussian process takes their cube.
SAMPLES, MOST_SAMPLES = 100, 600
NEIGHBOURS = 10


class PlainVAE(nnx.Module):
    """Four convolutions down, a Gaussian of 16 numbers, four transposed ones up."""

    def __init__(self, *, rngs: nnx.Rngs):
        wide = [1, *(filters for filters, _ in ENCODER)]
        self.down = nnx.List(
            nnx.Conv(before, filters, (size,), strides=2, padding="SAME", rngs=rngs)
            for before, (filters, size) in zip(wide[:-1], ENCODER, strict=True)
        )
        self.mean, self.spread = (nnx.Linear(FLAT[0] * FLAT[1], LATENT, rngs=rngs) for _ in range(2))
        self.grow = nnx.Linear(LATENT, FLAT[0] * FLAT[1], rngs=rngs)
        wide = [FLAT[1], *(filters for filters, _ in DECODER)]
        self.up = nnx.List(
            nnx.ConvTranspose(before, filters, (size,), strides=(2,), padding="SAME", rngs=rngs)
            for before, (filters, size) in zip(wide[:-1], DECODER, strict=True)
        )

    def encode(self, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """(B, 240) -> mean and logarithm of the variance, (B, 16) each. key: of dropout, in training."""
        x = x[..., None]
        for number, layer in enumerate(self.down):
            x = nnx.leaky_relu(layer(x), SLOPE)
            if key is not None and number < len(self.down) - 1:
                kept = jax.random.bernoulli(jax.random.fold_in(key, number), 1 - DROPOUT, x.shape)
                x = jnp.where(kept, x / (1 - DROPOUT), 0)
        x = x.reshape(len(x), -1)
        return self.mean(x), self.spread(x)

    def decode(self, z: jax.Array) -> jax.Array:
        """(B, 16) -> (B, 240)."""
        x = self.grow(z).reshape(len(z), *FLAT)
        for number, layer in enumerate(self.up):
            x = layer(x)
            x = nnx.relu(x) if number < len(self.up) - 1 else x
        return x[..., 0]


class Learnt(NamedTuple):
    """What a network that has learnt an image says: means of the pixels, (P, 16), and what they decode to, (P, 240); and how
    many seconds it learnt."""

    latent: np.ndarray
    decoded: np.ndarray
    seconds: float
    graph: Any
    state: Any


def vae_gp(task: PhaseTask) -> PhaseAnswers:
    """A Gaussian process on the latent means."""
    learnt, known, labels = _projected(task)
    scale = max(float(known.std()), 1e-6)
    kernel = ConstantKernel(1.0) * RBF(np.sqrt(LATENT))
    found = GaussianProcessClassifier(kernel, max_iter_predict=20, random_state=0).fit(known / scale, labels)
    probability = found.predict_proba(learnt.latent / scale)
    return PhaseAnswers(probability.argmax(axis=1), probability, None, _denoised(task, learnt))


def vae_knn(task: PhaseTask) -> PhaseAnswers:
    """The ten nearest latent samples."""
    learnt, known, labels = _projected(task)
    return PhaseAnswers(*nearest(learnt.latent, known, task, NEIGHBOURS, labels), None, _denoised(task, learnt))


def resampled(task: PhaseTask, spectra: np.ndarray) -> np.ndarray:
    """(N, V) -> (N, 240) float32."""
    at = np.linspace(task.energy[0], task.energy[-1], POINTS)
    return np.stack([np.interp(at, task.energy, each) for each in spectra]).astype(np.float32)


def learnt_of(task: PhaseTask) -> Learnt:
    """The network of an image, which is kept until that of another one is asked for."""
    return _learnt(resampled(task, task.normalised).tobytes(), len(task.normalised), task.seed)


def _projected(task: PhaseTask) -> tuple[Learnt, np.ndarray, np.ndarray]:
    """What was learnt, and (S, 16) latent samples of the references with their (S,) labels."""
    learnt = learnt_of(task)
    mean, spread = (np.asarray(each) for each in _encoded(learnt.graph, learnt.state, resampled(task, task.references)))
    count = max(1, min(SAMPLES, MOST_SAMPLES // len(mean)))
    rng = np.random.default_rng(task.seed)
    samples = mean[:, None] + np.exp(spread / 2)[:, None] * rng.normal(size=(len(mean), count, LATENT))
    return learnt, samples.reshape(-1, LATENT), np.repeat(task.labels, count)


def _denoised(task: PhaseTask, learnt: Learnt) -> np.ndarray:
    at = np.linspace(task.energy[0], task.energy[-1], POINTS)
    curves = np.stack([np.interp(task.energy, at, each) for each in learnt.decoded])
    return curves * task.amount[:, None]


@lru_cache(maxsize=1)
def _learnt(pixels: bytes, count: int, seed: int) -> Learnt:
    """The bytes are the key: labels of any number share the network of their image."""
    began = time.perf_counter()
    x = np.frombuffer(pixels, np.float32).reshape(count, POINTS)
    graph, state = nnx.split(PlainVAE(rngs=nnx.Rngs(seed)))
    optimiser = optax.adam(RATE).init(state)
    rng, key, size = np.random.default_rng(seed), jax.random.key(seed), min(BATCH, count)
    # No scan: on a CPU convolutions within one are ten times slower.
    for number in range(EPOCHS * (count // size)):
        if number % (count // size) == 0:
            order = rng.permutation(count)
        rows = order[number % (count // size) * size :][:size]
        state, optimiser = _step(graph, state, optimiser, x[rows], jax.random.fold_in(key, number))
    latent = _encoded(graph, state, x)[0]
    decoded = np.asarray(_decoded(graph, state, latent))
    return Learnt(np.asarray(latent), decoded, time.perf_counter() - began, graph, state)


@partial(jax.jit, static_argnames="graph")
def _step(graph: Any, state: Any, optimiser: Any, x: jax.Array, key: jax.Array) -> tuple[Any, Any]:
    changes, optimiser = optax.adam(RATE).update(jax.grad(_loss)(state, graph, x, key), optimiser)
    return optax.apply_updates(state, changes), optimiser


def _loss(state: Any, graph: Any, x: jax.Array, key: jax.Array) -> jax.Array:
    """Sum of absolute differences, and the divergence from a standard Gaussian, of equal weight; mean over the batch."""
    model = nnx.merge(graph, state)
    dropout, noise = jax.random.split(key)
    mean, spread = model.encode(x, dropout)
    decoded = model.decode(mean + jnp.exp(spread / 2) * jax.random.normal(noise, mean.shape))
    divergence = 0.5 * (mean**2 + jnp.exp(spread) - 1 - spread).sum(axis=1)
    return (jnp.abs(x - decoded).sum(axis=1) + divergence).mean()


@partial(jax.jit, static_argnames="graph")
def _encoded(graph: Any, state: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return nnx.merge(graph, state).encode(x)


@partial(jax.jit, static_argnames="graph")
def _decoded(graph: Any, state: Any, z: jax.Array) -> jax.Array:
    return nnx.merge(graph, state).decode(z)
