"""A packed model that was made ready once is ready at the next start, with the answers it had."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import spt_jax
from data_pipelines.errors import CheckpointError
from data_pipelines.library import EXAMPLE
from data_pipelines.readers.spectrum import read_spectrum
from spt_jax.inference import kept
from spt_jax.inference.kept import load_kept

SMALL = Path(__file__).parents[1] / "runs" / "formats" / "packed_1.safetensors"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "spt-jax" / "kept"


@pytest.fixture
def quick(monkeypatch):
    """What is kept is not compiled ahead: that takes seconds."""
    monkeypatch.setattr(kept, "compile_ahead", lambda *given: [])
    written = kept.export
    monkeypatch.setattr(kept, "export", lambda *given: written(*given[:-2], domain=given[-1]))


def said(model):
    spectrum = read_spectrum(EXAMPLE)
    return model.predict(spectrum.energy, spectrum.mu, element=spectrum.element)


def same(one, other):
    assert list(one) == list(other)
    for name in one:
        if one[name].interval:
            np.testing.assert_allclose(one[name].value, other[name].value, atol=1e-4)
        elif isinstance(one[name].value, float):
            assert one[name].value == other[name].value
            np.testing.assert_allclose(
                list(one[name].probabilities.values()), list(other[name].probabilities.values()), atol=1e-4
            )


def test_a_second_start_answers_the_same_without_flax(cache):
    before = said(spt_jax.load(SMALL))
    same(said(load_kept(SMALL)), before)
    [file] = cache.iterdir()
    code = (
        "import sys; from spt_jax.inference.kept import load_kept; from tests.inference.test_kept import SMALL, said;"
        "model = load_kept(SMALL); said(model); print('flax' in sys.modules)"
    )
    # The import hook of the tests' settings is not there, and with it no flax.
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert found.stdout.split() == ["False"]
    same(said(load_kept(SMALL)), before)
    assert [file] == list(cache.iterdir())


def test_who_asked_for_no_program_hears_of_none(cache, quick, caplog):
    said(load_kept(SMALL)), said(load_kept(SMALL))
    assert not caplog.messages


def test_programs_of_the_packed_file_itself_are_refused_at_every_start(cache, quick):
    load_kept(SMALL)
    with pytest.raises(CheckpointError, match="no programs compiled ahead"):
        load_kept(SMALL, compiled=True)


def test_what_it_learnt_from_is_kept(cache, quick):
    before, found = spt_jax.load("spt-k").domain.parts(), load_kept("spt-k").domain.parts()
    assert found[0] == before[0]
    assert found[1].keys() == before[1].keys()
    assert all(np.array_equal(found[1][name], before[1][name]) for name in before[1])


def test_a_damaged_one_is_made_again(cache, quick):
    load_kept(SMALL)
    [file] = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    said(load_kept(SMALL))
    assert len(file.read_bytes()) == len(whole)


def test_one_of_another_user_is_not_read(cache, quick, monkeypatch):
    load_kept(SMALL)
    read = []
    monkeypatch.setattr(kept, "load_exported", lambda *given, **more: read.append(given))
    monkeypatch.setattr(os, "getuid", lambda: -1)
    said(load_kept(SMALL))
    assert not read


def test_where_nothing_can_be_kept_it_answers_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert said(load_kept(SMALL))


def test_a_full_disk_is_left_as_it_was(cache, quick, monkeypatch):
    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert said(load_kept(SMALL))
    assert not list(cache.iterdir())


def test_another_file_and_another_machine_have_their_own(cache, quick, tmp_path, monkeypatch):
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes(SMALL.read_bytes())
    load_kept(SMALL), load_kept(copy)
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", "") + " --xla_cpu_enable_fast_math=false")
    load_kept(SMALL)
    assert len(list(cache.iterdir())) == 3
    monkeypatch.setattr(kept, "MOST", 1)
    monkeypatch.setenv("XLA_FLAGS", "")
    load_kept(SMALL)
    assert len(list(cache.iterdir())) == 1
