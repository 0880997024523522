"""The elements of the shells, from the embedded library to every form of an answer; nothing of them where not asked for."""

import csv
import io
import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score

import spt_jax
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import RunError
from data_pipelines.library import EXAMPLE, LIBRARY
from data_pipelines.schema import SYMBOLS
from data_pipelines.shells import shell_labels
from spt_jax.cli import main
from spt_jax.explain import ablation
from spt_jax.explain.explanation import groups
from spt_jax.inference.ensemble import together
from spt_jax.inference.prediction import LIKELY, TOLD
from spt_jax.reports.report import write_report
from tests.inference.test_face import RUNS
from tests.test_cli import fails

ASKED = ("CN", "NN1", "NN2")
# Neither bands nor graph: these compile fastest.
SMALL = (
    "--train.epochs 40 --train.learning-rate 0.01 --model.width 8 --model.blocks 1 --model.hidden 32 --model.bands 0"
)
SMALL += " --model.attention none"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("shells") / "run"
    main(
        ["train", "tiny", "--data", str(LIBRARY), "--out", str(out), *SMALL.split(), "--objective.descriptors", *ASKED]
    )
    return out


@pytest.fixture(scope="module")
def model(run):
    return spt_jax.load(run)


@pytest.fixture(scope="module")
def batch():
    return Dataset(LIBRARY).split("test").batch


def test_they_are_learnt_where_they_are_named(model, batch):
    """Of copper's neighbours no site of the library tells, so no probability is but 0."""
    answers = model.answers(batch.spectrum, batch.atomic_number)
    assert tuple(answers) == ASKED
    train = Dataset(LIBRARY).statistics("train").labels
    for name in ("NN1", "NN2"):
        shown = train[name].counts.sum(axis=0) > 0
        shown[0] = False
        assert answers[name].shape == (75, len(SYMBOLS))
        np.testing.assert_array_equal((answers[name] > 0).any(axis=0), shown)
    with pytest.raises(RunError, match=r"NN3; known: .*NN1, NN2"):
        spt_jax.config.LabelsConfig(descriptors=("CN", "NN3"))


def test_the_score_is_told_beside_that_of_the_frequencies(run, model, batch, capsys):
    main(["evaluate", str(run), "--data", str(LIBRARY)])
    told, metrics = capsys.readouterr().out, json.loads((run / "metrics.json").read_text())
    answers, train = model.answers(batch.spectrum, batch.atomic_number), Dataset(LIBRARY).split("train").batch
    for name in ("NN1", "NN2"):
        found, (known, present) = metrics["descriptors"][name], shell_labels(batch, name)
        labelled, shown = shell_labels(train, name)
        absorbers = train.atomic_number[labelled]
        shares = {absorber: shown[absorbers == absorber].mean(axis=0) for absorber in np.unique(absorbers)}
        for symbol, each in found["elements"].items():
            z = SYMBOLS.index(symbol)
            assert each["sites"] == present[:, z].sum()
            assert each["ap"] == pytest.approx(
                average_precision_score(present[:, z], answers[name][known, z]), abs=1e-3
            )
            prior = [shares[absorber][z] for absorber in batch.atomic_number[known]]
            assert found["prior"]["elements"][symbol]["ap"] == pytest.approx(
                average_precision_score(present[:, z], prior)
            )
        assert f"{found['ap_macro']:.3f}" in told and f"{found['prior']['ap_macro']:.3f}" in told
    learnt = spt_jax.evaluate(model, LIBRARY, "train").metrics["descriptors"]["NN2"]
    assert learnt["ap_macro"] > learnt["prior"]["ap_macro"], "of 90 materials it learns little for new ones"
    assert "Li" in told and "Sr" not in told, "strontium is at a few sites"


def test_every_form_says_the_same(run, model, tmp_path, capsys):
    [prediction] = spt_jax.predict(run, EXAMPLE)
    own = prediction.values["NN2"]
    chances = list(own.elements.values())
    assert chances == sorted(chances, reverse=True) and min(chances) >= TOLD
    assert own.value == tuple(symbol for symbol, p in own.elements.items() if p >= LIKELY)
    assert not own.probabilities and own.interval is None and prediction.values["NN1"].value == ("O",)
    main(["predict", str(run), str(EXAMPLE)])
    assert all(f"{symbol}: {100 * p:.0f} %" in capsys.readouterr().out for symbol, p in list(own.elements.items())[:1])
    main(["predict", str(run), str(EXAMPLE), "--format", "json"])
    [told] = json.loads(capsys.readouterr().out)
    assert told["descriptors"]["NN2"]["value"] == list(own.value)
    assert told["descriptors"]["NN2"]["probabilities"] == pytest.approx(own.elements, abs=1e-6)
    main(["predict", str(run), str(EXAMPLE), "--format", "csv"])
    rows = [row for row in csv.DictReader(io.StringIO(capsys.readouterr().out)) if row["descriptor"] == "NN2"]
    assert {row["value"]: float(row["probability"]) for row in rows} == pytest.approx(own.elements)


