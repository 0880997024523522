"""The build benchmark: real tables, really prepared in another process."""

import json

import pyarrow.parquet as pq
import pytest

from benchmarks import build, measure
from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import LIBRARY


def test_small_run_tells_everything(tmp_path, capfd):
    folder, results = tmp_path / "sets", tmp_path / "results.jsonl"
    sizes = ["--spectra", "400", "700", "--folder", str(folder), "--json", str(results)]
    build.main(["--small", *sizes, "--prepare", "--workers", "1"])
    lines = [json.loads(text) for text in results.read_text().splitlines()]
    assert [line["case"] for line in lines] == [f"{n} spectra, --workers 1" for n in (400, 700)]
    assert measure.read(results) == []
    for line, count in zip(lines, (400, 700), strict=True):
        dataset = Dataset(folder / f"dataset-{count}")
        assert line["small"] and line["spectra"] == count and line["length"] == dataset.grid.points
        assert line["kept"] == dataset.card["records"]["kept"] == count
        assert line["built_per_s"] == pytest.approx(count / line["seconds"])
        assert line["disk_bytes"] == sum(p.stat().st_size for p in dataset.path.rglob("*") if p.is_file())
        assert line["disk_bytes"] > 4 * count * dataset.grid.points and line["spectra_per_s"] > 0
        # Where the system tells: more than an interpreter, less than this machine.
        assert line["peak_tree_bytes"] is None or 2**25 < line["peak_tree_bytes"] < 2**35
    printed = capfd.readouterr().out
    assert all(line["case"] in printed for line in lines) and max(map(len, printed.splitlines())) <= 90


def test_a_table_is_written_once_and_holds_what_it_says(tmp_path):
    table, origin = tmp_path / "mixtures.parquet", Dataset(LIBRARY)
    build.write_table(table, origin, 50)
    found = pq.read_table(table).to_pydict()
    assert len(set(found["id"])) == 50 and not list(tmp_path.glob("*.partial"))
    assert all(
        row == origin.grid.absolute(z).tolist() for row, z in zip(found["omega"], found["absorber"], strict=True)
    )


def test_what_prepare_refuses_is_one_line(tmp_path):
    (tmp_path / "junk.parquet").write_bytes(b"no table")
    with pytest.raises(SystemExit, match=r"prepare failed: .*junk\.parquet") as stop:
        build.build(tmp_path / "junk.parquet", tmp_path / "out")
    assert "\n" not in str(stop.value)
