"""A library that is not installed is named with the command that brings it."""

import configparser
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.compile import targets
from data_pipelines.dataset.beam import Beam
from data_pipelines.errors import MissingExtra
from data_pipelines.feff.campaign import Campaign, run_campaign
from data_pipelines.feff.input import FeffSettings
from data_pipelines.places import filesystem
from data_pipelines.readers.spectrum import read_spectrum
from data_pipelines.schema import DESCRIPTORS, Batch
from data_pipelines.spectra.mback import mback
from spt_jax.cli import main
from spt_jax.peers.trees import TreeSettings, fit_trees
from spt_jax.training.tensorboard import Board

ROOT = Path(__file__).parent.parent


def fit_xgboost(folder):
    labels = np.ones((4, len(DESCRIPTORS)), np.float32)
    batch = Batch(np.zeros((4, 20), np.float32), np.full(4, 29, np.int32), labels, labels > 0)
    fit_trees(TreeSettings("xgboost", trees=1), batch, 0)


def run_parsl(folder):
    run_campaign(Campaign(folder, folder / "runs", "true", FeffSettings(), engine=folder / "cluster.py"))


def read_nexus(folder):
    (folder / "nio.nxs").write_bytes(b"\x89HDF\r\n\x1a\n")
    read_spectrum(folder / "nio.nxs")


WITHOUT = {
    "aot-gpu": ("jax_cuda12_plugin", lambda folder: targets.require(targets.find("H100"))),
    "aot-tpu": ("libtpu", lambda folder: targets.require(targets.find("v5e"))),
    "app": ("uvicorn", lambda folder: runpy.run_path(str(ROOT / "spt_jax" / "app" / "listen.py"))),
    "baselines": ("xgboost", fit_xgboost),
    "beam": ("apache_beam.options.pipeline_options", lambda folder: Beam("DirectRunner").check()),
    "beamline": ("h5py", read_nexus),
    "campaign": ("parsl", run_parsl),
    "mback": ("xraydb", lambda folder: mback(np.arange(7000.0, 7300), np.arange(300.0), "Fe")),
    "remote": ("s3fs", lambda folder: filesystem.__wrapped__("s3")),
    "tensorboard": ("tensorboardX", Board),
}


@pytest.mark.parametrize("extra", WITHOUT)
def test_what_is_missing_is_named(extra, tmp_path, monkeypatch):
    library, use = WITHOUT[extra]
    hidden = [library, *(name for name in sys.modules if name.startswith(library + "."))]
    for name in hidden:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=rf"pip install -c constraints\.txt '\.\[{extra}\]'$") as error:
        use(tmp_path)
    assert "\n" not in str(error.value)


def test_a_study_without_xgboost_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(SystemExit):
        main(["study", str(tmp_path), "--out", str(tmp_path / "study")])
    assert re.fullmatch(r"spt-jax: error: for a study, install the extra `study`.*\n", capsys.readouterr().err)


@pytest.fixture
def extras() -> dict[str, str]:
    """Their requirements, a line each."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return {"": setup["options"]["install_requires"], **setup["options.extras_require"]}


def test_every_requirement_is_pinned(extras):
    def name(requirement: str) -> str:
        return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")

    pinned = {name(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"}
    asked = {name(line) for lines in extras.values() for line in lines.split("\n") if line}
    assert asked - {"setuptools"} <= pinned, "constraints.txt says how it is made"


def test_the_tests_of_every_extra_run(extras):
    """`study` holds `baselines`; PyTorch comes from .ci/run, as its CPU build; compilers for other chips from nobody."""
    installed = re.search(r"-e '\.\[([a-z,]+)\]'", (ROOT / "README.md").read_text())[1]
    assert {"", "baselines", "torch", "aot-tpu", "aot-gpu", *installed.split(",")} == set(extras)


def test_every_extra_that_is_named_exists(extras):
    """In messages, README and guides; nothing is on an index, so none installs by the name of the package."""
    packages = ("spt_jax", "data_pipelines", "benchmarks", "tests")
    sources = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    texts = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *sources]
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"pip install '?spt-jax", text), path
        named = re.findall(r"'\.\[([a-z,-]+)\]'|MissingExtra\([\"']([a-z-]+)[\"']|extras? `([a-z-]+)`", text)
        assert {name for found in named for name in "".join(found).split(",")} <= set(extras), path
