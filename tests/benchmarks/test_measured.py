"""Measured references: every file of every compound is read, and what a model says of them is fitted and judged."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.measured.compounds import DOUBTFUL, FOREIGN, KNOWN, Compound
from benchmarks.measured.files import nickel_series, scans
from benchmarks.measured.fit import CANDIDATES, SHIFTS, Curves, fitted, foil_shift, left_out, tables
from data_pipelines.schema import REFERENCE_ENERGY_EV, descriptor

EXPERIMENT = Path(__file__).parents[2].parent / "shared" / "data" / "experiment"


def compound(name: str, element: str, oxidation: int) -> Compound:
    return Compound(name, element, (oxidation,), (6,), (), "")


def told(one: Compound, best: float, foil: float = 0.0) -> Curves:
    """A compound of which a model is right about a shift of `best`, and wrong elsewhere."""
    right = np.exp(-0.5 * ((SHIFTS - best) / 0.7) ** 2)
    scan = {}
    for name, truth in (("OS", one.oxidation[0]), ("CN", 6)):
        classes = list(descriptor(name).classes)
        scan[name] = np.zeros((len(SHIFTS), len(classes)))
        scan[name][:, classes.index(truth)] = right
        scan[name][:, classes.index(truth) - 1] = 1 - right
    return Curves(one, [scan], [foil])


def test_a_planted_shift_is_found_and_a_compound_does_not_calibrate_itself():
    known = [told(compound(f"Fe {i}", "Fe", 3), 1.5) for i in range(4)]
    known += [told(compound(f"Mn {i}", "Mn", 2), 1.5) for i in range(4)]
    odd = told(compound("odd", "Fe", 2), -2.0)
    assert fitted(known, tables(known, False, 0.5), 0.0) == (1.5, {})
    shift = left_out([*known, odd], False, 0.5, 0.0)
    assert shift["odd"] == 1.5
    assert odd.likelihood(shift["odd"], 0.5, False) < -2 < odd.likelihood(-2.0, 0.5, False)


def test_an_element_has_its_own_shift_as_far_as_it_is_sure_of_it():
    known = [told(compound(f"Fe {i}", "Fe", 3), 0.5) for i in range(6)]
    known += [told(compound(f"Mn {i}", "Mn", 2), 1.5) for i in range(6)] + [told(compound("Ni", "Ni", 2), 3.0)]
    common, elements = fitted(known, tables(known, False, 0.5), 1.0)
    assert elements["Fe"] < common <= elements["Mn"] or elements["Fe"] <= common < elements["Mn"]
    assert common < elements["Ni"] < 3.0  # one compound is drawn to what is common
    assert set(elements.values()) <= set(CANDIDATES)


def test_a_foil_is_used_where_it_is_asked_for():
    one = told(compound("Fe", "Fe", 3), 2.5, foil=1.0)
    assert one.said("OS", 1.5, 0.0, True).max() == pytest.approx(1)
    assert one.said("OS", 1.5, 0.0, False)[list(descriptor("OS").classes).index(3)] < 0.5


@pytest.mark.skipif(not EXPERIMENT.exists(), reason=f"{EXPERIMENT} is not here")
def test_every_scan_can_be_read_and_covers_its_edge():
    count = 0
    for one in (*KNOWN, *DOUBTFUL, *FOREIGN):
        reference = REFERENCE_ENERGY_EV[one.element, "K"]
        for scan in scans(one, EXPERIMENT):
            count += 1
            assert (np.diff(scan.energy) > 0).all() and np.isfinite(scan.mu).all(), scan.name
            assert scan.energy[0] < reference + 2 and scan.energy[-1] > reference + 30, scan.name
            assert abs(foil_shift(scan, one.element)) < 3
    assert count > 120
    series = nickel_series(EXPERIMENT)
    assert len(series) == 16 and {kind for kind, *_ in series} == {"NMC622", "NMC721"}
