import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import RunError
from data_pipelines.schema import (
    DESCRIPTORS,
    LABELS,
    SHELL_NAMES,
    SOURCE_COLUMN,
    SYMBOLS,
    Batch,
    EnergyGrid,
    encode_labels,
)
from data_pipelines.shells import shell_labels, words_of
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
    rows = slice(0, 9)  # of which there are a few of everything: then all are judged, of which there is a score
    some = Batch(*(x[rows] for x in train))
    scores = objective.score({name: each[rows] for name, each in outputs.items()}, some)
    for task in objective.tasks:
        labels = some.labels[some.mask[:, task.column], task.column]
        judged = len(labels) if task.classes else len(set(labels.tolist())) > 1
        assert (scores.get(task.name) is not None) == bool(judged), task.name


@pytest.fixture
def shells(rng) -> Batch:
    """Rows of random sets of elements, a tenth without; of NN1 one element always, one never."""
    present = rng.random((400, 2, len(SYMBOLS))) < rng.uniform(0, 0.3, len(SYMBOLS))
    present[:, 0, 8], present[:, :, 92] = True, False
    words = [[words_of(np.flatnonzero(each[1:]) + 1) for each in row] for row in present]
    labels = np.full((400, LABELS), np.nan, np.float32)
    labels[:, len(NAMES) : SOURCE_COLUMN] = np.reshape(words, (400, -1))
    labels[rng.random(400) < 0.1] = np.nan
    return Batch(np.zeros((400, 20), np.float32), np.full(400, 29, np.int32), *encode_labels(labels))


def test_of_shells_too_the_shares_cost_one_and_a_mixture_with_itself_is_the_batch(shells, rng):
    tasks = tasks_of(SHELL_NAMES, shells)
    assert [task.name for task in tasks] == list(SHELL_NAMES) and tasks_of(NAMES, shells) == ()
    assert 92 not in tasks[0].elements and len(tasks[0].elements) == tasks[0].classes
    zero = {task.name: jnp.zeros((400, task.classes)) for task in tasks}
    np.testing.assert_allclose(task_losses(zero, ((shells, jnp.ones(400)),), tasks), 1, atol=2e-2)
    assert units(tasks[0], np.zeros((1, tasks[0].classes)))[0, 8] == pytest.approx(1, abs=5e-3)
    outputs = {task.name: jnp.asarray(rng.normal(size=(400, task.classes)), jnp.float32) for task in tasks}
    share = jnp.asarray(rng.random(400), jnp.float32)
    whole = task_losses(outputs, ((shells, jnp.ones(400)),), tasks, 0.1)
    np.testing.assert_allclose(
        task_losses(outputs, ((shells, share), (shells, 1 - share)), tasks, 0.1), whole, rtol=1e-5
    )


def test_the_loss_of_a_shell_is_the_cross_entropy_of_what_is_said_of_it(shells, rng):
    [task] = tasks_of(("NN2",), shells)
    output = rng.normal(size=(400, task.classes)).astype(np.float32)
    known, present = shell_labels(shells, "NN2")
    said, truth = units(task, output)[known][:, task.elements], present[:, task.elements]
    expected = -np.log(np.where(truth, said, 1 - said)).sum() / (400 * task.coverage * task.trivial)
    [loss] = task_losses({"NN2": jnp.asarray(output)}, ((shells, jnp.ones(400)),), (task,))
    assert loss == pytest.approx(expected, rel=1e-4)


def test_a_shell_that_is_asked_for_and_has_no_label_is_refused(train):
    """It is learnt only where it is named, so whoever names it wants it."""
    known = Statistics.of(train, {"Cu K": len(train.labels)})
    with pytest.raises(RunError, match=r"has a label of NN2;"):
        Labels.of(LabelsConfig(descriptors=("CN", "NN2")), known, EnergyGrid(points=20))
