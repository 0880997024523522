"""A small study on the embedded library: every number there, finished fits kept, wrong folders refused."""

import csv
import json
import shutil
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.resplit import thinned
from data_pipelines.errors import RunError
from data_pipelines.library import LIBRARY
from data_pipelines.schema import site_kind
from spt_jax.cli import main
from spt_jax.config import Config, LabelsConfig, ModelConfig, TrainConfig
from spt_jax.inference.load import load_run
from spt_jax.peers.trees import TreeSettings
from spt_jax.presets import PRESETS
from spt_jax.robustness.perturb import PERTURBATIONS
from spt_jax.scoring.metrics import main_score, score_answers
from spt_jax.scoring.names import CLASS_SCORES, VALUE_SCORES
from spt_jax.study import jobs
from spt_jax.study.jobs import Job, run_job
from spt_jax.study.plan import Competitor, Plan, full, quick
from spt_jax.study.run import study
from spt_jax.study.tables import SPT, Fits
from tests.pages import Page

SMALL = Config(
    # Neither bands nor graph: what is tested is what becomes of a network, and this one compiles fastest.
    ModelConfig(width=16, blocks=1, bands=0, attention="none", readout_channels=2, hidden=16),
    LabelsConfig(descriptors=("CN", "MBL")),
    TrainConfig(epochs=1, batch_size=64, warmup_epochs=0.5),
)
FOREST = TreeSettings("extra_trees", trees=5)
# Trees in the place of SPT: whatever fits it, a model is its answers.
PLAN = Plan(
    (
        Competitor(SPT, (replace(FOREST, trees=20),)),
        Competitor("Extra Trees", (FOREST, replace(FOREST, balanced=True))),
        Competitor("Decision Tree", (TreeSettings("decision_tree"),)),
    ),
    seeds=2,
    experts=False,
    with_noise=("Extra Trees",),
    split_by_site=("Extra Trees",),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    told = []
    result = study(Dataset(LIBRARY), out, PLAN, lambda *line: told.append(line))
    return out, result, told


def test_the_document_has_every_model_seed_and_perturbation(done):
    out, result, told = done
    assert result == json.loads((out / "study.json").read_text())
    assert result["models"] == [SPT, "Extra Trees", "Decision Tree"]
    assert result["main_score"] == {"class": "f1_weighted", "regression": "r2"}
    for of_kind in result["sites"].values():
        for model in result["models"]:
            scores = of_kind["scores"][model]
            assert {"CN", "MBL"} <= scores.keys()
            assert all(len(each["seeds"]) == 2 for each in scores.values())
            assert all(len(values) == len(PERTURBATIONS) for values in of_kind["robustness"][model].values())
        assert of_kind["with_noise"]["Extra Trees"].keys() == of_kind["robustness"]["Extra Trees"].keys()
        assert of_kind["with_noise"] != {"Extra Trees": of_kind["robustness"]["Extra Trees"]}
        # Noise of size 0 is the spectrum as it is.
        for name, each in of_kind["scores"]["Extra Trees"].items():
            assert of_kind["robustness"]["Extra Trees"][name][0] == pytest.approx(each["mean"], abs=0.02)
        for name, each in of_kind["against"].items():
            rivals = {model: of_kind["scores"][model][name]["mean"] for model in result["models"][1:]}
            assert each["best"] == max(rivals, key=rivals.get)
            assert each["single"]["score"] == pytest.approx(of_kind["scores"][SPT][name]["mean"] - max(rivals.values()))
    for model in result["models"]:
        constants = result["lipschitz"][model]
        assert {"CN", "MBL"} <= constants.keys()
        assert all(0 <= each["median"] <= each["high"] <= each["largest"] for each in constants.values())
    assert told[-1][1] == told[-1][2], "all jobs that were announced are done"


def test_scores_are_those_of_the_stored_answers(done):
    out, result, _ = done
    dataset = Dataset(LIBRARY)
    model = Fits("Extra Trees", [fit_of(out, "extra_trees-seed1")], dataset)
    test = dataset.split("test")
    rows = np.array([site_kind(absorber.split()[0]) == "non-O" for absorber in test.absorbers])
    batch = type(test.batch)(*(field[rows] for field in test.batch))
    answers = {name: each[rows] for name, each in model.members[0].test.items()}
    for name, scores in score_answers(answers, batch, model.members[0].decisions).items():
        stored = result["sites"]["non-O"]["scores"]["Extra Trees"]
        if name in stored:
            assert stored[name]["seeds"][1] == pytest.approx(main_score(scores))


def test_a_second_call_fits_nothing(done, monkeypatch):
    out, result, _ = done
    monkeypatch.setattr(jobs, "fit", lambda *_: pytest.fail("fitted again"))
    assert study(Dataset(LIBRARY), out, PLAN, lambda *_: None) == result


def test_page_and_tables_are_whole(done):
    out, result, _ = done
    page = (out / "report.html").read_text()
    text = Page(page).text
    assert "nan" not in text.lower().replace("nanometre", "")
    for kind, of_kind in result["sites"].items():
        for name, scores in of_kind["scores"]["Extra Trees"].items():
            assert f"{scores['mean']:.3f}" in text.split(f"{kind}: scores")[-1], name
    for model in result["models"]:
        assert f"■ {model}" in text
    lines = list(csv.DictReader((out / "scores.csv").open()))
    assert {line["seed"] for line in lines} == {"0", "1"}
    assert lines[0].keys() >= {*CLASS_SCORES, *VALUE_SCORES}
    for title in (*CLASS_SCORES.values(), *VALUE_SCORES.values()):
        assert title in text.split("all scores")[-1]
    assert len(list(csv.DictReader((out / "robustness.csv").open()))) % len(PERTURBATIONS) == 0


def test_a_folder_of_another_dataset_is_refused(done):
    out, *_ = done
    with pytest.raises(RunError, match="other data"):
        study(thinned(Dataset(LIBRARY), 0.5), out, PLAN, lambda *_: None)


def test_fits_that_were_chosen_by_another_score_are_not_mixed_with_new_ones(done, tmp_path):
    dataset = Dataset(LIBRARY)
    (tmp_path / "dataset.json").write_text(json.dumps({"fingerprint": dataset.fingerprint, "what": "study"}))
    shutil.copytree(done[0] / "jobs", tmp_path / "jobs")
    with pytest.raises(RunError, match=r"chose by macro-F1.*another --out") as refused:
        study(dataset, tmp_path, PLAN, lambda *_: pytest.fail("fitted"))
    assert "\n" not in str(refused.value) and not (tmp_path / "study.json").exists()


def test_a_network_and_its_experts_are_jobs_like_any_other(tmp_path):
    dataset = thinned(Dataset(LIBRARY), 0.5)
    joint, experts = (Job(SPT, SMALL, 0, experts=each) for each in (False, True))
    assert joint.name != experts.name
    found = [run_job(job, dataset, tmp_path, lambda _: None, perturbed=False) for job in (joint, experts)]
    test = dataset.split("test").batch
    for done in found:
        assert done.seconds > 0 and min(done.price.values()) > 0
        answers = done.answers("test")
        assert answers.keys() == {"CN", "MBL"}
        assert len(answers["MBL"]) == len(test.spectrum)
    members = [load_run(found[1].folder / "run" / name) for name in ("CN", "MBL")]
    for model, name in zip(members, ("CN", "MBL"), strict=True):
        np.testing.assert_array_equal(
            model.answers(test.spectrum, test.atomic_number)[name], found[1].answers("test")[name]
        )


def test_every_model_tries_as_many_settings():
    for plan in (make(PRESETS[name]()) for make in (full, quick) for name in ("tiny", "base")):
        assert len({len(c.candidates) for c in plan.competitors}) == 1
        assert all(len(set(c.candidates)) == len(c.candidates) for c in plan.competitors)
    once = full(PRESETS["dense"](), settings=1, seeds=1)
    assert {len(c.candidates) for c in once.competitors} == {1} and once.seeds == 1


def fit_of(out, start):
    (folder,) = (folder for folder in (out / "jobs").iterdir() if folder.name.startswith(start))
    stored = json.loads((folder / "job.json").read_text())
    job = jobs.Job(stored["model"], TreeSettings(**stored["settings"]), stored["seed"])
    return jobs.Done(job, folder, stored["seconds"], stored["validation"], stored["price"])


def test_wrong_studies_get_one_line(tmp_path, capsys):
    wrong = {
        "unknown preset": [str(LIBRARY), "--preset", "huge"],
        "data_card.json" if find_spec("xgboost") else "'.[study]'": [str(tmp_path), "--preset", "tiny"],
    }
    for complaint, arguments in wrong.items():
        with pytest.raises(SystemExit) as stop:
            main(["study", *arguments, "--out", str(tmp_path / "study")])
        message = capsys.readouterr().err
        assert stop.value.code == (2 if complaint == "unknown preset" else 1)
        assert complaint in message and message.count("\n") == 1, message
    assert not (tmp_path / "study").exists()
