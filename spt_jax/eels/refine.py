"""Abundances by the end members of the image itself, which the network names and all of its pixels measure together.

One pixel says little of how an edge really looks, and a calculation is not the measurement. So the edges of the classes are
fitted to all pixels, beginning with what the network says of each and held near to what it decodes; then the parts of each
pixel, together with its background and its shift, by non-negative least squares weighted as counts scatter; and again.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from spt_jax.batching import in_pieces
from spt_jax.shapes import Array, Float

# Rounds of end members, and steps of a pixel's parts and shift.
ROUNDS, STEPS = 6, 3
# Deviation of a channel of a measured edge from the decoded one, edge heights; and of a pixel's shift from that of all, eV.
DEVIATION, SHIFT = 0.1, 0.4
# Part of a class's pixels, and how many at least, that are taken for pure where they are so much of it.
PUREST, FEWEST_PURE, LEAST_PURE = 0.1, 8, 0.6
# Pixels that end members are fitted to; of fewer as many as one of the sizes that programs have. And pixels of a piece.
SAMPLE, SIZES, PIECE = 4_096, (256, 4_096), 2_048
# All choices of classes are tried: of more it is too many.
MOST_CLASSES = 6
DRAWS = 64
# Of the precision of parts, below which it is rounding: classes that look alike are not told apart.
LEAST = 1e-5


class Parts(NamedTuple):
    """members: (C, P) edges of mean 1. share, probability: (N, C); probability of having the largest share. fit: (N, P)
    counts above the background. under: (N, P) counts of the background. shift: (N,) eV beyond that of the members."""

    members: np.ndarray
    share: np.ndarray
    probability: np.ndarray
    fit: np.ndarray
    under: np.ndarray
    shift: np.ndarray


class _Solved(NamedTuple):
    """amount: (N, C). free: (N, C), the same were it free to be below zero, and precision (N, C, C) of that. heights: (N, 2) of
    the background and of its slope. fit: (N, P) counts of the edge."""

    amount: Array
    free: Array
    precision: Array
    heights: Array
    shift: Array
    fit: Array

    def background(self, base: Array, x: Array) -> Array:
        """(N, F + P) counts."""
        return base * (self.heights[:, :1] + self.heights[:, 1:] * x)


def refined(
    rows: np.ndarray,
    base: np.ndarray,
    x: np.ndarray,
    members: np.ndarray,
    share: np.ndarray,
    scale: np.ndarray,
    step: float,
) -> Parts:
    """rows, base: (N, F + P) electrons of good pixels, and of the backgrounds fitted in front of the edge. x: (F + P,) log of
    the energy. members: (C, P) edges of mean 1 as the network decodes them. share: (N, C) and scale: (N,), mean electrons of
    the edge, as it says. step: eV of a channel."""
    given = [np.asarray(each, np.float32) for each in (rows, base, share, scale)]
    few = np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(int)
    # Filled up with nothing, which says nothing of the members: one program for any number of pixels.
    size = next(each for each in SIZES if each >= len(few))
    sample = (np.pad(each[few], ((0, size - len(few)), *((0, 0),) * (each.ndim - 1))) for each in given)
    x, members = jnp.asarray(x, jnp.float32), jnp.asarray(members, jnp.float32)
    found = _members(*sample, x, members, step)
    parts = in_pieces(lambda *piece: _parts(*piece, x, found, step), min(size, PIECE), *given)
    return Parts(np.asarray(found), *parts)


@partial(jax.jit, static_argnames="step")
def _members(rows, base, share, scale, x, prior, step: float) -> Float[Array, "C P"]:
    groups = rows.shape[1] - prior.shape[1]
    hold = 1 / DEVIATION**2

    def fitted(amount, shift, under, away, members):
        expected = under + amount @ members
        weights = 1 / jnp.maximum(expected, 0.05 * expected.mean(axis=1, keepdims=True) + 1e-3)
        # As it would be without the shift.
        signal = rows[:, groups:] - under - away
        gram = jnp.einsum("np,nc,nd->pcd", weights, amount, amount)
        right = jnp.einsum("np,nc,np->pc", weights, amount, signal)
        found = _solve_small(gram + hold * jnp.eye(len(prior)), right + hold * prior.T).T
        return found / jnp.maximum(found.mean(axis=1, keepdims=True), 0.1)

    def again(_, state):
        amount, shift, *_ = state
        members = fitted(*state)
        solved = _solve(rows, base, amount, shift, x, members, step)
        pure = _purest(solved.amount)
        # The same spectra in parts of the purer edges.
        amount = jnp.maximum(solved.amount @ jnp.linalg.inv(pure + 1e-3 * jnp.eye(len(pure))), 0)
        under = solved.background(base, x)[:, groups:]
        return amount, solved.shift, under, solved.fit - solved.amount @ members, pure @ members

    under = base[:, groups:]
    begin = share * scale[:, None], jnp.zeros(len(rows)), under, jnp.zeros_like(under), prior
    # A loop, because what is written out takes six times as long to compile.
    return fitted(*jax.lax.fori_loop(0, ROUNDS - 1, again, begin))


def _purest(amount: Float[Array, "N C"]) -> Float[Array, "C C"]:
    """What the purest pixels of each class are made of: a class itself, unless its edge was drawn beyond all that is measured,
    which fits the pixels as well."""
    share = amount / jnp.maximum(amount.sum(axis=1, keepdims=True), 1e-9)
    own = (share.argmax(axis=1)[:, None] == jnp.arange(share.shape[1])) & (share.max(axis=1, keepdims=True) > 0)
    count = own.sum(axis=0)
    ranked = jnp.sort(jnp.where(own, share, -1), axis=0)[::-1]
    last = jnp.clip((PUREST * count).astype(jnp.int32), FEWEST_PURE, len(share)) - 1
    chosen = own & (share >= jnp.take_along_axis(ranked, last[None], axis=0))
    found = jnp.einsum("nc,nd->cd", chosen.astype(share.dtype), share) / jnp.maximum(chosen.sum(axis=0), 1)[:, None]
    # Of few pixels nothing is known, and what is hardly one class is a mixture.
    sure = (count >= 2 * FEWEST_PURE) & (jnp.diagonal(found) > LEAST_PURE)
    return jnp.where(sure[:, None], found, jnp.eye(share.shape[1]))


@partial(jax.jit, static_argnames="step")
def _parts(rows, base, share, scale, x, members, step: float) -> tuple[Array, ...]:
    groups = rows.shape[1] - members.shape[1]

    def again(_, state):
        return _solve(rows, base, state.amount, state.shift, x, members, step)

    begin = _solve(rows, base, share * scale[:, None], jnp.zeros(len(rows)), x, members, step)
    solved = jax.lax.fori_loop(0, STEPS - 1, again, begin)
    total = solved.amount.sum(axis=1, keepdims=True)
    found = jnp.where(total > 0, solved.amount / jnp.maximum(total, 1e-9), share)
    return found, _largest(solved), solved.fit, solved.background(base, x)[:, groups:], solved.shift


def _solve(rows, base, amount, shift, x, members, step: float) -> _Solved:
    """Parts of each pixel, none below zero, with the background's height and slope and a shift free. amount (N, C) and shift
    (N,) as of the last round, which say how counts scatter and what a further shift changes."""
    n, classes = amount.shape
    groups = rows.shape[1] - members.shape[1]
    edges = _moved(members, shift, step)
    fit = jnp.einsum("nc,ncp->np", amount, edges)
    front = jnp.zeros((n, groups))
    slope = jnp.concatenate([front, -jnp.gradient(fit, step, axis=1)], axis=1)
    expected = base + jnp.concatenate([front, fit], axis=1)
    weights = 1 / jnp.maximum(expected, 0.05 * expected.mean(axis=1, keepdims=True) + 1e-3)
    whole = jnp.pad(edges, ((0, 0), (0, 0), (groups, 0)))
    design = jnp.concatenate([whole, jnp.stack([base, base * x, slope], axis=1)], axis=1)
    weighted = design * weights[:, None]
    gram = jnp.einsum("nkp,njp->nkj", weighted, design)
    right = jnp.einsum("nkp,np->nk", weighted, rows).at[:, -1].add(-shift / SHIFT**2)
    size = jnp.sqrt(jnp.maximum(jnp.einsum("nkk->nk", gram), 1e-12))
    prior = jnp.zeros(classes + 3).at[-1].set(1 / SHIFT**2) + 1e-6 * size**2
    gram = gram + prior[:, :, None] * jnp.eye(classes + 3)
    scaled, right = gram / (size[:, :, None] * size[:, None, :]), right / size
    best, value, free = None, None, None
    for choice in product((True, False), repeat=classes):
        kept = jnp.array([*choice, True, True, True])
        own = jnp.where(kept[:, None] & kept, scaled, jnp.eye(classes + 3))
        found = _solve_small(own, jnp.where(kept, right, 0))
        least = jnp.where((found[:, :classes] >= 0).all(axis=1), -(found * right).sum(axis=1), jnp.inf)
        if best is None:
            # With every class in it, it is also what is free to be below zero.
            free, best, value = found, found, least
            continue
        best, value = jnp.where((least < value)[:, None], found, best), jnp.minimum(least, value)
    best, free = best / size, free[:, :classes] / size[:, :classes]
    amount = jnp.maximum(best[:, :classes], 0)
    further = jnp.clip(best[:, -1], -SHIFT, SHIFT)
    fit = jnp.einsum("nc,ncp->np", amount, edges) + further[:, None] * slope[:, groups:]
    return _Solved(amount, free, _of_classes(gram, classes), best[:, classes : classes + 2], shift + further, fit)


def _moved(members: Float[Array, "C P"], shift: Float[Array, "N"], step: float) -> Float[Array, "N C P"]:
    """The edges upwards by each shift, eV."""
    points = members.shape[1]
    ramp = jnp.cos(jnp.linspace(0, jnp.pi / 2, points)) ** 2
    padded = jnp.concatenate([members, members[:, -4:].mean(axis=1, keepdims=True) * ramp], axis=1)
    turned = jnp.exp(-2j * jnp.pi * jnp.fft.rfftfreq(2 * points, step) * shift[:, None])
    return jnp.fft.irfft(jnp.fft.rfft(padded, axis=1) * turned[:, None], 2 * points, axis=2)[..., :points]


def _of_classes(gram: Float[Array, "N K K"], classes: int) -> Float[Array, "N C C"]:
    """What is known of the classes' parts when the rest is not (Schur complement)."""
    own, cross, rest = gram[:, :classes, :classes], gram[:, :classes, classes:], gram[:, classes:, classes:]
    columns = [_solve_small(rest, cross[:, i]) for i in range(classes)]
    return own - jnp.einsum("nkr,njr->nkj", cross, jnp.stack(columns, axis=1))


