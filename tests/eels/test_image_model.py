"""From calculated edges and an image to answers for every pixel, by the command line, and what is refused on the way."""

import json

import jax
import numpy as np
import pytest

from data_pipelines.errors import CheckpointError, UserError
from data_pipelines.library import EXAMPLE, LIBRARY
from data_pipelines.readers.images.open import open_image
from data_pipelines.spectra.rebin import rebinning
from spt_jax.cli import main
from spt_jax.eels import answer as answers
from spt_jax.eels.answer import in_memory, load_image_model
from spt_jax.eels.program import doubt
from spt_jax.runs.folder import read_log
from tests.eels.conftest import SMALL_LIVE
from tests.eels.planted_phases import planted, write_image
from tests.test_cli import fails


@pytest.fixture(scope="module")
def model(phase_run):
    return load_image_model(phase_run.run)


@pytest.fixture(scope="module")
def counts(phase_run):
    return phase_run.truth.counts


ENERGY = 440 + 0.3 * np.arange(512)


def image(counts):
    return in_memory(counts, ENERGY)


@pytest.fixture(scope="module")
def whole(model, counts):
    """With spectra."""
    return model.answer(image(counts))


def test_an_image_is_answered_by_the_command_line(phase_run, tmp_path, capsys):
    page, file = tmp_path / "a.html", tmp_path / "a.npz"
    main(["image", str(phase_run.run), str(phase_run.file), "--html", str(page), "--out", str(file)])
    said = capsys.readouterr().out
    assert all(name in said for name in ("layered", "rock salt", "spinel")) and "Latent space" in page.read_text()
    with np.load(file) as found:
        assert found["phase"].shape == (1, 12, 14) and found["class_denoised"].shape == (3, len(found["energy"]))
        assert (found["phase"][0] == phase_run.truth.phase).mean() > 0.8


def test_learning_beats_the_trivial_answer(phase_run, whole):
    """A guess is right in a third of the calculated rows, and scores 0; the image's pixels it never saw with classes."""
    last = read_log(phase_run.run)[-1]
    assert last["validation"]["phase"] > 0.35 and last["validation"]["share"] > 0.2
    truth = phase_run.truth
    most = np.bincount(truth.phase.ravel()).max() / truth.phase.size
    assert (whole.phase[0] == truth.phase).mean() > most + 0.3
    error = np.sqrt(((whole.share[0] - truth.shares) ** 2).mean())
    assert error < 0.6 * np.sqrt(((truth.shares.mean(axis=(0, 1)) - truth.shares) ** 2).mean())


def test_a_pixel_without_an_edge_is_unlike_any(model, rng):
    """One in forty is two standard errors above; those with an edge are answered as ever."""
    truth = planted(seed=3, dose=200.0, height=30, width=30)
    counts = truth.counts.copy()
    counts[:, :15] = rng.poisson(truth.background[:, :15])
    found, before = (model.answer(image(each), spectra=False, gain=1.0).unlike[0] for each in (counts, truth.counts))
    assert 0.93 < (found[:, :15] > 1).mean() < 1
    np.testing.assert_allclose(found[:, 15:], before[:, 15:], rtol=1e-3)
    rows = np.concatenate([np.full(4, 500.0), np.full(100, 20.0)])
    base = np.concatenate([np.full(4, 500.0), np.full(100, 10.0)])
    given = (np.array(each, np.float32) for each in ([rows, base, rows / 10], [base, base, base / 10]))
    # 1,000 counts above 1,000, of which the scatter is 45 and that of the background three times 22; none; a tenth of all.
    np.testing.assert_allclose(
        doubt(*given, 4, 9.0), [2 * np.sqrt(2000 + 4500) / 1000, 100, 2 * np.sqrt(200 + 450) / 100], rtol=1e-4
    )


