"""What was saved once is read for ever: a run of each format that was left behind, with the answers it gave then."""

import json
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import spt_jax
from data_pipelines.errors import CheckpointError
from data_pipelines.library import EXAMPLE
from data_pipelines.readers.spectrum import read_spectrum
from spt_jax.runs import formats
from tests.runs.formats import as_of_today

HERE = Path(__file__).parent / "formats"


def check_answers(model, name):
    assert model.blueprint.validation == {}, "other scores than today's are not taken for them"
    [expected] = json.loads((HERE / f"{name}.json").read_text())
    found = read_spectrum(EXAMPLE)
    values = model.predict(found.energy, found.mu, element="Co")
    assert values.keys() == expected["descriptors"].keys()
    for name, was in expected["descriptors"].items():
        assert values[name].value == pytest.approx(was["value"], abs=1e-5)
        chances = {str(value): p for value, p in values[name].probabilities.items()}
        assert chances == pytest.approx(as_of_today(name, was), abs=2e-6)
        assert values[name].interval == (pytest.approx(was["interval"], abs=1e-5) if "interval" in was else None)


@pytest.mark.parametrize(("number", "folding"), [(3, "auto"), (4, "spectral")])
def test_a_checkpoint_of_an_older_format_answers_as_it_did(number, folding, tmp_path):
    """That of format 4 was written with folding "direct"."""
    with tarfile.open(HERE / f"checkpoint_{number}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    model = spt_jax.load(tmp_path)
    assert model.blueprint.execution.folding == folding
    check_answers(model, f"checkpoint_{number}")


def test_an_exported_file_of_format_2_answers_as_it_did():
    """Written with folding "separable"; format 1 is in `test_export.py`."""
    model = spt_jax.load(HERE / "export_2.spt")
    assert model.blueprint.execution.folding == "spectral"
    check_answers(model, "export_2")


def test_an_exported_file_of_format_3_answers_as_it_did():
    """Such a file knows nothing of what its model learnt from."""
    model = spt_jax.load(HERE / "export_3.spt")
    assert model.domain is None
    check_answers(model, "export_3")


def test_a_packed_file_of_format_1_answers_as_it_did():
    """It is of the run in checkpoint_4, in half precision; such a file knows nothing of what it learnt from."""
    model = spt_jax.load(HERE / "packed_1.safetensors")
    assert model.domain is None
    with tarfile.open(HERE / "checkpoint_4.tar.gz") as archive, TemporaryDirectory() as folder:
        archive.extractall(folder, filter="data")
        run = spt_jax.load(folder)
    found = read_spectrum(EXAMPLE)
    now, was = (each.predict(found.energy, found.mu, element="Co") for each in (model, run))
    assert now["MBL"].value == pytest.approx(was["MBL"].value, abs=0.01)


def test_every_format_that_is_read_has_an_example():
    older = {f"checkpoint_{number}.tar.gz" for number in formats._CHECKPOINTS}
    older |= {f"export_{number}.spt" for number in formats._EXPORTS}
    older |= {f"packed_{number}.safetensors" for number in formats._PACKED}
    assert older <= {path.name for path in HERE.iterdir()}


def test_a_format_of_the_future_is_named():
    with pytest.raises(ValueError, match=r"format 99, this version of spt-jax reads 3, 4, 5"):
        formats.checkpoint_of_today({"format": 99})
    with pytest.raises(CheckpointError, match="spt-jax train"):
        spt_jax.load(HERE)