def _largest(solved: _Solved) -> Float[Array, "N C"]:
    """How often each class has the largest part, when parts are drawn as their errors say."""
    n, classes = solved.free.shape
    draws = jax.random.normal(jax.random.key(0), (DRAWS, 1, classes))
    lower = jnp.linalg.cholesky(
        solved.precision + LEAST * jnp.eye(classes) * jnp.einsum("ncc->n", solved.precision)[:, None, None]
    )
    noise = jax.scipy.linalg.solve_triangular(
        jnp.broadcast_to(lower.swapaxes(1, 2), (DRAWS, n, classes, classes)),
        jnp.broadcast_to(draws, (DRAWS, n, classes))[..., None],
        lower=False,
    )[..., 0]
    winner = jnp.argmax(solved.free + noise, axis=2)
    counted = jax.nn.one_hot(winner, classes).sum(axis=0)
    return (counted + 1 / classes) / (DRAWS + 1)


def _solve_small(gram: Float[Array, "N K K"], right: Float[Array, "N K"]) -> Float[Array, "N K"]:
    """Symmetric positive systems of a few unknowns, by Cholesky's factors written out: all rows at once, no call for each."""
    k = gram.shape[-1]
    lower: list[list] = [[None] * k for _ in range(k)]
    y: list = [None] * k
    for i in range(k):
        for j in range(i + 1):
            rest = gram[:, i, j] - sum((lower[i][m] * lower[j][m] for m in range(j)), jnp.zeros(()))
            lower[i][j] = jnp.sqrt(jnp.maximum(rest, 1e-12)) if i == j else rest / lower[j][j]
        y[i] = (right[:, i] - sum((lower[i][m] * y[m] for m in range(i)), jnp.zeros(()))) / lower[i][i]
    found: list = [None] * k
    for i in reversed(range(k)):
        found[i] = (y[i] - sum((lower[m][i] * found[m] for m in range(i + 1, k)), jnp.zeros(()))) / lower[i][i]
    return jnp.stack(found, axis=1)