def test_tables_have_a_list_and_a_map(run, model, tmp_path):
    split = Dataset(LIBRARY).split("test")
    energy = [model.blueprint.grid.absolute(absorber.split()[0]) for absorber in split.absorbers]
    elements = [absorber.split()[0] for absorber in split.absorbers]
    frame = spt_jax.predict(
        run, pd.DataFrame({"energy": energy, "mu": list(split.batch.spectrum), "element": elements})
    )
    main(["predict", str(run), "--data", str(LIBRARY), "--split", "test", "--out", str(tmp_path / "answers.parquet")])
    table = pq.read_table(tmp_path / "answers.parquet").to_pydict()
    for row in range(len(frame)):
        assert tuple(table["NN2"][row]) == frame["NN2"][row]
        assert dict(table["NN2_probability"][row]) == pytest.approx(frame["NN2_probability"][row], abs=1e-3)


def test_the_mean_of_two_and_an_exported_file_answer_alike(run, model, batch, tmp_path):
    said = model.decisions.probabilities(model.answers(batch.spectrum, batch.atomic_number), batch.atomic_number)
    assert set(model.decisions.temperature) == set(ASKED)
    both = together([model, model]).answers(batch.spectrum, batch.atomic_number)
    main(["export", str(run), "--out", str(tmp_path / "model.spt")])
    alone = spt_jax.load(tmp_path / "model.spt")
    assert alone.blueprint.tasks == model.blueprint.tasks
    assert [task.keys() & {"elements"} for task in model.blueprint.to_json()["tasks"]] == [set(), *[{"elements"}] * 2]
    for name in ("NN1", "NN2"):
        np.testing.assert_allclose(both[name], said[name], atol=1e-5)
        own = alone.decisions.probabilities(alone.answers(batch.spectrum, batch.atomic_number), batch.atomic_number)
        np.testing.assert_allclose(own[name], said[name], atol=1e-4)


def test_the_report_has_their_scores(run, model):
    dataset = Dataset(LIBRARY)
    write_report(run, spt_jax.evaluate(model, dataset), model.blueprint, dataset)
    assert "elements in the second shell" in (run / "report.html").read_text()


def test_explanations_leave_them_out(model, batch):
    assert [task.name for task in model.blueprint.tasks if groups(task, batch)] == ["CN"]
    scores, _ = ablation.losses(model.answers, batch, [], 0, lambda done, total: None)
    assert list(scores) == ["CN"]


def test_a_dataset_without_them_says_so(tmp_path, capsys):
    source, grid, split = tmp_path / "table.parquet", Dataset(LIBRARY).grid, Dataset(LIBRARY).split("train")
    rows = range(len(split.ids))
    columns = {
        "id": split.ids,
        "material": split.materials,
        "absorber": [split.absorbers[i].split()[0] for i in rows],
        "omega": [grid.absolute(split.absorbers[i].split()[0]).tolist() for i in rows],
        "mu": [split.batch.spectrum[i].tolist() for i in rows],
    }
    pq.write_table(pa.table(columns), source)
    main(["prepare", str(source), "--out", str(tmp_path / "set"), "--workers", "1"])
    assert "masked    no structure" in (tmp_path / "set" / "data_card.txt").read_text()
    places = ("--data", str(tmp_path / "set"), "--out", str(tmp_path / "run"))
    words = fails(capsys, "train", "tiny", *places, "--objective.descriptors", "CN", "NN2")
    assert "has a label of CN, NN2" in words, "it has none at all"


def test_a_dataset_from_before_they_were_labels_says_so(tmp_path, capsys):
    """It trains on all that it has; but it is not to grow, for its old spectra would be without them."""
    shutil.copytree(LIBRARY, tmp_path / "set")
    card = json.loads((tmp_path / "set" / "data_card.json").read_text())
    del card["shells"]
    (tmp_path / "set" / "data_card.json").write_text(json.dumps(card))
    words = fails(capsys, "prepare", str(RUNS), "--out", str(tmp_path / "set"), "--add")
    assert "lacks NN1 and NN2" in words and len(Dataset(tmp_path / "set").split("test").ids) == 75
