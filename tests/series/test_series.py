"""spt-jax series: a planted series of mixtures, the notes, the refusals, and series that were measured and calculated."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import spt_jax
from data_pipelines.errors import UserError
from data_pipelines.library import EXAMPLE
from data_pipelines.readers.measured import ReadAs
from data_pipelines.readers.spectrum import read_spectrum
from spt_jax.cli import main
from spt_jax.inference.measured import Calibration
from spt_jax.inference.predict import Prediction, Value
from spt_jax.series.series import _split, follow

DATA = Path(__file__).parents[2].parent / "shared" / "data"
AS_THEORY = ("--element", "Co", "--as", "theory")


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Ten mixtures of two calculated spectra, the second one 2 eV above the first, and these two."""
    folder = tmp_path_factory.mktemp("scans")
    run, rng = read_spectrum(EXAMPLE), np.random.default_rng(0)
    energy = np.arange(run.energy[0] + 2, run.energy[-1] - 0.5, 0.4)
    first, second = (np.interp(energy - shift, run.energy, run.mu) for shift in (0, 2))

    def write(name, mu):
        path = folder / name
        np.savetxt(path, np.column_stack([energy, mu + 0.002 * mu[-1] * rng.normal(size=len(mu))]), header="energy mu")
        return path

    refs = [write("first.txt", first), write("second.txt", second)]
    mixed = [write(f"scan{i}_x{i / 10:.1f}.txt", (1 - i / 10) * first + i / 10 * second) for i in range(1, 11)]
    return mixed, refs


def fails(capsys, *arguments):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["series", *map(str, arguments)])
    assert stop.value.code == 1
    return capsys.readouterr().err


def test_a_planted_series(file, scans, tmp_path, capsys):
    mixed, references = scans
    given = ["--order", "x", "--references", *map(str, references), "--out", str(tmp_path / "made" / "x.svg")]
    main(["series", str(file), *map(str, mixed[::-1]), *AS_THEORY, *given])
    said = capsys.readouterr().out
    table = [line for line in said.splitlines() if line.split()[:1] == ["edge"]]
    assert len(table) == 1 and "+1.00" in table[0] and max(map(len, said.split("p: share")[0].splitlines())) <= 80
    assert "species: 2 by Malinowski" in said and "fractions of the references" in said and "10 spectra along x" in said
    rows = list(csv.DictReader((tmp_path / "made" / "x.csv").open()))
    assert [float(row["x"]) for row in rows] == pytest.approx(np.arange(1, 11) / 10)
    for row in rows:
        x = float(row["x"])
        assert float(row["second_fraction"]) == pytest.approx(x, abs=0.06)
        assert float(row["first_fraction"]) == pytest.approx(1 - x, abs=0.06)
        assert float(row["fractions_sum"]) == pytest.approx(1, abs=0.05) and not row["error"]
        chances = [each.split(":") for each in row["OS_probabilities"].split()]
        mean = sum(float(value) * float(p) for value, p in chances) / sum(float(p) for _, p in chances)
        assert float(row["OS_mean"]) == pytest.approx(mean, abs=0.05)
        assert float(row["OS_low"]) <= float(row["OS_mean"]) <= float(row["OS_high"])
        assert float(row["MBL_low"]) < float(row["MBL"]) < float(row["MBL_high"])
        assert "x from the file's name" in row["notes"]
    picture = (tmp_path / "made" / "x.svg").read_text()
    assert picture.startswith("<?xml") and "fractions of references" in picture and "MBL: ρ" in picture


