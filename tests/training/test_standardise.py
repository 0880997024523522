"""A run that standardises by element, through the commands, on the embedded library: its constants go wherever it goes."""

import numpy as np
import pytest

import spt_jax
from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import LIBRARY
from spt_jax.cli import main
from spt_jax.explain import ablation, explanation
from spt_jax.model.standardise import LEAST_STD
from tests.conftest import SMALL


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("by_element") / "run"
    main(["train", "tiny", "--data", str(LIBRARY), "--out", str(out), "--model.standardise", "element", *SMALL])
    return out


def test_it_holds_what_its_training_set_said_of_each_element(run):
    model, train = spt_jax.load(run), Dataset(LIBRARY).statistics("train")
    assert model.blueprint.model.standardise == "element"
    found, exact = model.network.by_element, train.elements.shrunk(train.mean, train.std)
    np.testing.assert_allclose(found.mean[...], exact[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.std[...], np.maximum(exact[1], LEAST_STD), rtol=1e-4)
    for absorber, number in (("Co K", 27), ("Cr K", 24)):  # the most spectra of all, and three
        count, apart = train.absorbers[absorber], train.elements.means[number] - train.mean
        np.testing.assert_allclose(found.of(number)[0] - train.mean, count / (count + 20) * apart, atol=1e-5)


def test_exported_and_packed_it_answers_as_its_run(run, tmp_path):
    batch, model = Dataset(LIBRARY).split("test").batch, spt_jax.load(run)
    given = batch.spectrum, batch.atomic_number
    exact = model.answers(*given)
    main(["export", str(run), "--out", str(tmp_path / "model.spt")])
    words = ("--about", "a test", "--licence", "CC0", "--attribution", "nobody")
    main(["pack", str(run), "--data", str(LIBRARY), "--out", str(tmp_path / "model.safetensors"), *words])
    for name, atol in (("model.spt", 1e-5), ("model.safetensors", 3e-3)):  # packed in half precision
        found = spt_jax.load(tmp_path / name).answers(*given)
        for descriptor, values in exact.items():
            np.testing.assert_allclose(found[descriptor], values, atol=atol, err_msg=f"{name} {descriptor}")


def test_it_does_not_go_on_as_another(run, capsys):
    with pytest.raises(SystemExit):
        main(["train", "tiny", "--data", str(LIBRARY), "--out", str(run), *SMALL])
    assert "another model.standardise" in capsys.readouterr().err


def test_frequencies_are_taken_out_of_what_it_sees(run, monkeypatch):
    """Of mu as it is standardised for the element that is explained."""
    model, given = spt_jax.load(run), []
    split, _ = explanation.select(model, Dataset(LIBRARY), "test", "Fe")
    monkeypatch.setattr(ablation, "without_frequency", lambda spectrum, f, *known: given.append(known) or spectrum)
    lost = explanation._ablation(model, split.batch, model.blueprint.grid.relative(), lambda *_: None)
    assert all(not any(loss) for loss in lost["bands"].values()) and len(given) == model.blueprint.model.highest_band
    for found, exact in zip(given[0], model.network.by_element.of(26), strict=True):
        np.testing.assert_array_equal(found, exact)