def test_maps_are_probabilities_and_spectra_have_less_noise(phase_run, whole):
    np.testing.assert_allclose(whole.probability.sum(axis=-1), 1, rtol=1e-4)
    np.testing.assert_allclose(whole.share.sum(axis=-1), 1, rtol=1e-4)
    np.testing.assert_array_equal(whole.probability.argmax(axis=-1), whole.phase)
    truth = phase_run.truth
    channels = np.abs(ENERGY[:, None] - whole.energy).argmin(axis=0)
    clean = truth.signal[..., channels]
    noise, left = (np.sqrt(((each[0] - clean) ** 2).mean()) for each in (whole.signal, whole.denoised))
    assert left < 0.7 * noise
    assert all(np.isfinite(values).all() for values in whole.maps.values())


def test_what_is_said_is_what_the_network_says(model, counts):
    """Without spectra: no pixel knows of another."""
    found = model.answer(image(counts), spectra=False, gain=1.0)
    rows = rebinning(ENERGY, model.grid)(counts.reshape(-1, 512)).astype(np.float32)
    said = jax.jit(model.network)(rows, np.full(len(rows), 8, np.int32))
    decisions = model.blueprint.phases
    want = decisions.probability(np.float64(said["phase"]))
    np.testing.assert_allclose(found.probability.reshape(-1, 3), want, atol=2e-3)
    np.testing.assert_allclose(found.unlike.ravel(), decisions.unlike(np.float64(said["latent"])), rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(found.latent.reshape(len(rows), -1), said["latent"], rtol=1e-2, atol=1e-2)
    alone = model.answer(image(counts[4:5, 5:6]), spectra=False, gain=1.0)
    np.testing.assert_allclose(alone.probability[0, 0, 0], found.probability[0, 4, 5], atol=2e-3)


def test_in_pieces_as_at_once(model, counts, monkeypatch):
    series = in_memory(counts, ENERGY)
    whole = model.answer(series, spectra=False, gain=1.0)
    monkeypatch.setattr(answers, "PIXELS", 100)
    pieces = model.answer(series, spectra=False, gain=1.0)
    np.testing.assert_array_equal(pieces.phase, whole.phase)
    np.testing.assert_allclose(pieces.probability, whole.probability, atol=1e-3)


def test_the_unit_of_counts_changes_nothing(model, counts):
    one = model.answer(image(counts), spectra=False)
    for factor in (50.0, 1e-6, 1e-10):
        other = model.answer(image(counts * np.float32(factor)), spectra=False)
        assert any("as if an electron made" in note for note in other.notes)
        np.testing.assert_allclose(other.probability, one.probability, atol=5e-3)
        np.testing.assert_allclose(other.maps["exponent"], one.maps["exponent"], atol=0.01)


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_rows_without_counts_are_left_out_and_the_others_stay(model, counts, value):
    one = model.answer(image(counts), spectra=False, gain=1.0)
    broken = counts.copy()
    broken[0], broken[5, 3, 100:] = value, np.nan
    found = model.answer(image(broken), spectra=False)
    assert (found.phase[0, 0] == -1).all() and found.phase[0, 5, 3] == -1 and (found.phase == -1).sum() == 15
    assert np.isnan(found.probability[found.phase < 0]).all()
    kept = found.phase >= 0
    assert (found.phase[kept] == one.phase[kept]).mean() > 0.97
    assert "left out 15 of 168 pixels" in found.notes


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_dead_channels_change_little_and_are_told(model, counts, value):
    one = model.answer(image(counts), spectra=False, gain=1.0)
    broken = counts.copy()
    broken[..., [200, 330]] = value
    found = model.answer(image(broken), spectra=False, gain=1.0)
    assert "2 channels are dead in all pixels and left out of the sums" in found.notes
    assert (found.phase == one.phase).mean() > 0.9


def test_what_cannot_be_answered_is_refused_in_a_line(model, counts):
    for bad, said in (
        (counts * 0, "no pixel can be used: 168 no counts"),
        (counts * np.nan, "no pixel can be used: 168 not finite"),
        (-counts, "no pixel can be used: 168 no counts"),
        (np.where((ENERGY > 525) & (ENERGY < 540), 0, counts), "two sums of channels side by side are dead"),
    ):
        with pytest.raises(UserError, match=said):
            model.answer(image(np.float32(bad)), spectra=False)
    with pytest.raises(UserError, match=r"has energies from 440\.0 to 529\.7 eV; the O K edge .* asks for"):
        model.answer(in_memory(counts[..., :300], ENERGY[:300]), spectra=False)
    with pytest.raises(UserError, match="a frame is rows x columns x 512 energies"):
        model.answer_frame(counts[0], ENERGY)


def test_a_line_a_series_and_a_pixel(model, counts, tmp_path):
    assert model.answer(image(counts[:1]), spectra=False).phase.shape == (1, 1, 14)
    pixel = model.answer(image(counts[3:4, 4:5]), spectra=False)
    assert pixel.phase.shape == (1, 1, 1) and pixel.phase.item() >= 0
    file = write_image(tmp_path / "series.npy", np.stack([counts[:6], counts[6:]]))
    both = model.answer(open_image(file), spectra=False, gain=1.0)
    one = model.answer(image(counts), spectra=False, gain=1.0)
    np.testing.assert_array_equal(both.phase.reshape(12, 14), one.phase[0])


def test_an_image_of_something_else_is_flagged(model):
    other = planted(seed=3)
    rng = np.random.default_rng(0)
    ramp = 40 * np.sin(np.arange(512) / 9) ** 2 * (ENERGY > 525)
    found = model.answer(image(rng.poisson(other.background + 20 * ramp).astype(np.float32)))
    assert (found.unlike[found.phase >= 0] > 1).mean() > 0.8


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "{run}", str(EXAMPLE)],
        ["predict", "{run}", "{file}"],
        ["predict", "{run}", "--data", "{library}", "--out", "{tmp}/p.parquet"],
        ["evaluate", "{run}", "--data", "{library}"],
        ["explain", "{run}", "--data", "{library}"],
        ["compare", "a={run}", "b={run}", "--data", "{library}"],
        ["finetune", "{run}", "--data", "{library}", "--out", "{tmp}/f"],
        ["pack", "{run}", "--data", "{library}", "--out", "{tmp}/m.safetensors"],
        ["serve", "{run}", "--port", "0"],
        ["series", "{run}", "{file}"],
    ],
    ids=lambda command: command[0],
)
def test_commands_for_spectra_name_the_one_for_images(phase_run, tmp_path, capsys, command):
    given = {"run": phase_run.run, "file": phase_run.file, "library": LIBRARY, "tmp": tmp_path}
    assert f"spt-jax image {phase_run.run} FILE" in fails(capsys, *(each.format(**given) for each in command))


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "spt-k", "--data", "{data}"],
        ["predict", "spt-k", "--data", "{data}", "--out", "{tmp}/p.parquet"],
        ["compare", "a=extra_trees", "b=decision_tree", "--data", "{data}"],
        ["finetune", "spt-k", "--data", "{data}", "--out", "{tmp}/f"],
        ["explain", "spt-k", "--data", "{data}", "--out", "{tmp}/e.html"],
        ["data", "verify", "{data}"],
        ["data", "card", "{data}"],
        ["pack", "{run}", "--data", "{data}", "--out", "{tmp}/m.safetensors"],
        ["study", "{data}", "--out", "{tmp}/s"],
        ["ablate", "{data}", "--out", "{tmp}/s"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_commands_for_spectra_name_what_a_set_of_images_is_for(phase_run, tmp_path, capsys, command):
    given = {"run": phase_run.run, "data": phase_run.data, "tmp": tmp_path}
    assert "holds spectrum images, which `spt-jax train image` learns" in fails(
        capsys, *(each.format(**given) for each in command)
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["base", "--data", "{data}"], "this dataset has spectrum images; train the preset image"),
        (
            ["base", "--objective", "masked", "--data", "{data}"],
            "this dataset has spectrum images; train the preset image",
        ),
        (
            ["live", "--objective", "masked", "--data", "{data}"],
            "this dataset has spectrum images; train the preset image",
        ),
        (
            ["live", "--objective", "labels", "--data", "{data}"],
            "this dataset has spectrum images; train the preset image",
        ),
        (["mlp", "--objective", "images", "--data", "{data}"], "train the preset image"),
        (["live", "--data", "{library}"], "objective images learns spectrum images"),
        (["live", "--data", "{data}", "{library}"], "spectrum images are not mixed with other sets"),
        (["live", "--data", "{data}", "--train.input", "stream"], "train with --train.input resident"),
    ],
)
def test_what_cannot_be_trained_claims_no_folder(phase_run, tmp_path, capsys, arguments, said):
    given = [each.format(data=phase_run.data, library=LIBRARY) for each in arguments]
    assert said in fails(capsys, "train", *given, "--out", str(tmp_path / "run")).replace(
        "reading the data, compiling", ""
    )
    assert not (tmp_path / "run").exists()


