import numpy as np
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import LIBRARY
from data_pipelines.schema import EnergyGrid
from data_pipelines.spectra.grid import broadened, post_edge, shifted
from spt_jax.robustness.perturb import PERTURBATIONS, Perturbation, perturb

GRID = EnergyGrid()


@pytest.fixture(scope="module")
def spectra():
    return Dataset(LIBRARY).split("test").batch.spectrum


@pytest.mark.parametrize("case", PERTURBATIONS, ids=str)
def test_every_case_is_a_spectrum_with_unit_step_and_the_same_again(spectra, case):
    before = spectra.copy()
    once, again = (perturb(spectra, GRID, case, seed=3) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(spectra, before)
    assert once.shape == spectra.shape and once.dtype == np.float32
    np.testing.assert_allclose(post_edge(once).mean(axis=1), post_edge(spectra).mean(axis=1), atol=1e-5)


def test_no_noise_is_the_identity(spectra):
    np.testing.assert_array_equal(perturb(spectra, GRID, Perturbation("noise", 0), 1), spectra)


@pytest.mark.parametrize("sigma", [0.005, 0.05])
def test_noise_has_the_sigma_asked_for_and_belongs_to_the_row(sigma):
    flat = np.ones((500, GRID.points), np.float32)
    case = Perturbation("noise", sigma)
    noise = perturb(flat, GRID, case, 0) - 1
    assert noise.std() == pytest.approx(sigma, rel=0.02)
    neighbours = np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.03
    np.testing.assert_array_equal(perturb(flat[:7], GRID, case, 0), noise[:7] + 1)
    assert not np.array_equal(noise[0], noise[1])
    assert not np.array_equal(perturb(flat, GRID, case, 1), noise + 1)


@pytest.mark.parametrize("ev", [0.25, 0.5, 1, 2])
def test_a_shift_and_back_restores_the_interior(spectra, ev):
    # Half a step is interpolated, twice: good for what is wider than a step, which narrow white lines are not.
    spectra, error = (broadened(spectra, GRID, 1), 0.02) if ev == 0.25 else (spectra, 1e-6)
    there = shifted(spectra, GRID, ev)
    np.testing.assert_allclose(shifted(there, GRID, -ev)[:, 8:-8], spectra[:, 8:-8], atol=error, rtol=error)
    assert np.abs(there - spectra)[:, 8:-8].max() > 0.05
    # The edge step is found from other ends each time.
    there = perturb(spectra, GRID, Perturbation("shift", ev), 0)
    back = perturb(there, GRID, Perturbation("shift", -ev), 0)
    np.testing.assert_allclose(back[:, 8:-8], spectra[:, 8:-8], atol=error, rtol=0.01 + error)


def test_a_positive_shift_moves_to_higher_energy():
    peak = np.exp(-(((GRID.relative() - 30) / 3) ** 2))[None]
    moved = shifted(peak, GRID, 1.5)
    assert GRID.relative()[moved.argmax()] == GRID.relative()[peak.argmax()] + 1.5


def test_broadening_keeps_constants_lowers_peaks_and_adds_in_squares():
    flat = np.full((2, GRID.points), 0.7)
    np.testing.assert_allclose(broadened(flat, GRID, 2), flat)
    energy = GRID.relative()
    peak = np.exp(-0.5 * ((energy - 38) / 2) ** 2)[None]
    # A Gaussian of sigma 2 eV seen with 1.5 eV is one of 2.5 eV and of the same area.
    np.testing.assert_allclose(
        broadened(peak, GRID, 1.5), 0.8 * np.exp(-0.5 * ((energy - 38) / 2.5) ** 2)[None], atol=1e-3
    )


def test_a_coarser_grid_keeps_lines_and_measured_points(spectra):
    line = GRID.relative()[None] / 40
    coarse = perturb(np.concatenate([spectra, line]), GRID, Perturbation("resampling", 3), 0)
    changed = coarse[:-1] / spectra
    np.testing.assert_allclose(coarse[-1], line[0], atol=1e-6)
    # Measured points are only scaled by the new edge step, which is one number for each spectrum.
    np.testing.assert_allclose(
        changed[:, 12::6], np.broadcast_to(changed[:, 12:13], changed[:, 12::6].shape), rtol=1e-5
    )
    assert np.abs(coarse[:-1] - spectra).max() > 0.01


@pytest.mark.parametrize("ev", [5, 10, 20])
def test_a_missing_range_is_flat_and_the_rest_stays(spectra, ev):
    points = int(ev / GRID.step)
    start = perturb(spectra, GRID, Perturbation("missing start", ev), 0)
    assert (start[:, :points] == start[:, points : points + 1]).all()
    np.testing.assert_array_equal(start[:, points:], spectra[:, points:])
    end = perturb(spectra, GRID, Perturbation("missing end", ev), 0)
    assert np.ptp(end[:, -points - 1 :], axis=1).max() == 0
    ratio = end[:, 40 : -points - 1] / spectra[:, 40 : -points - 1]
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-5)


def test_the_cases_are_those_of_the_protocol():
    assert len(set(PERTURBATIONS)) == len(PERTURBATIONS)
    assert sum(case.kind == "noise" for case in PERTURBATIONS) == 7
    with pytest.raises(ValueError, match="unknown kind"):
        Perturbation("rain", 1)
    with pytest.raises(ValueError, match="cannot be negative"):
        Perturbation("broadening", -1)
    with pytest.raises(ValueError, match="only 72 eV"):
        perturb(np.ones((1, GRID.points)), GRID, Perturbation("missing end", 72), 0)


@pytest.mark.parametrize("case", PERTURBATIONS, ids=str)
def test_an_open_end_stays_open(spectra, case, rng):
    grid = EnergyGrid(required=60)
    known = np.arange(grid.points) < rng.integers(60, grid.points + 1, (len(spectra), 1))
    found = perturb(np.where(known, spectra, np.nan).astype(np.float32), grid, case, 0)
    if case.kind == "missing end":
        known[:, max(grid.points - round(case.size / grid.step), 60) :] = False
    np.testing.assert_array_equal(np.isfinite(found), known)
    np.testing.assert_allclose(
        post_edge(found[:, :60]).mean(axis=1), post_edge(spectra[:, :60]).mean(axis=1), atol=1e-5
    )
