"""A training of two processes that is hit goes on with the same command, and ends as one that was left alone."""

import json

from benchmarks import faults


def test_a_killed_process_is_named_and_nothing_is_lost(tmp_path):
    path = tmp_path / "results.jsonl"
    [line] = faults.main(["--small", "--json", str(path), "--folder", str(tmp_path)])
    assert json.loads(path.read_text())["hits"] == {"kill one": 1}
    assert line["wrong"] == [] and line["lost_steps"] == 0 and line["bit_equal"]
    assert line["doubled"] == 0 and line["left_out"] < 64
