"""Models as one file of weights: packed, shipped, found by name, refused where a byte was changed."""

import json
import shutil
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pyarrow.parquet as pq
import pytest

import spt_jax
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import CheckpointError, RunError
from data_pipelines.files import file_sha256
from data_pipelines.library import EXAMPLE, LIBRARY
from spt_jax.cli import main
from spt_jax.config import PeerConfig
from spt_jax.inference.bulk import predict_dataset
from spt_jax.inference.ensemble import together
from spt_jax.inference.load import load_run
from spt_jax.reports.model_card import Words
from spt_jax.reports.packing import pack_runs
from spt_jax.runs.packed import read_card, read_packed
from spt_jax.training.loop import train
from spt_jax.zoo import shelf
from tests.training.test_warm_start import config, fresh


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An SPT and an MLP, each of its own seed."""
    folder, dataset = tmp_path_factory.mktemp("zoo"), Dataset(LIBRARY)
    train(config(), dataset, folder / "spt")
    train(replace(config(seed=1), model=PeerConfig("mlp", width=8, depth=1)), dataset, folder / "mlp")
    return folder / "spt", folder / "mlp"


@pytest.fixture(scope="module")
def packed(runs):
    out = runs[0].parent / "both.safetensors"
    pack_runs(runs, Dataset(LIBRARY), out, Words("both", "of two networks", "CC0", ("data of nobody",), "a test"))
    return out


@pytest.fixture
def shop(packed, tmp_path, monkeypatch):
    """A zoo that has this model alone."""
    shutil.copy(packed, tmp_path / "both.safetensors")
    catalogue = {"default": "both", "models": {"both": file_sha256(packed)}}
    (tmp_path / shelf.CATALOGUE).write_text(json.dumps(catalogue))
    monkeypatch.setattr(shelf, "FOLDER", tmp_path)
    return tmp_path


def test_it_knows_what_its_runs_learnt_from(packed):
    split, domain = Dataset(LIBRARY).split("train"), spt_jax.load(packed).domain
    mu, number = split.batch.spectrum[0], int(split.batch.atomic_number[0])
    nearest, *_ = domain.nearest(mu, number)
    assert nearest.material == split.materials[0] and nearest.distance < 0.05
    assert domain.clusters is None and domain.open_end is None  # no structures were given, and no end is open


def test_a_whole_dataset_gets_its_strangeness(packed, tmp_path):
    dataset, out = Dataset(LIBRARY), tmp_path / "answers.parquet"
    predict_dataset(packed, dataset, out, ("test",))
    split, domain = dataset.split("test"), spt_jax.load(packed).domain
    expected = dict(zip(split.ids, domain.strangeness(split.batch.spectrum, split.batch.atomic_number), strict=True))
    found = pq.read_table(out).to_pylist()
    assert len(found) == len(expected)
    for row in found:
        assert row["strangeness"] == pytest.approx(expected[row["id"]], abs=1e-3)


def test_it_answers_as_the_mean_of_its_runs(runs, packed):
    batch = Dataset(LIBRARY).split("test").batch
    whole, model = together([load_run(run) for run in runs]), spt_jax.load(packed)
    exact, found = (each.answers(batch.spectrum, batch.atomic_number) for each in (whole, model))
    for name, values in exact.items():
        # Half precision of the weights.
        np.testing.assert_allclose(found[name], values, atol=3e-3, err_msg=name)


def test_its_decisions_are_fitted_on_the_mean(packed):
    split, model = Dataset(LIBRARY).split("validation"), spt_jax.load(packed)
    answers = model.answers(split.batch.spectrum, split.batch.atomic_number)
    wrong = np.abs(answers["MBL"] - split.batch.labels[:, 8])[split.batch.mask[:, 8]]
    assert (wrong <= model.decisions.halfwidth["MBL"]).mean() > 0.8


def test_the_card_says_where_it_is_from(packed, capsys):
    card = read_card(packed)
    assert card["members"] == ["spt", "mlp"] and card["attribution"] == ["data of nobody"]
    assert card["data"]["fingerprint"] == Dataset(LIBRARY).fingerprint
    assert sum(card["training_spectra"].values()) == Dataset(LIBRARY).count("train")
    scores = [each for own in card["scores"].values() for each in own.values()]
    assert scores and all(each["low"] <= each["main"] <= each["high"] and each["n"] >= 10 for each in scores)
    assert card["data"]["calculations"] == Dataset(LIBRARY).card["calculations"]
    main(["models", str(packed)])
    said = capsys.readouterr().out
    assert "made by   FEFF 10.0.0: Co 104" in said
    assert "data of nobody" in said and "CC0" in said and max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize("where", (0.001, 0.02, 0.3, 0.6, 0.999))
def test_one_byte_changed_is_found(packed, tmp_path, where):
    content = bytearray(packed.read_bytes())
    content[int(where * len(content))] ^= 1
    altered = tmp_path / "altered.safetensors"
    altered.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"altered\.safetensors"):
        read_packed(altered)


def test_what_is_no_packed_model(tmp_path):
    for content in (b"", b"text", bytes(100)):
        (tmp_path / "x.safetensors").write_bytes(content)
        with pytest.raises(CheckpointError, match="not a packed model"):
            spt_jax.load(tmp_path / "x.safetensors")


def test_runs_of_another_dataset_are_refused(runs, tmp_path):
    other = Dataset(LIBRARY)
    other.fingerprint = "of something else"
    with pytest.raises(RunError, match="was not trained on"):
        pack_runs(runs, other, tmp_path / "x.safetensors", Words("x", "", "", (), ""))


def test_a_name_is_enough_and_no_name_too(shop, capsys):
    by_name, by_default = spt_jax.load("both"), spt_jax.load()
    batch = Dataset(LIBRARY).split("test").batch
    first, second = (each.answers(batch.spectrum[:3], batch.atomic_number[:3]) for each in (by_name, by_default))
    np.testing.assert_array_equal(first["MBL"], second["MBL"])
    main(["predict", str(EXAMPLE)])
    alone, said = capsys.readouterr()
    assert said == "note: both learnt Co K from 92 spectra; how good it is there was not measured\n"
    main(["predict", "both", str(EXAMPLE)])
    assert capsys.readouterr().out == alone and "MBL" in alone
    folder = shop / "spectra"
    folder.mkdir()
    shutil.copy(EXAMPLE, folder / "xmu.dat")
    main(["predict", str(folder)])
    assert "MBL" in capsys.readouterr().out
    main(["models"])
    assert "both (default)" in capsys.readouterr().out


def test_without_a_default_a_model_must_be_named(tmp_path, monkeypatch):
    (tmp_path / shelf.CATALOGUE).write_text('{"default": "", "models": {}}')
    monkeypatch.setattr(shelf, "FOLDER", tmp_path)
    with pytest.raises(CheckpointError, match="no model is named"):
        spt_jax.load()
    assert not shelf.is_model(EXAMPLE) and not shelf.is_model("nobody") and not shelf.is_model(tmp_path)


def test_a_wrong_name_or_file_costs_one_line(shop, capsys):
    with pytest.raises(SystemExit):
        main(["predict", "nobody", str(EXAMPLE)])
    assert capsys.readouterr().err.splitlines() == [
        "spt-jax: error: nobody: no such file, nor a model of that name (`spt-jax models`)"
    ]
    with pytest.raises(SystemExit):
        main(["models", str(shop)])
    assert "have a card" in capsys.readouterr().err
    file = shop / "both.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match="not the both of the catalogue"):
        spt_jax.load("both")


@pytest.fixture
def served(packed):
    """Address of the folder that the packed model is in; closed after the test."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=packed.parent))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_by_its_address_it_is_fetched_once_and_only_if_it_is_the_one(packed, served, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    checksum = file_sha256(packed)
    address = f"{served}/{packed.name}#sha256={checksum}"
    main(["predict", address, str(EXAMPLE)])
    main(["models", address])
    assert "MBL" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="add #sha256="):
        spt_jax.load(f"{served}/{packed.name}")
    with pytest.raises(CheckpointError, match="was not kept"):
        spt_jax.load(f"{served}/{packed.name}#sha256={64 * '0'}")
    with pytest.raises(CheckpointError, match=r"not to be had \(File not found"):
        spt_jax.load(f"{served}/other.safetensors#sha256={64 * '0'}")
    assert [path.name for path in (tmp_path / "spt-jax" / "models").iterdir()] == [f"{checksum}.safetensors"]
    # Kept, so that nobody is asked; damaged, it is fetched again, and of no one.
    gone = f"http://127.0.0.1:9/{packed.name}#sha256={checksum}"
    assert spt_jax.load(gone)
    (tmp_path / "spt-jax" / "models" / f"{checksum}.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="not to be had"):
        spt_jax.load(gone)


def test_training_begins_with_the_member_of_its_kind(shop, runs):
    from spt_jax.training.warm_start import begin_with

    made = fresh(config(seed=5))
    begun = begin_with("both", made)
    assert begun.told[0].endswith("parameters of both") and len(begun.told) == 1


def test_what_ships_is_what_the_catalogue_says():
    shipped = shelf.Shelf.of()
    assert shipped.default in ("", *shipped.pinned)
    assert sum(shipped.checked(name).stat().st_size for name in shipped.pinned) < 10e6
    for name in shipped.pinned:
        card = read_card(shipped.path(name))
        assert card["name"] == name and card["licence"] and card["attribution"] and card["scores"]
