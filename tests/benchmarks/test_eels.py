"""The benchmark of spectrum images runs, and its numbers are of the planted truth."""

import json

from benchmarks import eels


def test_it_runs(capsys, tmp_path):
    lines = eels.main(["--small", "--repeats", "2", "--json", str(tmp_path / "lines.jsonl")])
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(printed) == len(lines) == 7 and printed[0]["target"] == 10_000
    by_zero_loss = next(line for line in printed if "zero-loss" in line["case"] and "dose" in line["case"])
    assert by_zero_loss["shift_ev_rms"] < 0.1 < by_zero_loss["shift_planted_ev"]
    assert by_zero_loss["background_rms"] < 0.2