def test_an_exported_file_answers_alike(phase_run, model, counts, tmp_path, capsys):
    file = tmp_path / "m.spt"
    main(["export", str(phase_run.run), "--out", str(file)])
    assert f"spt-jax image {file}" in capsys.readouterr().out
    for spectra in (False, True):
        one, other = (each.answer(image(counts), spectra=spectra) for each in (model, load_image_model(file)))
        np.testing.assert_allclose(one.probability, other.probability, atol=2e-2)
        np.testing.assert_allclose(one.unlike, other.unlike, rtol=1e-2)
    assert "spectrum images" in fails(capsys, "export", str(phase_run.run), "--out", str(file), "--compiled-batch", "1")
    assert f"{file}" in fails(capsys, "predict", str(file), str(EXAMPLE))


def test_a_model_of_spectra_answers_no_image(phase_run, tmp_path, capsys):
    with pytest.raises(CheckpointError):
        load_image_model(phase_run.data)
    assert "not an exported model" in fails(capsys, "image", "spt-k", str(phase_run.file))
    assert "no such file, nor a model" in fails(capsys, "image", str(tmp_path / "nowhere"), str(phase_run.file))
    assert "a folder" in fails(capsys, "image", str(phase_run.run), str(phase_run.theory))
    config = json.loads((phase_run.run / "config.json").read_text())
    assert config["model"]["trunk"] is None


