"""A network for several signals is trained, stopped, resumed, exported and begun with as any other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import spt_jax
from benchmarks import workload
from data_pipelines.dataset.build import prepare
from data_pipelines.dataset.loading import Dataset
from data_pipelines.schema import EnergyGrid
from spt_jax.cli import main
from spt_jax.runs.folder import METRICS
from spt_jax.training.warm_start import begin_with
from tests.training.test_train import flags, losses

NMC = Path(__file__).parents[3] / "shared" / "data" / "feff10" / "nmc.parquet"
SMALL = "--model.width 8 --model.hidden 16 --model.heads 2 --model.channels 4 --model.trunk.width 4".split()
SMALL += "--model.trunk.attention-heads 1 --model.trunk.blocks 1 --model.trunk.hidden 8".split()
SMALL += "--train.batch-size 16 --train.warmup-epochs 1".split()

STEPS = """
import json
import jax
from benchmarks import workload
from spt_jax.training.sharding import Layout, make_mesh
found = []
for layout in (Layout(), Layout(make_mesh())):
    work = workload.make(workload.fusion_config(small=True), 32, 16, layout=layout)
    step, state = jax.jit(work.made.step), work.made.state()
    for _ in range(3):
        state, metrics = step(state, layout.place_rows(work.batch))
        found.append([float(metrics["loss"]), float(metrics["gradient_norm"])])
print(json.dumps(found))
"""


def test_eight_devices_take_the_steps_of_one():
    environment = {**os.environ, "XLA_FLAGS": flags(8), "NPROC": "16"}
    line = [sys.executable, "-c", STEPS]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=600, check=True)
    found = np.array(json.loads(done.stdout.splitlines()[-1]))
    np.testing.assert_allclose(found[3:], found[:3], rtol=2e-4)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    if not NMC.exists():
        pytest.skip("../shared/data/feff10/nmc.parquet is not there")
    folder = tmp_path_factory.mktemp("fusion") / "dataset"
    prepare([NMC], folder, EnergyGrid(step=2.0, points=36, signals=("Ni K", "O K", "PDF")))
    return folder


def test_by_the_commands_from_training_to_an_exported_file(data, tmp_path, capsys):
    run = tmp_path / "run"
    line = ["train", "fusion", "--data", str(data), "--out", str(run), *SMALL, "--train.epochs"]
    main([*line, "1"])
    main([*line, "2"])  # goes on
    assert len(losses(run)) == 2 and np.isfinite(losses(run)).all()
    main(["evaluate", str(run), "--data", str(data), "--split", "validation"])
    found = json.loads((run / METRICS).read_text())
    assert {"x_Li", "vacancy"} <= found["descriptors"].keys()
    main(["export", str(run), "--out", str(tmp_path / "model.spt")])
    batch = Dataset(data).split("validation").batch
    own, exported = spt_jax.load(run), spt_jax.load(tmp_path / "model.spt")
    outputs = own.outputs(batch.spectrum, batch.atomic_number)
    for name, output in exported.outputs(batch.spectrum, batch.atomic_number).items():
        np.testing.assert_allclose(output, outputs[name], atol=1e-5)
    pages = {"own": run, "exported": tmp_path / "model.spt"}
    for name, model in pages.items():
        page = tmp_path / f"{name}.html"
        main(["explain", str(model), "--data", str(data), "--split", "train", "--out", str(page)])
        pages[name] = json.loads(page.with_suffix(".json").read_text())
        assert "Shapley" in page.read_text() and "Shapley" in capsys.readouterr().out
    for name, found in pages["own"]["descriptors"].items():
        scores = [choice["score"] for choice in found["choices"]]
        assert sum(each["score"] for each in found["shapley"]) == pytest.approx(
            found["better"] * (scores[-1] - scores[0]), abs=1e-9
        )
        others = [choice["score"] for choice in pages["exported"]["descriptors"][name]["choices"]]
        np.testing.assert_allclose(others, scores, atol=0.02)
    assert pages["own"]["weights"] and not pages["exported"]["weights"]
    with pytest.raises(SystemExit):
        main(["explain", str(run), "--data", str(data), "--element", "Cu", "--out", str(tmp_path / "none.html")])
    assert "no Cu in split 'test'; it has structure -" in capsys.readouterr().err


def test_a_trunk_begins_with_a_network_of_single_spectra(trained):
    config = workload.fusion_config(small=True, hidden=32, bands=3, highest_band=12, attention="gatv1")
    made = workload.make(config, 64, 144).made  # of the grid of the run
    begun = begin_with(trained, made)
    fresh = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(made.params)}
    for path, leaf in jax.tree.leaves_with_path(begun.params):
        name = jax.tree_util.keystr(path)
        same = np.array_equal(np.asarray(leaf), fresh[name])
        assert same or "['trunk']" in name
        if "['trunk']" in name and "kernel" in name:
            assert not same, name
    assert any("not used" in text and "trunk/heads/outputs/kernel" in text for text in begun.told)
