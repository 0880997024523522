"""Parts of pixels are those of scipy's non-negative least squares, with the background and a shift free."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls

from spt_jax.eels import refine
from spt_jax.eels.refine import DRAWS, SHIFT, _largest, _moved, _purest, _solve, _solve_small, refined

FRONT, POINTS, STEP = 12, 60, 0.5


solve, largest = jax.jit(partial(_solve, step=STEP)), jax.jit(_largest)


def pixels(rng, classes: int, count: int, dose: float = 300.0):
    """rows, base, share, scale, x, members."""
    middles = np.concatenate([np.linspace(465, 520, FRONT), 530 + STEP * np.arange(POINTS)])
    x = np.log(middles / np.exp(np.log(middles[:FRONT]).mean()))
    energy = middles[FRONT:]
    lines = [np.exp(-(((energy - 535 - 4 * i) / 2) ** 2)) for i in range(classes)]
    members = np.stack([(1 + 2 * line) / (1 + np.exp(533 - energy)) for line in lines])
    members /= members.mean(axis=1, keepdims=True)
    base = dose * np.exp(-3 * x) * rng.uniform(0.5, 2, (count, 1))
    share, scale = rng.dirichlet(np.full(classes, 0.5), count), dose * rng.uniform(0.2, 0.7, count)
    rows = rng.poisson(base + np.pad(share * scale[:, None] @ members, ((0, 0), (FRONT, 0))))
    return tuple(each.astype(np.float32) for each in (rows, base, share, scale, x, members))


def reference(row, base, amount, x, members) -> np.ndarray:
    """Parts of the classes, background's height and slope, and shift, in float64: free numbers as two that are not below 0."""
    row, base, amount, x, members = (np.float64(each) for each in (row, base, amount, x, members))
    classes, fit = len(members), amount @ members
    slope = np.concatenate([np.zeros(FRONT), -np.gradient(fit, STEP)])
    expected = base + np.concatenate([np.zeros(FRONT), fit])
    root = 1 / np.sqrt(np.maximum(expected, 0.05 * expected.mean() + 1e-3))
    design = np.concatenate([np.pad(members, ((0, 0), (FRONT, 0))), np.stack([base, base * x, slope])]) * root
    ridge = 1e-6 * (design**2).sum(axis=1)
    ridge[-1] += 1 / SHIFT**2
    system = np.concatenate([design.T, np.diag(np.sqrt(ridge))])
    system = np.concatenate([system, -system[:, classes:]], axis=1)
    found, _ = nnls(system, np.concatenate([row * root, np.zeros(classes + 3)]), maxiter=5000)
    free = found[classes : classes + 3] - found[classes + 3 :]
    return np.concatenate([found[:classes], free[:2], np.clip(free[2:], -SHIFT, SHIFT)])


@pytest.mark.parametrize("classes", [3, 4, 5])
def test_parts_are_those_of_non_negative_least_squares(rng, classes):
    rows, base, share, scale, x, members = pixels(rng, classes, 30)
    amount = share * scale[:, None]
    found = solve(rows, base, amount, np.zeros(30, np.float32), x, members)
    got = np.concatenate([found.amount, found.heights, np.asarray(found.shift)[:, None]], axis=1)
    want = np.stack([reference(*each, x, members) for each in zip(rows, base, amount, strict=True)])
    assert (got[:, :classes] >= 0).all()
    np.testing.assert_allclose(got[:, :classes] / scale[:, None], want[:, :classes] / scale[:, None], atol=5e-3)
    np.testing.assert_allclose(got[:, classes:], want[:, classes:], atol=5e-3)
    odds = np.asarray(largest(found))
    np.testing.assert_allclose(odds.sum(axis=1), 1, rtol=1e-5)
    assert (odds > 0).all() and (odds.argmax(axis=1) == share.argmax(axis=1)).mean() > 0.6


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_small_systems_are_solved(rng, size):
    half = rng.normal(size=(50, size, size + 2))
    gram, right = half @ half.swapaxes(1, 2), rng.normal(size=(50, size))
    got = _solve_small(jnp.asarray(gram, jnp.float32), jnp.asarray(right, jnp.float32))
    want = np.linalg.solve(gram, right[..., None])[..., 0]
    error = np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)
    assert (error < 1e-6 * np.linalg.cond(gram)).all()


