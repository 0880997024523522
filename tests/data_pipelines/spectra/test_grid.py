import numpy as np
import pytest

from data_pipelines.errors import SpectrumError
from data_pipelines.feff.output import read_xmu
from data_pipelines.schema import EnergyGrid
from data_pipelines.spectra.grid import POST_EDGE_FRACTION, post_edge, to_grid
from data_pipelines.spectra.grid import refused as rows_refused

GRID = EnergyGrid()
COBALT = GRID.absolute("Co")
REAL = {"CoO_base_O1": "O", "LiCoO2_base_Co0": "Co", "LiFePO4_base_P8": "P", "NiO_base_Ni0": "Ni"}


@pytest.fixture
def spectrum(rng):
    """A random Co K spectrum on a random mesh that covers the grid: step, white line, damped oscillations."""
    energy = np.sort(rng.uniform(COBALT[0] - 5, COBALT[-1] + 5, 400))
    energy[0], energy[-1] = COBALT[0] - 6, COBALT[-1] + 6
    edge = COBALT[0] + rng.uniform(8, 15)
    x = energy - edge
    after = np.clip(x, 0, None)
    mu = 0.5 + np.arctan(x / rng.uniform(0.3, 1)) / np.pi
    mu += rng.uniform(0.3, 1) * np.exp(-(((x - 3) / rng.uniform(1, 3)) ** 2))
    mu += rng.uniform(0.02, 0.1) * np.sin(after / rng.uniform(2, 6)) * np.exp(-after / 30)
    return energy, mu


def grid_of(energy, mu):
    return to_grid(energy, mu, GRID, "Co")


def refused(energy, mu) -> str:
    with pytest.raises(SpectrumError) as caught:
        grid_of(energy, mu)
    assert str(caught.value).startswith(caught.value.reason) and "\n" not in str(caught.value)
    return caught.value.reason


def test_unit_edge_step(spectrum):
    mu = grid_of(*spectrum)
    assert mu.shape == (GRID.points,) and mu.dtype == np.float32
    assert mu[-int(np.ceil(POST_EDGE_FRACTION * GRID.points)) :].mean() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("run", REAL)
def test_real_runs(run, runs):
    feff = read_xmu(runs / run / "xmu.dat")
    mu = to_grid(feff.energy, feff.mu, GRID, REAL[run])
    assert mu[0] < 0.2 and mu.max() > 1 and mu[-58:].mean() == pytest.approx(1, abs=1e-5)
    inside = GRID.absolute(REAL[run]) >= feff.energy[0]
    linear = np.interp(GRID.absolute(REAL[run]), feff.energy, feff.mu)
    factor = (linear * mu).sum() / (mu * mu).sum()
    np.testing.assert_allclose(mu[inside] * factor, linear[inside], atol=0.03 * linear.max())


def test_scale_does_not_matter(spectrum, rng):
    energy, mu = spectrum
    np.testing.assert_allclose(
        grid_of(energy, mu * 10 ** rng.uniform(-9, 9)), grid_of(energy, mu), rtol=1e-5, atol=1e-6
    )


def test_chemical_shift_is_kept(spectrum):
    energy, mu = spectrum
    here, moved = grid_of(energy, mu), grid_of(energy + 1.0, mu)
    steps = round(1.0 / GRID.step)
    factor = here[:-steps].sum() / moved[steps:].sum()
    np.testing.assert_allclose(moved[steps:] * factor, here[:-steps], rtol=1e-4, atol=1e-5)
    assert np.abs(moved - here).max() > 0.05


def test_interpolation_never_overshoots(rng):
    energy = np.arange(COBALT[0] - 2, COBALT[-1] + 2, 1.0) + rng.uniform(0, 0.9, 76)
    energy[0], energy[-1] = COBALT[0] - 2, COBALT[-1] + 2
    mu = 1.0 * (energy >= COBALT[40]) + 0.3 * ((energy > COBALT[60]) & (energy < COBALT[75]))
    out = grid_of(energy, mu)  # a spline would ring here
    assert out.min() >= 0 and out.max() == pytest.approx(1.3 * out[50]) and np.ptp(out) > 0


def test_refuses_a_point_that_is_not_finite(spectrum, rng):
    energy, mu = spectrum
    where = rng.integers(len(mu))
    for array, bad in ((mu, np.nan), (mu, np.inf), (energy, np.nan)):
        broken = array.copy()
        broken[where] = bad
        assert refused(*((energy, broken) if array is mu else (broken, mu))) == "not finite"


def test_refuses_wrong_energies(spectrum, rng):
    energy, mu = spectrum
    assert refused(energy[::-1], mu[::-1]) == "energy descending"
    order = np.arange(len(energy))
    i = rng.integers(len(order) - 1)
    order[[i, i + 1]] = order[[i + 1, i]]
    assert refused(energy[order], mu) == "energy not monotonic"
    twice = energy.copy()
    twice[i + 1] = twice[i]
    assert refused(twice, mu) == "energy not monotonic"
    assert refused(energy / 1000, mu) == "energy in keV"


