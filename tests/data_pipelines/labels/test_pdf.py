"""G(r) of structures: that of diffpy.pdffit2, of a slow reference, and what must hold of any."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure

from benchmarks.pdf import difference, of_pdffit2
from data_pipelines.errors import StructureError
from data_pipelines.labels.pdf import PdfGrid, pair_distribution
from tests.reference import pair_distribution as slow

LIBRARY = Path(__file__).parents[4] / "shared" / "data" / "k_feff9_labelled.parquet"
ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.177), ["Ni", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
)
PEROVSKITE = Structure(
    Lattice.cubic(3.9), ["La", "V", "O", "O", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
)
FINE = PdfGrid(points=500)
needs_pdffit2 = pytest.mark.skipif(not find_spec("diffpy"), reason="diffpy.pdffit2 is not installed (extra test)")


@needs_pdffit2
@pytest.mark.parametrize("radiation", ["xray", "neutron"])
@pytest.mark.parametrize("structure", [ROCK_SALT, RUTILE, PEROVSKITE], ids=["NiO", "TiO2", "LaVO3"])
def test_it_is_that_of_pdffit2(structure, radiation):
    grid = replace(FINE, radiation=radiation)
    total, differential = pair_distribution(structure, grid), pair_distribution(structure, grid, "O")
    expected = of_pdffit2(structure, grid)
    assert difference(total, expected, grid) < 0.005
    # What is left where no oxygen takes part.
    assert difference(differential, expected - of_pdffit2(structure, grid, "O"), grid) < 0.005


@needs_pdffit2
@pytest.mark.skipif(not LIBRARY.exists(), reason=f"needs {LIBRARY.name}")
def test_of_twenty_oxides_it_is_that_of_pdffit2(rng):
    rows = pq.read_table(LIBRARY, columns=["structure", "absorber"]).to_pylist()
    for i in rng.choice(len(rows), 20, replace=False):
        structure = Structure.from_dict(json.loads(rows[i]["structure"]))
        grid = replace(FINE, radiation=rng.choice(["xray", "neutron"]))
        assert difference(pair_distribution(structure, grid), of_pdffit2(structure, grid), grid) < 0.005, rows[i]


@pytest.mark.parametrize("qmax", [0.0, 18.0, 25.0])
@pytest.mark.parametrize("element", [None, "Ti"])
def test_it_is_the_slow_reference(qmax, element):
    grid = PdfGrid(points=60, qmax=qmax, qdamp=0.03)
    expected = slow(RUTILE, grid, element)
    assert difference(pair_distribution(RUTILE, grid, element), expected, grid) < 0.005


def test_before_the_first_bond_it_is_the_density():
    grid = PdfGrid(qmax=0)
    near = grid.r < 1.2
    density = len(RUTILE) / RUTILE.volume
    np.testing.assert_allclose(pair_distribution(RUTILE, grid)[near], -4 * np.pi * density * grid.r[near], rtol=1e-3)


def test_a_supercell_and_another_order_of_sites_are_the_same(rng):
    moved = RUTILE.copy()
    moved.translate_sites(range(len(moved)), rng.random(3))
    mixed = Structure.from_sites([moved[i] for i in rng.permutation(len(moved))])
    for other in (mixed, RUTILE * (2, 1, 2)):
        np.testing.assert_allclose(pair_distribution(other), pair_distribution(RUTILE), atol=1e-8)


def test_of_one_element_the_differential_one_is_the_total_one():
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.615), ["Cu"], [[0, 0, 0]])
    np.testing.assert_allclose(pair_distribution(copper, element="Cu"), pair_distribution(copper), atol=1e-9)


@pytest.mark.parametrize(
    ("structure", "radiation", "element", "reason"),
    [
        (RUTILE, "xray", "Fe", "no such element"),
        (Structure(Lattice.cubic(3), [{"Ni": 0.5, "Co": 0.5}], [[0, 0, 0]]), "xray", None, "disordered"),
        (Structure(Lattice.cubic(4), ["Po"], [[0, 0, 0]]), "neutron", None, "unknown element"),
    ],
)
def test_what_has_none_is_refused(structure, radiation, element, reason):
    with pytest.raises(StructureError) as refused:
        pair_distribution(structure, PdfGrid(radiation=radiation), element)
    assert refused.value.reason == reason


def test_neutrons_see_what_x_rays_do_not():
    """Ti scatters neutrons with the other sign: its bonds to O are a trough."""
    bond = np.argmin(np.abs(PdfGrid().r - 1.95))
    xray, neutron = (pair_distribution(RUTILE, PdfGrid(radiation=kind))[bond] for kind in ("xray", "neutron"))
    assert xray > 1 and neutron < -1


def test_a_null_matrix_has_no_pdf():
    """Three of Ti, -3.438 fm each, and one of Ni, 10.3 fm."""
    cancelling = Structure(
        Lattice.cubic(6), ["Ti"] * 3 + ["Ni"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    )
    with pytest.raises(StructureError, match="cancel"):
        pair_distribution(cancelling, PdfGrid(radiation="neutron"))
