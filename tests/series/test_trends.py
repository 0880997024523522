"""Trends and changes: planted ones are found, and how often one is found where none is."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import spearmanr

from spt_jax.series.trends import Stretch, parts, trend


def test_rank_correlation_and_its_p(rng):
    x, y = np.array([3, 3, 4.3, 4.3, 4.8]), rng.normal(size=5)
    found = trend(x, y)
    assert found.rho == pytest.approx(spearmanr(x, y).statistic)
    as_large = [abs(spearmanr(x, order).statistic) >= abs(found.rho) - 1e-9 for order in permutations(y)]
    assert found.p == pytest.approx(np.mean(as_large))
    steady = trend(np.arange(12.0), 2 * np.arange(12.0) + 1)
    assert (steady.rho, steady.p) == (pytest.approx(1), 1e-4) and steady.slope == steady.low == steady.high == 2
    assert trend(np.arange(4.0), np.ones(4)) == trend(np.arange(3.0), np.zeros(3)) and trend(x, 0 * x).p == 1


def test_p_is_uniform_without_a_trend(rng):
    few = [trend(np.arange(6.0), rng.normal(size=6)).p for _ in range(200)]
    assert 0.01 < np.mean(np.array(few) < 0.05) + 0.02 < 0.13


def test_changes_are_found_where_they_are():
    x = np.arange(30.0)
    noise = 0.1 * np.random.default_rng(1).normal(size=30)
    step = parts(x, np.where(x < 12, 2.0, 3.0) + noise)
    assert len(step) == 2 and abs(step[0].stop - 12) <= 1 and step[1].level == pytest.approx(3, abs=0.15)
    bend = parts(x, np.maximum(x - 14, 0) * 0.2 + noise)
    assert len(bend) == 2 and not bend[0].slope and bend[1].slope == pytest.approx(0.2, abs=0.05)
    [ramp] = parts(x, 0.2 * x + noise)
    assert ramp.slope == pytest.approx(0.2, abs=0.02)
    voltage = np.repeat([3.0, 4.3, 4.8], [4, 4, 5])
    found = parts(voltage, np.where(voltage > 3.5, 3.0, 2.5) + noise[:13] / 5)
    assert [(part.start, part.stop) for part in found] == [(0, 4), (4, 13)]
    assert parts(x[:7], x[:7]) == [Stretch(0, 7, 3.0, 0.0)]  # too few to tell


def test_few_series_without_a_change_are_cut():
    rng = np.random.default_rng(0)
    cut = []
    for count in (8, 12, 30):
        x = np.arange(float(count))
        cut += [len(parts(x, slope * x + rng.normal(size=count))) > 1 for slope in (0.0, 0.3) for _ in range(100)]
    assert np.mean(cut) < 0.08