def test_classes_that_look_alike_are_not_told_apart(rng):
    rows, base, share, scale, x, members = pixels(rng, 3, 40, 1e5)
    twins = np.stack([members[0], members[0], members[2]])
    found = solve(rows, base, share * scale[:, None], np.zeros(40, np.float32), x, twins)
    odds = np.asarray(largest(found))
    assert np.isfinite(odds).all() and np.isfinite(np.asarray(found.amount)).all()
    either = share[:, :2].sum(axis=1) > 0.8
    assert np.median(odds[either][:, :2].min(axis=1)) > 0.2


def test_a_planted_image_gets_its_shares(rng):
    rows, base, share, scale, x, members = pixels(rng, 3, 250, 3e3)
    said = np.maximum(share + rng.normal(0, 0.25, share.shape), 0).astype(np.float32) + 1e-3
    said /= said.sum(axis=1, keepdims=True)
    found = refined(rows, base, x, members, said, scale, STEP)
    assert [len(each) for each in found] == [3, 250, 250, 250, 250, 250]
    np.testing.assert_allclose(found.share.sum(axis=1), 1, rtol=1e-4)
    error = np.sqrt(((found.share - share) ** 2).mean())
    assert error < 0.5 * np.sqrt(((said - share) ** 2).mean())
    clean = share * scale[:, None] @ members
    noise = rows[:, FRONT:] - base[:, FRONT:] - clean
    assert np.sqrt(((found.fit + found.under - base[:, FRONT:] - clean) ** 2).mean()) < 0.4 * noise.std()


def test_in_pieces_as_at_once(rng, monkeypatch):
    given = pixels(rng, 3, 90)
    rows, base, share, scale, x, members = given
    whole = refined(rows, base, x, members, share, scale, STEP)
    monkeypatch.setattr(refine, "PIECE", 32)
    parts = refined(rows, base, x, members, share, scale, STEP)
    for name, one, other in zip(whole._fields, whole, parts, strict=True):
        # Rounding decides where a share leaves zero; and of probabilities a draw more or less may win.
        atol = 3 / DRAWS if name == "probability" else 1e-2 * np.abs(one).max()
        np.testing.assert_allclose(one, other, rtol=1e-2, atol=atol)
        assert np.median(np.abs(np.subtract(one, other))) <= 1e-4 * np.abs(one).max()


def test_pixels_without_an_edge_give_finite_numbers(rng):
    rows, base, share, scale, x, members = pixels(rng, 3, 40)
    rows[:20] = rng.poisson(base[:20])
    rows[20], base[20], scale[20] = 0, 1e-3, 1e-3
    for each in refined(rows, base, x, members, share, scale, STEP):
        assert np.isfinite(each).all()


def test_edges_move_by_whole_channels_and_back(rng):
    *_, members = pixels(rng, 3, 1)
    shift = np.array([0.0, 2 * STEP, -2 * STEP], np.float32)
    got = np.asarray(_moved(jnp.asarray(members), jnp.asarray(shift), STEP))
    np.testing.assert_allclose(got[0], members, atol=2e-5)
    np.testing.assert_allclose(got[1][:, 2:], members[:, :-2], atol=2e-5)
    np.testing.assert_allclose(got[2][:, :-3], members[:, 2:-1], atol=2e-2)


def test_members_beyond_the_purest_pixels_are_brought_back(rng):
    """Of parts of edges that lie beyond all pixels, the purest say what the edges are; of too few, nothing is changed."""
    share = np.concatenate([np.eye(3)[rng.integers(0, 3, 200)], rng.dirichlet(np.ones(3), 200)])
    mixing = np.array([[0.8, 0.2, 0.0], [0.0, 0.9, 0.1], [0.1, 0.1, 0.8]])
    found = np.asarray(_purest(jnp.asarray(share @ mixing, jnp.float32)))
    np.testing.assert_allclose(found, mixing, atol=0.03)
    np.testing.assert_array_equal(_purest(jnp.asarray(share[:9] @ mixing)), np.eye(3))
    padded = np.concatenate([share @ mixing, np.zeros((300, 3))])
    np.testing.assert_allclose(np.asarray(_purest(jnp.asarray(padded, jnp.float32))), found, atol=1e-6)
