"""Every benchmark runs at a tiny size and writes the fields that others rely on."""

import importlib
import json
from pathlib import Path

import pytest

from benchmarks import __main__ as every
from benchmarks import compare, measure, peaks
from benchmarks.scaling import collectives, predicted_step

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


def test_collectives_of_a_program_are_counted_in_bytes():
    text = """
      %a = f32[7753]{0} all-reduce(%x), channel_id=6
      %b = (f32[4]{0}, bf16[2,3]{1,0}) all-gather-start(%y), channel_id=7
      %c = f32[2]{0} add(%a, %b)
    """
    assert collectives(text) == [("all-reduce", 4 * 7753), ("all-gather", 4 * 4 + 2 * 6)]


def test_the_cost_model_adds_to_one_chip():
    assert predicted_step(0.01, 10**6, 1) == 0.01
    assert 0.01 < predicted_step(0.01, 10**6, 8) < predicted_step(0.01, 10**6, 256)


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