def test_a_run_goes_on_as_if_it_had_not_stopped(phase_run, tmp_path, capsys):
    """An epoch, and another one: bit for bit the run of two."""
    from tests.training.test_train import final_state, losses

    out = tmp_path / "run"
    given = ["train", "live", "--data", str(phase_run.data), "--out", str(out), *SMALL_LIVE]
    main([*given, "--train.epochs", "1"])
    main(given)
    assert "spt-jax image" in capsys.readouterr().out.splitlines()[-1]
    assert losses(out) == losses(phase_run.run)
    for ours, theirs in zip(final_state(out), final_state(phase_run.run), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert "another model.hidden" in fails(capsys, *given, "--model.hidden", "16")


def test_half_precision_trains(phase_run, tmp_path, capsys):
    from tests.training.test_train import losses

    out = tmp_path / "run"
    given = ["--train.epochs", "1", "--execution.dtype", "bfloat16"]
    main(["train", "live", "--data", str(phase_run.data), "--out", str(out), *SMALL_LIVE, *given])
    assert losses(out)[0] == pytest.approx(losses(phase_run.run)[0], rel=0.1)
    assert (load_image_model(out).answer(open_image(phase_run.file), spectra=False).phase >= 0).all()


def test_eight_devices_train_as_one(phase_run, tmp_path):
    import os
    import subprocess
    import sys

    from tests.training.test_train import flags, losses

    out = tmp_path / "run"
    line = [sys.executable, "-m", "spt_jax.launch", "train", "live", "--data", str(phase_run.data), "--out", str(out)]
    environment = {**os.environ, "XLA_FLAGS": flags(8), "NPROC": "16"}
    given = [*SMALL_LIVE, "--train.epochs", "1", "--execution.fsdp", "0"]
    subprocess.run([*line, *given], env=environment, timeout=600, check=True, capture_output=True)
    np.testing.assert_allclose(losses(out), losses(phase_run.run)[:1], rtol=1e-3)
