import json
import subprocess
import sys
import tempfile

import pytest

from benchmarks import input_pipeline
from data_pipelines.dataset.loading import Dataset
from tests.data_pipelines.stores import store as store

CASES = [f"5,000 spectra, {each}" for each in ("first epoch", "second epoch", "0.1 ms a step", "resident")]


@pytest.fixture
def main(monkeypatch, tmp_path):
    """main(arguments...) -> the result lines of this run."""

    def call(*arguments) -> list[dict]:
        out = tmp_path / "results.jsonl"
        out.unlink(missing_ok=True)
        monkeypatch.setattr(sys, "argv", ["input_pipeline", "--json", str(out), *map(str, arguments)])
        input_pipeline.main()
        return [json.loads(line) for line in out.read_text().splitlines()]

    return call


def test_small_run_tells_everything(main, capsys):
    lines = main("--small", "--spectra", 5000, "--batch", 64, "--step-ms", 0.1)
    assert [line["case"] for line in lines] == CASES
    for line in lines:
        assert line["benchmark"] == "input_pipeline" and line["small"] and line["spectra"] == 5000
        assert line["spectra_per_s"] > 0 and line["first_batch_s"] > 0 and line["rss_bytes"] > 2**20
        assert line["open_s"] > 0 and line["disk_bytes_per_s"] > 0 and line["store"] == ""
        assert line["case"].endswith("resident") or line["bytes_per_s"] > 4 * 144 * line["spectra_per_s"]
        assert line["wait_ms_p50"] <= line["wait_ms_p99"]
        assert line["disk_bytes"] >= 5000 * 4 * (144 + 1 + 9)
    assert 0 < lines[2]["wait_share"] < 1 and lines[3]["wait_share"] == 0
    table = capsys.readouterr().out.splitlines()
    assert all(len(row) <= 80 for row in table) and all(case in "\n".join(table) for case in CASES)


def test_the_set_is_written_once(main, tmp_path):
    folder = tmp_path / "set"
    main("--small", "--spectra", 3000, "--batch", 64, "--step-ms", 0, "--folder", folder)
    written = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert len(main("--small", "--spectra", 3000, "--batch", 64, "--step-ms", 0, "--folder", folder)) == 3
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == written
    with pytest.raises(SystemExit, match="another dataset"):
        main("--small", "--spectra", 3001, "--folder", folder)
    assert Dataset(folder).card["splits"]["train"]["examples"] == 3000


def test_the_set_of_once_is_removed(main, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert len(main("--once", "--spectra", 3000, "--batch", 64, "--step-ms", 0)) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["results.jsonl"]


def test_a_set_in_a_store_is_streamed_from_there(main, store):
    """Put there once; another set is not replaced."""
    line = "--small", "--spectra", 3000, "--batch", 64, "--step-ms", 0, "--store", store.root
    assert {each["store"] for each in main(*line)} == {store.root.scheme}
    assert (store.root / "data_card.json").exists() and len(main(*line)) == 3
    with pytest.raises(SystemExit, match="another dataset"):
        main("--small", "--spectra", 3001, "--store", store.root)


def test_large_runs_need_a_folder(main, capsys):
    with pytest.raises(SystemExit):
        main("--spectra", 10)
    assert "--folder is needed" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["array_record", "grain"])
def test_a_missing_package_is_one_clear_line(package):
    program = f"import runpy, sys; sys.modules['{package}'] = None; runpy.run_module('benchmarks.input_pipeline')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert package in line
