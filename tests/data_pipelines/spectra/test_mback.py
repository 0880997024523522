"""MBACK: a known spectrum comes back from a background that bends, and xraylarch finds the same."""

import numpy as np
import pytest

from benchmarks.measured.compounds import KNOWN
from benchmarks.measured.files import scans
from data_pipelines.errors import SpectrumError
from data_pipelines.spectra.mback import ABOVE_EV, BELOW_EV, matched, mback
from data_pipelines.spectra.normalise import normalise

xraydb = pytest.importorskip("xraydb", reason="needs the extra `mback`")
ENERGY = np.arange(6950.0, 7500.0, 0.5)
E0 = 7112.0


@pytest.fixture
def atom():
    """f'' of iron as a spectrum has it: a rise of 3 eV width, oscillations that die away."""
    x = ENERGY - E0
    smooth = xraydb.f2_chantler("Fe", np.where(np.abs(x) < 30, E0 + np.where(x < 0, -30, 30), ENERGY))
    below = smooth[x < 0][-1] + 0 * x
    rise = 1 / (1 + np.exp(-x / 1.5))
    structure = 0.4 * np.where(x > 0, np.sin(x / 6) * np.exp(-x / 40), 0)
    return np.where(np.abs(x) < 30, below + (smooth - below) * rise, smooth) + structure


def test_a_background_that_bends_is_taken_off(atom):
    plain = mback(ENERGY, atom, "Fe", E0)
    assert plain.level[ENERGY < E0 - 30] == pytest.approx(0, abs=0.01) and plain.order == 2
    assert plain.level[ENERGY > E0 + 300] == pytest.approx(1, abs=0.01)
    x = (ENERGY - E0) / 100
    found = mback(ENERGY, 40 * (atom + 5 - 2 * x + 0.7 * x**2), "Fe", E0)
    np.testing.assert_allclose(found.level, plain.level, atol=1e-6)
    assert found.step == pytest.approx(40 * plain.step, rel=1e-6)
    edges = normalise(ENERGY, atom + 5 - 2 * x + 0.7 * x**2, E0)
    assert np.abs(edges.flat - plain.level)[np.abs(x) < 0.3].max() > 0.05
    assert "MBACK" in str(found) and "degree 2" in str(found) and f"edge step {found.step:.4g}" in str(found)
    short = ENERGY < E0 + 50
    assert mback(ENERGY[short], atom[short], "Fe", E0).order == 1


def test_what_has_no_edge_and_what_is_too_short_is_refused(atom):
    with pytest.raises(SpectrumError, match="mu falls where f'' of Fe rises"):
        mback(ENERGY, -atom, "Fe", E0)
    for cut in (ENERGY > E0 - 15, ENERGY < E0 + 20):
        with pytest.raises(SpectrumError, match="from below -20 to above"):
            mback(ENERGY[cut], atom[cut], "Fe", E0)


def test_xraylarch_finds_the_same(shared):
    """Scale and matched mu of measured spectra, with the same energies fitted by a polynomial of the same degree."""
    larch = pytest.importorskip("larch.xafs", reason="xraylarch is not installed (extra test)")
    from larch import Group

    experiment, differ = shared("experiment"), {}
    for compound in KNOWN:
        scan = next(scans(compound, experiment))
        e0 = float(scan.energy[np.argmin(np.abs(scan.energy - normalise(scan.energy, scan.mu).e0))])
        x = scan.energy - e0
        if x[0] > BELOW_EV - 10:
            continue
        f2 = xraydb.f2_chantler(compound.element, scan.energy)
        # What larch rounds to points on the grid.
        low, high = (x[np.argmin(np.abs(x - at))] for at in (BELOW_EV, ABOVE_EV))
        sides = (x <= low, x >= high)
        scale, background = matched(x, scan.mu, f2, sides, 2)
        theirs = Group(energy=scan.energy, mu=scan.mu)
        number = xraydb.atomic_number(compound.element)
        larch.mback(theirs, z=number, edge="K", e0=e0, pre2=low, norm1=high, order=2)
        found = scale * scan.mu - background
        differ[scan.name] = np.abs(found - theirs.fpp).max()
        ours, other = (sum(((each - f2)[side] ** 2).mean() for side in sides) for each in (found, theirs.fpp))
        assert ours < other * (1 + 1e-6), scan.name
    # In one its search goes astray.
    assert len(differ) > 30 and sum(each < 1e-8 for each in differ.values()) >= len(differ) - 1
