"""An ensemble's folder is a model: the mean of its seeds, or each expert on what it learnt."""

import json
from dataclasses import replace

import numpy as np
import pytest

import spt_jax
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import CheckpointError, UserError
from data_pipelines.library import EXAMPLE, LIBRARY
from data_pipelines.schema import DESCRIPTORS
from spt_jax.cli import main
from spt_jax.inference.ensemble import together
from spt_jax.inference.load import load_members
from spt_jax.scoring.calibration import with_temperature
from spt_jax.scoring.decide import decide
from spt_jax.scoring.decisions import Decisions
from tests.runs.formats import EXPORT_1

# Neither bands nor graph: what is tested is what becomes of several networks, and these compile fastest.
SMALL = "--objective.descriptors CN MBL --train.epochs 2 --model.width 8 --model.blocks 1 --model.hidden 16 --model.bands 0 --model.attention none"


SEEDS, EXPERTS = "--seeds 2", ""


@pytest.fixture(scope="module")
def folder(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("ensemble") / "out"
    main(["ensemble", "tiny", "--data", str(LIBRARY), "--out", str(out), *SMALL.split(), *request.param.split()])
    return out


@pytest.fixture(scope="module")
def batch():
    return Dataset(LIBRARY).split("test").batch


@pytest.mark.parametrize("folder", [SEEDS, EXPERTS], indirect=True)
def test_the_mean_is_of_those_that_learnt(folder, batch):
    members = load_members(folder)
    answers = spt_jax.load(folder).answers(batch.spectrum, batch.atomic_number)
    own = [
        model.decisions.probabilities(model.answers(batch.spectrum, batch.atomic_number), batch.atomic_number)
        for model in members.values()
    ]
    assert set(answers) == {"CN", "MBL"}
    for name, found in answers.items():
        expected = np.mean([each[name] for each in own if name in each], axis=0)
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("folder", [SEEDS], indirect=True)
def test_every_command_takes_the_folder(folder, capsys, tmp_path):
    main(["evaluate", str(folder), "--data", str(LIBRARY)])
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["n"] == 75 and metrics["classes"] == "by the rule fitted on the validation materials"
    main(["export", str(folder), "--out", str(tmp_path / "model.spt")])
    capsys.readouterr()
    for model in (folder, tmp_path / "model.spt"):
        main(["predict", str(model), str(EXAMPLE), "--format", "json"])
    first, second = capsys.readouterr().out.split("]\n[")
    [first], [second] = json.loads(first + "]"), json.loads("[" + second)
    for name, each in first["descriptors"].items():
        assert each["value"] == pytest.approx(second["descriptors"][name]["value"], abs=1e-5)
    main(["predict", str(folder), "--data", str(LIBRARY), "--out", str(tmp_path / "a.parquet"), "--split", "test"])
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'a.parquet'}: 75 spectra, ")


def test_a_member_without_a_model_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"ensemble": {"members": ["seed0"]}}))
    with pytest.raises(CheckpointError, match="seed0: not a run folder"):
        spt_jax.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        spt_jax.load(tmp_path)


def with_decisions(model, temperature, power, width):
    names = [task.name for task in model.blueprint.learnt_tasks if task.classes]
    prior = {d.name: tuple(np.linspace(1, 2, len(d.classes))) for d in DESCRIPTORS if d.name in names}
    decisions = Decisions(dict.fromkeys(names, temperature), {"MBL": width}, 0.9, dict.fromkeys(names, power), prior)
    return spt_jax.Model(replace(model.blueprint, decisions=decisions), model.network)


def test_decisions_of_the_mean_are_those_of_calibrated_members(batch):
    one = spt_jax.load(EXPORT_1)
    a, b = with_decisions(one, 2.0, 0.5, 0.1), with_decisions(one, 0.5, 1.0, 0.3)
    mean = together([a, b])
    assert mean.decisions.halfwidth == {"MBL": pytest.approx(0.2)} and mean.decisions.temperature == {}
    raw, answers = (m.answers(batch.spectrum, batch.atomic_number) for m in (one, mean))
    expected = (with_temperature(raw["CN"], 2.0) + with_temperature(raw["CN"], 0.5)) / 2
    np.testing.assert_allclose(answers["CN"], expected, atol=1e-5)
    prior = np.array(a.decisions.prior["CN"])
    # Powers of calibrated probabilities: 0.5 / 2 and 1 / 0.5.
    np.testing.assert_array_equal(mean.decisions.classes(answers)["CN"], decide(answers["CN"], prior, 1.125))
    # A single model is the mean of itself: it says the same.
    alone = together([a])
    found = alone.answers(batch.spectrum, batch.atomic_number)
    np.testing.assert_array_equal(alone.decisions.classes(found)["CN"], a.decisions.classes(raw)["CN"])
    elsewhere = spt_jax.Model(replace(one.blueprint, dataset="other"), one.network)
    with pytest.raises(ValueError, match="different data"):
        together([one, elsewhere])
