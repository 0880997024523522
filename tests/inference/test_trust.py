"""A spectrum that is unlike what the shipped model learnt is told as such, and refused where that is asked for."""

import csv
import io
import json
import pickle
import warnings

import numpy as np
import pytest

import spt_jax
from data_pipelines.library import EXAMPLE
from data_pipelines.readers.measured import Measured
from data_pipelines.readers.spectrum import read_spectrum
from spt_jax.cli import main

UNLIKE = "unlike what this model learnt: of its Co K spectra, nearest is that of "


@pytest.fixture(scope="module")
def model():
    return spt_jax.load("spt-k")


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    """The example with its energies 4 eV too high."""
    found = read_spectrum(EXAMPLE)
    path = tmp_path_factory.mktemp("trust") / "wrong.txt"
    np.savetxt(path, np.stack([found.energy + 4, found.mu], axis=1), header="energy mu")
    return path


def told(capsys, *words):
    """(exit status, stdout, stderr)"""
    status = 0
    try:
        main(["predict", *map(str, words)])
    except SystemExit as stop:
        status = stop.code
    return status, *capsys.readouterr()


def test_what_it_learnt_from_is_not_strange_and_wrong_energies_are(model):
    found = read_spectrum(EXAMPLE)
    shifts = (0, -5, -4, 4, 5)
    given = [(f"{shift} eV", Measured(found.energy + shift, found.mu, "Co", "K")) for shift in shifts]
    right, *moved = model.predict_each(given)
    assert right.strangeness < 0 and not right.warnings
    assert right.nearest[0].distance < right.nearest[1].distance < 0.1
    assert all(each.strangeness > 0 and each.warnings[0].startswith(UNLIKE) for each in moved)


def test_it_knows_what_surrounds_the_nearest_and_what_it_expects_beyond_the_end(model):
    found = read_spectrum(EXAMPLE)
    stop = np.searchsorted(found.energy, 7709 + 45)
    [short] = model.predict_each([("a", found._replace(energy=found.energy[:stop], mu=found.mu[:stop]))])
    around = model.domain.clusters.row(short.nearest[0].row)
    assert around.number[:7].tolist() == [8] * 6 + [27] and len(around.number) == 20
    distance = np.linalg.norm(around.place, axis=1)
    assert (
        distance[:6].mean() == pytest.approx(short.values["MBL"].value, abs=0.05) and (np.diff(distance) > -0.07).all()
    )
    assert short.notes[-1].startswith("the spectrum ends 44 eV above the reference energy; the rest, to 72 eV, is what")
    assert "nine in ten points of calculated Co spectra lie within 0.12 edge steps" in short.notes[-1]


def test_pickled_it_still_knows(model):
    found = read_spectrum(EXAMPLE)
    again = pickle.loads(pickle.dumps(model))
    with pytest.warns(UserWarning, match=UNLIKE):
        again.predict(found.energy + 5, found.mu, element="Co")


def test_one_spectrum_warns_as_python_does(model):
    found = read_spectrum(EXAMPLE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(found.energy, found.mu, element="Co")
    with pytest.warns(UserWarning, match=UNLIKE):
        model.predict(found.energy + 5, found.mu, element="Co")


def test_the_command_warns_and_says_so_with_its_status(wrong, capsys):
    status, out, err = told(capsys, EXAMPLE, wrong, "--element", "Co", "--as", "theory", "--format", "json")
    assert status == 3 and f"warning: {wrong}: unlike what this model learnt" in err
    right, strange = json.loads(out)
    assert not right["warnings"] and strange["warnings"][0].startswith(UNLIKE) and strange["descriptors"]
    assert strange["nearest"][0].keys() == {"material", "distance"}
    status, out, _ = told(capsys, wrong, "--element", "Co", "--as", "theory")
    assert status == 3 and "warning: unlike" in out.replace("\n", " ")
    status, out, _ = told(capsys, EXAMPLE)
    assert status == 0 and "warning" not in out


def test_an_exported_file_warns_as_the_packed_one(wrong, tmp_path, capsys):
    out = tmp_path / "model.spt"
    main(["export", "spt-k", "--out", str(out)])
    capsys.readouterr()
    status, said, _ = told(capsys, out, wrong, "--element", "Co", "--as", "theory", "--format", "json")
    assert status == 3 and json.loads(said)[0]["warnings"][0].startswith(UNLIKE)


def test_strict_refuses_it(wrong, capsys):
    status, out, err = told(capsys, EXAMPLE, wrong, "--element", "Co", "--as", "theory", "--format", "csv", "--strict")
    assert status == 1 and "error: 1 of 2 files could not be used" in err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["error"] != "" for row in rows].count(True) == 1 and UNLIKE in rows[-1]["error"]
    assert float(rows[0]["strangeness"]) < 0 < float(rows[-1]["strangeness"])


def test_a_model_that_does_not_know_says_nothing(trained, capsys):
    status, out, _ = told(capsys, trained, EXAMPLE, "--format", "json")
    assert status == 0 and "strangeness" not in json.loads(out)[0]
