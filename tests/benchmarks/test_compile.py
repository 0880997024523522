"""The command that asks compilers about a preset: what it refuses, records and compares."""

import json
import re
import sys

import pytest

from benchmarks import measure
from benchmarks.compile import __main__ as command
from benchmarks.compile import isolate, table, targets
from benchmarks.compile.request import Request
from benchmarks.compile.revision import checkout
from benchmarks.history import commit


def test_bad_input_is_one_line(monkeypatch):
    with pytest.raises(SystemExit, match=r"^unknown preset 'huge'; presets: tiny, base"):
        command.main(["huge"])
    with pytest.raises(SystemExit, match=r"^unknown target 'v1'; targets: "):
        command.main(["--target", "v1"])
    monkeypatch.setitem(sys.modules, "libtpu", None)
    with pytest.raises(SystemExit, match=r"^for compiling for v5e, install the extra `aot-tpu`: .*'\.\[aot-tpu\]'$"):
        command.main([])
    monkeypatch.setattr(targets, "require", lambda target: None)
    with pytest.raises(SystemExit, match="no such commit"):
        command.main(["--compare", "no-such-commit"])


def test_a_limit_that_is_reached_is_one_line_and_recorded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(targets, "require", lambda target: None)
    path = tmp_path / "results.jsonl"
    for option, value in (("--memory", "0.001"), ("--time", "0.1")):
        command.main(["--small", "--programs", "inference", option, value, "--json", str(path)])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [re.sub(r"after .* s", "after", line["error"]) for line in lines] == [
        "stopped at its limit of 0.001 GB of memory after (--memory)",
        "stopped at its limit of 0.1 s (--time)",
    ]
    assert measure.key(lines[0])[:4] == ("compile", "inference", "base", "TPU v5e x1 (compiled)")
    assert all(line["error"] in capsys.readouterr().out for line in lines[:1])


def test_a_revision_is_compiled_by_todays_benchmark_and_leaves_nothing(tmp_path):
    if commit() is None:
        pytest.skip("no git here")
    with checkout("HEAD") as (tree, name):
        assert name == commit().rstrip("+") and (tree / "spt_jax" / "config.py").exists()
        ours = (isolate.ROOT / "benchmarks" / "compile" / "traffic.py").read_bytes()
        assert (tree / "benchmarks" / "compile" / "traffic.py").read_bytes() == ours
    assert not tree.exists()


FIELDS = {
    "error": None,
    "bound_spectra_per_s": 1000.0,
    "bound_seconds": {"memory": 1e-3},
    "bound_by": "memory",
    "commit": "abc",
}


def test_two_commits_stand_side_by_side(capsys):
    old = {"case": "step", "preset": "base", "device": "TPU v5e x1 (compiled)", **FIELDS, "moved_bytes": 9e9}
    new = {**old, "bound_spectra_per_s": 3000.0, "moved_bytes": 3e9}
    table.show_lines([old, {**old, "error": "too large"}])
    table.show_comparison([old, {**old, "error": "too large", "moved_bytes": None}], [new, new])
    text = capsys.readouterr().out
    assert re.search(r"bytes moved +9 G +3 G +0\.33\n", text) and re.search(r"bound +1 k +3 k +3\.00\n", text)
    assert re.search(r"bytes moved +- +3 G +-\n", text) and "error" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_the_command_records_a_preset(compiler, tmp_path, capsys):
    compiler("v5e")
    path = tmp_path / "results.jsonl"
    command.main(["tiny", "--small", "--target", "v5e", "--programs", "inference", "--json", str(path)])
    (line,) = [json.loads(text) for text in path.read_text().splitlines()]
    printed = capsys.readouterr().out
    assert line["error"] is None and line["counted_flops"] > 0 and line["bound_by"] in printed
    assert 0.8 < line["product_flops"] / line["counted_flops"] < 1.2
    assert line["small"] and set(measure.KEY) <= set(line)
    assert all(len(text) <= 80 for text in printed.splitlines())
    assert Request("inference", "tiny").program == line["case"]
