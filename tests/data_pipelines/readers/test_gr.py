"""Measured pair distribution functions: what files say, what is refused, and that they are those of their structures."""

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Structure

from data_pipelines.errors import SpectrumError
from data_pipelines.labels.pdf import PdfGrid, pair_distribution
from data_pipelines.readers.gr import read_gr, to_pdf_grid
from tests.data_pipelines.labels.test_pdf import ROCK_SALT

MEASURED = Path(__file__).parents[4] / "shared" / "data" / "pdf_measured"
there = pytest.mark.skipif(not MEASURED.exists(), reason=f"needs {MEASURED.name}")


def written(path, r, g, header="mode = xray\nqmaxinst = 30.0\nqmax = 25.0\ncomposition = NiO\n"):
    rows = "\n".join(f"{x:.4f} {y:.6f}" for x, y in zip(r, g, strict=True))
    path.write_text(f"{header}\n#### start data\n#S 1\n#L r($\\AA$)  G($\\AA^{{-2}}$)\n{rows}\n")
    return path


@pytest.fixture
def nickel_oxide(tmp_path):
    grid = PdfGrid(stop=15, points=1500)
    return written(tmp_path / "NiO.gr", grid.r, pair_distribution(ROCK_SALT, grid))


@there
@pytest.mark.parametrize(
    ("file", "structure", "radiation", "qmax", "displacement", "alike"),
    [
        ("MnO_neutron.gr", "MnO_cubic.cif", "neutron", 35, 0.003, 0.94),
        ("TiO2_film_450C.gr", "TiO2-anatase.cif", "xray", 16, 0.007, 0.91),
        ("Ni.gr", "Ni.cif", "xray", 25, 0.005, 0.98),
    ],
)
@pytest.mark.filterwarnings("ignore:Issues encountered while parsing CIF")
def test_measured_ones_are_those_of_their_structures(file, structure, radiation, qmax, displacement, alike):
    measured = read_gr(MEASURED / file)
    assert (measured.radiation, measured.qmax) == (radiation, qmax)
    atoms = Structure.from_file(MEASURED / structure)
    for share in (1, 0.8):
        grid = PdfGrid(radiation=radiation, qmax=share * qmax, displacement=displacement)
        behind = grid.r > 1.7
        both = to_pdf_grid(measured, grid, file)[behind], pair_distribution(atoms, grid)[behind]
        assert np.corrcoef(*both)[0, 1] > alike


def test_it_reads_what_was_written(nickel_oxide):
    measured = read_gr(nickel_oxide)
    assert (measured.radiation, measured.qmax, measured.composition, len(measured.r)) == ("xray", 25.0, "NiO", 1500)
    np.testing.assert_allclose(to_pdf_grid(measured, PdfGrid(), "NiO"), pair_distribution(ROCK_SALT), atol=0.01)
    less = PdfGrid(qmax=20)
    off = np.abs(to_pdf_grid(measured, less, "NiO") - pair_distribution(ROCK_SALT, less))
    assert off.max() < 0.02 * np.abs(pair_distribution(ROCK_SALT, less)).max()


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        (PdfGrid(stop=20), "grid not covered"),
        (PdfGrid(radiation="neutron"), "radiation"),
        (PdfGrid(qmax=30), "qmax"),
    ],
)
def test_what_was_not_measured_is_not_made_up(nickel_oxide, grid, reason):
    with pytest.raises(SpectrumError) as refused:
        to_pdf_grid(read_gr(nickel_oxide), grid, "NiO.gr")
    assert refused.value.reason == reason and "\n" not in str(refused.value)


def test_one_with_too_few_points_is_refused(tmp_path):
    coarse = PdfGrid(stop=15, points=60)
    path = written(tmp_path / "coarse.gr", coarse.r, pair_distribution(ROCK_SALT, coarse))
    with pytest.raises(SpectrumError, match=r"a point every 0\.25 Å, one every 0\.13 is needed"):
        to_pdf_grid(read_gr(path), PdfGrid(), path.name)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r, g: (r[:5], g[:5]), "empty"),
        (lambda r, g: (r, np.where(r > 3, np.nan, g)), "not finite"),
        (lambda r, g: (r[::-1], g), "r not ascending"),
    ],
)
def test_what_is_none_is_refused(tmp_path, change, reason):
    r = np.linspace(0.01, 10, 200)
    path = written(tmp_path / "bad.gr", *change(r, np.sin(r)))
    with pytest.raises(SpectrumError) as refused:
        read_gr(path)
    assert refused.value.reason == reason and str(path) in str(refused.value)