def test_refuses_a_grid_not_covered(spectrum):
    energy, mu = spectrum
    assert refused(energy + 40, mu) == "grid not covered"
    assert refused(energy - 40, mu) == "grid not covered"
    cut = energy < COBALT[-1]
    assert refused(energy[cut], mu[cut]) == "grid not covered"
    late = energy > COBALT[0] + 10.01
    assert refused(energy[late], mu[late]) == "grid not covered"


def test_fills_a_short_pre_edge_with_the_first_value(spectrum):
    energy, mu = spectrum
    late = energy > COBALT[0] + 4
    out = grid_of(energy[late], mu[late])
    filled = energy[late][0] > COBALT
    assert filled.sum() >= 8 and len(set(out[filled].tolist())) == 1


def test_refuses_too_few_points(spectrum):
    energy, mu = spectrum
    some = np.linspace(0, len(energy) - 1, 7).astype(int)
    assert refused(energy[some], mu[some]) == "too few points"
    assert refused(energy, mu[:-1]) == "too few points"
    assert refused(np.array([]), np.array([])) == "too few points"
    assert refused(energy[None], mu[None]) == "too few points"


def test_refuses_a_spectrum_without_an_edge(spectrum, rng):
    energy, mu = spectrum
    assert refused(energy, np.full_like(mu, rng.uniform(0.1, 10))) == "no edge in range"
    assert refused(energy, np.zeros_like(mu)) == "no edge step"
    assert refused(energy, -mu) == "no edge step"
    assert refused(energy, mu[::-1]) in ("no edge in range", "no edge step")
    assert refused(energy, mu * (1 + 10 * (energy > COBALT[-4]))) == "implausible edge step"
    with pytest.raises(ValueError, match="Co L3"):
        to_grid(energy, mu, GRID, "Co", "L3")


def test_pre_edge_line_is_removed(spectrum, rng):
    energy, mu = spectrum
    before = np.linspace(COBALT[0] - 80, COBALT[0] - 12, 40)
    energy, mu = np.concatenate([before, energy]), np.concatenate([np.full(40, mu[0]), mu])
    line = rng.uniform(-1, 3) + rng.uniform(-0.004, 0.004) * (energy - COBALT[0])
    plain = grid_of(energy, mu)
    np.testing.assert_allclose(grid_of(energy, mu + line), plain, atol=1e-4)


def test_a_few_points_below_the_edge_fit_no_line(spectrum):
    energy, mu = spectrum
    before = COBALT[0] - np.array([50.0, 40.0, 30.0, 20.0])
    tilted = np.concatenate([np.array([0.0, 0.02, 0.04, 0.06]), mu])
    np.testing.assert_allclose(grid_of(np.concatenate([before, energy]), tilted), grid_of(energy, mu), atol=1e-3)


def test_a_spectrum_that_begins_on_its_edge_is_not_filled(rng):
    energy = np.linspace(COBALT[0] - 6, COBALT[-1] + 6, 500)
    edge = COBALT[0] + rng.uniform(6, 8)
    mu = 0.5 + np.arctan(energy - edge) / np.pi + 0.3 * np.exp(-(((energy - edge - 4) / 2) ** 2))
    for start in (-6, 2):
        to_grid(energy[energy > COBALT[0] + start], mu[energy > COBALT[0] + start], GRID, "Co")
    with pytest.raises(SpectrumError, match="no edge in range"):
        to_grid(energy[energy > edge - 0.5], mu[energy > edge - 0.5], GRID, "Co")


def test_what_the_grid_does_not_require_may_be_missing(spectrum, rng):
    """The edge step is measured where all have the spectrum, so a shorter one is the longer one, cut."""
    energy, mu = spectrum
    open_end = EnergyGrid(required=90)
    whole = to_grid(energy, mu, open_end, "Co")
    last = int(rng.integers(90, GRID.points)) - 1
    ends = energy <= COBALT[last]
    ends[int(np.argmin(ends))] = True  # the first beyond it, so that it is inside
    short = to_grid(energy[ends], mu[ends], open_end, "Co")
    known = energy[ends][-1] >= COBALT
    assert known.sum() > last and (np.isfinite(short) == known).all()
    # The last slope of a curve is another where the curve goes on.
    np.testing.assert_allclose(short[: last - 2], whole[: last - 2], atol=1e-6)
    assert post_edge(whole[:90]).mean() == pytest.approx(1, abs=1e-5)
    with pytest.raises(SpectrumError, match=r"the grid needs .* to 7755\.5 eV"):
        to_grid(energy[energy < COBALT[89]], mu[energy < COBALT[89]], open_end, "Co")


def test_rows_with_a_hole_are_refused_and_open_ends_are_not(spectrum, rng):
    open_end = EnergyGrid(required=90)
    rows = np.tile(to_grid(*spectrum, open_end, "Co"), (4, 1))
    rows[1, 100:] = np.nan
    rows[2, int(rng.integers(0, 90))] = np.nan
    rows[3, int(rng.integers(90, 143))] = np.nan
    found = rows_refused(rows, open_end)
    assert list(found) == [2, 3] and "gap before its end" in str(found[3])
