"""Spectra of different ends in one dataset, on the whole way: prepared, checked, trained on, answered, packed."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import spt_jax
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import RunError, SpectrumError
from data_pipelines.library import LIBRARY
from data_pipelines.schema import DESCRIPTORS, EnergyGrid
from spt_jax.cli import main
from spt_jax.config import PEERS, Config, LabelsConfig, TrainConfig
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


def test_it_goes_into_files_and_comes_back(folder, tmp_path):
    batch = Dataset(folder / "data").split("test").batch
    own = spt_jax.load(folder / "run").answers(batch.spectrum, batch.atomic_number)
    main(["export", str(folder / "run"), "--out", str(tmp_path / "model.spt")])
    words = ["--about", "a test", "--licence", "CC0", "--attribution", "nobody"]
    packed = tmp_path / "model.safetensors"
    main(["pack", str(folder / "run"), "--data", str(folder / "data"), "--out", str(packed), *words])
    for file, near in ((tmp_path / "model.spt", 1e-5), (packed, 0.03)):
        model = spt_jax.load(file)
        assert model.blueprint.grid == EnergyGrid(required=COMMON)
        np.testing.assert_allclose(model.answers(batch.spectrum, batch.atomic_number)["CN"], own["CN"], atol=near)


def test_evaluate_explain_and_the_cases_of_a_study_take_it(folder, capsys):
    data = ["--data", str(folder / "data")]
    main(["evaluate", str(folder / "run"), *data, "--split", "test"])
    main(["explain", str(folder / "run"), *data, "--split", "train", "--sites", "1", "--out", str(folder / "x.html")])
    assert "NaN" not in (folder / "x.json").read_text()


def test_peers_learn_from_it(folder, tmp_path):
    config = Config(PEERS["mlp"], LabelsConfig(descriptors=("CN",)), TrainConfig(epochs=2, batch_size=64))
    last = train(config, Dataset(folder / "data"), tmp_path)
    assert np.isfinite(last["loss"])


def test_a_grid_that_requires_more_than_it_has_is_refused():
    with pytest.raises(RunError, match="required"):
        EnergyGrid(points=100, required=101)
    with pytest.raises(RunError, match="required"):
        EnergyGrid(required=3)
