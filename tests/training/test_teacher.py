"""A run that learns from another model: nearer to it than without, the same after a stop, refused where it cannot be."""

import json
import os
import signal
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spt_jax
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import CheckpointError, RunError
from data_pipelines.library import LIBRARY
from spt_jax.config import Config, LabelsConfig, PeerConfig, TrainConfig
from spt_jax.objectives.labels import Labels
from spt_jax.runs.folder import CONFIG, LOG
from spt_jax.tasks import make_tasks
from spt_jax.training.epochs import Interrupted
from spt_jax.training.loop import train
from spt_jax.training.teacher import teacher_of

LEARNT = ("CN", "OCN", "MBL")
PUPIL = {"epochs": 60, "seed": 1, "validate_every": 5}


def config(teacher="", learnt=LEARNT, **settings) -> Config:
    objective = LabelsConfig(descriptors=learnt, teacher=str(teacher), teacher_share=0.9 if teacher else 0.0)
    return Config(
        PeerConfig("mlp", width=16, depth=1), objective, TrainConfig(**{"epochs": 4, "batch_size": 32, **settings})
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A teacher of three descriptors, one who learnt from it from another seed, and one who did not."""
    folder, told = tmp_path_factory.mktemp("taught"), []
    train(config(epochs=60), Dataset(LIBRARY), folder / "teacher")
    train(config(folder / "teacher", **PUPIL), Dataset(LIBRARY), folder / "taught", tell=told.append)
    train(config(**PUPIL), Dataset(LIBRARY), folder / "alone")
    assert told == [f"learns from {folder / 'teacher'} (fingerprint {fingerprint(folder / 'taught')})"]
    return folder


def fingerprint(run) -> str:
    return json.loads((run / CONFIG).read_text())["teacher"]["fingerprint"]


def losses(run) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / LOG).read_text().splitlines()]


def teacher(runs):
    return teacher_of(config(runs / "teacher"))


def test_who_is_taught_answers_as_the_teacher_does(runs):
    batch = Dataset(LIBRARY).split("test").batch
    models = [spt_jax.load(runs / name) for name in ("teacher", "taught", "alone")]
    said, taught, alone = (model.answers(batch.spectrum, batch.atomic_number) for model in models)
    said = models[0].decisions.probabilities(said, batch.atomic_number)
    for name in LEARNT:
        away = [np.square(each[name] - said[name]).mean() for each in (taught, alone)]
        assert away[0] < away[1], name


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(runs, tmp_path):
    settings = config(runs / "teacher", **PUPIL)

    def stop(line):
        if line["epoch"] == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        train(settings, Dataset(LIBRARY), tmp_path, stop)
    train(settings, Dataset(LIBRARY), tmp_path)
    assert losses(tmp_path) == losses(runs / "taught")


@pytest.fixture
def batch():
    return jax.tree.map(jnp.asarray, Dataset(LIBRARY).split("test").batch)


def test_a_teacher_agrees_with_itself_whatever_values_are_scaled_by(runs, batch):
    known = teacher(runs)
    outputs = known.network(batch.spectrum, batch.atomic_number)
    for name, temperature in known.temperature.items():
        outputs[name] /= jnp.asarray(temperature, jnp.float32)[batch.atomic_number][:, None]
    agreed = known.losses(outputs, batch.spectrum, batch.atomic_number, known.tasks)
    assert set(agreed) == set(LEARNT) and all(abs(each) < 1e-5 for each in agreed.values())
    [mbl] = [task for task in known.tasks if task.name == "MBL"]
    other = replace(mbl, mean=mbl.mean + mbl.std, std=2 * mbl.std)
    scaled = {"MBL": (outputs["MBL"] - 1) / 2}
    assert known.losses(scaled, batch.spectrum, batch.atomic_number, (other,))["MBL"] < 1e-5


def test_what_a_site_cannot_have_is_not_taught(runs, batch):
    known = teacher(runs)
    outputs = {task.name: jnp.zeros((len(batch.spectrum), task.classes)) for task in known.tasks if task.classes}
    oxygen = jnp.full_like(batch.atomic_number, 8)
    tasks = tuple(task for task in known.tasks if task.classes)
    found = known.losses(outputs, batch.spectrum, oxygen, tasks)
    assert found["OCN"] == 0 and found["CN"] > 0.1


def test_spectra_without_labels_are_taught(runs, batch):
    data, known, wanted = Dataset(LIBRARY), teacher(runs), config(runs / "teacher").objective
    objective = Labels.of(wanted, data.statistics("train"), data.grid, known)
    bare, keys = batch._replace(mask=jnp.zeros_like(batch.mask)), jax.random.split(jax.random.key(0), len(batch.mask))
    rows = objective.views(bare, keys)
    outputs = {task.name: jnp.zeros((len(bare.mask), task.classes)[: 2 if task.classes else 1]) for task in known.tasks}
    found = objective.loss(lambda *inputs: outputs, rows, keys)
    said = known.losses(outputs, rows.batch.spectrum, rows.batch.atomic_number, known.tasks)
    np.testing.assert_allclose(found, [0.9 * said[name] for name in objective.names], rtol=1e-5)
    assert (found > 0.1).all()


def test_a_teacher_of_something_else_is_refused(runs):
    known, data = teacher(runs), Dataset(LIBRARY)
    statistics, wanted = data.statistics("train"), config(runs / "teacher").objective

    def with_teacher(**changed):
        return Labels.of(wanted, statistics, data.grid, replace(known, **changed))

    with pytest.raises(
        RunError, match=r"teacher .* reads a grid of 66 points, 2 to 34\.5 eV; that of the training set is one of 144"
    ):
        with_teacher(grid=replace(known.grid, points=66))
    with pytest.raises(RunError, match="knows Ni K, and not Co K, Cr K, "):
        with_teacher(absorbers=("Ni K",))
    with pytest.raises(RunError, match="has 3 classes of CN, not 11"):
        with_teacher(tasks=tuple(replace(task, classes=3) if task.name == "CN" else task for task in known.tasks))
    with pytest.raises(RunError, match="answers CN, OCN, MBL: none of what is to be learnt"):
        Labels.of(replace(wanted, descriptors=("OS",)), statistics, data.grid, known)


def test_the_elements_of_a_shell_are_taught(runs, batch):
    train_set = Dataset(LIBRARY).statistics("train")
    [task] = make_tasks(("NN2",), train_set)
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(len(batch.mask), task.classes)), jnp.float32)
    known = replace(
        teacher(runs), tasks=(task,), network=lambda *_: {"NN2": logits}, temperature={"NN2": np.full(119, 2.0)}
    )
    # Twice as sure as it says, and its shares are those of the training set.
    agreed = (logits + task.offset) / 2 - task.offset
    given = batch.spectrum, batch.atomic_number, (task,)
    assert abs(known.losses({"NN2": agreed}, *given)["NN2"]) < 1e-5 < known.losses({"NN2": logits}, *given)["NN2"]
    fewer = replace(task, elements=(*task.elements[:-1], 100))
    with pytest.raises(RunError, match="other elements of NN2"):
        known.check((fewer,), train_set, known.grid)


def test_what_a_run_learns_from_belongs_to_it(runs, tmp_path):
    with pytest.raises(CheckpointError, match="not a run folder"):
        train(config(tmp_path / "nowhere"), Dataset(LIBRARY), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    document = json.loads((runs / "taught" / CONFIG).read_text())
    document["teacher"]["fingerprint"] = "of another"
    (tmp_path / CONFIG).write_text(json.dumps(document))
    with pytest.raises(RunError, match=r"another teacher\.fingerprint"):
        train(config(runs / "teacher", **PUPIL), Dataset(LIBRARY), tmp_path)


def test_what_the_teacher_does_not_answer_is_learnt_from_labels(runs, tmp_path):
    told = []
    train(config(runs / "teacher", learnt=("OS", "CN"), epochs=2), Dataset(LIBRARY), tmp_path, tell=told.append)
    assert told[1:] == ["which does not answer OS: learnt from labels alone"]
