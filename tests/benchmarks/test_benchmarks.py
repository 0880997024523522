"""Every benchmark runs at a tiny size and writes the fields that others rely on."""

import importlib
import json
from pathlib import Path

import pytest

from benchmarks import __main__ as every
from benchmarks import compare, measure, peaks
from benchmarks.compile.targets import TARGETS
from benchmarks.scaling.links import exchange_s, slices_of
from benchmarks.scaling.predict import bounds, compute_of, efficiency, vector_bytes
from benchmarks.scaling.study import main as scaling

FIELDS = (
    "benchmark case preset dtype device commit versions median_ms spectra_per_s vs share_of_matmul_peak "
    "share_of_memory_roof max_error compile_s peak_memory_bytes"
).split()


@pytest.mark.parametrize(
    "name",
    [
        "ops",
        "train_step",
        "ensemble",
        "scaling",
        "descriptors",
        "fusion_speed",
        "image_speed",
        "checkpoints",
        "noise_scale",
    ],
)
def test_each_runs_and_records(name, tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    importlib.import_module(f"benchmarks.{name}").main(["--small", "--json", str(path)])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines and all(set(FIELDS) <= set(line) for line in lines)
    assert all(line["benchmark"] == name and line["small"] for line in lines)
    assert all(line["max_error"] < 1e-4 for line in lines if line["max_error"] is not None)
    assert lines[0]["case"] in capsys.readouterr().out


def test_compare_names_what_got_slower(tmp_path, capsys):
    options = measure.parser("x").parse_args([])
    for name, times in (("old", (1.0, 2.0)), ("new", (1.5, 2.0))):
        for case, ms in zip("ab", times, strict=True):
            measure.record("ops", case, options, tmp_path / name, length=144, batch=64, median_ms=ms)
    with pytest.raises(SystemExit) as stop:
        compare.main([str(tmp_path / "old"), str(tmp_path / "new")])
    assert stop.value.code == 1
    rows = capsys.readouterr().out.splitlines()
    assert "slower" in rows[1] and "slower" not in rows[2]
    (tmp_path / "junk").write_text("not json\n")
    with pytest.raises(SystemExit, match="line 1"):
        compare.main([str(tmp_path / "junk"), str(tmp_path / "new")])


def test_an_unknown_device_has_no_mfu():
    assert peaks.mfu(1e9, 1.0, "float32") is None


@pytest.mark.parametrize("name", ["v5e", "h100"])
def test_the_cost_model_of_many_chips(name):
    target, vector = TARGETS[name], 4e6
    assert exchange_s(target, 1, vector) == 0 and efficiency(target, 1e-3, 1, vector) == 1
    assert slices_of(target, 1024) == {"v5e": 4, "h100": 128}[name]
    # Twice the bytes take longer, less than twice as long; hundreds of chips less than thousands.
    assert exchange_s(target, 256, vector) < exchange_s(target, 256, 2 * vector) < 2 * exchange_s(target, 256, vector)
    assert exchange_s(target, 256, vector) < exchange_s(target, 1024, vector)
    assert 0 < efficiency(target, 1e-3, 256, vector) < efficiency(target, 1e-2, 256, vector) < 1


def test_a_ring_of_chips_is_twice_as_fast_as_a_row():
    """v5e: links of the sides of 16 close to rings; in bytes, so large that no latency counts."""
    v5e, vector = TARGETS["v5e"], 1e12
    assert exchange_s(v5e, 64, vector) / exchange_s(v5e, 256, vector) == pytest.approx(
        2 * (63 / 64) / (255 / 256), rel=1e-4
    )


def test_the_study_predicts_from_what_was_compiled(tmp_path, capsys):
    path, result = tmp_path / "compiled.jsonl", tmp_path / "result.jsonl"
    one = {"benchmark": "compile", "case": "step", "preset": "dense", "dtype": "float32", "length": 144, "chips": 1}
    one |= {
        "device": "TPU v5e x1 (compiled)",
        "error": None,
        "batch": 256,
        "bound_seconds": {"cycles": 1e-3},
        "small": False,
    }
    size = vector_bytes("dense", "float32", 144)
    sent = {
        "all-reduce": [size, 2 * size * 255 / 256],
        "all-gather": [size, size * 255 / 256],
        "all-reduce between slices": [size / 256, size / 256],
    }
    pod = one | {
        "chips": 512,
        "device": "TPU v5e x512 in 2 slices (compiled)",
        "collectives": sent,
        "collective_count": 2,
    }
    lines = [one, one | {"batch": 1024, "bound_seconds": {"cycles": 3e-3}}, pod]
    path.write_text("\n".join(map(json.dumps, lines)))
    found = scaling(["--predict", "--compiled", str(path), "--rows", "64", "4096", "--json", str(result)])
    assert [line["batch"] for line in found] == [64, 4096] and len(result.read_text().splitlines()) == 2
    assert found[0]["at_256"] < found[1]["at_256"] < 1 and found[0]["gradient_bytes"] == size
    (told,) = (line for line in capsys.readouterr().out.splitlines() if "in 2 slices" in line)
    numbers = told.split()[-5:]
    assert numbers[0] == numbers[1] and numbers[2] == numbers[3], told
    with pytest.raises(SystemExit, match="no steps compiled"):
        scaling(["--predict", "--compiled", str(result)])


def test_compute_is_a_line_through_the_batches_that_were_compiled():
    line = {"benchmark": "compile", "case": "step", "preset": "base", "dtype": "bfloat16", "length": 144, "chips": 1}
    line |= {
        "device": "TPU v5e x1 (compiled)",
        "error": None,
        "batch": 100,
        "bound_seconds": {"memory": 1e-3, "cycles": 3e-3},
    }
    more = line | {"batch": 300, "bound_seconds": {"memory": 7e-3}}
    found = bounds(
        [line, more, line | {"chips": 4}, line | {"device": "TPU v5p x1 (compiled)"}, line | {"error": "no"}]
    )
    assert found == {("v5e", "base", "bfloat16", 144): {100: 3e-3, 300: 7e-3}}
    compute = compute_of({100: 3e-3, 300: 7e-3})
    assert compute.seconds(200) == pytest.approx(5e-3) and compute.rows(5e-3) in (200, 201)
    assert compute_of({100: 3e-3}) is None


def test_one_command_runs_them_in_turn_and_names_what_fails(tmp_path, capfd, monkeypatch):
    path = tmp_path / "results.jsonl"
    monkeypatch.setattr(every, "EVERYWHERE", (("ops",), ("ops", "--preset", "unknown")))
    monkeypatch.setattr(every, "LARGE", (("input_pipeline", "--spectra", "3000", "--batch", "64", "--step-ms", "0"),))
    with pytest.raises(SystemExit, match="failed: ops --preset unknown"):
        every.main(["--small", "--only", "ops", "--json", str(path)])
    assert "1/2 ops" in capfd.readouterr().out
    assert {json.loads(line)["benchmark"] for line in path.read_text().splitlines()} == {"ops"}
    every.main(["--small", "--only", "input_pipeline", "--folder", str(tmp_path), "--json", str(path)])
    assert (tmp_path / "input_pipeline" / "data_card.json").exists()
    with pytest.raises(SystemExit, match="there are ops"):
        every.main(["--only", "nothing"])


def test_an_accelerator_is_asked_for_more():
    few, many = every.commands("cpu"), every.commands("gpu")
    assert set(few) < set(many) and len(set(many)) == len(many)
    batches = {command[-1] for command in many if command[0] == "train_step" and "--batch" in command}
    assert batches == {"64", "1024", "16384", "65536"}


def test_large_sets_need_a_folder():
    def names(*arguments) -> set[str]:
        return {command[0] for command in every.commands("cpu", *arguments)}

    large = {"input_pipeline", "build", "streaming_memory"}
    assert not names() & large and names(None, True) >= large
    assert ("build", "--folder", "sets/build") in every.commands("cpu", Path("sets"))
