"""README's tables and picture: of one machine each, of equal keys, with the commit and what is not known."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import history, measure, report

ROOT = Path(__file__).parents[2]
RESULTS = [ROOT / "benchmarks" / "results" / name for name in ("cpu.jsonl", "accelerators.jsonl")]
CPU, GPU = "Xeon x2", "NVIDIA H100 80GB HBM3"
RATIOS = {"torch_eager": 2.0, "torch_compile": None, "torch_merged": 1.1}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "results.jsonl"


def add(path: Path, benchmark: str, case: str, length=144, batch=64, **fields) -> dict:
    """Append a result line of this checkout."""
    fields = {"device": CPU, "commit": history.commit(), **fields}
    options = measure.parser("x").parse_args([])
    return measure.record(benchmark, case, options, path, length=length, batch=batch, **fields)


def cells(text: str) -> dict[str, dict[str, list[str]]]:
    """Machine -> target -> what it asks, what was measured, at which commit."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in text.splitlines():
        if row.endswith(":"):
            own = found.setdefault(row.removesuffix(":"), {})
        elif row.startswith("| ") and not row.startswith("| |"):
            name, *rest = (cell.strip() for cell in row.strip("|").split("|"))
            own[name] = rest
    return found


def test_no_number_stands_beside_one_of_another_machine(path):
    for device, dtype, speed in ((CPU, "float32", 500.0), (GPU, "float32", 9e4), (GPU, "bfloat16", 2e5)):
        add(path, "train_step", "per_sample B=64 epoch", device=device, dtype=dtype, spectra_per_s=speed)
    add(path, "torch_peer", "train fixed L144 B64", vs=RATIOS)
    text = report.tables(measure.read(path))
    assert {machine: own.pop("train, preset base")[1] for machine, own in cells(text).items()} == {
        f"{CPU}, float32": "500 spectra/s",
        f"{GPU}, float32": "90,000 spectra/s",
        f"{GPU}, bfloat16": "200,000 spectra/s",
    }
    assert {machine: len(own) - 1 for machine, own in cells(text).items()} == {
        f"{CPU}, float32": 2,  # of three ratios torch.compile's is not known
        f"{GPU}, float32": 0,
        f"{GPU}, bfloat16": 0,
    }
    missing = text[text.index("Not measured: ") :]
    assert "torch.compile" in missing and "streaming" in missing and "preset base" not in missing


def test_a_line_of_another_length_batch_preset_or_case_is_another_thing(path):
    name = "train step, share of measured matrix peak, 11 x 11"
    right = {"benchmark": "train_step", "case": "fixed B=64", "preset": "inception", "length": 100, "batch": 64}
    add(path, **right, share_of_matmul_peak=0.21)
    wrong = ({"length": 144}, {"batch": 1024}, {"preset": "base"}, {"case": "fixed B=64 d=128"}, {"case": "fixed"})
    for other in wrong:
        add(path, **{**right, **other}, share_of_matmul_peak=0.99)
    assert cells(report.tables(measure.read(path)))[f"{CPU}, float32"][name][:2] == ["35 %", "21 %"]
    add(path, **right, share_of_matmul_peak=0.22)
    assert cells(report.tables(measure.read(path)))[f"{CPU}, float32"][name][:2] == ["35 %", "22 %"]
    assert len({measure.key(line) for line in measure.read(path)}) == 1 + len(wrong)


def test_a_row_says_its_commit_its_age_and_what_it_does_not_say(path):
    if history.commit() is None:
        pytest.skip("no git here")
    known, unknown = history.commit().rstrip("+"), "0123456"
    lines = [
        add(path, "build", "1,000,000 spectra", batch=1024, seconds=60.0, peak_gib=None, commit=known),
        add(path, "latency", "jit, batch 1", batch=1, median_ms=1.0, commit=unknown),
    ]
    del lines[1]["length"]
    found = cells(report.tables(lines))[f"{CPU}, float32"]
    built = found["a dataset of a million spectra built, two cores"]
    assert built[1] == "1.0 min" and built[2] in (f"`{known}`", f"`{known}`, old")
    remark = "age unknown: no such commit here, length not recorded"
    assert found["batch-1 latency of the network, p50 (on a CPU of one core)"][2] == f"`{unknown}`, {remark}"


def test_tiny_runs_and_other_files_are_no_results(path):
    add(path, "latency", "jit, batch 1", batch=1, median_ms=1.0, small=True)
    assert measure.read(path) == []
    for text in ("not json", "[1]", '{"benchmark": "ops"}'):
        path.write_text(f"{text}\n")
        with pytest.raises(SystemExit, match=r"results\.jsonl, line 1: not a result line"):
            report.main([str(path)])
    with pytest.raises(SystemExit, match="absent: No such file"):
        report.main([str(path.with_name("absent"))])


def test_readme_is_what_the_results_say(tmp_path, capsys):
    """But for ages, which every commit may change."""

    def without_ages(text: str) -> str:
        return re.sub(r"(`\w+\+?`), (old|age unknown: [\w ]+)", r"\1", text)

    before = (ROOT / "README.md").read_text()
    readme = tmp_path / "README.md"
    readme.write_text(before)
    report.main([*map(str, RESULTS), "--readme", str(readme)])
    assert without_ages(readme.read_text()) == without_ages(before)
    assert capsys.readouterr().out.strip() in readme.read_text()
    readme.write_text("no markers\n")
    with pytest.raises(SystemExit, match="no lines <!-- benchmarks: begin -->"):
        report.main([*map(str, RESULTS), "--readme", str(readme)])
    assert readme.read_text() == "no markers\n"


def test_the_roofline_has_a_panel_for_each_machine_and_a_mark_for_each_key(path):
    shares = {"share_of_matmul_peak": 0.3, "share_of_memory_roof": 0.4}
    for device in (CPU, GPU):
        for batch in range(12):
            add(path, "train_step", f"fixed B={batch}", batch=batch, device=device, **shares)
    add(path, "train_step", "fixed B=1", batch=1, **shares)
    add(path, "train_step", "fixed B=1 epoch", batch=1, **shares)
    add(path, "ops", "fold p=144, one DFT", kind="folding", **shares | {"share_of_memory_roof": 1.6})
    picture = path.with_name("roofline.svg")
    report.main([str(path), "--picture", str(picture)])
    texts = ["".join(t.itertext()) for t in ElementTree.parse(picture).iter() if t.tag.endswith("}text")]
    assert [text for text in texts if text.endswith(", float32")] == [f"{CPU}, float32", f"{GPU}, float32"]
    steps = [text for text in texts if text.startswith("train step")]
    assert len(steps) == 24 and len(set(steps)) == 12
    assert all(f"at {history.commit()}" in text for text in steps)
    assert sum(text.startswith("folding") for text in texts) == 1 and "160 %" in [text.strip() for text in texts]
