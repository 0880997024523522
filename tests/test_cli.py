"""The commands as a user types them, on the embedded library: the road from data to descriptors, and wrong turns."""

import csv
import io
import json
import os
import shutil
from importlib.metadata import entry_points

import numpy as np
import pytest

import spt_jax
from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import EXAMPLE, LIBRARY
from data_pipelines.readers.spectrum import read_spectrum
from spt_jax.cli import COMMANDS, main
from spt_jax.commands.file_options import model_and_files
from spt_jax.runs.formats import CHECKPOINT
from spt_jax.scoring.names import CLASS_SCORES, VALUE_SCORES
from tests.conftest import SMALL


def fails(capsys, *arguments: str, status: int = 1) -> str:
    """The one line that a wrong command prints on stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == status
    message = capsys.readouterr().err
    assert message.startswith("spt-jax: error: ") and message.count("\n") == 1, message
    return message


def test_entry_point_is_installed():
    assert any(e.value == "spt_jax.launch:main" for e in entry_points(group="console_scripts", name="spt-jax"))


def test_evaluate_writes_every_descriptor_of_the_library(trained, capsys):
    main(["evaluate", str(trained), "--data", str(LIBRARY), "--split", "test"])
    metrics = json.loads((trained / "metrics.json").read_text())
    split = Dataset(LIBRARY).split("test")
    assert (metrics["split"], metrics["n"]) == ("test", len(split.ids))
    keys = {"class": CLASS_SCORES, "regression": VALUE_SCORES}
    for scores in metrics["descriptors"].values():
        assert list(scores) == ["kind", "n", *keys[scores["kind"]]]
    assert metrics["main_score"] == {"class": "f1_weighted", "regression": "r2"}
    assert set(metrics["sites"]) == {"non-O", "O"}
    said = capsys.readouterr().out
    assert max(len(line) for line in said.splitlines()) <= 80
    [told] = [line.split()[3:] for line in said.splitlines() if line.split()[:2] == ["non-O", "CN"]]
    scores = metrics["sites"]["non-O"]["descriptors"]["CN"]
    assert told == [f"{scores[name]:.3f}" for name in CLASS_SCORES]


@pytest.mark.parametrize("format", ["json", "csv", "table"])
def test_predict_prints_every_format(trained, capsys, format):
    capsys.readouterr()
    main(["predict", str(trained), str(EXAMPLE), "--format", format])
    text = capsys.readouterr().out
    if format == "json":
        [result] = json.loads(text)
        assert result["absorber"] == "Co K"
        assert sum(result["descriptors"]["CN"]["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert result["descriptors"]["MBL"]["unit"] == "Å" and "NNOSM" not in result["descriptors"]
    elif format == "csv":
        assert {row["descriptor"] for row in csv.DictReader(io.StringIO(text))} >= {"OS", "CN", "MBL"}
    else:
        assert "Å" in text


def test_two_columns_and_python_agree_with_xmu(trained, tmp_path, capsys):
    found = read_spectrum(EXAMPLE)
    path = tmp_path / "Spektrum Ö.txt"
    np.savetxt(path, np.column_stack([found.energy, 3.7 * found.mu]), header="energy mu")
    capsys.readouterr()
    main(["predict", str(trained), str(EXAMPLE), str(path), "--element", "Co", "--as", "theory", "--format", "json"])
    first, second = json.loads(capsys.readouterr().out)
    values = spt_jax.load(trained).predict(found.energy, found.mu, element="Co")
    for name, value in values.items():
        assert first["descriptors"][name]["value"] == pytest.approx(second["descriptors"][name]["value"], abs=1e-4)
        assert value.value == pytest.approx(first["descriptors"][name]["value"], abs=1e-4)


def test_wrong_spectra_get_one_line(trained, tmp_path, capsys):
    found = read_spectrum(EXAMPLE)
    table = np.column_stack([found.energy, found.mu])
    wrong = {
        "relative energies": table - [7720, 0],
        "several scans": np.concatenate([table, table]),
        "grid not covered": table[: len(table) // 2],
        "no edge": np.column_stack([found.energy, np.ones_like(found.mu)]),
        "no fine structure": np.column_stack([found.energy, np.arctan(found.energy - 7722) + 1.6]),
        "columns": np.column_stack([table, found.mu]),
    }
    for reason, rows in wrong.items():
        path = tmp_path / "wrong.txt"
        np.savetxt(path, rows)
        message = fails(capsys, "predict", str(trained), str(path), "--element", "Co")
        assert reason in message and "wrong.txt" in message
    (tmp_path / "cut.dat").write_text(EXAMPLE.read_text()[:-40])
    assert "truncated" in fails(capsys, "predict", str(trained), str(tmp_path / "cut.dat"))
    (tmp_path / "junk.dat").write_bytes(bytes(range(256)))
    assert "not a text file" in fails(capsys, "predict", str(trained), str(tmp_path / "junk.dat"))
    (tmp_path / "empty.dat").touch()
    assert "no numbers" in fails(capsys, "predict", str(trained), str(tmp_path / "empty.dat"))


def test_wrong_element_edge_and_files_get_one_line(trained, tmp_path, capsys):
    assert "trained on" in fails(capsys, "predict", str(trained), str(EXAMPLE), "--element", "Cu")
    path = tmp_path / "two.txt"
    np.savetxt(path, np.column_stack(read_spectrum(EXAMPLE)[:2]))
    assert "say which element" in fails(capsys, "predict", str(trained), str(path))
    assert "trained on" in fails(capsys, "predict", str(trained), str(path), "--element", "Cu")
    assert "trained on" in fails(capsys, "predict", str(trained), str(path), "--element", "Co", "--edge", "L3")
    assert "no such file" in fails(capsys, "predict", str(trained), "nowhere.dat")
    assert "no FILE" in fails(capsys, "predict", str(trained))


@pytest.mark.parametrize("command", ["predict", "series"])
def test_a_name_that_is_no_model_and_no_file_is_told(command, tmp_path, capsys):
    missing = str(tmp_path / "missing.dat")
    for names in ((missing,), (missing, str(EXAMPLE))):
        assert "missing.dat: no such file, nor a model of that name" in fails(capsys, command, *names)
    for names in ((), ("spt-k",)):
        assert "no FILE given; name spectrum files" in fails(capsys, command, *names)
    assert "nor a model; make a run with `spt-jax train`" in fails(capsys, command, str(tmp_path), str(EXAMPLE))


def test_folders_of_spectra_need_no_model(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "scan.dat").write_text("7000 1")
    first, second = tmp_path / "a", tmp_path / "b"
    assert model_and_files(str(first), (second,)) == ("", (first, second))
    assert model_and_files("spt-k", (first,)) == ("spt-k", (first,))


def test_wrong_runs_and_datasets_get_one_line(trained, tmp_path, capsys):
    assert "spt-jax train" in fails(capsys, "predict", str(tmp_path), str(EXAMPLE))
    assert "spt-jax prepare" in fails(capsys, "evaluate", str(trained), "--data", str(tmp_path))
    assert "another train.seed" in fails(
        capsys, "train", "tiny", "--data", str(LIBRARY), "--out", str(trained), *SMALL, "--train.seed", "5"
    )


WRONG_USAGE = {
    "trian": "unknown command 'trian', did you mean train?",
    "data crad": "did you mean data card?",
    "train huge --data D --out O": "unknown preset 'huge'; presets: tiny, base",
    "train --data D --out O": "no PRESET given",
    "train tiny --data D --out O --model.widht 3": "--model.width",
    "train tiny --data D --out O --model.kernel 4": "--model.kernel must be odd",
    "train tiny --data D --out O --train.epochs many": "--train.epochs",
    "train tiny --data D": "Missing from spt-jax train tiny: --out",
    "evaluate R --data D --split tset": "Expected one of ('train', 'validation', 'test')",
    "prepare --out O": "no SOURCE given",
    "prepare S --out O --add --overwrite": "give one of them",
    "prepare S --out O --workers=-3": "--workers must be at least 0, got -3",
    "prepare S --out O --grid.points 3": "--grid.points must be at least 16, got 3",
    "structures --out O": "no SOURCE given",
    "structures S --out O --strain_size nan": "--strain_size must be above 0 and at most 0.2, got nan",
    "structures S --out O --delithiate 0.5 1.5": "--delithiate must be above 0 and at most 1, got 1.5",
    "structures S --out O --substitute Co:Ni": "write FROM:TO:FRACTION",
    "feff S --settings.fms 9": "--settings.fms must be at most cluster (8), got 9",
    "feff S --time-limit 0": "--time-limit must be above 0, got 0.0",
    "predict F --batch-size 8": "--batch-size are of a dataset",
    "predict --data D --out O --strict": "--strict and how to read them are of files",
    "predict --data D --out O --element Fe": "how to read them are of files",
    "predict F --as theory --foil 7110": "--as theory takes them as they are",
    "series F --as theory --normalise mback": "--as theory takes them as they are",
    "explain R --data D --sites 0": "--sites must be at least 1, got 0",
    "ensemble tiny --data D --out O --seeds -1": "--seeds must be at least 0, got -1",
    "ablate D --out O --folds 1": "--folds must be at least 2",
    "study D --out O --preset huge": "unknown preset",
    "data card D --html a b": "--html takes one file",
}


@pytest.mark.parametrize("line", WRONG_USAGE)
def test_wrong_usage_is_one_line_that_names_what_the_user_wrote(line, capsys):
    assert WRONG_USAGE[line] in fails(capsys, *line.split(), status=2)


def test_checkpoint_of_another_version_or_damaged_is_refused(trained, tmp_path, capsys):
    for damage in ("format", "truncate"):
        copy = tmp_path / damage
        shutil.copytree(trained, copy)
        for document in [p for p in copy.glob("model/*/blueprint/metadata") if p.is_file()]:
            text = document.read_text()
            document.write_text(
                text.replace(f'"format": {CHECKPOINT}', '"format": 99') if damage == "format" else text[:100]
            )
        message = fails(capsys, "predict", str(copy), str(EXAMPLE))
        assert ("format 99" if damage == "format" else "damaged") in message


def test_prepare_refuses_what_holds_no_spectra(tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no FEFF run" in fails(capsys, "prepare", str(empty), "--out", str(tmp_path / "d"))
    assert "no such file" in fails(capsys, "prepare", "nowhere", "--out", str(tmp_path / "d"))
    assert not (tmp_path / "d").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_gets_one_line(trained, tmp_path, capsys, monkeypatch):
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    (copy / ".metrics.json.partial").symlink_to("/dev/full")
    assert "No space left" in fails(capsys, "evaluate", str(copy), "--data", str(LIBRARY))


@pytest.mark.parametrize("name", ["", "data", *COMMANDS, "train tiny", "ensemble base"])
def test_help_teaches_in_80_columns(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    try:
        main([*name.split(), "--help"])
    except SystemExit as stop:
        assert not stop.code
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    wanted = COMMANDS.values() if not name else [COMMANDS[name]] if name in COMMANDS else []
    for command in wanted:
        assert " ".join(command.__doc__.split("\n\n")[0].split()) in " ".join(text.split())
    if name == "predict":
        assert "note, or are taken as they are" in " ".join(text.replace("│", " ").split())
        assert not any(line.strip("│ ") == "note, or" for line in text.splitlines())
    if name == "prepare":
        assert "SOURCE..." in text and "[above 0] (default: 0.5)" in text
