"""Which columns are taken, how they become mu, and that it is said."""

import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.errors import SpectrumError
from data_pipelines.readers.beamlines import PRESETS
from data_pipelines.readers.columns import edge_and_noise, parse
from data_pipelines.readers.formula import evaluate
from data_pipelines.readers.header import stated
from data_pipelines.readers.spectrum import ReadAs, read_spectra, read_spectrum
from data_pipelines.schema import EnergyGrid
from data_pipelines.spectra.grid import to_grid


@pytest.fixture
def scan(rng):
    """energy, i0, it, four fluorescence elements of an absorber at 7112 eV, and what mu is."""
    energy = np.linspace(7050, 7250, 300)
    mu = 1 / (1 + np.exp(7120 - energy)) * (1 + 0.2 * np.exp(-(((energy - 7125) / 4) ** 2)))
    i0 = 1e5 * (1 + 0.1 * np.sin(energy / 30)) * (1 + 0.0003 * rng.normal(size=300))
    elements = [1e-3 * i0 * mu * gain for gain in (1, 1.2, 0.9, 1.1)]
    return energy, i0, i0 * np.exp(-mu), elements, mu


def write(path, columns, header="", labels=""):
    np.savetxt(path, np.column_stack(columns), fmt="%.8g", header=f"{header}\n{labels}" if header else labels)
    return path


def straight(mu, other):
    """The one is the other times a number."""
    return np.corrcoef(mu, other)[0, 1] > 0.9999


def test_ion_chambers_and_detector_elements(tmp_path, scan):
    energy, i0, it, elements, mu = scan
    found = read_spectrum(write(tmp_path / "t.dat", [energy, i0, it], labels="energy i0 itrans"))
    np.testing.assert_allclose(found.mu, mu, atol=1e-6)
    assert (found.channel, found.columns) == ("transmission", "energy=energy mu=ln(i0/itrans)")
    labels = "Energy\tI0\tFe_Ka_mca1\tFe_Ka_mca2\tFe_Ka_mca3\tFe_Ka_mca4\tICR_mca1"
    found = read_spectrum(write(tmp_path / "f.dat", [energy, i0, *elements, i0], labels=labels))
    assert straight(found.mu, mu) and found.columns == "energy=Energy mu=Fe_Ka_mca*/I0"
    np.testing.assert_allclose(found.mu, sum(elements) / i0, rtol=1e-6)


def test_the_channel_with_the_clearer_edge_is_taken(tmp_path, scan, rng):
    energy, i0, it, elements, mu = scan
    labels = "energy i0 itrans ifluor irefer"
    noisy = it * np.exp(0.3 * rng.normal(size=300))
    path = write(tmp_path / "a.dat", [energy, i0, noisy, elements[0], it / 2], labels=labels)
    found = read_spectrum(path)
    assert found.channel == "fluorescence" and "edge step over noise: transmission" in found.notes[0]
    assert read_spectrum(path, ReadAs(channel="transmission")).channel == "transmission"
    assert read_spectrum(path, ReadAs(channel="reference")).columns.endswith("ln(itrans/irefer)")
    np.testing.assert_allclose(found.reference[1], np.log(noisy / (it / 2)), atol=1e-5)
    assert read_spectrum(path, ReadAs(channel="reference")).reference is None
    assert read_spectrum(path, ReadAs(shift=1.0)).reference is None
    good = write(
        tmp_path / "b.dat", [energy, i0, it, elements[0] * (1 + 0.05 * rng.normal(size=300)), it], labels=labels
    )
    assert read_spectrum(good).channel == "transmission"
    twice = write(tmp_path / "d.dat", [energy, i0, it, mu], labels="energy i0 itrans mutrans")
    assert re.search(r"noise: mutrans \d+, ln\(i0/itrans\) \d+$", read_spectrum(twice).notes[0])
    with pytest.raises(SpectrumError, match="no reference channel in 1 energy, 2 mu"):
        read_spectrum(write(tmp_path / "c.dat", [energy, mu, mu], labels="energy mu x"), ReadAs(channel="reference"))


def test_a_heading_that_only_looks_like_spec_is_none(tmp_path, scan):
    energy, *_, mu = scan
    path = write(tmp_path / "a.dat", [energy, mu], header="S sample\nL energy mu", labels="energy mu")
    path.write_text(path.read_text().replace("# S", "#S").replace("# L", "#L"))
    assert "#S sample" in path.read_text() and "#L energy" in path.read_text()
    np.testing.assert_allclose(read_spectrum(path).mu, mu, atol=1e-6)


