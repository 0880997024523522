"""Files as facilities and programs write them: what is read, and what is put right in them."""

import gzip
import json
import tarfile

import numpy as np
import pytest

from data_pipelines.errors import SpectrumError
from data_pipelines.library import EXAMPLE
from data_pipelines.readers import nexus
from data_pipelines.readers.spectrum import ReadAs, read_spectra, read_spectrum
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


def refused(path, **said) -> str:
    with pytest.raises(SpectrumError) as error:
        read_spectrum(path, ReadAs(**said))
    assert path.name in str(error.value) and "\n" not in str(error.value)
    return error.value.reason


@pytest.fixture
def example():
    return read_spectrum(EXAMPLE)


def test_xdi_intensities_become_the_mu_they_were_made_of(tmp_path, runs):
    found = read_spectrum(runs / "NiO_base_Ni0" / "xmu.dat")
    again = read_spectrum(write_xdi(tmp_path / "nio.xdi", found.energy, found.mu))
    assert (again.element, again.edge, again.channel) == ("Ni", "K", "transmission")
    np.testing.assert_allclose(again.mu, found.mu, atol=1e-5)
    (tmp_path / "cut.xdi").write_text(XDI)
    assert refused(tmp_path / "cut.xdi") == "empty"


def test_measured_reference_spectra_reach_the_grid(tmp_path, shared):
    """Of 123 one is refused by a grid that begins at the edge: a foil whose energies are some eV too low."""
    with tarfile.open(shared("experiment/xdi_library.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    grid, reached, reasons = EnergyGrid(0.5, 0.5, 144, 66), [], []
    for path in sorted(tmp_path.rglob("*.xdi")):
        found = read_spectrum(path)
        try:
            reached.append(to_grid(found.energy, found.mu, grid, found.element, found.edge))
        except SpectrumError as error:
            reasons.append((path.name, error.reason))
    assert reasons == [("Chorover13BM_Znfoil_rt_01.xdi", "no edge in range")]
    common = np.stack(reached)[:, :66]
    assert len(reached) == 122 and np.isfinite(common).all() and 0.8 < np.median(common[:, -20:]) < 1.2


def test_microprobe_scans_in_latin_1(tmp_path, shared):
    """SOLEIL's LUCIA: fluorescence with dead time corrected; three scans are too short and two hold nothing."""
    with tarfile.open(shared("experiment/lucia_fe_k.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    outcomes = {}
    for path in sorted(tmp_path.rglob("*.dat")):
        found = read_spectrum(path, ReadAs(element="Fe"))
        try:
            to_grid(found.energy, found.mu, EnergyGrid(0.5, 0.5, 144, 66), "Fe")
            outcomes[path.name] = found.channel
        except SpectrumError as error:
            outcomes[path.name] = error.reason
    assert sum(outcome == "fluorescence" for outcome in outcomes.values()) >= 15
    assert outcomes["Yoderite_pt1_01.dat"] == "glitch" and outcomes["calib_Fe_01.dat"] == "grid not covered"


def test_athena_projects_give_their_groups_by_name(tmp_path, shared):
    with tarfile.open(shared("experiment/beamline_formats.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    [one], [many] = tmp_path.rglob("FeO.prj"), tmp_path.rglob("Mn.prj")
    assert read_spectrum(one).element == "Fe"
    with pytest.raises(SpectrumError, match="MnO"):
        read_spectrum(many)
    assert len(read_spectrum(f"{many}#MnO").energy) > 100
    assert read_spectrum(f"{many}#MnO").shift == pytest.approx(1.2982)
    assert len(read_spectra(many)) == 14
    with pytest.raises(SpectrumError, match=r"holds .*MnO.*, not nothing"):
        read_spectra(f"{many}#nothing")
    one.write_bytes(b"not a project")
    assert refused(one) == "unreadable"


def project(records) -> str:
    """Perl as Demeter writes it."""
    text = "# Athena project file -- Demeter version 0.9.26\n\n"
    for number, (name, args, x, y) in enumerate(records):
        listed = ",".join(f"'{key}',{value}" for key, value in args.items())
        arrays = (",".join(f"'{number}'" for number in numbers) for numbers in (x, y))
        text += "$old_group = '{}';\n@args = ('label','{}',{});\n@x = ({});\n@y = ({});\n[record]   # \n\n".format(
            f"g{number}", name.replace("'", "\\'"), listed, *arrays
        )
    return text + "@journal = ('');\n\n1;\n"


def test_records_that_are_no_spectra_are_refused_by_name_and_the_others_answered(tmp_path, example):
    good = {"bkg_z": "'Co'", "fft_edge": "'k'", "bkg_eshift": "'-1.5'", "xdi": "bless( {'a' => [1,'(']}, 'X')"}
    spectrum = (example.energy, example.mu)
    chi = (np.linspace(0, 12, 40), np.zeros(40))
    records = [
        ("it's", good, *spectrum),
        ("chi", {**good, "is_chi": 1}, *chi),
        ("pixel", good, np.arange(60), np.ones(60)),
        ("i0", {**good, "not_data": 1}, *spectrum),
        ("same", {"bkg_z": "'H'"}, *spectrum),
        ("same", good, *spectrum),
        ("short", good, example.energy, example.mu[:-1]),
    ]
    for path, content in {
        "packed.prj": gzip.compress(project(records).encode()),
        "plain.prj": project(records).encode("latin-1"),
    }.items():
        (tmp_path / path).write_bytes(content)
        found = {name.split("#")[1]: what for name, what in read_spectra(tmp_path / path)}
        reasons = {name: getattr(what, "reason", "") for name, what in found.items()}
        assert list(reasons.values()) == ["", "chi(k)", "not energies", "not mu(E)", "", "", "unreadable"]
        assert list(found) == ["it's", "chi", "pixel", "i0", "same", "same (2)", "short"]
        own = found["it's"]
        assert (own.element, own.edge, own.shift) == ("Co", "K", -1.5) and "as the project says" in own.notes[0]
        np.testing.assert_allclose(own.energy, example.energy - 1.5)
        assert found["same"].element is None
    document = {"_____header1": "# Athena project file -- Demeter version 0.9.26"}
    document["abc"] = {"args": {"label": "CoO", "bkg_z": "Co"}, "x": list(example.energy), "y": list(example.mu)}
    (tmp_path / "larch.prj").write_bytes(gzip.compress(json.dumps(document).encode()))
    assert read_spectrum(tmp_path / "larch.prj").element == "Co"
    for cut in (200, 2000, 20000):
        (tmp_path / "cut.prj").write_text(project(records)[:cut])
        with pytest.raises(SpectrumError):
            read_spectrum(tmp_path / "cut.prj")
    (tmp_path / "bomb.prj").write_bytes(gzip.compress(b"# Athena project file\n" + bytes(80_000_000)))
    assert refused(tmp_path / "bomb.prj") == "too large"


def write(path, energy, mu):
    np.savetxt(path, np.column_stack([energy, mu]), fmt="%.8g")
    return path


def test_energies_are_put_right_and_it_is_said(tmp_path, example, rng):
    energy, mu = example.energy, example.mu
    order = np.arange(len(energy))
    order[[40, 41, 90, 91]] = [41, 40, 91, 90]
    twice = np.sort(np.append(order, [30, 70]))
    hole = np.where(order == 50, np.nan, mu)
    for name, (e, m, note) in {
        "keV": (energy / 1000, mu, "given in keV"),
        "descending": (energy[::-1], mu[::-1], "turned round"),
        "jitter": (energy[order], mu[order], "2 steps back in energy"),
        "repeated": (energy[twice], mu[twice], "2 energies given more than once: mu averaged"),
        "hole": (energy, hole, "left out 1 of"),
        "stopped": (np.append(energy, [0, 0]), np.append(mu, [0, 0]), "left out 2 of"),
    }.items():
        found = read_spectrum(write(tmp_path / f"{name}.txt", e, m))
        assert any(note in each for each in found.notes), found.notes
        known = ~np.isnan(hole) if name == "hole" else slice(None)
        np.testing.assert_allclose(found.energy, energy[known], rtol=1e-6)
        np.testing.assert_allclose(found.mu, mu[known], rtol=1e-6, atol=1e-8)
    shuffled = rng.permutation(len(energy))
    np.testing.assert_allclose(
        read_spectrum(write(tmp_path / "s.txt", energy[shuffled], mu[shuffled])).energy, energy, rtol=1e-6
    )
    assert read_spectrum(write(tmp_path / "good.txt", energy, mu)).notes == ()


def test_what_cannot_be_known_is_refused(tmp_path, example):
    energy, mu = example.energy, example.mu
    assert refused(write(tmp_path / "a.txt", energy - 7720, mu)) == "relative energies"
    assert read_spectrum(tmp_path / "a.txt", ReadAs(shift=7720)).energy[0] == pytest.approx(energy[0], abs=1e-3)
    assert refused(write(tmp_path / "b.txt", np.arange(100), np.ones(100))) == "not energies"
    assert refused(write(tmp_path / "c.txt", np.tile(energy, 2), np.tile(mu, 2))) == "several scans"
    assert refused(write(tmp_path / "d.txt", energy, mu * np.nan)) == "not finite"


def test_feff_of_any_age(tmp_path, runs, example):
    text = EXAMPLE.read_text(encoding="utf-8")
    bare = "\n".join(line.lstrip("# ") if line.startswith("#") else line for line in text.splitlines())
    (tmp_path / "xmu.dat").write_bytes(("Crist\xe9\n" + bare).encode("latin-1"))
    found = read_spectrum(tmp_path / "xmu.dat")
    assert found[2:4] == ("Co", "K") and (found.energy == example.energy).all() and (found.mu == example.mu).all()


def test_spec_scans_and_emsa(tmp_path, example):
    energy, mu = example.energy, example.mu
    rows = "\n".join(f"{e / 1000:.7f} 0 {np.exp(-m):.9f} 1" for e, m in zip(energy, mu, strict=True))
    scan = "#N 4\n#L Energy  Motor X  I1  I0\n"
    (tmp_path / "a.spec").write_text(f"#F a\n#S 1 ascan\n{scan}{rows}\n\n#S 2 empty\n{scan}\n#S 3 zap\n{scan}{rows}\n")
    found = read_spectra(tmp_path / "a.spec")
    assert [name.split("#")[1] for name, _ in found] == ["1", "3"]
    np.testing.assert_allclose(found[1][1].energy, energy, rtol=1e-6)
    np.testing.assert_allclose(found[1][1].mu, mu, atol=1e-5)
    even = np.arange(500, 560, 0.5)
    counts = np.interp(even, np.linspace(500, 560, len(mu)), mu)
    head = "#FORMAT      : EMSA/MAS SPECTRAL DATA FILE\n#XUNITS      : keV\n#DATATYPE    : Y\n#XPERCHAN    : 0.0005\n"
    text = head + "#OFFSET      : 0.5\n#SPECTRUM    :\n" + "".join(f"{c:.6f},\n" for c in counts) + "#ENDOFDATA   :\n"
    (tmp_path / "a.msa").write_text(text)
    found = read_spectrum(tmp_path / "a.msa")
    np.testing.assert_allclose(found.energy, even, rtol=1e-6)
    np.testing.assert_allclose(found.mu, counts, atol=1e-5)


def test_nexus(tmp_path, example):
    h5py = pytest.importorskip("h5py", reason="needs the extra `beamline`")
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        entry = file.create_group("entry1")
        entry["definition"], entry["element"], entry["edge/name"] = "NXxas", "Co", "K"
        entry["data/energy"], entry["data/mode"] = example.energy, "Transmission"
        entry["data/absorbed_beam"], entry["data/incoming_beam"] = np.exp(-example.mu), np.ones_like(example.mu)
        entry["image"], entry["circle"] = np.ones((9, 9)), entry
        entry["out"] = h5py.ExternalLink("/etc/passwd", "/")
    found = read_spectrum(tmp_path / "a.nxs")
    assert (found.element, found.edge, found.channel) == ("Co", "K", "transmission")
    np.testing.assert_allclose(found.mu, example.mu, atol=1e-9)
    with h5py.File(tmp_path / "a.nxs", "a") as file:
        file["second/energy"], file["second/mu"] = example.energy / 1000, example.mu
        file["second/energy"].attrs["units"] = "keV"
    names = [name.split("#")[1] for name, _ in read_spectra(tmp_path / "a.nxs")]
    assert names == ["entry1", "second"]
    np.testing.assert_allclose(read_spectrum(f"{tmp_path / 'a.nxs'}#second").energy, example.energy)
    (tmp_path / "cut.h5").write_bytes((tmp_path / "a.nxs").read_bytes()[:3000])
    assert refused(tmp_path / "cut.h5") == "unreadable"


def test_a_nexus_file_of_more_numbers_than_any_scan_has_is_refused_before_they_are_read(tmp_path, example, monkeypatch):
    """Packed zeros take no room on the disk."""
    h5py = pytest.importorskip("h5py", reason="needs the extra `beamline`")
    with h5py.File(tmp_path / "zeros.nxs", "w") as file:
        file["entry/energy"], file["entry/mu"] = example.energy, example.mu
        for i in range(nexus.MOST_NUMBERS // nexus.LONGEST + 1):
            file.create_dataset(f"entry/z{i}", (nexus.LONGEST,), "i1", chunks=True, compression="gzip")
        # Longer than any scan: passed over, as images are.
        file.create_dataset("entry/long", (nexus.LONGEST + 1,), "f8", chunks=True, compression="gzip")
    assert (tmp_path / "zeros.nxs").stat().st_size < 1_000_000
    with pytest.raises(SpectrumError, match="more than 20,000,000 numbers"):
        read_spectrum(tmp_path / "zeros.nxs")
    monkeypatch.setattr(nexus, "MOST_NUMBERS", 10**9)
    assert len(read_spectrum(tmp_path / "zeros.nxs").energy) == len(example.energy)
