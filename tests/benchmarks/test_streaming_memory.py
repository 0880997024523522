"""Training a set that is streamed takes no more memory than a smaller one: in real processes."""

import json

import pytest

from benchmarks import streaming_memory


def test_three_times_the_spectra_take_the_same_memory(tmp_path, capfd, monkeypatch):
    """240,000 spectra more are 160 MB: they would show, beside what an allocator holds more or less. Both sets have more
    blocks than a stream keeps."""
    # So many are trained faster as XLA compiles for a user.
    monkeypatch.setenv("XLA_FLAGS", "")
    results = tmp_path / "results.jsonl"
    sizes = ["--spectra", "100000", "340000", "--validation", "2000"]
    streaming_memory.main(["--small", *sizes, "--folder", str(tmp_path), "--json", str(results)])
    printed = capfd.readouterr().out
    lines = [json.loads(text) for text in results.read_text().splitlines()]
    assert [line["case"] for line in lines] == ["100,000 spectra", "340,000 spectra"]
    assert all(line["benchmark"] == "streaming_memory" and line["batch"] == 1024 for line in lines)
    few, many = (line["peak_rss_bytes"] for line in lines)
    print(few, many)
    assert 2**27 < few < 2**32 and many - few < 110e6
    assert lines[0]["growth"] == 1 and lines[1]["growth"] == many / few
    assert all(line["case"] in printed for line in lines)


def test_what_training_refuses_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"train failed: .*--train\.batch-size 100") as stop:
        streaming_memory.main(["--small", "--spectra", "100", "--folder", str(tmp_path)])
    assert "\n" not in str(stop.value)
    with pytest.raises(SystemExit):
        streaming_memory.main([])
