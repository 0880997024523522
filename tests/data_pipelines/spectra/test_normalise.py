"""Normalisation: a known spectrum comes back from scale, background and shift, and xraylarch finds the same."""

import numpy as np
import pytest

from benchmarks.measured.compounds import FOREIGN, KNOWN
from benchmarks.measured.files import scans
from data_pipelines.errors import SpectrumError
from data_pipelines.library import EXAMPLE
from data_pipelines.readers.spectrum import read_spectrum
from data_pipelines.schema import REFERENCE_ENERGY_EV
from data_pipelines.spectra.normalise import BEGINS_EV, edge_energy, normalise


@pytest.fixture(scope="module")
def known():
    """(N,) energy and mu in edge steps of a measurement that FEFF calculated: 150 eV of nothing below, 300 eV of 1 above."""
    run = read_spectrum(EXAMPLE)
    energy = np.concatenate([np.arange(run.energy[0] - 150, run.energy[0] - 1, 2.0), run.energy])
    energy = np.concatenate([energy, np.arange(energy[-1] + 2, energy[-1] + 300, 2.0)])
    mu = np.interp(energy, run.energy, run.mu - run.mu[0], right=np.nan)
    last = np.isfinite(mu).sum() - 1
    # The fine structure dies out.
    mu = np.where(np.isfinite(mu), mu, 1 + (mu[last] - 1) * np.exp((energy[last] - energy) / 30))
    return energy, mu


def test_a_spectrum_comes_back_from_scale_background_and_shift(known, rng):
    energy, mu = known
    plain = normalise(energy, mu)
    step, slope, offset, shift = rng.uniform(0.2, 5), rng.uniform(-2e-4, 2e-4), rng.uniform(-3, 3), rng.uniform(-9, 9)
    measured = step * (mu + slope * (energy - energy[0])) + offset
    found = normalise(energy + shift, measured)
    assert found.e0 - plain.e0 == pytest.approx(shift, abs=0.05)
    assert found.step == pytest.approx(step * plain.step, rel=0.02)
    np.testing.assert_allclose(found.norm, plain.norm, atol=0.02)
    np.testing.assert_allclose(found.flat, plain.flat, atol=0.02)
    assert np.abs(found.norm[energy < found.e0 - shift - 30]).max() < 0.02
    assert found.flat[energy > energy[-1] - 200].mean() == pytest.approx(1, abs=0.02)
    assert f"E0 {found.e0:.1f} eV, pre-edge line" in str(found) and "edge step" in str(found)


def test_what_is_too_short_is_fitted_by_less_and_what_has_no_edge_is_refused(known):
    energy, mu = known
    e0 = normalise(energy, mu).e0
    near = (energy > e0 - 3) & (energy < e0 + 28)
    found = normalise(energy[near], mu[near])
    assert found.orders == (0, 0) and "pre-edge mean" in str(found) and "post-edge mean" in str(found)
    assert normalise(energy[energy < e0 + 200], mu[energy < e0 + 200]).orders == (1, 1)
    with pytest.raises(SpectrumError, match="rises nowhere"):
        normalise(energy, -energy)
    with pytest.raises(SpectrumError, match="no edge in range"):
        normalise(energy, mu, e0=energy[-1] + 50)


def test_the_first_inflection_of_a_foil_and_the_steepest_are_two_things():
    """Manganese: the steepest rise is seven eV above the energy by which foils are calibrated."""
    energy = np.arange(6400.0, 6800.0, 0.5)
    mu = 0.3 * np.arctan((energy - 6539) / 1) + 0.7 * np.arctan((energy - 6546) / 1)
    assert edge_energy(energy, mu) == pytest.approx(6546, abs=0.3)
    assert edge_energy(energy, mu, 0.3) == pytest.approx(6539, abs=0.3)


def test_xraylarch_finds_the_same(shared):
    """At the same E0 to rounding, and of E0 itself: within half an eV in nine of ten measured spectra."""
    larch = pytest.importorskip("larch.xafs", reason="xraylarch is not installed (extra test)")
    from larch import Group

    experiment = shared("experiment")
    differ = []
    for compound in (*KNOWN, *FOREIGN):
        for scan in scans(compound, experiment):
            found = normalise(scan.energy, scan.mu)
            differ.append(abs(found.e0 - larch.find_e0(scan.energy, scan.mu)))
            if found.e0 - scan.energy[0] < BEGINS_EV:
                continue  # a line there follows the peaks before the edge
            theirs = Group(energy=scan.energy, mu=scan.mu)
            larch.pre_edge(theirs, e0=found.e0)
            assert found.step == pytest.approx(theirs.edge_step, rel=1e-9), scan.name
            np.testing.assert_allclose(found.norm, theirs.norm, atol=1e-9)
            np.testing.assert_allclose(found.flat, theirs.flat, atol=1e-9)
            assert theirs.pre_edge_details.nnorm == found.orders[1]
    assert np.quantile(differ, 0.9) < 0.5 and len(differ) > 100


def test_foils_lie_where_the_booklet_has_them_to_what_beamlines_differ(shared):
    experiment = shared("experiment")
    for compound in FOREIGN:
        if compound.name.endswith("metal"):
            for scan in scans(compound, experiment):
                e0 = edge_energy(scan.energy, scan.mu, 0.3)
                assert e0 == pytest.approx(REFERENCE_ENERGY_EV[compound.element, "K"], abs=1.6), scan.name
