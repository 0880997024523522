import numpy as np

from spt_jax.robustness.lipschitz import Lipschitz, sampled
from spt_jax.tasks import Task, answers_of

TASKS = (Task("CN", 1, 11, 0.0, 1.0, 1.0, 1.0), Task("MBL", 8, 0, 2.0, 0.1, 1.0, 1.0))


def test_sampled_ratios_are_below_the_norm_and_reach_it_in_few_dimensions(rng):
    direction = rng.normal(size=2)

    def predictor(spectrum, numbers):
        outputs = {"MBL": spectrum.astype(np.float64) @ direction, "CN": np.zeros((len(spectrum), 11))}
        return answers_of(outputs, TASKS, numbers)

    found = sampled(predictor, rng.normal(size=(6, 2)) / 10, np.full(6, 29), TASKS, directions=200)
    assert (found["MBL"] <= np.linalg.norm(direction) * 1.001).all()
    assert (found["MBL"] > np.linalg.norm(direction) * 0.98).all()
    assert (found["CN"] == 0).all()


def test_a_jump_is_seen():
    def tree(spectrum, _):
        return {"CN": np.eye(11)[(spectrum[:, 0] > 0).astype(int)], "MBL": np.zeros(len(spectrum))}

    found = sampled(tree, np.zeros((3, 4)), np.zeros(3), TASKS, size=0.1, directions=30)
    np.testing.assert_allclose(found["CN"], np.sqrt(2) / 0.1)


def test_summary():
    summary = Lipschitz.of(np.arange(101.0))
    assert (summary.median, summary.high, summary.largest) == (50, 95, 100)


def test_what_is_not_known_has_no_part_in_the_change(rng):
    """So a spectrum that ends early has the constant of what it has."""
    spectrum = rng.normal(size=(4, 6))
    spectrum[:, 2:] = np.nan

    def first(spectrum, _):
        return {"MBL": spectrum[:, 0].astype(np.float64), "CN": np.zeros((len(spectrum), 11))}

    found = sampled(first, spectrum, np.full(4, 29), TASKS, size=0.1, directions=200)["MBL"] * 0.1
    assert (found > 0.98).all() and (found < 1.001).all()
