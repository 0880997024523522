"""The latency benchmark runs end to end at tiny shapes and records what it prints."""

import json

import pytest

from benchmarks import latency


def test_small_run_prints_a_table_and_records_every_case(tmp_path, capfd):
    path = tmp_path / "results.jsonl"
    latency.main(["--small", "--length", "32", "--repeats", "3", "--json", str(path)])
    printed = capfd.readouterr().out.splitlines()
    lines = {line["case"]: line for line in map(json.loads, path.read_text().splitlines())}
    loading, ahead = (lines.pop(case) for case in ("process start to answer", "the same, compiled ahead"))
    assert 0 < loading["export_bytes"] < ahead["export_bytes"]
    assert all(0 < line["load_s"] < line["median_ms"] / 1e3 for line in (loading, ahead))
    assert set(lines) == {"jit, batch 1", "exported, batch 1", "predict, batch 1", "jit, batch 4", "exported, batch 4"}
    for case, line in lines.items():
        assert line["benchmark"] == "latency" and line["small"] and 0 < line["median_ms"] <= line["p99_ms"]
        assert line["spectra_per_s"] == pytest.approx(1e3 * line["batch"] / line["median_ms"])
        assert any(text.startswith(case) for text in printed)
        if case.startswith("exported"):
            assert line["max_error"] < 1e-5 and line["compile_s"] > 0
    assert max(map(len, printed)) <= 80


def test_without_flatbuffers_the_exported_case_is_left_out(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(latency, "find_spec", lambda name: None)
    latency.main(["--small", "--length", "32", "--repeats", "2", "--batches", "4"])
    printed = capfd.readouterr().out
    assert "jit, batch 4" in printed and "exported, batch" not in printed and "flatbuffers is not installed" in printed
