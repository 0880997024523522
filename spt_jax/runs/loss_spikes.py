"""Epochs whose training loss stands out: a spike, which goes down again, and a divergence, which does not.

The logarithm of the loss is held against its median over the epochs before. How far it may stray is told by the median
absolute deviation of its distances from that median, which neither a few spikes widen nor the fall of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

# Epochs whose median is the usual loss, and those whose deviations tell how much it strays.
WINDOW, STRAY = 9, 24
# Fewer epochs do not tell how much the loss strays: of so many, three times the usual loss is too much.
LEAST, AT_FIRST = 5, math.log(3)
# Deviations that are too far, in standard deviations of a normal distribution, and the least standard deviation: what
# is 13 % above the usual loss is worth no word, however smooth the loss was.
FAR, SMOOTH = 7.0, 0.017
# Epochs after which a loss that has not come down again counts as diverged.
LASTING = 5
Kind = Literal["spike", "divergence", "high at the end"]


class LossSpike(NamedTuple):
    """epoch, step: at its height. first, last: epochs in which the loss was too high."""

    kind: Kind
    epoch: int
    step: int
    first: int
    last: int
    loss: float
    usual: float
    """Median of the loss before it."""


def loss_spikes(log: Sequence[dict], changed: Collection[int] = ()) -> list[LossSpike]:
    """Of the lines of a log, in their order. changed: epochs after which the schedule was another one, so that what was
    usual before says nothing of the loss."""
    cuts = [0, *(i for i in range(1, len(log)) if log[i - 1]["epoch"] in changed), len(log)]
    return [spike for begin, end in pairwise(cuts) for spike in _spikes(log[begin:end])]


def _spikes(log: Sequence[dict]) -> list[LossSpike]:
    """Of one schedule."""
    loss = np.array([line["loss"] for line in log], float)
    height, found, begun = _height(loss), list[LossSpike](), -1
    usual, strays = list[int](), list[float]()  # epochs that were not too high, and how far they lay from the median
    middle, reach = 0.0, math.inf

    def ended(end: int, kind: Kind) -> None:
        own = np.where(np.isfinite(loss[begun:end]), loss[begun:end], math.inf)
        top = begun + int(np.argmax(own))
        before = float(np.median(loss[usual[-WINDOW:]])) if usual else math.nan
        epochs = log[begun]["epoch"], log[end - 1]["epoch"]
        found.append(LossSpike(kind, log[top]["epoch"], log[top]["step"], *epochs, float(own[top - begun]), before))

    for i in range(len(log)):
        if begun < 0:
            middle, reach = _usual(height, usual, strays)
        # A spike that trembles on its way down is one.
        if not height[i] - middle <= (reach if begun < 0 else reach / 2):
            begun = i if begun < 0 else begun
            continue
        if begun >= 0:
            ended(i, "spike")
            begun = -1
        if usual:
            strays.append(float(height[i]) - middle)
        usual.append(i)
    if begun >= 0:
        ended(len(log), "divergence" if len(log) - begun >= LASTING else "high at the end")
    return found


def _height(loss: np.ndarray) -> np.ndarray:
    """(n,) the logarithm; of a loss that has values below zero, as a bound on a likelihood may, the loss over its own size.
    What is not finite is as high as can be."""
    finite = np.isfinite(loss)
    if (loss[finite] > 0).all():
        return np.where(finite, np.log(np.where(finite, loss, 1.0)), math.inf)
    return np.where(finite, loss / (np.median(np.abs(loss[finite])) or 1.0), math.inf)


def _usual(height: np.ndarray, usual: Sequence[int], strays: Sequence[float]) -> tuple[float, float]:
    """The usual height, and how far above it is too far; anything finite is usual in the first epoch."""
    if not usual:
        return 0.0, np.finfo(float).max
    if len(usual) < LEAST:
        return float(np.median(height[usual])), AT_FIRST
    own = np.array(strays[-STRAY:])
    # Of few distances the deviation is not well known.
    spread = 1.4826 * float(np.median(np.abs(own - np.median(own)))) * (1 + LEAST / len(own))
    return float(np.median(height[usual[-WINDOW:]])), FAR * max(spread, SMOOTH)
