"""Programs compiled ahead of time: the same answers without compiling, and where they do not serve, with it."""

import json
import logging
import pathlib
import pickle
import zipfile
from importlib.util import find_spec

import jax
import numpy as np
import pytest

import spt_jax
from data_pipelines.errors import CheckpointError, MissingExtra, UserError
from data_pipelines.library import EXAMPLE, LIBRARY
from spt_jax.cli import main
from spt_jax.runs import targets
from spt_jax.runs.ahead import Machine, compile_ahead
from spt_jax.runs.export import export
from tests.runs.formats import EXPORT_1
from tests.test_cli import fails


@pytest.fixture(scope="module")
def model():
    return spt_jax.load(EXPORT_1)


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("ahead") / "model.spt"
    programs = [compile_ahead(model.network, size, model.blueprint.grid.points, jax.devices()[0]) for size in (1, 64)]
    export(model.blueprint, model.network, path, programs=programs)
    return path


@pytest.fixture
def compiles(caplog):
    """compiles(call): does the call compile anything?"""

    def found(call) -> bool:
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            call()
        return "Finished XLA compilation" in caplog.text

    return found


def said(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "spt_jax.runs.ahead"]


def changed(file, path, programs=lambda content: content, **entry):
    """A copy whose programs are said to be for another machine, or have other bytes."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(path, "w") as new:
        document = json.loads(old.read("model.json"))
        for each in document["ahead"]:
            each["machine"] |= entry
        new.writestr("model.json", json.dumps(document))
        for name in old.namelist()[1:]:
            new.writestr(name, programs(old.read(name)) if name.startswith("ahead") else old.read(name))
    return path


def test_a_process_that_finds_its_program_does_not_compile(model, file, compiles, rng, caplog):
    spectrum, number = rng.normal(size=(300, 144)).astype(np.float32), np.full(300, 27)
    ready = spt_jax.load(file, compiled=True)
    for count in (1, 300):
        assert not compiles(lambda count=count: ready.outputs(spectrum[:count], number[:count]))
        expected = model.outputs(spectrum[:count], number[:count])
        for name, found in ready.outputs(spectrum[:count], number[:count]).items():
            np.testing.assert_allclose(found, expected[name], rtol=1e-6, atol=1e-6, err_msg=name)
    assert not said(caplog)
    # A copy, as a process that it is sent to gets it, has no programs and answers the same.
    other = pickle.loads(pickle.dumps(ready))
    assert compiles(lambda: other.outputs(spectrum[:1], number[:1]))
    assert spt_jax.predict(ready, EXAMPLE)[0].values.keys() == spt_jax.predict(model, EXAMPLE)[0].values.keys()


@pytest.mark.parametrize("what", ["another machine", "another jax", "another batch", "other bytes", "none"])
def test_what_does_not_serve_is_said_once_and_compiled(what, model, file, tmp_path, rng, caplog):
    path, spectrum = tmp_path / "other.spt", rng.normal(size=(1, 144)).astype(np.float32)
    if what == "another machine":
        words = (
            f"compiled ahead for TPU v9 with jax {jax.__version__}, this is {Machine.of(jax.devices()[0])}; compiling"
        )
        changed(file, path, kind="TPU v9", platform="tpu")
    elif what == "another jax":
        words = "with jax 0.1, this is"
        changed(file, path, jax="0.1")
    elif what == "another batch":
        words = "compiled ahead for batches of 32, not of 1; compiling"
        program = compile_ahead(model.network, 32, 144, jax.devices()[0])
        export(model.blueprint, model.network, path, programs=[program])
    elif what == "none":
        words = "no program in it is compiled ahead; compiling"
        export(model.blueprint, model.network, path)
    else:
        words = "its program compiled ahead does not load here"
        changed(file, path, lambda content: content[: len(content) // 2])
    other = spt_jax.load(path, compiled=True)
    found = [other.outputs(spectrum, np.array([27])), other.outputs(np.repeat(spectrum, 3, axis=0), np.full(3, 27))]
    [line] = said(caplog)
    assert line.startswith(f"{path}: ") and words in line and "\n" not in line
    expected = model.outputs(spectrum, np.array([27]))
    for name in expected:
        np.testing.assert_allclose(found[0][name], expected[name], rtol=1e-6, atol=1e-6, err_msg=name)


class Malicious:
    """What unpickles it writes a file."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return pathlib.Path.write_text, (self.victim, "here I was")


