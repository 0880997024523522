"""Spectra in every form that people hold them: the same answers, and a line for each that cannot be used."""

import csv
import io
import json
import pickle

import numpy as np
import pandas as pd
import pytest

import spt_jax
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import SpectrumError, UserError
from data_pipelines.library import EXAMPLE, LIBRARY
from data_pipelines.readers.spectrum import read_spectrum
from spt_jax.cli import main
from spt_jax.inference.predict import CHUNK, symbol_of
from spt_jax.inference.spectra import files_of, predict_files
from tests.runs.formats import EXPORT_1


@pytest.fixture(scope="module")
def example():
    return read_spectrum(EXAMPLE)


def test_what_is_scored_is_what_is_said(model, file, capsys):
    """Of every test spectrum the classes of evaluate, predict, the exported file and Python are one."""
    dataset = Dataset(LIBRARY)
    split = dataset.split("test")
    evaluation = spt_jax.evaluate(model, dataset)
    again = spt_jax.evaluate(file, LIBRARY, "test")
    assert evaluation.metrics == again.metrics
    assert evaluation.metrics["classes"] == "by the rule fitted on the validation materials"
    answers = model.answers(split.batch.spectrum, split.batch.atomic_number)
    assert any((evaluation.decided[name] != answers[name].argmax(axis=1)).any() for name in ("OS", "CN"))
    energies = [model.blueprint.grid.absolute(*absorber.split()) for absorber in split.absorbers]
    for i in range(0, len(split.ids), 9):
        element = split.absorbers[i].split()[0]
        # The grid's own energies bring back its own values.
        values = model.predict(energies[i], split.batch.spectrum[i], element)
        assert values["OS"].value == range(-4, 9)[evaluation.decided["OS"][i]]
        assert list(values["OS"].probabilities.values()) == pytest.approx(evaluation.answers["OS"][i], abs=1e-4)
        assert values["MBL"].interval[0] < values["MBL"].value < values["MBL"].interval[1]


def test_a_model_without_decisions_says_so_once(file, capsys):
    capsys.readouterr()
    main(["predict", str(EXPORT_1), str(EXAMPLE), str(EXAMPLE)])
    assert (
        capsys.readouterr().err
        == "note: this model has no fitted decisions: the most likely classes, and no intervals\n"
    )
    main(["predict", str(file), str(EXAMPLE)])
    assert capsys.readouterr().err == ""
    assert spt_jax.evaluate(EXPORT_1, LIBRARY).metrics["classes"] == "the most likely"


def test_elements_in_every_spelling(model, example):
    found = [model.predict(example.energy, example.mu, element) for element in ("Co", "co", " CO", 27, np.int64(27))]
    assert all(each == found[0] for each in found)
    for wrong in ("Xx", "", 0, 200, 27.5, -1):
        with pytest.raises(SpectrumError, match="unknown element"):
            symbol_of(wrong)
    with pytest.raises(SpectrumError, match="Cu K; this model was trained on Co K"):
        model.predict(example.energy, example.mu, "cu")


def test_many_spectra_on_the_same_energies(model, example):
    several = np.stack([example.mu, 3 * example.mu, 0 * example.mu])
    first, second, third = spt_jax.predict(model, (example.energy, several), "Co")
    alone = spt_jax.predict(model, (example.energy, example.mu), "Co")
    for name, value in alone.items():
        assert first.values[name].value == pytest.approx(value.value, abs=1e-5)
        assert second.values[name].value == pytest.approx(value.value, abs=1e-5)
    assert (third.name, third.values) == ("row 2", {}) and "no edge step" in third.error
    for mu, advice in ((several.T, "give mu.T"), (several[:, :50], "(M, N) of several"), (several[None], "(M, N)")):
        with pytest.raises(SpectrumError, match="shapes") as error:
            model.predict(example.energy, mu, "Co")
        assert advice in str(error.value)
    with pytest.raises(UserError, match="give \\(energy, mu\\)"):
        spt_jax.predict(model, several, "Co")


def test_a_frame_has_a_row_for_each_and_a_column_of_errors(model, example):
    frame = pd.DataFrame(
        {
            "energy": [example.energy, example.energy, example.energy / 1000, [1, 2]],
            "mu": [example.mu, list(example.mu), example.mu, "x"],
            "element": ["co", None, 27.0, "Co"],
        },
        index=list("abcd"),
    )
    found = spt_jax.predict(model, frame)
    alone = model.predict(example.energy, example.mu, "Co")
    assert list(found.index) == list("abcd") and list(found.columns)[-1] == "error"
    assert found.error["a"] == "" and found.absorber["a"] == "Co K" and found.CN["a"] == alone["CN"].value
    assert found.MBL_low["a"] < found.MBL["a"] < found.MBL_high["a"] and 0 < found.CN_probability["a"] < 1
    for row, reason in {"b": "say which element", "c": "energy in keV: row c", "d": "not numbers"}.items():
        assert reason in found.error[row] and np.isnan(found.MBL[row])
    assert spt_jax.predict(model, frame, element="Co").error["b"] == ""
    with pytest.raises(UserError, match="no column mu"):
        spt_jax.predict(model, frame[["energy"]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """More files than one piece, a damaged one in each."""
    out = tmp_path_factory.mktemp("many")
    for i in range(CHUNK + 4):
        (out / f"{i:03d}.dat").write_text(EXAMPLE.read_text())
    for i, content in ((7, EXAMPLE.read_text()[:-40]), (CHUNK + 1, "")):
        (out / f"{i:03d}.dat").write_text(content)
    (out / ".hidden").touch()
    return out


@pytest.mark.parametrize("format", ["json", "csv", "table"])
def test_one_bad_file_costs_one_line(file, folder, capsys, format):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(file), str(folder), "nowhere.dat", "--format", format])
    captured = capsys.readouterr()
    assert stop.value.code == 1
    lines = [line for line in captured.err.splitlines() if not line.startswith("spectra")]
    bad = ["007.dat", f"{CHUNK + 1:03d}.dat", "nowhere.dat"]
    assert all(name in line for name, line in zip(bad, lines, strict=False)) and len(lines) == 4, captured.err
    assert lines[-1] == f"spt-jax: error: 3 of {CHUNK + 5} files could not be used"
    if format == "json":
        rows = json.loads(captured.out)
        assert [row["file"].split("/")[-1] for row in rows if "error" in row] == bad
        assert len(rows) == CHUNK + 5 and all(row["descriptors"] for row in rows if "error" not in row)
        assert rows[0]["descriptors"]["MBL"]["meaning"] == "mean first-neighbour bond length"
    elif format == "csv":
        rows = list(csv.DictReader(io.StringIO(captured.out)))
        assert [row["file"].split("/")[-1] for row in rows if row["error"]] == bad
        assert all(float(row["low"]) < float(row["high"]) for row in rows if row["descriptor"] == "MBL")
    else:
        assert captured.out.count("(Co K)") == CHUNK + 2
        assert captured.out.count("MBL    mean first-neighbour bond length") == 1
        assert max(map(len, captured.out.splitlines())) <= 80 or str(folder) in captured.out


