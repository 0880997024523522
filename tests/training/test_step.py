"""The step averages as it says, learns, and draws each set of a mixture as often as it should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import workload
from data_pipelines.schema import Batch
from spt_jax.config import Config, LabelsConfig, ModelConfig, TrainConfig
from spt_jax.training.noise_scale import noise_scale
from spt_jax.training.step import Quota, make_epoch
from tests.training.test_train import MODEL


def test_the_average_is_that_of_the_parameters_and_the_loss_falls():
    model = ModelConfig(**{**MODEL, "hidden": 64, "dropout": 0.0})
    config = Config(model, LabelsConfig(), TrainConfig(ema=0.9, learning_rate=0.01, epochs=4))
    made = (work := workload.make(config, 32, 24)).made
    step, state, data = jax.jit(made.step), made.state(), jax.device_put(work.batch)
    slow, losses = np.asarray(state.params, np.float64), []
    for number in range(120):
        state, metrics = step(state, data)
        decay = min(0.9, (1 + number) / (10 + number))
        slow = decay * slow + (1 - decay) * np.asarray(state.params, np.float64)
        losses.append(float(metrics["loss"]))
        np.testing.assert_allclose(metrics["learning_rate"], made.schedule(number), rtol=1e-5, atol=1e-9)
        assert float(metrics["gradient_norm"]) > 0
    np.testing.assert_allclose(state.average, slow, atol=1e-5)
    # Knowing nothing costs 1; of a batch that is the whole training set much more can be learnt.
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def draws(quotas, steps: int, epochs: int, rows: int) -> list[np.ndarray]:
    """(steps, drawn) rows that each epoch's batches hold, by a step that only writes them down."""

    def step(state, batch, emphasis=None):
        return state._replace(step=state.step + 1), {"rows": batch.atomic_number}

    def counted(state, data):
        # The sum over steps of one-hot rows tells how often each was drawn.
        return make_epoch(
            lambda s, b, e=None: (step(s, b)[0], {"drawn": jax.nn.one_hot(b.atomic_number, rows).sum(0)}),
            steps,
            quotas,
            7,
            lambda batch: batch,
        )(state, data)

    data = Batch(*(jnp.arange(rows) for _ in range(4)))
    made = workload.make(Config(ModelConfig(**MODEL)), 8, 24).made
    state, found = made.state(), []
    for _ in range(epochs):
        state, metrics = counted(state, data)
        found.append(np.asarray(metrics["drawn"]).round().astype(int))
    return found


def test_an_epoch_shows_each_row_of_a_single_set_once():
    first, second = draws((Quota(0, 24, 8),), 3, 2, 24)
    assert (first == 1).all() and (second == 1).all()


def test_the_order_of_a_set_that_is_shown_once_is_one_permutation():
    """By the key of the epoch, as runs before there were small sets have it."""
    made = workload.make(Config(ModelConfig(**MODEL)), 8, 24).made
    epoch = make_epoch(
        lambda state, batch, emphasis=None: (state, {"rows": batch.atomic_number}),
        1,
        (Quota(0, 24, 24),),
        7,
        lambda x: x,
    )
    _, metrics = epoch(made.state(), Batch(*(jnp.arange(24.0) for _ in range(4))))
    key = jax.random.fold_in(jax.random.key(7 + 2**20), 0)
    np.testing.assert_array_equal(metrics["rows"], jax.random.permutation(key, 24))


def test_a_small_set_shows_its_rows_equally_often():
    for drawn in draws((Quota(0, 3, 8), Quota(3, 21, 7)), 3, 2, 24):
        assert (drawn[:3] == 8).all() and (drawn[3:] == 1).all()


def test_sets_of_a_mixture_are_drawn_by_their_quotas():
    """20 rows of which 2 a batch, and 4 of which 6: the second comes through four times and a half in three batches."""
    for drawn in draws((Quota(0, 20, 2), Quota(20, 4, 6)), 3, 2, 24):
        assert drawn[:20].sum() == 6 and drawn[:20].max() == 1
        assert drawn[20:].sum() == 18 and drawn[20:].min() >= 4 and drawn[20:].max() <= 5


@pytest.mark.parametrize("count", [0, 256])
def test_the_noise_scale_is_that_of_gradients_whose_mean_and_spread_are_known(count, rng):
    """Rows with a gradient of mean length 2 and noise of variance 9 in each of 50 directions: 450 / 4 rows. Without end,
    and of a set of which half is a batch: there parts of a batch have 450 / 256 of the 4 less in common."""
    mean, batch, parts, squares = np.zeros(50), 128, 8, []
    mean[0] = 2
    whole = rng.normal(size=(count, 50))
    if count:  # exactly of that mean and variance
        whole = (whole - whole.mean(axis=0)) / whole.std(axis=0, ddof=1)
    for _ in range(400):
        noise = rng.permutation(whole)[:batch] if count else rng.normal(size=(batch, 50))
        rows = mean + 3 * noise
        each = rows.reshape(parts, -1, 50).mean(axis=1)
        squares.append([(each**2).sum(axis=1).mean(), (rows.mean(axis=0) ** 2).sum()])
    found = noise_scale(batch, parts, *np.mean(squares, axis=0), count or np.inf)
    np.testing.assert_allclose(found, 112.5, rtol=0.1)
    assert noise_scale(batch, 1, 3.0, 3.0, np.inf) is None and noise_scale(batch, 2, 1.0, 2.0, np.inf) is None