def test_several_elements_in_one_detector(tmp_path, scan):
    energy, i0, _, elements, mu = scan
    path = write(tmp_path / "a.dat", [energy, i0, elements[0], 1e3 + 0 * i0], labels="energy\tI0\tFeKa_Sum\tTiKa_Sum")
    assert straight(read_spectrum(path, ReadAs(element="Fe")).mu, mu)
    with pytest.raises(SpectrumError, match="columns"):
        read_spectrum(path)


def test_what_is_not_clear_is_refused_with_the_columns_named(tmp_path, scan):
    energy, *_, mu = scan
    path = write(tmp_path / "a.dat", [energy, mu, 2 * mu], labels="energy sample7 sample8")
    with pytest.raises(SpectrumError, match=r"1 energy, 2 sample7, 3 sample8; say which with --columns"):
        read_spectrum(path)
    np.testing.assert_allclose(read_spectrum(path, ReadAs(columns="energy=1 mu=sample8")).mu, 2 * mu, rtol=1e-6)
    np.testing.assert_allclose(read_spectrum(path, ReadAs(columns="e=1, mu=$2")).mu, mu, rtol=1e-6, atol=1e-9)
    for wrong in ("energy=1 mu=9", "energy=1 mu=nothing", "energy=1 mu=ln(2", "energy=1 mu=2 2", "energy=1 mu=$"):
        with pytest.raises(SpectrumError, match="columns"):
            read_spectrum(path, ReadAs(columns=wrong))
    for wrong in ("", "1 2", "energy", "energi=1 mu=2", "energy= mu=2"):
        with pytest.raises(SpectrumError, match="energy=1 mu="):
            parse(wrong)


def test_formulas(rng):
    table = rng.uniform(1, 2, (5, 3))
    a, b, c = table.T
    for formula, value in {
        "ln(1/b)": np.log(a / b),
        "-$1 + 2*b - 0.5": -a + b * b - 0.5,
        "sum('*')/1": (a + b + c) / a,
        "(1+b)*(c-1.5)/1": (a + b) * (table[:, 2] - 1.5) / a,
        "exp(-abs('b'))": np.exp(-b),
    }.items():
        np.testing.assert_allclose(evaluate(formula, table, ["a", "b", "c"]), value)
    with pytest.raises(SpectrumError, match="too deep"):
        evaluate("(" * 99 + "1" + ")" * 99, table, ["a", "b", "c"])


def test_a_header_is_understood_in_every_dialect():
    for element, edge in (("fe", "k"), ("FE", "K-edge"), ("26", "K1"), ("Fe K", "nan"), (" Fe ", "1s")):
        says = stated([f"# Element.symbol: {element}", f"#Element.edge : {edge}"], 2)
        assert (says.element, says.edge) == ("Fe", "K"), (element, edge)
    says = stated(["# Element.symbol: nan", "# Mono.d_spacing: 3.13897 A.", "# Column.9: nowhere", "# FeO sample"], 2)
    assert (says.element, says.edge, says.spacing, says.names) == (None, None, 3.13897, ("", ""))
    assert stated(["# Column.2: mutrans", "# Column.1: energy keV || 13IDE"], 2).units == ("keV", "")


def test_angles_become_energies(tmp_path):
    angle = np.linspace(17.4, 15.4, 200)
    header = "# Mono.d_spacing: 3.13551\n# angle mu\n"
    (tmp_path / "a.xdi").write_text(header + "\n".join(f"{a} {i}" for i, a in enumerate(angle)))
    found = read_spectrum(tmp_path / "a.xdi")
    np.testing.assert_allclose(found.energy, 12398.42 / (2 * 3.13551 * np.sin(np.radians(angle))), rtol=1e-6)
    (tmp_path / "b.dat").write_text("# angle mu\n" + "\n".join(f"{a} 1" for a in angle))
    with pytest.raises(SpectrumError, match="lattice spacing"):
        read_spectrum(tmp_path / "b.dat")


def test_chi_is_named_as_what_it_is(tmp_path):
    k = np.linspace(0, 14, 200)
    with pytest.raises(SpectrumError, match=r"chi\(k\)"):
        read_spectrum(write(tmp_path / "a.chi", [k, np.sin(4 * k)], labels="k chi"))


