"""Channels to sums of a grid: counts are kept, and a detector's gain and dead channels are found."""

import numpy as np
import pytest

from data_pipelines.errors import UserError
from data_pipelines.loss_grid import LossGrid, grid_of
from data_pipelines.spectra.rebin import detector_of, gain_of, rebinning

CLASSES = ("a", "b")


def random_grid(rng) -> LossGrid:
    start, groups = rng.uniform(520, 525), int(rng.integers(4, 20))
    front = (rng.uniform(450, 470), rng.uniform(505, start - 1))
    given = {"edge": "O K", "front": front, "groups": groups, "classes": CLASSES}
    return LossGrid(start, rng.uniform(0.2, 1.5), int(rng.integers(32, 60)), **given)


def random_energies(rng, grid: LossGrid) -> np.ndarray:
    """(E,) not evenly spaced, beyond the grid on either side."""
    front, edge = grid.borders()
    steps = rng.uniform(0.1, 0.9, int((edge[-1] - front[0] + 20) / 0.5) + 20)
    energy = front[0] - 8 + np.concatenate([[0], np.cumsum(steps)])
    return energy[: max(np.searchsorted(energy, edge[-1] + 5), 32)]


def brute(energy: np.ndarray, counts: np.ndarray, borders: np.ndarray) -> np.ndarray:
    """Integrals of a histogram whose bars end in the middle between two energies, channel by channel."""
    middle = (energy[:-1] + energy[1:]) / 2
    ends = [2 * energy[0] - middle[0], *middle, 2 * energy[-1] - middle[-1]]
    found = np.zeros(len(borders) - 1)
    for j in range(len(found)):
        for i, count in enumerate(counts):
            shared = min(ends[i + 1], borders[j + 1]) - max(ends[i], borders[j])
            found[j] += count * max(shared, 0) / (ends[i + 1] - ends[i])
    return found


def test_sums_are_the_integral_and_counts_are_kept(rng):
    for _ in range(5):
        grid = random_grid(rng)
        energy = random_energies(rng, grid)
        counts = rng.poisson(rng.uniform(0, 50, len(energy))).astype(float)
        rebin = rebinning(energy, grid)
        row = rebin(counts[None])[0]
        front, edge = grid.borders()
        want = np.concatenate([brute(energy, counts, front), brute(energy, counts, edge)])
        np.testing.assert_allclose(row, want, rtol=1e-5, atol=1e-4)
        assert len(row) == grid.length == len(grid.middles()) == len(grid.widths())
        assert row[grid.groups :].sum() == pytest.approx(brute(energy, counts, edge[[0, -1]])[0], rel=1e-5)


def test_the_channels_of_the_grid_are_those_of_its_image():
    grid = LossGrid(522.0, 0.5, 64, edge="O K", front=(480.0, 520.0), classes=CLASSES)
    energy = 470 + 0.5 * np.arange(240)
    counts = np.arange(240.0)
    row = rebinning(energy, grid)(counts)
    np.testing.assert_allclose(row[grid.groups :], counts[104:168], rtol=1e-5)
    assert grid_of(grid.stated()) == grid


def test_a_last_channel_that_is_not_whole_is_scaled_up(rng):
    grid = LossGrid(522.0, 0.5, 64, edge="O K", front=(480.0, 520.0), classes=CLASSES)
    energy = 470 + 0.1 * np.arange(836)
    assert 0 < grid.borders()[1][-1] - energy[-1] - 0.05 < 0.25
    row = rebinning(energy, grid)(np.ones(len(energy)))
    np.testing.assert_allclose(row[grid.groups :], 5, rtol=1e-5)


@pytest.mark.parametrize("energy", [np.arange(490.0, 600, 0.5), np.arange(400.0, 540, 0.5), np.arange(0.0, 200, 0.5)])
def test_energies_that_do_not_cover_the_grid_are_refused(energy):
    grid = LossGrid(522.0, 0.5, 64, edge="O K", front=(480.0, 520.0), classes=CLASSES)
    with pytest.raises(UserError, match=r"^map has energies from .* asks for 480\.0 to 553\.8 eV$"):
        rebinning(energy, grid, "map")


@pytest.mark.parametrize("gain", [1e-9, 0.02, 1.0, 50.0, 1e8])
def test_the_gain_is_found_also_beside_spikes_and_broken_pixels(rng, gain):
    rate = 400 * np.linspace(1, 0.5, 200) ** 3 * rng.uniform(0.3, 2, (300, 1))
    counts = gain * rng.poisson(rate)
    assert gain_of(counts) == pytest.approx(gain, rel=0.15)
    counts[5], counts[6, 3], counts[7, 100] = np.nan, np.inf, 1e4 * gain
    assert gain_of(counts) == pytest.approx(gain, rel=0.15)


@pytest.mark.parametrize("counts", [np.zeros((5, 30)), np.full((5, 30), np.nan), np.ones((5, 30)), np.ones((5, 2)),
                                    np.zeros((0, 9)), -np.ones((4, 20))])  # fmt: skip
def test_no_counts_have_a_gain_of_one(counts):
    assert gain_of(counts) == 1


@pytest.fixture
def rebin():
    grid = LossGrid(522.0, 0.5, 64, edge="O K", front=(480.0, 520.0), groups=8, classes=CLASSES)
    return rebinning(470 + 0.5 * np.arange(240), grid)


@pytest.mark.parametrize("dead", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("gain", [1.0, 30.0, 1e-6])
def test_dead_channels_are_left_out_of_the_sums(rng, rebin, dead, gain):
    counts = gain * rng.poisson(200.0, (50, 240)).astype(np.float32)
    whole = rebin(counts)
    counts[:, [30, 31, 120]] = dead
    found = detector_of(counts, rebin)
    assert np.flatnonzero(found.dead).tolist() == [30, 31, 120] and found.gain == pytest.approx(gain, rel=0.2)
    row = found.mended(rebin)(found.alive(counts))
    # 10 channels of a sum in front, one of a sum of the edge: that is the mean of its neighbours.
    np.testing.assert_allclose(row.mean(axis=0), whole.mean(axis=0), rtol=0.1)
    sure = 8 + 120 - 104
    np.testing.assert_allclose(row[:, sure], (row[:, sure - 1] + row[:, sure + 1]) / 2, rtol=1e-5)
    untouched = np.delete(np.arange(72), [0, 1, 2, 3, sure])
    np.testing.assert_allclose(row[:, untouched], whole[:, untouched], rtol=1e-6)


def test_a_stretch_of_dead_channels_is_refused(rng, rebin):
    counts = rng.poisson(200.0, (50, 240)).astype(np.float32)
    counts[:, 120:140] = 0
    with pytest.raises(UserError, match=r"^map: two sums of channels side by side are dead"):
        detector_of(counts, rebin).mended(rebin, "map")


def test_few_counts_are_not_dead_and_no_pixel_says_nothing(rng, rebin):
    assert not detector_of(rng.poisson(0.02, (60, 240)).astype(np.float32), rebin).dead.any()
    for value in (0, np.nan):
        found = detector_of(np.full((60, 240), value, np.float32), rebin)
        assert not found.dead.any() and found.gain == 1
    counts = rng.poisson(200.0, (50, 240)).astype(np.float32)
    counts[:20], counts[20:30] = np.nan, 0
    assert not detector_of(counts, rebin).dead.any()
    assert detector_of(counts, rebin, gain=3.0).gain == 3
