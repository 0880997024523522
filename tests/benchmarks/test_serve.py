"""The benchmark of the service runs end to end with a small model, also with several processes."""

import json

import pytest

pytest.importorskip("fastapi", reason="needs the extra `app`")
pytest.importorskip("uvicorn", reason="needs the extra `app`")

from benchmarks import __main__ as every
from benchmarks import serve
from tests.runs.formats import HERE


def test_small_run_records_every_case(tmp_path, capsys):
    path, model = tmp_path / "results.jsonl", str(HERE / "export_2.spt")
    serve.main(["--small", "--preset", model, "--processes", "2", "--json", str(path)])
    lines = {line["case"]: line for line in map(json.loads, path.read_text().splitlines())}
    of_service = [
        f"{kind}, {who}, 2 processes" for kind in ("theory", "measured") for who in ("1 client", "64 clients")
    ]
    assert set(lines) == {*of_service, "FEFF's file, one at a time", "FEFF's file, together"}
    printed = capsys.readouterr().out
    for case, line in lines.items():
        assert line["benchmark"] == "serve" and line["small"] and line["cpu_ms"] > 0 and line["spectra_per_s"] > 0
        assert case in printed


def test_it_runs_with_all_others():
    assert ("serve",) in every.commands("cpu") and ("serve", "--dtype", "bfloat16") not in every.commands("gpu")
