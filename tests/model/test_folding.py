import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spt_jax.config import ModelConfig
from spt_jax.model.folding import fixed_tap_convolutions, fold, tap_convolutions, unfold
from spt_jax.model.plan import make_plan, plan_cost, taps_of
from spt_jax.model.spectral import Grid, spectral
from tests import reference


@pytest.mark.parametrize(("length", "period"), [(100, 100), (100, 34), (97, 7), (12, 5), (16, 1)])
def test_unfold_undoes_fold(rng, length, period):
    h = jnp.asarray(rng.normal(size=(length, 2, 3)), jnp.float32)
    grid = fold(h, period)
    assert grid.shape == (-(-length // period), period, 2, 3)
    np.testing.assert_array_equal(unfold(grid, length), h)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_taps_equal_the_reference_at_every_period(rng, size):
    length, width, out = 24, 3, 4
    periods = rng.integers(1, length + 1, size=(4, 2))
    h, weights = rng.normal(size=(length, 4, width)), rng.normal(size=(size, size, width, out)) / size
    fast = jax.jit(tap_convolutions)(
        jnp.asarray(h, jnp.float32), jnp.asarray(weights, jnp.float32), jnp.asarray(periods)
    )
    for row in range(4):
        for slot in range(2):
            slow = reference.folded_convolution(h[:, row], weights, periods[row, slot])
            np.testing.assert_allclose(fast[slot][:, row], slow, atol=1e-5 * max(1, size))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_taps_of_fixed_periods_are_those_of_any(rng, size):
    length, rows = int(rng.integers(16, 40)), 3
    periods = tuple(int(p) for p in rng.integers(1, length + 1, 4))
    h = jnp.asarray(rng.normal(size=(length, rows, 3)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(size, size, 3, 4)) / size, jnp.float32)
    pull = jnp.asarray(rng.normal(size=(len(periods), length, rows, 4)), jnp.float32)
    given = jnp.broadcast_to(jnp.array(periods), (rows, len(periods)))

    def with_gradients(taps, periods):
        def run(h, weights):
            out, back = jax.vjp(lambda h, w: jnp.stack(taps(h, w, periods)), h, weights)
            return out, back(pull)

        return jax.jit(run)(h, weights)

    found, gradients = with_gradients(fixed_tap_convolutions, periods)
    expected, gradients_any = with_gradients(tap_convolutions, given)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for one, other in zip(gradients, gradients_any, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("size", [1, 3, 11])
def test_the_dft_equals_the_reference(rng, size, apart):
    for case in range(5):
        length = int(rng.integers(16, 40))
        # One row and one column have no taps in the other direction.
        period = {0: length, 1: 1}.get(case, int(rng.integers(1, length + 1)))
        h, weights = rng.normal(size=(length, 2, 3)), rng.normal(size=(size, size, 3, 4)) / size
        grid = Grid(length, period, size, apart)
        fast = spectral(jnp.asarray(h, jnp.float32), jnp.asarray(weights, jnp.float32), grid)
        for row in range(2):
            slow = reference.folded_convolution(h[:, row], weights, period)
            np.testing.assert_allclose(fast[:, row], slow, atol=1e-5, err_msg=f"{length=} {period=}")


def plain(h, weights, period):
    """The same by XLA's own 2-D convolution, whose gradient is XLA's own too."""
    x = fold(h, period).transpose(2, 0, 1, 3)
    y = jax.lax.conv_general_dilated(
        x, weights, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
    )
    return unfold(y.transpose(1, 2, 0, 3), len(h))


def assert_equal_gradients(fast, slow, h, weights, pull):
    gradients = [jax.jit(jax.grad(lambda *xs, f=f: (f(*xs) * pull).sum(), (0, 1)))(h, weights) for f in (fast, slow)]
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(1, np.abs(theirs).max()))


def test_gradients_of_the_taps(rng):
    length, periods = 30, np.array([[30, 15, 7], [10, 4, 1]])
    h = jnp.asarray(rng.normal(size=(length, 2, 4)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(3, 3, 4, 4)) / 6, jnp.float32)
    pull = jnp.asarray(rng.normal(size=(3, length, 2, 4)), jnp.float32)

    def slow(h, weights):
        rows = [[plain(h[:, b : b + 1], weights, p)[:, 0] for b, p in enumerate(slot)] for slot in periods.T.tolist()]
        return jnp.stack([jnp.stack(slot, axis=1) for slot in rows])

    assert_equal_gradients(lambda h, w: jnp.stack(tap_convolutions(h, w, jnp.asarray(periods))), slow, h, weights, pull)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("period", [31, 16, 6, 1])
def test_gradients_of_the_dft(rng, period, apart):
    h, pull = (jnp.asarray(rng.normal(size=(31, 2, 4)), jnp.float32) for _ in range(2))
    weights = jnp.asarray(rng.normal(size=(5, 5, 4, 4)) / 10, jnp.float32)
    grid = Grid(31, period, 5, apart)
    assert_equal_gradients(lambda h, w: spectral(h, w, grid), lambda h, w: plain(h, w, period), h, weights, pull)


def test_a_kernel_in_the_middle_leaves_the_sequence_as_it_is(rng):
    length, size = int(rng.integers(16, 40)), 5
    h, one = jnp.asarray(rng.normal(size=(length, 2, 3)), jnp.float32), np.zeros((size, size, 3, 3), np.float32)
    one[size // 2, size // 2] = np.eye(3)
    for grid in (Grid(length, period, size, apart) for period in (1, 7, length) for apart in (True, False)):
        np.testing.assert_allclose(spectral(h, jnp.asarray(one), grid), h, atol=1e-5)


@pytest.mark.parametrize("backend", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize("mode", ["per_sample", "fixed"])
def test_the_plan_is_the_cheaper_by_its_own_count(mode, backend):
    for size in (3, 5, 7, 11):
        config = ModelConfig(width=64, kernel=size, band_mode=mode)
        forced = plan_cost(make_plan(config, 100, "spectral"), 64, 64).weight(backend)
        cheaper = forced < taps_of(config, 100, 64).weight(backend)
        assert (make_plan(config, 100, backend=backend) is not None) == cheaper


def test_large_kernels_leave_the_taps_and_small_ones_keep_them():
    assert make_plan(ModelConfig(), 144, backend="cpu") is None
    plan = make_plan(ModelConfig(width=64, kernel=11), 100, backend="cpu")
    assert all(grid.apart for grid in plan) and [grid.period for grid in plan] == [
        100,
        50,
        34,
        25,
        20,
        17,
        15,
        13,
        12,
        10,
        9,
    ]
