"""A trained model moved to a new system: its shots, its curve, and what cannot be moved."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from flax import nnx

import spt_jax
from data_pipelines.dataset.build import prepare
from data_pipelines.dataset.data import take
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.resplit import Resplit
from data_pipelines.dataset.shots import deal, drawn
from data_pipelines.errors import DatasetError, RunError
from data_pipelines.library import LIBRARY
from data_pipelines.schema import SYMBOLS, EnergyGrid
from spt_jax.cli import main
from spt_jax.config import Config
from spt_jax.inference.load import load_run
from spt_jax.runs.folder import members_of, read_log
from spt_jax.runs.packed import Packed, PackedMember, pack
from spt_jax.study.curve import NEW, SOURCE, FineTuning, finetune, mean_of, scores_of
from spt_jax.training.adapt import EMBEDDING, introduced, starts_of
from spt_jax.training.epochs import Interrupted
from spt_jax.training.warm_start import begin_with
from tests.training.test_train import flags, losses
from tests.training.test_warm_start import fresh

AMORPHOUS = Path(__file__).parents[2].parent / "shared" / "data" / "feff10" / "amorphous.parquet"
QUICK = FineTuning(epochs=3)


def parameters(run: Path) -> dict[str, np.ndarray]:
    _, params, _ = nnx.split(load_run(run).network, nnx.Param, ...)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(params)}


@pytest.fixture(scope="module")
def moved(trained, tmp_path_factory):
    """By the command, with the library as new system and as source."""
    out = tmp_path_factory.mktemp("finetune") / "moved"
    line = ["finetune", str(trained), "--data", str(LIBRARY), "--source", str(LIBRARY), "--out", str(out)]
    main([*line, "--shots", "0", "8", "16", "--epochs", "3"])
    return out


def test_fewer_shots_are_part_of_more_and_of_as_many_materials(rng):
    materials = tuple(f"m{i}" for i in rng.integers(0, 9, 60))
    order = drawn(materials, np.arange(60), seed=3)
    assert sorted(order) == list(range(60))
    whole = len(set(materials))
    assert len({materials[row] for row in order[:whole]}) == whole
    np.testing.assert_array_equal(order, drawn(materials, np.arange(60), seed=3))
    assert not np.array_equal(order, drawn(materials, np.arange(60), seed=4))


def test_materials_are_held_out_where_the_validation_split_is_small():
    split = Dataset(LIBRARY).split("train")
    shots = take(split, drawn(split.materials, np.arange(len(split.ids)), 0)[:40])
    enough = deal(shots, Dataset(LIBRARY).split("validation"))
    assert not enough.held and enough.train is shots
    alone = deal(shots, None)
    assert alone.held and not alone.alone and set(alone.validation.materials) == set(alone.held)
    assert not set(alone.held) & set(alone.train.materials)
    fewer = deal(take(shots, np.arange(20)), None)
    assert set(fewer.held) <= set(alone.held)
    assert deal(take(shots, np.array([0])), None).alone


def test_the_command_leaves_a_curve_and_a_model(moved, trained, capsys, tmp_path):
    document = json.loads((moved / "finetune.json").read_text())
    assert list(document["points"]) == ["0", "8", "16"] and document["source"]
    zero, eight = document["points"]["0"], document["points"]["8"]
    assert zero["scores"][NEW] == zero["scores"][SOURCE] == eval_of(trained)
    assert eight["learnt_from"] == {"spectra": 8, "materials": 8}
    assert set(eight["ids"]) <= set(document["points"]["16"]["ids"])
    assert mean_of(scores_of(eight["scores"][NEW])["non-O"], "non-O") is not None
    assert "<svg" in (moved / "finetune.svg").read_text()
    # The folder is its last run, and an ordinary model.
    main(["evaluate", str(moved), "--data", str(LIBRARY)])
    assert json.loads((moved / "metrics.json").read_text()) == document["points"]["16"]["scores"][NEW]
    main(["export", str(moved), "--out", str(tmp_path / "moved.spt")])
    with pytest.raises(SystemExit):
        main(["pack", str(moved), "--data", str(LIBRARY), "--out", str(tmp_path / "moved.safetensors")])
    assert "was moved by `spt-jax finetune`: a card would claim all of" in capsys.readouterr().err
    example = str(LIBRARY / "example" / "xmu.dat")
    main(["predict", str(moved), example])
    assert "MBL" in capsys.readouterr().out
    # What the network knows of its input is what it knew.
    before, after = load_run(trained).blueprint, load_run(moved / "shots-8").blueprint
    for name in ("spectrum_mean", "spectrum_std", "tasks", "absorbers", "grid"):
        assert getattr(before, name) == getattr(after, name)
    # Points that are there stay; more are added.
    log = (moved / "shots-8" / "train_log.jsonl").stat().st_mtime_ns
    line = ["finetune", str(trained), "--data", str(LIBRARY), "--source", str(LIBRARY), "--out", str(moved)]
    main([*line, "--shots", "8", "--epochs", "3"])
    assert (moved / "shots-8" / "train_log.jsonl").stat().st_mtime_ns == log
    with pytest.raises(SystemExit):
        main([*line, "--shots", "8", "--epochs", "4"])
    assert "another epochs; choose another --out" in capsys.readouterr().err


def test_a_run_begins_with_the_last_point(moved):
    made = fresh(Config(load_run(moved / "shots-16").blueprint.model))
    told = begin_with(str(moved), made).told
    [last] = members_of(moved)
    assert told[0].startswith("begins with ") and told[0].endswith(f" parameters of {moved / last}")


def eval_of(trained: Path) -> dict:
    from spt_jax.inference.evaluate import evaluate

    return json.loads(json.dumps(evaluate(trained, LIBRARY).metrics))


def test_a_stopped_curve_goes_on_as_if_it_had_not_been(moved, trained, tmp_path):
    def stop(title: str, done: int, total: int, line: dict | None) -> None:
        if line and line["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    data = Dataset(LIBRARY)
    with pytest.raises(Interrupted):
        finetune(str(trained), data, tmp_path / "out", ("8",), QUICK, report=stop)
    assert len(read_log(tmp_path / "out" / "shots-8")) == 2
    finetune(str(trained), data, tmp_path / "out", ("8",), QUICK)
    theirs = parameters(moved / "shots-8")
    for name, own in parameters(tmp_path / "out" / "shots-8").items():
        np.testing.assert_array_equal(own, theirs[name])


def test_eight_devices_move_it_as_one(moved, trained, tmp_path):
    line = [sys.executable, "-m", "spt_jax.launch", "finetune", str(trained), "--data", str(LIBRARY)]
    line += ["--out", str(tmp_path / "out"), "--shots", "8", "--epochs", "3"]
    environment = {**os.environ, "XLA_FLAGS": flags(8), "NPROC": "16"}
    assert subprocess.run(line, env=environment, timeout=600, check=False, capture_output=True).returncode == 0
    np.testing.assert_allclose(losses(tmp_path / "out" / "shots-8"), losses(moved / "shots-8"), rtol=1e-3)
    assert parameters(tmp_path / "out" / "shots-8")  # which are read on one device


def test_low_rank_and_frozen_parts(trained, tmp_path):
    settings = replace(QUICK, rank=2, freeze=("heads/*",))
    finetune(str(trained), Dataset(LIBRARY), tmp_path / "out", ("8",), settings)
    before, after = parameters(trained), parameters(tmp_path / "out" / "shots-8")
    changed = {name: after[name] - own for name, own in before.items() if not np.array_equal(own, after[name])}
    assert changed and all("'kernel'" in name and "'heads'" not in name for name in changed)
    for own in changed.values():
        values = np.linalg.svd(own, compute_uv=False)
        assert values[0] > 0 and (len(values) < 3 or values[2] < 1e-3 * values[0])


def test_the_members_of_a_packed_model_are_moved_each(trained, tmp_path):
    model = load_run(trained)
    member = PackedMember.of(model.blueprint, model.network)
    pack(Packed((member, member), None, {}), tmp_path / "two.safetensors")
    finetune(
        str(tmp_path / "two.safetensors"), Dataset(LIBRARY), tmp_path / "out", ("0", "8"), replace(QUICK, epochs=1)
    )
    assert (tmp_path / "out" / "shots-8" / "member1" / "model").is_dir()
    split = Dataset(LIBRARY).split("test")
    said = spt_jax.load(tmp_path / "out").answers(split.batch.spectrum, split.batch.atomic_number)
    assert set(said) == {task.name for task in model.blueprint.tasks}


def test_a_new_element_begins_as_the_nearest_one(trained):
    [start] = starts_of(str(trained))
    assert "Cu K" not in start.blueprint.absorbers and "Ni K" in start.blueprint.absorbers
    found, begun = introduced(start, {"Cu K", "Ni K"})
    assert begun == {"Cu K": "Ni K"} and "Cu K" in found.blueprint.absorbers
    [vectors] = [v for path, v in jax.tree.leaves_with_path(found.params) if EMBEDDING.split("/")[1] in str(path)]
    np.testing.assert_array_equal(vectors[SYMBOLS.index("Cu")], vectors[SYMBOLS.index("Ni")])


def test_what_does_not_fit_is_refused_in_one_line(trained, tmp_path):
    data, name = Dataset(LIBRARY), str(trained)

    def refused(match: str, kind: type = RunError, data: Dataset = data, name: str = name) -> None:
        with pytest.raises(kind, match=match) as caught:
            finetune(name, data, tmp_path / "out", ("0", "8"), QUICK)
        assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()

    splits = {each: data.split(each) for each in ("train", "validation", "test")}
    other = Resplit(data, splits, "other")
    other.grid = EnergyGrid(start=1.0)
    refused(r"spt-jax prepare SOURCE... --out OTHER --grid.start 2 --grid.step 0.5 --grid.points 144", data=other)
    refused(
        "no examples in split 'test'",
        DatasetError,
        Resplit(data, {**splits, "test": take(splits["test"], np.array([], int))}, "x"),
    )
    bare = splits["test"].batch._replace(mask=np.zeros_like(splits["test"].batch.mask))
    refused(
        "no test spectrum has a label of",
        data=Resplit(data, {**splits, "test": replace(splits["test"], batch=bare)}, "x"),
    )
    main(["export", name, "--out", str(tmp_path / "model.spt")])
    refused("an exported file cannot learn", name=str(tmp_path / "model.spt"))
    with pytest.raises(RunError, match="no matrix of this network is larger"):
        finetune(name, data, tmp_path / "rank", ("8",), replace(QUICK, rank=10_000))


@pytest.mark.skipif(not AMORPHOUS.exists(), reason=f"{AMORPHOUS} is not here")
def test_molten_iron_oxide(trained, tmp_path):
    table = pq.read_table(AMORPHOUS)
    pq.write_table(table.filter(pc.equal(table["absorber"], "Fe")), tmp_path / "fe.parquet")
    prepare([tmp_path / "fe.parquet"], tmp_path / "fe", EnergyGrid())
    told: list[str] = []
    found = finetune(
        str(trained), Dataset(tmp_path / "fe"), tmp_path / "out", ("0", "8", "99"), QUICK, tell=told.append
    )
    assert list(found["points"]) == ["0", "8"] and "no point with 99" in told[0]
    assert {each["scores"][NEW]["n"] for each in found["points"].values()} == {Dataset(tmp_path / "fe").count("test")}
