"""An exported file predicts what its run does, in a process that has only jax, numpy and scipy."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

import spt_jax
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import CheckpointError
from data_pipelines.library import EXAMPLE, LIBRARY
from data_pipelines.readers.spectrum import read_spectrum
from spt_jax.cli import main
from spt_jax.runs.export import export, load_exported
from tests.runs.formats import EXPORT_1, HERE, as_of_today

COUNTS = (1, 3, 300)
PLACES = (Path(spt_jax.__file__).parent.parent, Path(jax.__file__).parent.parent, Path.home(), sys.prefix)
ELSEWHERE = """
import json, sys
import numpy as np
import spt_jax
model, given = spt_jax.load(sys.argv[1]), np.load(sys.argv[2])
found = {}
for count in json.loads(sys.argv[4]):
    outputs = model.outputs(given["spectrum"][:count], given["atomic_number"][:count])
    found |= {f"{count} {name}": value for name, value in outputs.items()}
np.savez(sys.argv[3], **found)
values = model.predict(given["energy"], given["mu"], element="Co")
print(json.dumps({name: value.value for name, value in values.items()}))
loaded = {"flax", "orbax", "grain", "tensorflow_datasets", "optax", "pymatgen"} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.fixture(scope="module")
def file(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "new folder" / "model.spt"
    main(["export", str(trained), "--out", str(path)])
    return path


def test_another_process_without_flax_computes_the_same(trained, file, tmp_path):
    batch, example = Dataset(LIBRARY).split("train").batch, read_spectrum(EXAMPLE)
    spectrum, atomic_number = np.resize(batch.spectrum, (300, 144)), np.resize(batch.atomic_number, 300)
    given = {"spectrum": spectrum, "atomic_number": atomic_number, "energy": example.energy, "mu": example.mu}
    np.savez(tmp_path / "given.npz", **given)
    arguments = [str(file), str(tmp_path / "given.npz"), str(tmp_path / "found.npz"), json.dumps(COUNTS)]
    ended = subprocess.run([sys.executable, "-c", ELSEWHERE, *arguments], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    model, found = spt_jax.load(trained), np.load(tmp_path / "found.npz")
    for count in COUNTS:
        for name, expected in model.outputs(spectrum[:count], atomic_number[:count]).items():
            value = found[f"{count} {name}"]
            assert (value.shape, value.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6, err_msg=f"{name} of {count}")
    values = {n: v.value for n, v in model.predict(example.energy, example.mu, element="Co").items()}
    assert json.loads(ended.stdout) == pytest.approx(values, abs=1e-6)


def test_the_commands_hand_over(trained, file, capsys):
    capsys.readouterr()
    main(["export", str(trained), "--out", str(file)])
    size, following = capsys.readouterr().out.splitlines()
    assert "MB" in size and following == f"Next: spt-jax predict {file} xmu.dat"
    for model in (trained, file):
        main(["predict", str(model), str(EXAMPLE), "--format", "json"])
    first, second = capsys.readouterr().out.split("]\n[")
    assert json.loads(first + "]") == json.loads("[" + second)
    for model in (trained, file):
        main(["evaluate", str(model), "--data", str(LIBRARY)])
    said = capsys.readouterr().out
    assert said[: len(said) // 2] == said[len(said) // 2 :] and not (file.parent / "metrics.json").exists()
    with pytest.raises(SystemExit):
        main(["export", str(trained), "--out", str(trained)])
    assert "is a folder" in capsys.readouterr().err


def test_the_command_puts_programs_into_the_file(trained, file, tmp_path, capsys):
    main(["export", str(trained), "--out", str(tmp_path / "ready.spt"), "--compiled-batch", "1", "1"])
    with zipfile.ZipFile(tmp_path / "ready.spt") as archive:
        assert archive.namelist() == ["model.json", "network.bin", "ahead-0.bin"]
        assert [each["batch"] for each in json.loads(archive.read("model.json"))["ahead"]] == [1]
    capsys.readouterr()
    for model in (file, tmp_path / "ready.spt"):
        main(["predict", str(model), str(EXAMPLE), "--format", "json"])
    first, second = capsys.readouterr().out.split("]\n[")
    assert json.loads(first + "]") == json.loads("[" + second)
    main(["predict", str(tmp_path / "ready.spt"), str(EXAMPLE), "--compiled", "--format", "json"])
    assert (
        json.loads(capsys.readouterr().out)[0]["descriptors"].keys() == json.loads(first + "]")[0]["descriptors"].keys()
    )
    # Paths of the machine that made them are nobody's business.
    with zipfile.ZipFile(tmp_path / "ready.spt") as archive:
        for name in archive.namelist():
            content = archive.read(name)
            for place in (*map(str, PLACES), "site-packages", "spt_jax/", "ahead.py", "export.py"):
                assert place.encode() not in content, (name, place)


def rewritten(file, path, **changes):
    """A copy of `file` whose model.json differs."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(path, "w") as new:
        new.writestr("model.json", json.dumps(json.loads(old.read("model.json")) | changes))
        new.writestr("network.bin", old.read("network.bin"))


def test_files_that_cannot_serve_are_refused_in_one_line(file, tmp_path):
    content, path = file.read_bytes(), tmp_path / "bad.spt"

    def refused(message: str) -> None:
        with pytest.raises(CheckpointError, match=message) as error:
            spt_jax.load(path)
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
        assert "`spt-jax export RUN --out FILE`" in str(error.value)

    path.write_bytes(b"energy mu\n")
    refused("not an exported model, or damaged")
    path.write_bytes(content[: len(content) // 2])
    refused("damaged")
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    refused("damaged .*CRC")
    with zipfile.ZipFile(path, "w") as other:
        other.writestr("xmu.dat", "1 2")
    refused("not an exported model")
    rewritten(file, path, format=99)
    refused("format 99")
    rewritten(file, path, platforms=["tpu"])
    refused("exported for tpu, jax runs on ")
    rewritten(file, path, classes={"CN": [1, 2]})
    refused("another version of spt-jax")


def test_platforms_and_an_absent_file(trained, tmp_path):
    model = spt_jax.load(trained)
    export(model.blueprint, model.network, tmp_path / "cpu.spt", platforms=("cpu",))
    with zipfile.ZipFile(tmp_path / "cpu.spt") as archive:
        assert json.loads(archive.read("model.json"))["platforms"] == ["cpu"]
    assert load_exported(tmp_path / "cpu.spt")[0] == model.blueprint
    assert [p.name for p in tmp_path.iterdir()] == ["cpu.spt"]
    with pytest.raises(CheckpointError, match="spt-jax train"):
        spt_jax.load(tmp_path / "absent.spt")


def test_a_file_of_format_1_answers_as_it_did(capsys):
    """Written by the release before decisions were kept, of a run of four epochs on the library."""
    expected = json.loads((HERE / "export_1.json").read_text(encoding="utf-8"))
    model = spt_jax.load(EXPORT_1)
    assert model.blueprint.decisions is None
    [row] = spt_jax.predict(model, EXAMPLE)
    assert row.absorber == expected[0]["absorber"] and row.values.keys() == expected[0]["descriptors"].keys()
    for name, value in row.values.items():
        then = expected[0]["descriptors"][name]
        assert (value.value, value.unit) == (pytest.approx(then["value"], abs=1e-5), then["unit"])
        chances = {str(each): p for each, p in value.probabilities.items()}
        assert chances == pytest.approx(as_of_today(name, then), abs=1e-5) and value.interval is None
