"""Explanations say what the network does: on fresh and planted networks, and through the command."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data_pipelines.dataset.elements import ElementStatistics
from data_pipelines.dataset.loading import Dataset, Split
from data_pipelines.errors import DatasetError, RunError, SpectrumError
from data_pipelines.library import LIBRARY
from data_pipelines.schema import NAMES, Batch, EnergyGrid, descriptor
from spt_jax.cli import main
from spt_jax.config import ExecutionConfig, ModelConfig
from spt_jax.explain import ablation, explanation
from spt_jax.explain.attribution import TOLERANCE, Explainer, Question, evenly_received, received
from spt_jax.explain.page import as_html
from spt_jax.explain.physics import CLAIMS, findings
from spt_jax.inference.load import load_run
from spt_jax.inference.predict import Model
from spt_jax.runs.blueprint import Blueprint
from spt_jax.runs.checkpoint import Checkpoints
from spt_jax.runs.export import export
from spt_jax.tasks import Task, make_tasks
from tests.conftest import AS_USERS
from tests.pages import Page

LENGTH = 16
GRID = EnergyGrid(points=LENGTH)
ENERGY = GRID.relative()
MEAN, STD = np.tanh(ENERGY / 10), np.linspace(0.05, 0.2, LENGTH)
SMALL = {
    "width": 8,
    "blocks": 1,
    "bands": 2,
    "highest_band": 5,
    "hidden": 16,
    "attention_heads": 2,
    "window": 3,
}
CN, MBL = Task("CN", 1, 11, 0.0, 1.0, 1.0, 1.0), Task("MBL", 8, 0, 2.0, 0.2, 1.0, 1.0)


def make(rng, folding="taps", tasks=(CN, MBL), **fields) -> Model:
    blueprint = Blueprint(
        model=ModelConfig(**{**SMALL, "denoise": False, **fields}),
        execution=ExecutionConfig(folding=folding),
        grid=GRID,
        absorbers=("Cu K",),
        tasks=tasks,
        classes={"CN": descriptor("CN").classes},
        spectrum_mean=tuple(MEAN),
        spectrum_std=tuple(STD),
        dataset="",
    )
    key, elements = jax.random.key(int(rng.integers(1000))), ElementStatistics.none(LENGTH)
    network = nnx.merge(*blueprint.build(key, np.outer(STD, STD), elements))
    # As after training: fresh positions are so small that the first steps from the mean spectrum are the whole change.
    network.position[...] *= 50
    return Model(blueprint, network)


def some(rng, size: int) -> tuple[np.ndarray, np.ndarray]:
    spectra = MEAN + STD * rng.normal(size=(size, LENGTH))
    return spectra.astype(np.float32), np.full(size, 29, np.int32)


def test_explaining_changes_no_bit_of_the_outputs(rng):
    network, given = make(rng, blocks=2).network, some(rng, 5)
    inner = jax.jit(network.explained, compiler_options=AS_USERS)
    plain = jax.jit(network, compiler_options=AS_USERS)(*given)
    explained, inside = inner(*given)
    again, _ = inner(*given, plain["bands"])
    for name, value in plain.items():
        np.testing.assert_array_equal(value, explained[name])
        np.testing.assert_array_equal(value, again[name])
    for seen in inside:
        np.testing.assert_allclose(seen.shares.sum(axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(seen.attention.sum(axis=0), 1, atol=1e-6)


def test_shares_are_the_same_whichever_way_the_folding_is_computed(rng):
    seed, given, found = int(rng.integers(1000)), some(rng, 5), []
    # 4 and 5 fold 16 points at the same period, so the plan computes them as one.
    bands = jnp.array([[[4, 5]], [[5, 3]], [[1, 4]], [[5, 2]], [[1, 2]]])
    for folding in ("taps", "spectral"):
        network = make(np.random.default_rng(seed), folding=folding, attention="none").network
        found.append(jax.jit(network.explained)(*given, bands)[1])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one.shares, other.shares, atol=1e-5)
        assert one.attention is None
    np.testing.assert_allclose(found[0][0].shares[0], 0.5, atol=1e-6)


def test_attention_received_is_attention_given(rng):
    reach, length = 3, 12
    weights = rng.random((2 * reach + 1, length, 2, 4))
    inside = np.abs(np.arange(-reach, reach + 1)[:, None] + np.arange(length) - (length - 1) / 2) < length / 2
    weights *= inside[:, :, None, None]
    weights /= weights.sum(axis=0)
    slow = np.zeros((2, length))
    for target in range(length):
        for offset in range(-reach, reach + 1):
            if 0 <= target + offset < length:
                slow[:, target + offset] += weights[offset + reach, target].mean(axis=-1)
    found = np.asarray(received(jnp.asarray(weights)))
    np.testing.assert_allclose(found, slow, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), length, atol=1e-4)
    even = jnp.asarray(np.broadcast_to((inside / inside.sum(axis=0))[..., None, None], weights.shape))
    np.testing.assert_allclose(received(even)[0], evenly_received(length, reach), atol=1e-5)


def test_looking_inside_a_network_adds_up(rng):
    model, (spectra, numbers) = make(rng), some(rng, 35)
    looked = Explainer(model).look(spectra, numbers)
    np.testing.assert_allclose(looked.attention.sum(axis=-1), LENGTH, rtol=1e-5)
    np.testing.assert_allclose(looked.shares.sum(axis=-1), 1, atol=1e-5)
    assert (looked.chosen.sum(axis=-1) == SMALL["bands"]).all() and not looked.shares[~looked.chosen].any()
    bands = model.outputs(spectra, numbers)["bands"]
    assert all(set(np.flatnonzero(c) + 1) == set(b) for c, b in zip(looked.chosen[:, 0], bands[:, 0], strict=True))


def test_attributions_add_up_and_one_program_serves_all_questions(rng):
    model, (spectra, numbers) = make(rng), some(rng, 35)
    explainer = Explainer(model)
    outputs = model.outputs(np.concatenate([spectra, MEAN[None]]), np.append(numbers, 29))
    odds = lambda logits, of, against: logits[:, of] - np.logaddexp.reduce(logits[:, against], axis=1)  # noqa: E731
    others = [c for c in range(11) if c != 4]
    cases = {
        Question(CN, 3, (5,)): odds(outputs["CN"], 3, [5]),
        Question(CN, 4): odds(outputs["CN"], 4, others),
        Question(MBL): outputs["MBL"] * MBL.std,
    }
    for question, value in cases.items():
        found = explainer.attribute(spectra, numbers, [question] * 35)
        np.testing.assert_allclose(found.change, value[:-1] - value[-1], atol=1e-4)
        assert found.gap < TOLERANCE
        np.testing.assert_allclose(found.values.sum(axis=1), found.held, atol=0.05 * np.abs(found.held).max())
        assert np.abs(found.change - found.held).max() > 0  # the mean chooses other bands than a spectrum
    assert explainer._attribute._cache_size() == 1


def test_nothing_is_attributed_where_a_planted_network_has_no_weight(rng):
    model, (spectra, numbers) = make(rng, hidden_layers=1), some(rng, 4)
    heads = model.network.heads
    planted = np.zeros(heads.shared.kernel[...].shape, np.float32)
    weight = np.zeros(LENGTH)
    weight[7:12] = rng.normal(size=5)
    planted[-LENGTH:, 0] = weight  # the input signal enters the heads last
    heads.shared.kernel[...] = jnp.asarray(planted)
    heads.shared.bias[...] = jnp.full_like(heads.shared.bias[...], 50.0)  # there the activation is the identity
    outputs = np.zeros(heads.outputs.kernel[...].shape, np.float32)
    outputs[0, -1] = 1.0
    heads.outputs.kernel[...] = jnp.asarray(outputs)
    found = Explainer(model).attribute(spectra, numbers, [Question(MBL)] * 4)
    np.testing.assert_allclose(found.values, MBL.std * weight * (spectra - MEAN) / STD, atol=1e-4)
    assert not found.values[:, weight == 0].any()


def test_taking_out_a_frequency_that_is_not_there_changes_nothing(rng):
    place, spectra = np.arange(LENGTH), np.tile(MEAN, (6, 1))
    for frequency in (1, 3, LENGTH // 2):
        angle = 2 * np.pi * frequency * place / LENGTH
        waves = np.stack([np.cos(angle), np.sin(angle)])
        spectra += STD * (rng.normal(size=(6, 2)) @ waves)
    for frequency in (2, 4, LENGTH // 2 - 1):
        np.testing.assert_allclose(ablation.without_frequency(spectra, frequency, MEAN, STD), spectra, atol=1e-12)
    without = (ablation.without_frequency(spectra, 3, MEAN, STD) - MEAN) / STD
    wave = np.exp(2j * np.pi * 3 * place / LENGTH)
    slow = (spectra - MEAN) / STD
    slow -= 2 / LENGTH * (np.outer(slow @ wave.real, wave.real) + np.outer(slow @ wave.imag, wave.imag))
    np.testing.assert_allclose(without, slow, atol=1e-12)


def test_losses_are_of_what_was_taken_out(rng):
    cuts = ablation.windows(LENGTH, 6)
    assert [i for cut in cuts for i in range(cut.start, cut.stop)] == list(range(LENGTH))
    spectra, numbers = some(rng, 30)
    labels, mask = np.zeros((30, len(NAMES)), np.float32), np.zeros((30, len(NAMES)), bool)
    labels[:, MBL.column], mask[:, MBL.column] = spectra[:, 8], True  # window 1: points 6 to 11
    ablated = (ablation.without_window(spectra, cut, MEAN) for cut in cuts)
    answer = lambda mu, _: {"MBL": mu[:, 8]}  # noqa: E731
    scores, lost = ablation.losses(answer, Batch(spectra, numbers, labels, mask), ablated, len(cuts), lambda *_: None)
    assert scores["MBL"] == pytest.approx(1) and lost["MBL"][1] > 0.9
    np.testing.assert_allclose(np.delete(lost["MBL"], 1), 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with a network that was never trained."""
    out, dataset = tmp_path_factory.mktemp("explain") / "run", Dataset(LIBRARY)
    train = dataset.statistics("train")
    tasks, execution = make_tasks(("OS", "CN", "MBL"), train), ExecutionConfig(folding="taps")
    blueprint = Blueprint.of(ModelConfig(**SMALL), execution, dataset.grid, tasks, train, dataset.fingerprint)
    _, params, constants = blueprint.build(jax.random.key(0), train.covariance, train.elements)
    out.mkdir()
    checkpoints = Checkpoints(out)
    checkpoints.save_model(0, {"params": params, "constants": constants}, blueprint.to_json())
    checkpoints.close()
    return out


