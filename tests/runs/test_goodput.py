"""The account of a run's wall time against histories whose every second is known."""

import itertools
import json
import math

import numpy as np
import pytest

from spt_jax.runs.attempts import ATTEMPTS, append_attempt, read_attempts
from spt_jax.runs.goodput import DONE, PARTS, attempts_of, goodput_since, shares, spans_of

WORK = ("compile", "compute", "input", "checkpoint", "validation")


def lines_of(*events: tuple) -> list[dict]:
    """(at, attempt, event, what it says)"""
    return [{"at": at, "attempt": attempt, "event": event, **said} for at, attempt, event, said in events]


def steps(step: int, **seconds: float) -> dict:
    return {"epoch": 1, "step": step, "seconds": {**dict.fromkeys(WORK, 0.0), **seconds}}


def start(step: int, ready: float) -> dict:
    return {"epoch": 0, "step": step, "processes": 1, "devices": 1, "device": "cpu", "hosts": ["a"], "ready": ready}


def history(rng: np.random.Generator) -> tuple[list[dict], dict[str, float], int]:
    """Attempts that are killed at random: lines, the seconds of each part as they were spent, and steps done again."""
    truth, lines, at, saved, repeated = dict.fromkeys(PARTS, 0.0), [], 1.7e9, 0, 0
    number, tries = 0, int(rng.integers(1, 5))
    while number < tries:
        ready, last, unsaved, step = rng.uniform(0, 20), number == tries - 1, [], saved
        at += ready
        truth["start" if number == 0 else "restart"] += ready
        lines += lines_of((at, number, "start", start(step, ready)))
        for _ in range(rng.integers(0 if number else 1, 6)):
            seconds = {part: float(rng.uniform(0, 5)) for part in WORK}
            other, made = float(rng.uniform(0, 1)), int(rng.integers(1, 9))
            at, step = at + sum(seconds.values()) + other, step + made
            if rng.random() < 0.3:
                lines += lines_of((at - other / 2, number, "told", {"text": "slow"}))
            lines += lines_of((at, number, "steps", steps(step, **seconds)))
            unsaved.append((made, {**seconds, "other": other}))
            if rng.random() < 0.4:
                saved, unsaved, _ = (
                    step,
                    [],
                    [truth.__setitem__(n, truth[n] + s) for _, p in unsaved for n, s in p.items()],
                )
        for made, parts in unsaved:
            repeated += 0 if last else made
            for name, spent in parts.items():
                truth[name if last else "restart"] += spent
        if last or rng.random() < 0.5:
            at += (closing := float(rng.uniform(0, 1)))
            lost = not last and step > saved
            truth["restart" if lost else "other"] += closing
            lines += lines_of((at, number, "stop", {"step": step, "why": DONE if last else "SIGTERM"}))
        if not last:
            at += (pause := float(rng.uniform(0, 100)))
            truth["stopped"] += pause
        number += 1
    return lines, truth, repeated


@pytest.mark.parametrize("_", range(20))
def test_every_second_is_where_it_was_spent(rng, _):
    lines, truth, repeated = history(rng)
    spans, whole = spans_of(lines), sum(truth.values())
    assert spans[-1].end == pytest.approx(whole, abs=1e-3)
    found = shares(spans)
    assert list(found) == list(PARTS) and math.fsum(found.values()) == pytest.approx(1, abs=1e-9)
    for part, seconds in truth.items():
        assert found[part] * whole == pytest.approx(seconds, abs=1e-3), part
    assert sum(each.repeated for each in attempts_of(lines)) == repeated
    # Spans follow each other, and each is what it says.
    assert spans[0].begin == 0 and all(a.end == b.begin for a, b in itertools.pairwise(spans))
    assert all(math.fsum(span.seconds.values()) == pytest.approx(span.end - span.begin, abs=1e-6) for span in spans)
    times, goodput = zip(*goodput_since(spans), strict=True)
    assert list(times) == sorted(times) and all(0 <= each <= 1 for each in goodput)
    assert goodput[-1] == pytest.approx(found["compute"], abs=1e-9)


def test_an_undisturbed_run_has_no_restart():
    told = lines_of((10, 0, "start", start(0, 4)), (20, 0, "steps", steps(5, compute=8, compile=1)))
    found = shares(spans_of(told))
    assert found["restart"] == found["stopped"] == 0
    assert found == pytest.approx(
        {**dict.fromkeys(PARTS, 0), "compute": 8 / 14, "compile": 1 / 14, "start": 4 / 14, "other": 1 / 14}
    )


def test_steps_done_again_count_as_restart_by_their_share():
    told = lines_of(
        (10, 0, "start", start(0, 0)),
        (20, 0, "steps", steps(10, compute=10)),
        (30, 1, "start", start(4, 2)),
        (36, 1, "steps", steps(10, compute=6)),
    )
    [first, second] = attempts_of(told)
    assert (first.repeated, second.repeated) == (6, 0)
    found = shares(spans_of(told))
    assert found["compute"] * 26 == pytest.approx(10) and found["restart"] * 26 == pytest.approx(6 + 2)
    assert found["stopped"] * 26 == pytest.approx(8)


def test_the_time_after_a_run_was_done_is_nobodys():
    done = lines_of(
        (10, 0, "start", start(0, 0)), (20, 0, "steps", steps(10, compute=10)), (20, 0, "stop", {"why": DONE})
    )
    again = lines_of((9000, 1, "start", start(10, 1)), (9001, 1, "stop", {"why": DONE}))
    more = lines_of((99_000, 2, "start", start(10, 5)), (99_010, 2, "steps", steps(20, compute=10)))
    assert spans_of(done + again) == spans_of(done) and len(attempts_of(done + again)) == 1
    assert shares(spans_of(done + again + more)) == pytest.approx(
        {**dict.fromkeys(PARTS, 0), "compute": 20 / 25, "restart": 5 / 25}
    )


def test_clocks_that_disagree_and_lost_lines_leave_shares_that_sum_to_one():
    told = lines_of(
        (50, 0, "steps", steps(5, compute=3)),  # its start is lost
        (40, 0, "steps", steps(9, compute=3)),  # set back
        (30, 1, "start", start(9, 10)),  # on another host, by whose clock the first still ran
        (35, 1, "told", {"text": "alone"}),
    )
    assert math.fsum(shares(spans_of(told)).values()) == pytest.approx(1)
    assert shares(spans_of([])) == {} and attempts_of([]) == []


def test_lines_that_are_not_whole_are_passed_over(tmp_path):
    good = lines_of((1.0, 0, "start", start(0, 1.0)), (2.0, 0, "steps", steps(3, compute=1.0)))
    for line in good:
        append_attempt(tmp_path, line)
    bad = ['{"at": 3', "[]", "7", '"text"', "{}", '{"at": NaN, "attempt": 0, "event": "told", "text": ""}']
    bad += [json.dumps({**good[1], "seconds": each}) for each in (3, {"compute": "long"}, None)]
    bad += [json.dumps({**good[0], "step": "1"}), json.dumps({**good[0], "event": "slept"})]
    with open(tmp_path / ATTEMPTS, "a") as file:
        file.write("\n".join(bad[1:] + bad[:1]))
    assert read_attempts(tmp_path) == good
    append_attempt(tmp_path, good[1])  # after half a line
    assert read_attempts(tmp_path) == [*good, good[1]]
    assert read_attempts(tmp_path / "nowhere") == []
