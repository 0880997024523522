"""Beamline files as facilities write them; they need the extra `beamline`, two-column text does not."""

import tarfile

import numpy as np
import pytest

from data_pipelines.errors import SpectrumError
from data_pipelines.readers.spectrum import read_spectrum
from data_pipelines.schema import EnergyGrid
from data_pipelines.spectra.grid import to_grid

XDI = """# XDI/1.0
# Element.symbol: Ni
# Element.edge: K
# Mono.d_spacing: 3.13550
# Column.1: energy eV
# Column.2: i0
# Column.3: itrans
# ///
#----
# energy i0 itrans
"""


def write_xdi(path, energy, mu):
    rows = np.column_stack([energy, np.full_like(mu, 1e6), 1e6 * np.exp(-mu)])
    path.write_text(XDI + "\n".join(" ".join(f"{x:.6f}" for x in row) for row in rows) + "\n")
    return path


def test_xdi_intensities_become_the_mu_they_were_made_of(tmp_path, runs):
    pytest.importorskip("larch.io", reason="needs the extra `beamline`")
    found = read_spectrum(runs / "NiO_base_Ni0" / "xmu.dat")
    again = read_spectrum(write_xdi(tmp_path / "nio.xdi", found.energy, found.mu))
    assert (again.element, again.edge) == ("Ni", "K")
    np.testing.assert_allclose(again.mu, found.mu, atol=1e-5)
    (tmp_path / "cut.xdi").write_text(XDI)
    with pytest.raises(SpectrumError, match=r"cut\.xdi"):
        read_spectrum(tmp_path / "cut.xdi")


def test_measured_reference_spectra_reach_the_grid(tmp_path, shared):
    pytest.importorskip("larch.io", reason="needs the extra `beamline`")
    with tarfile.open(shared("experiment/xdi_library.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    reached = []
    for path in sorted(tmp_path.rglob("*.xdi")):
        found = read_spectrum(path)
        try:
            reached.append(to_grid(found.energy, found.mu, EnergyGrid(), found.element, found.edge))
        except SpectrumError as error:
            assert error.reason and error.detail
    assert len(reached) > 60
    assert np.isfinite(reached).all() and 0.8 < np.median(np.stack(reached)[:, -40:]) < 1.2


def test_athena_projects_give_their_groups_by_name(tmp_path, shared):
    pytest.importorskip("larch.io", reason="needs the extra `beamline`")
    with tarfile.open(shared("experiment/beamline_formats.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    [one], [many] = tmp_path.rglob("FeO.prj"), tmp_path.rglob("Mn.prj")
    assert read_spectrum(one).element == "Fe"
    with pytest.raises(SpectrumError, match="MnO"):
        read_spectrum(many)
    assert len(read_spectrum(f"{many}#MnO").energy) > 100
    one.write_bytes(b"not a project")
    with pytest.raises(SpectrumError, match=r"FeO\.prj"):
        read_spectrum(one)