def test_edge_over_noise_knows_a_detector_that_stands_still(scan):
    energy, *_, mu = scan
    height, noise = edge_and_noise(energy, mu)
    assert height == pytest.approx(1, abs=0.25) and height > 100 * noise
    assert edge_and_noise(energy, np.minimum(mu, 0.3))[0] == 0
    assert edge_and_noise(energy, -mu)[0] < 0.3


# What is taken of the files of twenty beamlines: energies, channel and formula.
BEAMLINES = {
    "APS10BM_2019.dat": "6390 transmission ln(Io/It)",
    "APS12BM_2019.dat": "6339 transmission ln(4/5)",
    "APS13ID_2008.dat": "9509 transmission ln(I0/I1)",
    "APS20BM_2001.dat": "6912 transmission ln(I0/I1)",
    "APS20ID_2022.dat": "12935 fluorescence XSP3:PbLa_Sum/I0",
    "APS9BM_2019.dat": "6288 transmission ln('I0-32'/'It-32')",
    "CLSHXMA.dat": "11667 transmission ln(5/6)",
    "ESRF_BM08_LISA_2021.dat": "10907 transmission ln(I0_EH1/I1_EH1)",
    "NSLS6BM_2019.dat": "5265  xmu",
    "NSLS8ID_2019.dat": "11686 fluorescence iff/i0",
    "NSLS_XDAC_2011.dat": "6912 fluorescence Ifch*/I0",
    "PF9A_2022.dat": "6606 fluorescence ifluor/i0",
    "PFBL12C_2005.dat": "12049 transmission ln(i0/itrans)",
    "SSRL1_2006.dat": "25285 transmission ln(I0/I1)",
    "SSRLmicro_2008.dat": "10900 fluorescence SCA1.*/I0",
    "fe_xanes_8ch.xdi": "7012 fluorescence Fe_Ka_mca*/I0",
    "feo_rt1.xdi": "6912 transmission mutrans",
    "feo_xafs.dat": "6912  mu",
    "mn_cpmnco3.dat": "6340 transmission 'xmu(trans)'",
}


def test_files_of_beamlines(tmp_path, shared):
    with tarfile.open(shared("experiment/beamline_formats.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    taken = {}
    for name in BEAMLINES:
        found = read_spectrum(tmp_path / "formats" / name)
        formula = found.columns.split(" mu=")[1]
        taken[name] = f"{found.energy[0]:.0f} {found.channel} {formula}"
    assert taken == BEAMLINES
    scans = read_spectra(tmp_path / "formats" / "ESRF_SNBL_2013.dat")
    assert [name.split("#")[1] for name, _ in scans] == ["1", "2"] and scans[0][1].energy[0] == pytest.approx(11050.021)
    for name in ("generic_columns_no_header.dat", "APS20ID_2018.dat"):
        with pytest.raises(SpectrumError, match="columns"):
            read_spectrum(tmp_path / "formats" / name)
    silver = read_spectrum(tmp_path / "formats" / "SSRL1_2006.dat")
    # Broad, with little structure, and an edge all the same.
    to_grid(silver.energy, silver.mu, EnergyGrid(0.5, 0.5, 144, 66), "Ag")
    told = read_spectrum(tmp_path / "formats" / "generic_columns_no_header.dat", ReadAs(columns="energy=1 i0=2 i1=3"))
    assert told.mu[0] == pytest.approx(0.0405727617)
    arsenic = read_spectrum(tmp_path / "formats" / "APS20ID_2018.dat", ReadAs(element="As"))
    assert arsenic.columns.endswith("XMAP4:AsKa_Sum/'PreKB-I0'")


def test_presets_can_be_read_and_are_in_the_guide(tmp_path, scan):
    guide = (Path(__file__).parents[3] / "docs" / "files.md").read_text(encoding="utf-8")
    assert re.search(r"`--beamline` knows ([\w\s,-]+)\.", guide)[1].replace("\n", " ").split(", ") == sorted(PRESETS)
    for preset in PRESETS.values():
        assert all(parse(columns) for columns in preset.columns)
    energy, i0, it, *_ = scan
    columns = [energy, *[i0] * 9, i0, it, it, it]
    found = read_spectrum(write(tmp_path / "p65.dat", columns), ReadAs(beamline="desy-p65", channel="transmission"))
    np.testing.assert_allclose(found.mu, np.log(i0 / it), atol=1e-6)
    assert found.notes[0] == "columns as of the beamline preset desy-p65"
    with pytest.raises(SpectrumError, match="no beamline 'p66'; there are"):
        read_spectrum(tmp_path / "p65.dat", ReadAs(beamline="p66"))