def test_the_command_writes_page_and_numbers(run, capsys):
    capsys.readouterr()
    main(["explain", str(run), "--data", str(LIBRARY), "--sites", "2"])
    lines = capsys.readouterr().out.splitlines()
    page, document = (run / "explain.html").read_text(), json.loads((run / "explain.json").read_text())
    asked = document["physics"]["findings"]
    assert len(lines) == len(asked) + len(CLAIMS) + 1 and lines[-1] == f"{run}/explain.html"
    assert document["absorber"] == "Fe K" and document["sites"] == 18  # the most frequent of the test split
    assert page.count("<svg") >= 3 * len(document["descriptors"])
    top, below = Page(page).text.split("Three questions whose answers are known")
    # A verdict alone says nothing: the claim and the number stand beside it.
    for claim in CLAIMS:
        own = next(e for e in asked if e["question"] == claim.name and e["absorber"] == "Fe K")
        data, model = own["data"], own["model"]
        assert f"{claim.text} data: {data['verdict']}" in top
        assert "not learnt" in top if claim.descriptor == "OCN" else f"{model['sites']:,} sites" in top
        assert data["effect"] is None or f"± {data['error']:.3f}" in top
    assert {line.split()[0] for line in lines[1:-1] if line.startswith("  ")} == {
        e["absorber"].split()[0] for e in asked
    }
    assert "Cannot be asked" not in below
    for found in document["descriptors"].values():
        for group in found["groups"]:
            assert len(group["mean"]) == len(group["attribution_per_ev"]) == 144
            assert np.sum(group["shares"]) == pytest.approx(1, abs=1e-4)


