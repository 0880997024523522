"""On a real GPU: the kernels of every width and number of heads that a preset has against float64, and whole networks.

Batches are no multiples of a tile. Elsewhere all of it is skipped, and `test_gpu.py` interprets the kernels.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks import workload
from spt_jax.config import SLOPE, ExecutionConfig
from spt_jax.model.attention import inside, windows
from spt_jax.model.folding import tap_convolutions
from spt_jax.model.gpu import attention
from spt_jax.model.gpu.block import Keys, shares
from spt_jax.model.gpu.fusion import fuse_bands
from spt_jax.model.gpu.rows import Tile

pytestmark = pytest.mark.skipif(jax.default_backend() != "gpu", reason="there is no GPU")

# Norm of the error over that of the result: bfloat16 rounds to 0.2 %, sums of it among them.
WORST = 1e-2
# (channels, heads) of tiny, base, accelerator, large
NETWORKS = ((32, 2), (48, 2), (64, 2), (128, 8))


def normal(rng, *shape, dtype="bfloat16"):
    return jnp.asarray(rng.normal(size=shape), dtype)


def with_gradients(function, inputs, g):
    def run(inputs, g):
        y, pull = jax.vjp(function, *inputs)
        return y, *pull(g)

    return jax.jit(run)(inputs, g)


def errors(fast, slow, inputs, g):
    """Of each result and gradient to the slow function in float64 on the CPU; and those of the slow one as it is."""
    found, plain = (jax.tree.leaves(with_gradients(each, inputs, g)) for each in (fast, slow))
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        wide = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float64)), (inputs, g))
        exact = jax.tree.leaves(with_gradients(slow, *wide))
        assert all(each.dtype == jnp.float64 for each in exact)
        exact = [np.asarray(each) for each in exact]
    return [[norm_of_error(*pair) for pair in zip(each, exact, strict=True)] for each in (found, plain)]


def norm_of_error(one, other):
    other = np.asarray(other, np.float64)
    return float(np.linalg.norm(np.asarray(one, np.float64) - other) / np.linalg.norm(other))


@pytest.mark.parametrize("length, batch", [(144, 1), (144, 67), (101, 5)])
@pytest.mark.parametrize("width, heads", NETWORKS)
def test_attention(rng, width, heads, length, batch):
    tile = attention.WindowTile(4)
    value, g = (normal(rng, length, batch, width) for _ in range(2))
    scores = [2 * normal(rng, length, batch, heads, dtype="float32") for _ in range(2)]

    def slow(value, source, target):
        sums = target + jnp.stack(windows(source, 4))
        on = jnp.asarray(inside(length, 4))[..., None, None]
        weights = jax.nn.softmax(jnp.where(on, jnp.maximum(sums, SLOPE * sums), -jnp.inf), axis=0)
        each = jnp.stack(windows(value.reshape(*source.shape, -1), 4))
        return (weights[..., None] * each).sum(axis=0).reshape(value.shape).astype(value.dtype)

    found, _ = errors(lambda *inputs: attention.attend(*inputs, tile), slow, (value, *scores), g)
    print(f"attention {width=} {heads=} {length=} {batch=}: " + " ".join(f"{each:.1e}" for each in found))
    assert max(found) < WORST, found


@pytest.mark.parametrize("length, batch", [(144, 1), (144, 67), (101, 5)])
@pytest.mark.parametrize("width", [width for width, _ in NETWORKS])
def test_bands(rng, width, length, batch):
    """Periods of every frequency that a preset lets compete; one spectrum folds twice at the same."""
    periods = -(-length // np.stack([rng.choice(12, 3, replace=False) + 1 for _ in range(batch)]))
    periods[0, 1] = periods[0, 0]
    periods = jnp.asarray(periods, jnp.int32)
    n, g = normal(rng, length, batch, width), normal(rng, length, batch, width)
    taps, bias = normal(rng, 3, 3, width, width, dtype="float32") / (9 * width) ** 0.5, normal(rng, width) / 10
    query, kernel = (3 * normal(rng, *shape) / width**0.5 for shape in ((batch, width), (width, width)))
    tile = Tile(warps=4 if width <= 64 else 8)

    def fast(n, taps, bias, query, kernel):
        # The bias of the keys moves no share.
        return fuse_bands(tile, shares, n, taps, bias, periods, Keys(query, kernel, jnp.zeros(width)))

    def slow(n, taps, bias, query, kernel):
        convolved = tap_convolutions(n, taps, periods)
        features = jnp.stack([jax.nn.gelu(each + bias.astype(n.dtype)) for each in convolved])
        score = jnp.einsum("bd,kbd->bk", query, features.mean(axis=1) @ kernel).astype(taps.dtype)
        share = jax.nn.softmax(score / width**0.5, axis=-1)
        return jnp.einsum("bk,klbd->lbd", share.astype(n.dtype), features), share

    taps = taps.astype("bfloat16").astype("float32")
    beside = jnp.zeros((batch, 3), jnp.float32)
    found, plain = errors(fast, slow, (n, taps, bias.astype("float32"), query, kernel), (g, beside))
    for name, each in {"kernels": found, "plain": plain}.items():
        print(f"bands {width=} {length=} {batch=}, {name}: " + " ".join(f"{error:.1e}" for error in each))
    assert max(found[:-2]) < WORST
    # Gradients of what the shares hang on are small differences of rounded numbers, whoever computes them.
    assert all(one < 2 * other + WORST for one, other in zip(found[-2:], plain[-2:], strict=True))


@pytest.mark.parametrize("preset", ["tiny", "base", "accelerator", "large"])
def test_a_network_is_as_near_to_float32_as_without_kernels(preset):
    """Answers and gradient of the loss, with dropout. Bands that bfloat16 chooses otherwise are part of both errors."""
    work = workload.make(workload.config_of(preset, "bfloat16"), 67)
    batch, keys = jax.tree.map(jnp.asarray, work.batch), jax.random.split(jax.random.key(0), 67)

    def run(execution):
        made = work.executed(execution).made

        def loss(params):
            model = nnx.merge(made.graph, params, made.constants)
            losses = made.objective.loss(model, made.objective.views(batch, keys), keys)
            return losses.mean(), model(batch.spectrum, batch.atomic_number)

        gradient, outputs = jax.jit(jax.grad(loss, has_aux=True))(work.params)
        heads = [outputs[task.name].ravel() for task in work.tasks]
        return np.asarray(made.flat.ravel(gradient)), np.concatenate(heads)

    exact = run(ExecutionConfig(kernels="off"))
    kernels, plain = (run(ExecutionConfig(dtype="bfloat16", kernels=each)) for each in ("gpu", "off"))
    for name, one, other, right in zip(("gradient", "answers"), kernels, plain, exact, strict=True):
        with_them, without = norm_of_error(one, right), norm_of_error(other, right)
        print(f"network {preset} {name}: with kernels {with_them:.1e}, without {without:.1e}")
        assert with_them < 1.5 * without + 1e-3


@pytest.mark.parametrize("preset", ["base", "dense"])
def test_float32_is_as_on_a_cpu(preset):
    work = workload.make(workload.config_of(preset, "float32"), 67)
    found = {}
    for platform in ("gpu", "cpu"):
        with jax.default_device(jax.devices(platform)[0]):
            given = jax.tree.map(np.asarray, (work.params, work.batch.spectrum, work.batch.atomic_number))
            plain = work.executed(replace(work.config.execution, kernels="off"))
            found[platform] = jax.tree.map(np.asarray, jax.jit(plain.apply)(*given))
    worst = max(norm_of_error(found["gpu"][task.name], found["cpu"][task.name]) for task in work.tasks)
    print(f"float32 {preset}: {worst:.1e}")
    assert worst < 1e-4 and (found["gpu"]["bands"] == found["cpu"]["bands"]).all()
