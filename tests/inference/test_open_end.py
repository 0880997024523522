"""Spectra of different ends in one dataset, on the whole way: prepared, checked, trained on, answered, packed."""

import json
import pickle

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure

import spt_jax
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import RunError, SpectrumError
from data_pipelines.library import LIBRARY
from data_pipelines.readers.measured import Measured
from data_pipelines.schema import DESCRIPTORS, EnergyGrid
from spt_jax.cli import main
from spt_jax.config import Config, LabelsConfig, TrainConfig
from spt_jax.explain.ablation import without_frequency, without_window
from spt_jax.explain.attribution import Explainer, Question
from spt_jax.inference.open_end import end_note, ending
from spt_jax.objectives.labels import Labels
from spt_jax.presets import PEERS
from spt_jax.runs.folder import read_log
from spt_jax.training.loop import train
from tests.conftest import SMALL
from tests.pages import Page

COMMON, POINTS = 70, 144


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The embedded library, two thirds of it cut somewhere behind the first 70 points."""
    library, rng, rows = Dataset(LIBRARY), np.random.default_rng(0), []
    for name in ("train", "validation", "test"):
        split = library.split(name)
        for i, mu in enumerate(split.batch.spectrum):
            element = split.absorbers[i].split()[0]
            end = POINTS if rng.random() < 1 / 3 else int(rng.integers(COMMON, POINTS))
            known = {
                d.name: float(d.values(split.batch.labels[i : i + 1, column])[0])
                for column, d in enumerate(DESCRIPTORS)
                if split.batch.mask[i, column]
            }
            omega = library.grid.absolute(element)[:end]
            rows.append({"id": split.ids[i], "absorber": element, "material": split.materials[i], **known})
            rows[-1] |= {"omega": omega, "mu": mu[:end]}
    out = tmp_path_factory.mktemp("open_end")
    pq.write_table(pa.Table.from_pylist(rows), out / "spectra.parquet")
    grid = "--grid.required", str(COMMON)
    main(["prepare", str(out / "spectra.parquet"), "--out", str(out / "data"), *grid, "--workers", "1"])
    main(["train", "tiny", "--data", str(out / "data"), "--out", str(out / "run"), *SMALL, "--objective.cut", "0.3"])
    return out


def test_the_dataset_holds_what_there_is_and_says_so(folder, capsys):
    dataset = Dataset(folder / "data")
    spectrum = dataset.split("train").batch.spectrum
    known = np.isfinite(spectrum)
    assert known[:, :COMMON].all() and 0.2 < known[:, -1].mean() < 0.5
    np.testing.assert_allclose(dataset.statistics("train").mean, np.nanmean(spectrum.astype(float), axis=0), rtol=1e-6)
    main(["data", "verify", str(folder / "data")])
    main(["data", "card", str(folder / "data"), "--html", str(folder / "card.html")])
    assert "all have those to 36.5 eV" in (folder / "data" / "data_card.txt").read_text()
    assert "All spectra have those to 36.5 eV" in Page((folder / "card.html").read_text(encoding="utf-8")).text


def test_long_and_short_spectra_are_answered_and_too_short_ones_refused(folder, rng):
    model, dataset = spt_jax.load(folder / "run"), Dataset(folder / "data")
    batch = dataset.split("test").batch
    answers = model.answers(batch.spectrum, batch.atomic_number)
    assert all(np.isfinite(each).all() for each in answers.values())
    i = int(rng.choice(np.flatnonzero(np.isfinite(batch.spectrum).all(axis=1))))
    element, mu = dataset.split("test").absorbers[i].split()[0], batch.spectrum[i]
    energy = dataset.grid.absolute(element)
    whole = model.predict(energy, mu, element=element)
    short = model.predict(energy[: COMMON + 5], mu[: COMMON + 5], element=element)
    assert whole.keys() == short.keys() and whole["MBL"].value != short["MBL"].value
    with pytest.raises(SpectrumError, match="grid not covered"):
        model.predict(energy[: COMMON - 1], mu[: COMMON - 1], element=element)


def test_who_asks_is_told_what_is_expected_beyond_the_end(folder):
    """And a file that does not show what it expects says so without a number."""
    model, dataset = spt_jax.load(folder / "run"), Dataset(folder / "data")
    split = dataset.split("test")
    i = int(np.flatnonzero(np.isfinite(split.batch.spectrum).all(axis=1))[0])
    element, edge = split.absorbers[i].split()
    energy, mu = dataset.grid.absolute(element), split.batch.spectrum[i]
    stop = COMMON + 20
    given = [
        ("whole", Measured(energy, mu, element, edge)),
        ("short", Measured(energy[:stop], mu[:stop], element, edge)),
    ]
    given.append(("too short", Measured(energy[:50], mu[:50], element, edge)))
    whole, short, refused = model.predict_each(given)
    assert not whole.notes and "grid not covered" in refused.error and not refused.notes
    said = f"the spectrum ends {dataset.grid.relative()[stop - 1]:g} eV above the reference energy; the rest, to 73.5 eV, is"
    assert short.notes[0].startswith(said) and "nine in ten" not in short.notes[0]
    row = model.to_grid(energy[:stop], mu[:stop], f"{element} {edge}")
    known = np.isfinite(row)
    train = dataset.split("train").batch
    elements = np.unique(train.atomic_number)
    measured = model.open_end.measured(train.spectrum, train.atomic_number, elements, COMMON)
    found = ending(measured, row, f"{element} {edge}")
    filled, _ = model.network.gaps.fill(jnp.asarray(row[None]))
    np.testing.assert_allclose(found.expected, np.asarray(filled)[0][~known], atol=1e-3)
    told = end_note(dataset.grid, row, f"{element} {edge}", found)
    assert f"nine in ten points of calculated {element} spectra lie within {found.half.mean():.2f} edge steps" in told
    again = pickle.loads(pickle.dumps(model))
    assert again.open_end is None and again.predict_each(given)[1].notes[0].startswith(said)


def calculations(split, grid, path):
    """A library with structures, of some sites of a split."""
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Li", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    rows = []
    for i in (0, 2, 4):
        salt[0] = element = split.absorbers[i].split()[0]
        row = {"id": split.ids[i], "prototype": split.materials[i], "absorber": element, "site_index": 0}
        row |= {"structure": salt.to_json(), "omega": grid.absolute(element), "mu": np.tanh(grid.relative() / 9)}
        rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows), path)


def test_it_goes_into_files_and_comes_back(folder, tmp_path, capsys):
    dataset = Dataset(folder / "data")
    calculations(dataset.split("train"), dataset.grid, tmp_path / "train.parquet")
    calculations(dataset.split("test"), dataset.grid, tmp_path / "test.parquet")
    batch = Dataset(folder / "data").split("test").batch
    own = spt_jax.load(folder / "run").answers(batch.spectrum, batch.atomic_number)
    main(["export", str(folder / "run"), "--out", str(tmp_path / "model.spt")])
    words = ["--about", "a test", "--licence", "CC0", "--attribution", "nobody"]
    packed = tmp_path / "model.safetensors"
    words = ["pack", str(folder / "run"), "--data", str(folder / "data"), "--out", str(packed), *words, "--structures"]
    with pytest.raises(SystemExit):
        main([*words, str(tmp_path / "test.parquet")])
    assert "no structure of any training site; name what `spt-jax prepare` made" in capsys.readouterr().err
    main([*words, str(tmp_path / "train.parquet")])
    assert f"surrounds 3 of {dataset.examples['train']} training sites" in capsys.readouterr().out
    clusters = spt_jax.load(packed).domain.clusters
    assert np.flatnonzero(clusters.count).tolist() == [0, 2, 4] and clusters.row(2).number[:6].tolist() == [8] * 6
    for file, near in ((tmp_path / "model.spt", 1e-5), (packed, 0.03)):
        model = spt_jax.load(file)
        assert model.blueprint.grid == EnergyGrid(required=COMMON)
        # The packed one also knows how far off what it expects is.
        assert (model.domain is None) == (file.suffix == ".spt")
        assert not model.domain or (model.domain.open_end.widths > 0).all()
        np.testing.assert_allclose(model.answers(batch.spectrum, batch.atomic_number)["CN"], own["CN"], atol=near)


def test_evaluate_explain_and_the_cases_of_a_study_take_it(folder, capsys):
    data = ["--data", str(folder / "data")]
    main(["evaluate", str(folder / "run"), *data, "--split", "test"])
    main(["explain", str(folder / "run"), *data, "--split", "train", "--sites", "1", "--out", str(folder / "x.html")])
    document = json.loads((folder / "x.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    lost = [value for values in document["ablation"]["bands"].values() for value in values]
    assert document["sites"] > 30 and np.isfinite(lost).all()


def test_what_is_not_known_has_no_share_in_an_answer(folder):
    model, split = spt_jax.load(folder / "run"), Dataset(folder / "data").split("test")
    rows = np.flatnonzero(~np.isfinite(split.batch.spectrum[:, -1]))[:3]
    [task] = [task for task in model.blueprint.learnt_tasks if task.name == "MBL"]
    spectrum, number = split.batch.spectrum[rows], split.batch.atomic_number[rows]
    found = Explainer(model).attribute(spectrum, number, [Question(task, 0)] * len(rows))
    assert (found.values[np.isnan(spectrum)] == 0).all() and np.abs(found.values).sum() > 0
    assert np.isfinite(found.gap).all()


def test_what_is_taken_away_leaves_the_end_open(rng):
    spectrum, mean = rng.random((3, 30)), rng.random(30)
    spectrum[0, 20:] = np.nan
    for changed in (without_frequency(spectrum, 3, mean, np.ones(30)), without_window(spectrum, slice(15, 25), mean)):
        np.testing.assert_array_equal(np.isnan(changed), np.isnan(spectrum))
        assert (changed != spectrum)[:, 15:20].any()


def test_peers_learn_from_it(folder, tmp_path):
    config = Config(PEERS["mlp"], LabelsConfig(descriptors=("CN",)), TrainConfig(epochs=2, batch_size=64))
    last = train(config, Dataset(folder / "data"), tmp_path)
    assert np.isfinite(last["loss"])


def test_hidden_parts_are_learnt_up_to_the_end_of_each(folder, tmp_path):
    out = tmp_path / "pre"
    data = ["--data", str(folder / "data"), "--out", str(out)]
    main(["train", "tiny", "--objective", "masked", *data, *SMALL])
    scores = [line["validation"] for line in read_log(out) if "validation" in line]
    assert scores and all(np.isfinite(list(each.values())).all() for each in scores)


def test_what_hardly_a_training_spectrum_has_is_refused(folder, tmp_path):
    library, rows = Dataset(LIBRARY), []
    split = library.split("train")
    for i, mu in enumerate(split.batch.spectrum):
        element = split.absorbers[i].split()[0]
        end = POINTS if i < 3 else 100
        omega = library.grid.absolute(element)[:end]
        rows.append({"id": split.ids[i], "absorber": element, "omega": omega, "mu": mu[:end], "CN": 4.0})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "few.parquet")
    main(["prepare", str(tmp_path / "few.parquet"), "--out", str(tmp_path / "data"), "--grid.required", str(COMMON)])
    with pytest.raises(RunError, match=r"[0-3] training spectra reach the end .*--grid.points 100"):
        train(Config(objective=LabelsConfig(descriptors=("CN",))), Dataset(tmp_path / "data"), tmp_path / "run")


def test_equal_grids_are_equal_and_cuts_need_an_end():
    assert EnergyGrid(points=50, required=50) == EnergyGrid(points=50)
    with pytest.raises(RunError, match="cut"):
        Labels.of(LabelsConfig(cut=0.2), Dataset(LIBRARY).statistics("train"), EnergyGrid())


def test_a_grid_that_requires_more_than_it_has_is_refused():
    with pytest.raises(RunError, match="required"):
        EnergyGrid(points=100, required=101)
    with pytest.raises(RunError, match="required"):
        EnergyGrid(required=3)