def labelled(rng, size: int = 30) -> Split:
    spectra, numbers = some(rng, size)
    labels, mask = np.zeros((size, len(NAMES)), np.float32), np.zeros((size, len(NAMES)), bool)
    labels[:, CN.column], mask[:, CN.column] = rng.integers(3, 6, size), True
    labels[:, MBL.column], mask[:, MBL.column] = rng.uniform(1.8, 2.2, size), True
    names = tuple(map(str, range(size)))
    return Split(names, names, ("Cu K",) * size, Batch(spectra, numbers, labels, mask))


def page_of(model: Model, split: Split) -> Page:
    found = explanation.explain(model, split, 3, lambda *_: None)
    asked = findings(model.answers, {"CN"}, split, split, ENERGY)
    document = {
        "run": "run",
        "split": "test",
        "absorber": "Cu K",
        "physics": {"data_split": "train", "findings": asked},
    }
    document = json.loads(json.dumps({**document, **found}, allow_nan=False))
    return Page(as_html(document))


def test_what_a_network_has_not_is_said_and_the_rest_is_shown(rng):
    split = labelled(rng)
    bare = make(rng, bands=0, attention="none")
    peer = Model(bare.blueprint, lambda spectrum, number: bare.network(spectrum, number))
    text = page_of(bare, split).text
    assert text.count("Cannot be asked") == 2 and "no attention" in text and "no bands" in text
    assert "Completeness" in text and "complete" in text
    text = page_of(peer, split).text
    assert text.count("Cannot be asked") == 1 and "Completeness" not in text and "Without an energy" in text
    unlabelled = split.batch._replace(mask=np.zeros_like(split.batch.mask))
    assert "Cannot be asked: no class" in page_of(peer, replace(split, batch=unlabelled)).text


