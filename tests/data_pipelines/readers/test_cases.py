"""Files that real programs stumbled over: each ends as the manifest beside them says."""

import csv

import pytest

from data_pipelines.errors import SpectrumError
from data_pipelines.readers.spectrum import ReadAs, read_spectra, read_spectrum
from data_pipelines.schema import EnergyGrid
from data_pipelines.spectra.grid import to_grid

# 33 eV that every spectrum has, and what it has of 72.
GRID = EnergyGrid(0.5, 0.5, 144, 66)
# File -> element that the user says, then "El edge points channel", or the reason of the refusal.
OUTCOMES = {
    "athena_elem_Fe2O3.prj": (None, "Fe K 592 transmission"),
    "athena_pixel_group.prj": (None, "not energies"),
    "xdi_nonxafs.xdi": ("Cu", "columns"),
    "xdi_no_symbol.xdi": ("Cu", "grid not covered"),
    "xdi_bad_column_number.xdi": (None, "grid not covered"),
    "xdi_no_element_FeO.xdi": ("Fe", "Fe None 412 transmission"),
    "xdi_element_nan.xdi": ("S", "S None 236 fluorescence"),
    "xdi_lower_symbol.xdi": (None, "Fe K 412 transmission"),
    "xdi_edge_K1.xdi": (None, "Fe K 412 transmission"),
    "xdi_d_spacing_unit.xdi": ("S", "S None 1 fluorescence"),
    "latin1_lucia.dat": ("Fe", "Fe None 555 fluorescence"),
    "latin1.xdi": (None, "Fe K 412 transmission"),
    "glitch_up.txt": ("Fe", "glitch"),
    "coarse_two_points.txt": ("Fe", "too few points"),
    "number_title_year.txt": ("Fe", "Fe None 412 "),
    "xdi_thick_both.xdi": (None, "Fe K 412 fluorescence"),
    "feff8_header_V.dat": (None, "V K 65 "),
    "jitter_anatase.txt": ("Ti", "Ti None 161 "),
    "fdmnes_relative.txt": ("Fe", "relative energies"),
    "eels_background.msa": ("O", "O None 500 "),
}


@pytest.fixture(scope="module")
def cases(shared):
    return shared("../cases/manifest.tsv").parent


def test_every_case_of_a_spectrum_is_here(cases):
    with (cases / "manifest.tsv").open(encoding="utf-8") as manifest:
        names = {row["file"] for row in csv.DictReader(manifest, delimiter="\t")}
    others = {name for name in names if name.startswith(("cif_", "prepare_", "folder_"))}
    assert names - others - {"athena_eshift_NiO.prj", "athena_elem_LaCoO3.prj"} <= set(OUTCOMES)


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_case_ends_as_its_manifest_says(cases, name):
    element, outcome = OUTCOMES[name]
    try:
        found = read_spectrum(cases / name, ReadAs(element=element))
        if (found.element, found.edge or "K") != ("S", "K"):
            to_grid(found.energy, found.mu, GRID, found.element, found.edge or "K")
    except SpectrumError as error:
        assert error.reason == outcome and "\n" not in str(error)
        return
    assert f"{found.element} {found.edge} {len(found.energy)} {found.channel}" == outcome


def test_what_was_done_is_said(cases):
    def notes(name, **said):
        return "; ".join(read_spectrum(cases / name, ReadAs(**said)).notes)

    assert "left out 1 row of numbers above the table" in notes("number_title_year.txt")
    assert "3 steps back in energy, by 0.15 eV at most: sorted" in notes("jitter_anatase.txt")
    assert "fluorescence taken, ifluor/i0" in notes("xdi_thick_both.xdi")
    assert "too thick" in notes("xdi_thick_both.xdi") or "transmission 0" in notes("xdi_thick_both.xdi")
    assert "FY_c/Io" in notes("latin1_lucia.dat")
    assert "falls as E^" in notes("eels_background.msa", element="O")
    assert "fluorescence taken, ifluor, divided by i0 in the file" in notes("xdi_element_nan.xdi")
    assert "519 of 520 rows" in notes("xdi_d_spacing_unit.xdi")
    assert "left out 1 point far off the others, at 7150.8 eV" in notes("glitch_up.txt", deglitch=True)
    found = read_spectrum(cases / "glitch_up.txt", ReadAs(element="Fe", deglitch=True))
    assert to_grid(found.energy, found.mu, GRID, "Fe").max() < 2


def test_a_project_is_read_whole_with_its_shifts_and_its_words(cases):
    records = dict(read_spectra(cases / "athena_eshift_NiO.prj"))
    shifts = {name.split("#")[1]: found.shift for name, found in records.items() if "#NiO" in name}
    assert sorted(set(shifts.values())) == [0, 1.252, 6.585]
    assert {(found.element, found.edge) for found in records.values()} == {("Ni", "K")}
    edges = []
    for name, found in records.items():
        mu = to_grid(found.energy, found.mu, GRID, "Ni")
        if "#NiO" in name:
            edges.append(float(GRID.relative()[(mu > 0.5).argmax()]))
        assert ("reference" in found.channel) == ("#Ref" in name)
    assert max(edges) - min(edges) <= 0.5
    lanthanum = read_spectrum(cases / "athena_elem_LaCoO3.prj")
    assert (lanthanum.element, lanthanum.edge) == ("La", "L3")


def test_the_user_goes_before_the_file(cases):
    found = read_spectrum(cases / "xdi_thick_both.xdi", ReadAs("27", "L3", "transmission", shift=2.5))
    assert (found.element, found.edge, found.channel, found.shift) == ("Co", "L3", "transmission", 2.5)
    assert found.energy[0] == pytest.approx(6914.2671) and found.columns == "energy=energy mu=ln(i0/itrans)"
    assert any("the file says Fe" in note for note in found.notes)
    own = read_spectrum(cases / "xdi_thick_both.xdi", ReadAs(columns="energy=1 mu=ln(i0/3)"))
    assert (own.mu == read_spectrum(cases / "xdi_thick_both.xdi", ReadAs(channel="transmission")).mu).all()
    absolute = read_spectrum(cases / "fdmnes_relative.txt", ReadAs(shift=7112))
    assert absolute.energy[0] == 7082
