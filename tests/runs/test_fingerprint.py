"""The fingerprint of a model: the same as often as it is read, another for other weights, whatever it lies in."""

import json
import shutil
import tarfile

import pytest

import spt_jax
from data_pipelines.errors import RunError
from spt_jax.runs.fingerprint import model_fingerprint
from tests.runs.formats import EXPORT_1, HERE


def test_of_runs_ensembles_and_files(tmp_path):
    run = tmp_path / "run"
    with tarfile.open(HERE / "checkpoint_3.tar.gz") as archive:
        archive.extractall(run, filter="data")
    own = model_fingerprint(run)
    spt_jax.load(run)
    (run / "metrics.json").write_text("{}")
    assert model_fingerprint(run) == own and len(own) == 16
    ensemble = tmp_path / "ensemble"
    shutil.copytree(run, ensemble / "seed0")
    (ensemble / "config.json").write_text(json.dumps({"ensemble": {"members": ["seed0"]}}))
    both = model_fingerprint(ensemble)
    [weights] = [path for path in (ensemble / "seed0" / "model").rglob("*") if path.name == "manifest.ocdbt"][:1]
    weights.write_bytes(weights.read_bytes() + b"0")
    assert len({own, both, model_fingerprint(ensemble), model_fingerprint(EXPORT_1)}) == 4
    with pytest.raises(RunError, match="not a run folder"):
        model_fingerprint(tmp_path)