def test_spectra_that_end_early_are_explained(rng):
    split = labelled(rng)
    split.batch.spectrum[:20, -4:] = np.nan
    split.batch.spectrum[5, -6:] = np.nan
    text = page_of(make(rng, gaps=True), split).text
    assert "nan" not in text.lower() and "Cannot be asked" not in text


def test_what_cannot_be_explained_gets_one_line(run, tmp_path, capsys):
    def fails(*arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(["explain", *arguments, "--data", str(LIBRARY)])
        message = capsys.readouterr().err
        assert stop.value.code and message.startswith("spt-jax: error: ") and message.count("\n") == 1, message
        return message

    assert "no Cu in split 'test'; it has Fe K" in fails(str(run), "--element", "Cu")
    assert "spt-jax train" in fails(str(tmp_path / "nowhere"))
    assert "is a folder" in fails(str(run), "--out", str(tmp_path))
    assert ".json" in fails(str(run), "--out", str(tmp_path / "page.json"))
    assert "at least 1" in fails(str(run), "--sites", "0")
    assert "split" in fails(str(run), "--split", "elsewhere")
    model, dataset = load_run(run), Dataset(LIBRARY)
    export(model.blueprint, model.network, tmp_path / "model.spt", platforms=("cpu",))
    assert "name it, for instance --out" in fails(str(tmp_path / "model.spt"))
    with pytest.raises(RunError, match="inner parts"):
        Explainer(Model(model.blueprint, lambda spectrum, number: {}))
    dataset.examples = {**dataset.examples, "validation": 0}
    with pytest.raises(DatasetError, match="no examples in split 'validation'"):
        explanation.select(model, dataset, "validation", None)
    dataset.grid = GRID
    with pytest.raises(DatasetError, match="the model was trained on"):
        explanation.select(model, dataset, "test", None)


def test_an_element_the_model_does_not_know_is_refused(rng):
    model, dataset = make(rng), Dataset(LIBRARY)
    dataset.grid = GRID
    with pytest.raises(SpectrumError, match="trained on Cu K"):
        explanation.select(model, dataset, "test", "Fe")
