import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.dataset.statistics import Statistics
from data_pipelines.schema import DESCRIPTORS, Batch, EnergyGrid
from spt_jax.config import LabelsConfig
from spt_jax.objectives.labels import Labels, task_losses
from spt_jax.tasks import make_tasks, units

NAMES = tuple(d.name for d in DESCRIPTORS)


@pytest.fixture
def train(rng) -> Batch:
    """400 rows of random labels, each descriptor with its own coverage and skew."""
    rows = 400
    columns = [
        rng.geometric(0.4, rows).clip(1, len(d.classes)) - 1 if d.kind == "class" else rng.normal(2, 0.3, rows)
        for d in DESCRIPTORS
    ]
    mask = rng.random((rows, len(columns))) < rng.uniform(0.1, 1, len(columns))
    labels = np.where(mask, np.stack(columns, axis=1), 0).astype(np.float32)
    return Batch(np.zeros((rows, 20), np.float32), np.full(rows, 29, np.int32), labels, mask)


def tasks_of(names, batch: Batch):
    return make_tasks(names, Statistics.of(batch, {"Cu K": len(batch.labels)}))


def constant_outputs(train: Batch, tasks) -> dict:
    """What the best constant prediction puts out: log class shares, and zero, the standardised mean."""
    outputs = {}
    for task in tasks:
        labels = train.labels[train.mask[:, task.column], task.column]
        row = np.zeros(())
        if task.classes:
            row = np.log(np.bincount(labels.astype(int), minlength=task.classes) / len(labels) + 1e-30)
        outputs[task.name] = jnp.broadcast_to(jnp.asarray(row, jnp.float32), (len(train.labels), *row.shape))
    return outputs


def test_a_constant_prediction_costs_one_for_every_descriptor(train):
    tasks = tasks_of(NAMES, train)
    losses = task_losses(constant_outputs(train, tasks), ((train, jnp.ones(400)),), tasks)
    for task, loss in zip(tasks, losses, strict=True):
        assert loss == pytest.approx(1, abs=1e-3), task.name


def test_masked_labels_have_no_say(train, rng):
    tasks = tasks_of(NAMES, train)
    outputs = constant_outputs(train, tasks)
    other = train._replace(
        labels=np.where(train.mask, train.labels, rng.integers(0, 5, train.labels.shape)).astype(np.float32)
    )
    first, second = (task_losses(outputs, ((b, jnp.ones(400)),), tasks) for b in (train, other))
    np.testing.assert_array_equal(first, second)


def test_no_gradient_reaches_a_masked_row(train):
    tasks = tasks_of(("CN",), train)
    outputs = constant_outputs(train, tasks)
    gradient = jax.grad(lambda o: task_losses(o, ((train, jnp.ones(400)),), tasks).sum())(outputs)["CN"]
    touched = np.abs(gradient).sum(axis=-1) > 0
    np.testing.assert_array_equal(touched, train.mask[:, tasks[0].column])


def test_a_mixture_of_a_batch_with_itself_is_the_batch(train, rng):
    tasks = tasks_of(NAMES, train)
    outputs = constant_outputs(train, tasks)
    share = jnp.asarray(rng.random(400), jnp.float32)
    whole = task_losses(outputs, ((train, jnp.ones(400)),), tasks, 0.1)
    mixed = task_losses(outputs, ((train, share), (train, 1 - share)), tasks, 0.1)
    np.testing.assert_allclose(mixed, whole, rtol=1e-5)


def test_experts_learn_a_subset_and_unlabelled_descriptors_are_left_out(train):
    assert [t.name for t in tasks_of(("MOOD", "CN"), train)] == ["CN", "MOOD"]
    empty = train._replace(mask=train.mask & (np.arange(len(NAMES)) != NAMES.index("CN")))
    assert "CN" not in [t.name for t in tasks_of(NAMES, empty)]


def test_units_are_probabilities_and_physical_values(train, rng):
    for task in tasks_of(NAMES, train):
        output = rng.normal(size=(7, task.classes) if task.classes else 7)
        values = units(task, output)
        if task.classes:
            np.testing.assert_allclose(values.sum(axis=-1), 1)
        else:
            np.testing.assert_allclose(
                values, np.clip(output * task.std + task.mean, *DESCRIPTORS[task.column].plausible)
            )


def test_a_descriptor_with_a_few_labels_does_not_choose_the_epoch(train):
    objective = Labels.of(LabelsConfig(), Statistics.of(train, {"Cu K": len(train.labels)}), EnergyGrid(points=20))
    outputs = {name: np.asarray(each) for name, each in constant_outputs(train, objective.tasks).items()}
    few = train.mask.copy()
    column = NAMES.index("MBL")
    few[np.flatnonzero(few[:, column])[9:], column] = False
    scores = objective.score(outputs, train._replace(mask=few))
    assert [name for name, score in scores.items() if score is None] == ["MBL"]
    rows = slice(0, 9)  # of which there are a few of everything
    assert (
        None not in objective.score({n: o[rows] for n, o in outputs.items()}, Batch(*(x[rows] for x in train))).values()
    )
