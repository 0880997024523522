import numpy as np
import pytest

from spt_jax.scoring.ranks import alike, average_ranks, critical_distance
from spt_jax.study.figures import critical_difference_figure


def test_ranks_and_distance():
    ranks = average_ranks({"a": [0.9, 0.8, 0.7], "b": [0.5, 0.8, 0.6], "c": [0.1, 0.2, 0.9]})
    assert ranks == pytest.approx({"a": (1 + 1.5 + 2) / 3, "b": (2 + 1.5 + 3) / 3, "c": (3 + 3 + 1) / 3})
    # Critical values of Demsar 2006, table 5a.
    for models, q in ((2, 1.960), (5, 2.728), (10, 3.164)):
        expected = q * np.sqrt(models * (models + 1) / (6 * 14))
        assert critical_distance(models, 14) == pytest.approx(expected, abs=2e-3)


def test_runs_of_models_that_are_not_told_apart():
    ranks = {"a": 1.0, "b": 1.5, "c": 2.4, "d": 4.0}
    assert alike(ranks, 1.0) == [(1.0, 1.5), (1.5, 2.4)]
    assert alike(ranks, 1.5) == [(1.0, 2.4)]
    assert alike(ranks, 0.1) == []


def test_the_figure_names_every_model():
    ranks = {"SPT": 1.4, "Extra Trees": 2.2, "random forest": 2.9, "mean": 3.5}
    [axes] = critical_difference_figure(ranks, 1.0).axes
    drawn = " ".join(text.get_text() for text in axes.texts)
    assert all(name in drawn and f"{rank:.2f}" in drawn for name, rank in ranks.items())
    assert "critical distance 1.00" in drawn