def test_python_reads_the_same_files(model, folder):
    found = spt_jax.predict(model, [folder, "nowhere.dat"])
    assert [bool(each.error) for each in found].count(True) == 3 and len(found) == CHUNK + 5
    [one] = spt_jax.predict(model, EXAMPLE)
    assert (one.absorber == "Co K" and one.values == found[0].values) or one.values.keys() == found[0].values.keys()
    assert files_of([folder, EXAMPLE])[-1] == EXAMPLE


def test_files_are_read_as_predictions_are_asked_for(model, tmp_path):
    """Memory holds one piece of them, however many there are."""
    files = [tmp_path / f"{i:03d}.dat" for i in range(CHUNK + 2)]
    for path in files:
        path.symlink_to(EXAMPLE)
    predictions = predict_files(model, files)
    assert not next(predictions).error
    files[CHUNK].unlink()
    rest = list(predictions)
    assert [each.name for each in rest if each.error] == [str(files[CHUNK])] and len(rest) == CHUNK + 1


def test_a_folder_without_files_is_refused(file, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["predict", str(file), str(tmp_path)])
    assert "no files in this folder" in capsys.readouterr().err


def test_a_pickled_model_answers_the_same(model, example):
    again = pickle.loads(pickle.dumps(model))
    assert again.blueprint == model.blueprint and repr(again) == repr(model)
    assert again.predict(example.energy, example.mu, "Co") == model.predict(example.energy, example.mu, "Co")
    assert pickle.loads(pickle.dumps(again)).blueprint == model.blueprint


def test_names_show_what_they_are(model):
    text = repr(model)
    assert all(part in text for part in ("SPT", "OS CN", "Co K", "144 points", "fitted decisions")) and "\n" not in text
    assert {"load", "train", "prepare", "Dataset", "evaluate", "predict", "Model"} <= set(dir(spt_jax))
    assert all(getattr(spt_jax, name) for name in spt_jax.__all__)
    with pytest.raises(AttributeError, match="no attribute 'guess'"):
        spt_jax.guess  # noqa: B018


def test_how_a_file_was_read_is_said_and_can_be_overruled(file, tmp_path, example, capsys):
    def predicted(*arguments):
        capsys.readouterr()
        main(["predict", str(file), *arguments])
        return capsys.readouterr().out

    rows = [f"{e / 1000:.7f}  1  {np.exp(-m):.9f}  {m:.9f}" for e, m in zip(example.energy, example.mu, strict=True)]
    scan = ["#N 4", "#L energy  i0  itrans  ifluor", *rows[::-1]]
    path = tmp_path / "co.spec"
    path.write_text("\n".join(["#S 1 up", *scan, "", "#S 2 again", *scan]))
    first, second = json.loads(predicted(str(path), "--element", "Co", "--format", "json"))
    assert [each["file"] for each in (first, second)] == [f"{path}#1", f"{path}#2"] and not first["shift"]
    assert first["columns"].startswith("energy=energy mu=") and first["channel"] in ("transmission", "fluorescence")
    assert {"energies given in keV, read as eV", "energies descend in the file: turned round"} <= set(first["notes"])
    alone = predicted(str(path) + "#2", "--element", "27", "--channel", "fluorescence", "--shift", "0.25")
    assert "fluorescence taken, ifluor/i0" in alone and "moved by +0.25 eV" in alone
    table = predicted(str(path), "--columns", "energy=1 mu=ln(2/3)", "--element", "Co", "--format", "csv")
    found = list(csv.DictReader(io.StringIO(table)))
    assert {row["columns"] for row in found} == {"energy=energy mu=ln(2/3)"} and "keV" in found[0]["notes"]
    for wrong, why in (
        (["--beamline", "p66"], "no beamline 'p66'; there are"),
        (["--columns", "energy"], "is not as"),
        (["--channel", "reference"], "2 of 2 spectra could not be used"),
    ):
        with pytest.raises(SystemExit):
            main(["predict", str(file), str(path), "--element", "Co", *wrong])
        assert why in capsys.readouterr().err
