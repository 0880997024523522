"""Phases over time: planted changes are found where and when they are, noise is none, and fractions know their error."""

from dataclasses import replace

import numpy as np
import pytest

from data_pipelines.errors import UserError
from spt_jax.eels import series
from spt_jax.eels.series import follow_phases, together
from tests.eels.planted_answer import planted_answer


def stepped(times=12, at=5, height=10, width=10):
    """(T, H, W): the right half goes from class 0 to 1 in frame `at`, the left is class 2 throughout."""
    true = np.full((times, height, width), 2)
    true[:, :, width // 2 :] = 0
    true[at:, :, width // 2 :] = 1
    return true


def test_a_planted_change_is_found_through_noise():
    found = follow_phases(planted_answer(12, 10, 10, phase=stepped(), sure=2.5))
    known = found.first >= 0
    right = np.broadcast_to(np.arange(10) >= 5, (10, 10))
    assert (found.first[known & right] == 0).mean() > 0.95 and (found.last[known & right] == 1).mean() > 0.95
    assert (found.changed[known & ~right] == -1).mean() > 0.97
    hit = known & right & (found.changed >= 0)
    assert (np.abs(found.changed[hit] - 5) <= 1).mean() > 0.95
    assert found.transitions[0, 1] > 0.9 * (known & right).sum() and found.transitions.sum() == known.sum()
    assert found.changes.sum() == (found.changed >= 0).sum() and found.changes[4:7].sum() > 0.9 * found.changes.sum()


def test_in_pieces_as_in_one(monkeypatch):
    answer = planted_answer(6, 11, 9, phase=stepped(6, 3, 11, 9), sure=2.0)
    whole = follow_phases(answer)
    monkeypatch.setattr(series, "PIECE", 400)
    parts = follow_phases(answer)
    for name in ("first", "last", "changed", "gain"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_noise_alone_is_no_change():
    still = np.broadcast_to(stepped()[:1], (30, 10, 10))
    found = follow_phases(planted_answer(30, 10, 10, phase=still, sure=1.0))
    assert (found.changed >= 0).mean() < 0.03


def test_one_odd_frame_and_a_way_back_are_no_change():
    true = np.zeros((9, 10, 10), int)
    true[4] = 1
    assert (follow_phases(planted_answer(9, 10, 10, phase=true, sure=6.0)).changed == -1).all()
    true[3:6] = 1
    assert (follow_phases(planted_answer(9, 10, 10, phase=true, sure=6.0)).changed == -1).all()


def test_the_change_is_where_the_new_class_is_seen():
    """Frames between that were left out or are flagged tell nothing."""
    answer = planted_answer(8, 5, 5, phase=stepped(8, 4, 5, 5), sure=9.0)
    phase, unlike = answer.phase.copy(), answer.unlike.copy()
    phase[3], unlike[4] = -1, 2.0
    found = follow_phases(replace(answer, phase=phase, unlike=unlike))
    assert (found.changed[:, 2:] == 5).all() and (found.changed[:, :2] == -1).all()
    phase[:] = -1
    found = follow_phases(replace(answer, phase=phase))
    assert (found.first == -1).all() and (found.changed == -1).all() and np.isnan(found.fraction).all()
    assert not found.transitions.any() and found.good.tolist() == [0] * 8


def test_fractions_are_of_all_good_pixels_and_know_their_error():
    off, errors = [], []
    equal = np.broadcast_to(np.arange(10)[:, None] % 3, (2, 10, 10))
    for seed in range(40):
        answer = planted_answer(2, 10, 10, phase=equal, seed=seed, sure=1.5)
        found = follow_phases(answer)
        np.testing.assert_allclose(found.fraction.sum(axis=1) + found.flagged, 1, rtol=1e-5)
        telling = (answer.phase >= 0) & (np.nan_to_num(answer.unlike) < 1)
        true = np.array([(equal[t][telling[t]] == 2).sum() / found.good[t] for t in range(2)])
        off.append(found.fraction[:, 2] - true)
        errors.append(found.fraction_error[:, 2])
    # Errors of neighbours are independent here, which the error does not take for granted: it is on the safe side.
    assert np.std(off) < np.mean(errors) < 6 * np.std(off)
    assert abs(np.mean(off)) < 0.02


def test_the_error_of_a_mean_share():
    found = follow_phases(planted_answer(2, 16, 16, phase=np.zeros((2, 16, 16), int), sure=2.0))
    np.testing.assert_allclose(found.share.sum(axis=1), 1, rtol=1e-5)
    assert (found.share_error > 0).all() and (found.share_error < 0.02).all()
    one = follow_phases(planted_answer(3, 1, 1, phase=np.zeros((3, 1, 1), int)))
    assert np.isnan(one.share_error).all() and np.isfinite(one.fraction_error).all()


def test_files_as_a_series():
    true = stepped(4, 2)
    answers = [planted_answer(1, 10, 10, phase=true[i : i + 1], seed=i, sure=9.0) for i in range(4)]
    whole = together(answers, "four")
    assert whole.phase.shape == (4, 10, 10) and whole.denoised.shape[0] == 4 and whole.image.title == "four"
    found = follow_phases(whole, [f"{i}.npy" for i in range(4)])
    assert found.unit == "file" and (found.changed[4:, 5:] == 2).all()
    shifted = together([answers[0], replace(answers[1], energy=answers[1].energy + 1)])
    assert shifted.signal is None and any("different energies" in note for note in shifted.notes)
    with pytest.raises(
        UserError, match=r"file 2 has 5 x 10 pixels, the first 10 x 10; a series has frames of one size$"
    ):
        together([answers[0], planted_answer(1, 5, 10)])
    with pytest.raises(UserError, match="file 2 was answered by another model"):
        together([answers[0], planted_answer(1, 10, 10, ("a", "b", "c"))])
    with pytest.raises(UserError, match="one frame is no series"):
        follow_phases(answers[0])
