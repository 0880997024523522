"""Planted spectrum images of phases: what is said to be true is true of the counts."""

from dataclasses import replace

import numpy as np
import pytest

from data_pipelines.errors import UserError
from data_pipelines.spectra.phases import (
    CalculatedEdge,
    PhasePlanting,
    measured_edge,
    phase_image,
    phase_shares,
    plural,
    seen_edge,
)
from data_pipelines.spectra.planted import shifted

HOW = PhasePlanting(height=16, width=20, channels=256, offset=500, dose=1e6, grain=2)
EXACT = replace(HOW, misplaced=0.0, bent=0.0, blurred=0.0)


def line(at: float, width: float = 1.0) -> CalculatedEdge:
    energy = np.linspace(531, 610, 119)
    step = 0.5 + 0.5 * np.tanh(energy - 534)
    return CalculatedEdge(energy, step + 4 * np.exp(-(((energy - at) / width) ** 2)))


CURVES = {"first": [line(535), line(536)], "second": [line(538)], "third": [line(541), line(543, 3), line(545)]}


def test_counts_are_background_and_signal_of_shares_and_end_members():
    made = phase_image(HOW, CURVES, np.random.default_rng(0))
    mean = shifted(made.energy, made.background + made.signal, made.shift)
    assert abs(((made.counts - mean) ** 2 / mean).mean() - 1) < 0.02
    ratio = made.signal.sum(axis=2) / plural(HOW, made.shares @ made.end_members, made.thickness).sum(axis=2)
    again = plural(HOW, ratio[..., None] * (made.shares @ made.end_members), made.thickness)
    np.testing.assert_allclose(made.signal, again, atol=1e-6 * made.signal.max())
    front = (made.energy > 520) & (made.energy < 530)
    law = np.log(made.background[..., front] / made.background[..., front][..., :1])
    np.testing.assert_allclose(
        law, -made.exponent[..., None] * np.log(made.energy[front] / made.energy[front][0]), atol=1e-9
    )
    at = np.argmin(np.abs(made.energy - HOW.onset))
    assert abs(made.background[..., at].mean() / HOW.dose - 1) < 0.02
    assert made.classes == tuple(CURVES) and made.counts.dtype == np.float32
    assert abs(made.shift.mean()) < 1e-12 and np.abs(made.shift).max() < 1.2 * HOW.drift
    assert 0.5 * HOW.thickness <= made.thickness.min() < made.thickness.max() <= HOW.thickness
    assert all(number < len(each) for number, each in zip(made.drawn, CURVES.values(), strict=True))


def test_end_members_have_mean_one_in_the_window():
    made = phase_image(HOW, CURVES, np.random.default_rng(1))
    inside = (made.energy >= HOW.window[0]) & (made.energy <= HOW.window[1])
    np.testing.assert_allclose(made.end_members[:, inside].mean(axis=1), 1)


@pytest.mark.parametrize("mixed", [0.0, 0.25, 1.0])
def test_as_many_pixels_are_mixed_as_was_said_and_phases_form_grains(mixed):
    shares = phase_shares(replace(HOW, mixed=mixed), 4, np.random.default_rng(2))
    np.testing.assert_allclose(shares.sum(axis=2), 1)
    assert shares.min() >= 0
    assert abs((shares.max(axis=2) < 1 - 1e-9).mean() - mixed) <= 0.01
    phase = shares.argmax(axis=2)
    alike = (phase[1:] == phase[:-1]).mean()
    assert alike > 0.7 > 1.5 * np.mean((np.bincount(phase.ravel(), minlength=4) / phase.size) ** 2)


def test_without_theory_error_an_edge_is_measured_as_it_is_calculated():
    edge = line(538, 6)
    found = measured_edge(EXACT, edge, np.random.default_rng(0))
    np.testing.assert_allclose(found, seen_edge(HOW, edge, 0.0, HOW.resolution))
    inside = (HOW.energy > 537) & (HOW.energy < 560)
    known = np.interp(HOW.energy, edge.energy, edge.intensity)
    ratio = found[inside] / known[inside]
    assert np.ptp(ratio) < 0.02 * ratio.mean()
    away = measured_edge(HOW, edge, np.random.default_rng(0))
    assert 0.01 < np.abs(away - found).mean() < 0.5


def test_an_edge_moves_up_fades_below_and_falls_above_its_ends():
    moved, still = (seen_edge(HOW, line(540), by, 0.8) for by in (3.0, 0.0))
    assert abs(HOW.energy[moved.argmax()] - HOW.energy[still.argmax()] - 3) < 0.31
    long = PhasePlanting(channels=1024)
    curve = seen_edge(long, line(540), 0.0, 0.8)
    assert curve[long.energy < 525].max() < 1e-3 * curve.max()
    behind = curve[long.energy > 600]
    assert np.isfinite(curve).all() and (np.diff(behind) <= 1e-12).all()
    assert np.abs(np.diff(behind)).max() < 0.01 * behind[0]


def test_the_same_seed_gives_the_same_image_and_another_one_another():
    one, same, other = (phase_image(HOW, CURVES, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.counts, same.counts)
    assert (one.phase != other.phase).any()


def test_no_edge_no_signal():
    made = phase_image(replace(HOW, jump=0.0), CURVES, np.random.default_rng(0))
    assert not made.signal.any() and made.counts.min() > 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"window": (526.0, 700.0)}, "window"),
        ({"window": (540.0, 530.0)}, "window"),
        ({"exponents": (3.0, 2.0)}, "exponents"),
        ({"mixed": 1.5}, "mixed"),
        ({"height": 0}, "height"),
    ],
)
def test_odd_settings_are_refused(change, says):
    with pytest.raises(UserError, match=says):
        replace(HOW, **change)


@pytest.mark.parametrize(
    "curves",
    [
        {"one": [line(535)]},
        {"one": [line(535)], "two": []},
        {"one": [line(535)], "two": [CalculatedEdge(np.arange(5.0), np.ones(5))]},
        {"one": [line(535)], "two": [CalculatedEdge(np.arange(620.0, 500, -1), np.ones(120))]},
        {"one": [line(535)], "two": [CalculatedEdge(np.arange(500.0, 620), np.zeros(120))]},
    ],
)
def test_odd_edges_are_refused(curves):
    with pytest.raises(UserError):
        phase_image(HOW, curves, np.random.default_rng(0))
