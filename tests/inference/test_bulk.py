"""Whole datasets: the answers of `predict` for every example, whatever the devices, and whatever stops it on the way."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import spt_jax
from data_pipelines.dataset import identities
from data_pipelines.dataset.data import Identified
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.opening import open_data
from data_pipelines.errors import DatasetError, UserError
from data_pipelines.library import LIBRARY
from data_pipelines.schema import EnergyGrid
from spt_jax.cli import main
from spt_jax.inference import bulk
from spt_jax.inference.answer_file import AnswerFile
from spt_jax.inference.bulk import predict_dataset
from tests.runs.formats import EXPORT_1
from tests.test_cli import fails
from tests.training.test_train import flags

# The command in a process of its own, with parts so small that there are some, and time between them to stop it.
COMMAND = """
import signal, sys, time
from spt_jax.cli import main
from spt_jax.inference import bulk
from spt_jax.inference.answer_file import AnswerFile

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in the background
bulk.PART_ROWS, write = 64, AnswerFile.write

def slow(*given):
    write(*given)
    time.sleep(float(sys.argv[1]))

AnswerFile.write = slow
main(sys.argv[2:])
"""
PARTS = 64


def in_a_process(pause: float) -> list[str]:
    return [sys.executable, "-c", COMMAND, str(pause)]


def arguments(file, out, *more: str) -> list[str]:
    return ["predict", str(file), "--data", str(LIBRARY), "--out", str(out), *more]


def columns(path) -> dict[str, list]:
    return pq.read_table(path).to_pydict()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(bulk, "PART_ROWS", PARTS)


@pytest.fixture(scope="module")
def whole(file, tmp_path_factory):
    """Answered without a stop."""
    out = tmp_path_factory.mktemp("whole") / "answers.parquet"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bulk, "PART_ROWS", PARTS)
        main(arguments(file, out))
    return out


def test_every_example_gets_the_answers_of_predict(model, whole):
    found, dataset = columns(whole), Dataset(LIBRARY)
    splits = {name: dataset.split(name) for name in ("train", "validation", "test")}
    assert found["split"] == [name for name, split in splits.items() for _ in split.ids]
    place = 0
    for split in splits.values():
        elements = [absorber.split()[0] for absorber in split.absorbers]
        own = slice(place, place + len(split.ids))
        assert (found["id"][own], found["material"][own]) == (list(split.ids), list(split.materials))
        assert found["element"][own] == elements and set(found["edge"]) == {"K"} and set(found["error"]) == {None}
        energies = [model.blueprint.grid.absolute(element) for element in elements]
        for row in range(0, len(elements), 13):
            # The grid's own energies bring back its own values.
            values = model.predict(energies[row], split.batch.spectrum[row], elements[row])
            for name in ("OS", "CN", "NNOSM", "MBL"):
                assert (found[name][place + row] is None) == (name not in values)
            for name, value in values.items():
                told = found[name][place + row]
                if value.probabilities:
                    assert told == value.value
                    chance = found[f"{name}_probability"][place + row]
                    assert chance == pytest.approx(value.probabilities[told], abs=1e-4)
                else:
                    ends = [found[f"{name}_{end}"][place + row] for end in ("low", "high")]
                    assert [told, *ends] == pytest.approx([value.value, *(value.interval or (None, None))], abs=1e-4)
        place += len(elements)
    assert place == len(found["id"])
    told = json.loads(pq.read_schema(whole).metadata[b"spt_jax"])
    assert told["spt_jax"] == spt_jax.__version__ and told["dataset"]["fingerprint"] == dataset.fingerprint
    assert told["decisions"]["power"] == model.decisions.power and told["splits"] == dataset.examples


def test_eight_devices_answer_as_one(file, whole, tmp_path):
    environment = {**os.environ, "XLA_FLAGS": flags(8)}
    line = [*in_a_process(0), *arguments(file, tmp_path / "answers.parquet", "--batch-size", "8")]
    subprocess.run(line, env=environment, check=True, capture_output=True)
    first, second = columns(whole), columns(tmp_path / "answers.parquet")
    assert first.keys() == second.keys()
    for name, values in first.items():
        if isinstance(next((value for value in values if value is not None), ""), float):
            assert second[name] == pytest.approx(values, abs=1e-5), name
        else:
            assert second[name] == values, name


def stopped(file, out, number: signal.Signals) -> tuple[int, str]:
    """Exit status and last words of the command, which gets a signal after some parts."""
    with subprocess.Popen([*in_a_process(1.0), *arguments(file, out)], stderr=subprocess.PIPE, text=True) as process:
        parts = out.with_name(f"{out.name}.parts")
        deadline = time.monotonic() + 60
        while len(list(parts.glob("[a-z]*.parquet"))) < 3:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    assert not out.exists() and 64 <= json.loads((parts / "job.json").read_text())["done"] < 451
    return process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_what_was_stopped_goes_on_to_the_same_file(number, file, whole, tmp_path, capsys):
    out = tmp_path / "answers.parquet"
    status, said = stopped(file, out, number)
    if number == signal.SIGINT:
        assert status == 130 and said.endswith("stopped; run the same command again to go on where it was\n")
    # Half a part, as a failing disk leaves one, is answered anew.
    [damaged, *_] = sorted(tmp_path.glob("*.parts/train-*"))
    damaged.write_bytes(damaged.read_bytes()[:-10])
    begun: list[int] = []
    predict_dataset(file, open_data(LIBRARY), out, report=lambda done, total: begun.append(done))
    assert 64 <= begun[0] < 451 and begun[-1] == 451
    assert out.read_bytes() == whole.read_bytes() and os.listdir(tmp_path) == ["answers.parquet"]
    capsys.readouterr()
    main(arguments(file, out))
    assert capsys.readouterr().out == f"{out}: done before, 451 spectra\n"


def test_two_processes_do_not_write_the_same_file(file, whole, tmp_path, capsys):
    out = tmp_path / "answers.parquet"
    with subprocess.Popen([*in_a_process(0.3), *arguments(file, out)], stdout=subprocess.DEVNULL) as first:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("*.parts/[a-z]*.parquet")):
            assert time.monotonic() < deadline and first.poll() is None
            time.sleep(0.01)
        said = fails(capsys, *arguments(file, out))
        assert said.endswith(
            f"{out}: process {first.pid} on {platform.node()} is writing it; wait until it is through, or stop it\n"
        )
    assert first.returncode == 0 and out.read_bytes() == whole.read_bytes()
    assert os.listdir(tmp_path) == ["answers.parquet"]


def test_a_file_that_became_whole_before_the_lock_was_had_stays(file, whole, tmp_path, monkeypatch):
    out, held = tmp_path / "answers.parquet", AnswerFile.held

    def late(self):
        shutil.copy(whole, out)
        return held(self)

    monkeypatch.setattr(AnswerFile, "held", late)
    assert predict_dataset(file, open_data(LIBRARY), out).before
    assert os.listdir(tmp_path) == ["answers.parquet"]


def test_a_full_disk_is_one_line_and_goes_on(file, whole, tmp_path):
    mount = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=300k tmpfs "$0" && exec "$@"', str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("needs a small file system, which takes Linux and a user that may mount one")
    script = tmp_path.with_name("twice.sh")
    script.write_text(
        'filler=$1; out=$2; shift 2; head -c 260000 /dev/zero > "$filler"; "$@"; status=$?; rm "$filler"\n'
        '"$@" >/dev/null 2>&1 && sha256sum "$out"; exit $status\n'
    )
    out = tmp_path / "answers.parquet"
    line = [*mount, "sh", str(script), str(tmp_path / "filler"), str(out), *in_a_process(0), *arguments(file, out)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last == "spt-jax: error: No space left on device; free some and run the same command again", done.stderr
    expected = subprocess.run(["sha256sum", str(whole)], capture_output=True, text=True, check=True).stdout
    assert done.returncode == 1 and done.stdout.split()[0] == expected.split()[0]


def test_what_does_not_fit_is_refused_in_one_line(file, whole, tmp_path, capsys, monkeypatch):
    def refused(*line: str, status: int = 1) -> str:
        return fails(capsys, "predict", *map(str, line), status=status)

    out, data = tmp_path / "answers.parquet", ("--data", LIBRARY)
    assert "spt-jax prepare" in refused(file, "--data", tmp_path, "--out", out)
    assert "spt-jax train" in refused(tmp_path, *data, "--out", out)
    assert "no examples in split 'tset'; it has train, validation, test" in refused(
        file, *data, "--out", out, "--split", "tset"
    )
    assert "is a folder" in refused(file, *data, "--out", tmp_path)
    assert "give one of them" in refused(file, "xmu.dat", *data, "--out", out, status=2)
    assert "--out answers.parquet" in refused(file, *data, status=2)
    assert "give --data DATASET" in refused(file, "xmu.dat", "--out", out, status=2)
    assert not out.exists() and not list(tmp_path.iterdir())
    for other, what in ((EXPORT_1, "another model;"), (file, "another splits;")):
        shutil.copy(whole, out)
        assert what in refused(
            other, *data, "--out", out, "--split", *("train", "validation", "test")[: 2 + (other != file)]
        )
    out.write_text("energy mu\n")
    assert "holds no answers" in refused(file, *data, "--out", out)
    parts = tmp_path / "new.parquet.parts"
    parts.mkdir()
    job = json.loads(pq.read_schema(whole).metadata[b"spt_jax"])
    (parts / "job.json").write_text(json.dumps({**job, "dataset": {"name": "d", "fingerprint": "0"}}))
    assert f"{parts} holds answers with another dataset; remove it" in refused(
        file, *data, "--out", parts.with_suffix("")
    )
    (parts / "job.json").write_text("{")
    assert "damaged" in refused(file, *data, "--out", parts.with_suffix(""))


def test_a_set_of_another_grid_or_of_other_elements_is_refused(file, tmp_path):
    dataset = Dataset(LIBRARY)
    dataset.grid = EnergyGrid(points=100)
    with pytest.raises(DatasetError, match=r"grid of 100 points.*trained on one of 144 points"):
        predict_dataset(file, dataset, tmp_path / "answers.parquet")
    dataset = Dataset(LIBRARY)
    dataset.statistics = lambda split: replace(Dataset(LIBRARY).statistics(split), absorbers={"Cu K": 3})
    with pytest.raises(DatasetError, match="spectra of Cu K; this model was trained on Co K"):
        predict_dataset(file, dataset, tmp_path / "answers.parquet")
    assert not list(tmp_path.iterdir())


def test_an_example_that_predict_would_refuse_costs_its_own_row(file, model, whole, tmp_path):
    class Marred(Dataset):
        """As the library, but for the first examples of each part."""

        def reader(self, split):
            read = super().reader(split)

            def marred(start, stop):
                rows, texts = read(start, stop)
                spectrum, elements = rows.spectrum.copy(), texts["element"].to_pylist()
                spectrum[0, 3], spectrum[1], elements[2] = np.nan, 1, "Cu"
                texts = texts.set_column(texts.schema.get_field_index("element"), "element", pa.array(elements))
                return Identified(rows._replace(spectrum=spectrum), texts)

            return marred

    done = predict_dataset(file, Marred(LIBRARY), tmp_path / "answers.parquet", ["validation"])
    assert (done.rows, done.silent) == (46, 3)
    found = columns(tmp_path / "answers.parquet")
    said = ["not finite: point 4 holds", "no edge in range: mu starts at 1.00", "Cu K; this model was trained on"]
    assert all(text in error for text, error in zip(said, found["error"], strict=False))
    assert found["error"][3:] == [None] * 43 and all(found[name][:3] == [None] * 3 for name in ("OS", "MBL", "MBL_low"))
    expected = columns(whole)
    rows = [row for row, split in enumerate(expected["split"]) if split == "validation"]
    assert found["MBL"][3:] == pytest.approx([expected["MBL"][row] for row in rows[3:]], abs=1e-5)


def test_a_tfds_folder_and_a_ledger_in_pieces_give_the_same(file, whole, tmp_path, monkeypatch):
    [folder, *_] = sorted((LIBRARY / "spt_xas").glob("*/1.0.0"))
    predict_dataset(file, open_data(folder), tmp_path / "tfds.parquet")
    found, expected = pq.read_table(tmp_path / "tfds.parquet"), pq.read_table(whole)
    expected = expected.filter(pc.is_in(expected["id"], found["id"]))
    assert found.drop_columns(["error"]).to_pylist() == [
        pytest.approx(row, abs=1e-5) for row in expected.drop_columns(["error"]).to_pylist()
    ]
    monkeypatch.setattr(identities, "WINDOW_ROWS", 50)
    predict_dataset(file, Dataset(LIBRARY), tmp_path / "pieces.parquet")
    assert pq.read_table(tmp_path / "pieces.parquet").equals(pq.read_table(whole))


def test_a_damaged_ledger_is_named(tmp_path):
    copy = tmp_path / "dataset"
    shutil.copytree(LIBRARY, copy)
    ledger = max(copy.glob("ledger/*.parquet"), key=lambda path: path.stat().st_size)
    table = pq.read_table(ledger)
    pq.write_table(table.filter(pc.field("row") != 1), ledger)
    with pytest.raises(UserError, match=r"ledger/.*damaged \(not every train example is in it once\)"):
        Dataset(copy).reader("train")(0, 330)