def test_nothing_of_a_program_is_read_unless_asked_for(model, file, tmp_path, rng, caplog, capsys):
    path, victim, out = tmp_path / "other.spt", tmp_path / "victim", tmp_path / "answers.parquet"
    changed(file, path, lambda content: pickle.dumps(Malicious(victim)))
    spectrum = rng.normal(size=(300, 144)).astype(np.float32)
    other = spt_jax.load(path)
    for count in (1, 300):
        found = other.outputs(spectrum[:count], np.full(count, 27))
        for name, expected in model.outputs(spectrum[:count], np.full(count, 27)).items():
            np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-6, err_msg=name)
    [line] = said(caplog)
    assert (
        line.startswith(f"{path}: ")
        and "\n" not in line
        and "give --compiled (spt_jax.load(FILE, compiled=True))" in line
    )
    assert spt_jax.predict(path, EXAMPLE)[0].values and pickle.loads(pickle.dumps(other)).blueprint == other.blueprint
    main(["predict", str(path), str(EXAMPLE)])
    main(["predict", str(path), "--data", str(LIBRARY), "--out", str(out)])
    main(["evaluate", str(path), "--data", str(LIBRARY)])
    assert not victim.exists()
    # The same file with the flag, in each of the forms: the trap does snap.
    for line in (
        ["predict", EXAMPLE],
        ["predict", "--data", LIBRARY, "--out", f"{out}.2"],
        ["evaluate", "--data", LIBRARY],
    ):
        main([line[0], str(path), "--compiled", *map(str, line[1:])])
        assert victim.read_text() == "here I was"
        victim.unlink()
    # Not even bytes that are no longer those of the archive.
    content = file.read_bytes()
    place = content.index(b"ahead-0.bin") + 5000
    path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
    assert spt_jax.load(path).outputs(spectrum[:1], np.array([27]))
    with pytest.raises(CheckpointError, match="damaged"):
        spt_jax.load(path, compiled=True)


def test_a_folder_has_none(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    for line in (["predict", EXAMPLE], ["predict", "--data", LIBRARY, "--out", tmp_path / "answers.parquet"]):
        said = fails(capsys, line[0], str(tmp_path), "--compiled", *map(str, line[1:]))
        assert f"{tmp_path}: a folder has no programs compiled ahead; leave --compiled" in said
    absent = fails(capsys, "predict", str(tmp_path / "absent"), str(EXAMPLE), "--compiled")
    assert "no such file, nor a model of that name" in absent
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_document_that_says_nothing_sensible_of_them_is_refused(file, tmp_path):
    path = changed(file, tmp_path / "bad.spt", colour="blue")
    with pytest.raises(CheckpointError, match="not an exported model, or damaged"):
        spt_jax.load(path)


def test_chips_that_are_not_here(monkeypatch, capsys):
    with pytest.raises(UserError, match="unknown target 'v1'; targets: v5e, v5p, v6e, h100, h200"):
        targets.device_of("v1")
    monkeypatch.setattr(targets, "find_spec", lambda name: None)
    for name, extra in {"v5e": "aot-tpu", "H200": "aot-gpu"}.items():
        with pytest.raises(MissingExtra, match=rf"for programs for {name}, install the extra `{extra}`"):
            targets.device_of(name)
    line = "export run --out model.spt --chip h200"
    assert "say for which batches" in fails(capsys, *line.split(), status=2)
    line = "export run --out model.spt --compiled-batch 0"
    assert "--compiled-batch must be at least 1, got 0" in fails(capsys, *line.split(), status=2)


@pytest.mark.skipif(find_spec("libtpu") is None, reason="needs the TPU compiler")
def test_a_program_for_a_chip_that_is_not_here(tmp_path):
    def network(spectrum, atomic_number):
        return {"MBL": spectrum.sum(axis=1) + atomic_number}

    program = compile_ahead(network, 8, 144, targets.device_of("v5e"))
    assert program.machine.kind == "TPU v5 lite" and len(program.content) > 1000