def test_one_bad_file_costs_one_line(file, model, scans, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty_x0.3.txt").touch()
    (tmp_path / "nowhere.txt").write_text(scans[0][0].read_text())
    bad = ["empty_x0.3.txt", "nowhere.txt"]
    said = fails(capsys, file, *scans[0][:4], *bad, *AS_THEORY, "--order", "x", "--out", "x.png").splitlines()
    assert len(said) == 3 and "no numbers" in said[0] and "no x in its name" in said[1]
    assert said[2] == "spt-jax: error: 2 of 6 spectra could not be used"
    rows = list(csv.DictReader(Path("x.csv").read_text().splitlines()))
    assert [row["file"] for row in rows if row["error"]] == bad and len(rows) == 6
    assert Path("x.png").read_bytes().startswith(b"\x89PNG")
    table = tmp_path / "v.csv"
    table.write_text("file,value\n" + "".join(f"{path.name},{4 - i}\n" for i, path in enumerate(scans[0][:4])))
    found = follow(model, scans[0][:4], "voltage", table, read_as=ReadAs("Co", calculated=True))
    assert found.axis.place.tolist() == [1, 2, 3, 4] and "scan4" in found.predictions[0].name


def test_what_is_no_series_is_refused_in_one_line(model, file, scans, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mixed, theory = scans[0], ReadAs("Co", calculated=True)
    Path("same.csv").write_text("file,value\n" + "".join(f"{path.name},0.5\n" for path in mixed[:3]))
    nickel = Path(__file__).parents[1] / "data_pipelines" / "runs" / "NiO_base_Ni0" / "xmu.dat"
    for why, arguments in {
        "a series is of 3 spectra or more, 2 of 2": (mixed[:2],),
        "a series is of 3 spectra or more, 1 of 2 can be used; .*: given more than once": (mixed[:1] * 2,),
        "all 3 spectra have one x, 0.5": (mixed[:3], "x", Path("same.csv")),
        "these are of Co K .3., Ni K .1.": ([EXAMPLE, *copies(tmp_path, 2), nickel],),
        "reference none.txt: no such file": (mixed, "x", None, [Path("none.txt")]),
        "reference same.csv: empty": (mixed, "x", None, [Path("same.csv")]),
        "is of Ni K, the series of Co K": (mixed, "x", None, [nickel]),
    }.items():
        with pytest.raises(UserError, match=why) as error:
            follow(model, *arguments, read_as=theory if nickel not in arguments[0] else None)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="is calculated, the series is measured"):
        follow(model, mixed, "x", None, [EXAMPLE], ReadAs("Co"))
    for why, arguments in {
        "say which with --order": [*mixed, "--values", "same.csv"],
        "--out is a figure, .svg or .png": [*mixed, "--out", "x.pdf"],
        "no FILE given": [],
    }.items():
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main(["series", str(file), *map(str, arguments)])
        said = capsys.readouterr().err
        assert why in said and said.count("\n") == 1, said


def copies(folder, count):
    paths = [folder / f"copy{i}.dat" for i in range(count)]
    for path in paths:
        path.write_text(EXAMPLE.read_text())
    return paths


def test_an_oxidation_state_that_is_split_is_told():
    def said(chances):
        return _split(Prediction("a", "Fe K", {"OS": Value(2, "", chances)}))

    assert said({2: 0.4, 3: 0.6}).startswith("OS is split, 2: 40 %, 3: 60 %: two sites, a mixed valence, or doubt")
    assert not said({2: 0.1, 3: 0.9}) and not said({2: 0.5, 4: 0.5}) and not said({2: 0.3, 3: 0.3, 4: 0.2, 5: 0.2})


@pytest.fixture(scope="module")
def shipped():
    return spt_jax.load("spt-k")


@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not here")
def test_nickel_is_oxidised_as_a_cathode_is_charged(shipped, tmp_path):
    """Ni2+ and Ni3+ at 3.0 V, Ni3+ at 4.3 and 4.8 V, which are not told apart: nor is the edge of the latter higher."""
    document = json.loads((DATA / "experiment" / "nmc_ni_k.json").read_text())
    for key, mu in document["intensity"].items():
        voltage = document["voltage"][key]
        name = f"{document['composition'][key]}_{voltage}V_{key}.txt".replace("N/AV", "pristine")
        np.savetxt(tmp_path / name, np.column_stack([np.linspace(8330, 8370, 100), mu]))
    files, read_as = sorted(tmp_path.iterdir()), ReadAs(element="Ni")
    found = follow(shipped, files, "voltage", read_as=read_as, calibration=Calibration.of("spt-k"))
    assert len(found.predictions) == 14 and all("pristine" in why for _, why in found.left_out)
    edge, state = (next(each for each in found.quantities if each.name == name) for name in ("edge", "OS"))
    low, middle, high = (found.axis.place == voltage for voltage in (3.0, 4.3, 4.8))
    for each, least in ((edge, 0.5), (state, 0.1)):
        assert each.mean[middle].min() > each.mean[low].max() + least / 2
        assert each.mean[middle].mean() > each.mean[low].mean() + least
        assert each.changes(found.axis.place) == [(3.0, 4.3)]
    assert state.mean[high].mean() == pytest.approx(state.mean[middle].mean(), abs=0.1)


@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not here")
def test_a_calculated_series_of_lithium_cobalt_oxide(shipped, tmp_path):
    rows = pq.read_table(
        DATA / "feff10" / "lixcoo2.parquet", columns=["absorber", "phase", "x", "variant", "omega", "mu"]
    )
    cobalt = [
        r for r in rows.to_pylist() if r["absorber"] == "Co" and r["phase"] == "O3" and "cif_" not in r["variant"]
    ]
    for i, row in enumerate(cobalt[::3]):
        np.savetxt(tmp_path / f"x{row['x']:.3f}_{i}.txt", np.column_stack([row["omega"], row["mu"]]))
    found = follow(shipped, sorted(tmp_path.iterdir()), "x", read_as=ReadAs(element="Co", calculated=True))
    assert not found.left_out and len(found.predictions) == len(cobalt[::3])
    trends = {each.name: each.trend for each in found.quantities}
    # Oxygen pairs of the octahedron come closer as lithium leaves.
    assert trends["MOOD"].rho > 0.5 and trends["MOOD"].p < 0.01
    assert abs(trends["CN"].slope) < 0.1


def test_fewer_than_three_are_refused(model):
    with pytest.raises(UserError, match="3 spectra or more, 0 of 1 can be used; no such file"):
        follow(model, [Path("nowhere.dat")])
