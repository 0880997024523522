"""A run on spectra of two versions of FEFF that is told which: what it learns, and how it is asked."""

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flax import nnx

import spt_jax
from data_pipelines.dataset.build import prepare
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import CheckpointError, RunError
from data_pipelines.library import EXAMPLE, LIBRARY
from data_pipelines.schema import DESCRIPTORS, SOURCE, Batch, EnergyGrid, encode_labels, source_of
from spt_jax.cli import main
from spt_jax.config import Config, JointConfig, LabelsConfig, MaskedConfig, PeerConfig, TrainConfig
from spt_jax.inference.load import load_packed, load_run
from spt_jax.objectives.labels import LabelledRows, told
from spt_jax.runs.packed import Packed, PackedMember, pack
from spt_jax.training.assemble import assemble
from spt_jax.training.warm_start import begin_with

SMALL = ["--model.width", "16", "--model.depth", "1", "--train.epochs", "2", "--objective.descriptors", "OS", "MBL"]
NINE, TEN = (1 + SOURCE.classes.index(version) for version in (9, 10))


def table_of(dataset: Dataset) -> pa.Table:
    """The embedded library as a table of spectra that say in turn FEFF 9, FEFF 10, another code, and nothing."""
    rows: dict[str, list] = {}
    for name in dataset.examples:
        split = dataset.split(name)
        values = np.where(split.batch.mask, split.batch.labels, np.nan)
        for i, id in enumerate(split.ids):
            element = split.absorbers[i].split()[0]
            row = {"id": id, "material": split.materials[i], "absorber": element}
            row |= {"omega": dataset.grid.absolute(element), "mu": split.batch.spectrum[i]}
            for column, d in enumerate(DESCRIPTORS):
                known = np.isfinite(values[i, column])
                row[d.name] = float(d.values(values[i : i + 1, column])[0]) if known else None
            for key, value in row.items():
                rows.setdefault(key, []).append(value)
    count = len(rows["id"])
    stated = ['{"code": "FEFF 9.6.4"}', "FEFF 10.0.0", '{"code": "FDMNES"}', ""]
    return pa.table({**rows, "settings": [stated[i % 4] for i in range(count)]})


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("sources")
    pq.write_table(table_of(Dataset(LIBRARY)), folder / "two.parquet")
    prepare([folder / "two.parquet"], folder / "data", EnergyGrid())
    return Dataset(folder / "data")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    main(["train", "mlp", "--data", data.name, "--out", str(out), "--model.sources", *SMALL])
    return out


@pytest.fixture(scope="module")
def without(data, tmp_path_factory):
    """The same network that is told of none."""
    out = tmp_path_factory.mktemp("run") / "without"
    main(["train", "mlp", "--data", data.name, "--out", str(out), *SMALL])
    return out


def config(sources: bool, objective=LabelsConfig(descriptors=("OS", "MBL"))) -> Config:  # noqa: B008, it is frozen
    return Config(PeerConfig("mlp", width=16, depth=1, sources=sources), objective, TrainConfig(epochs=2))


def made(data: Dataset, wanted: Config):
    return assemble(wanted, data.statistics("train"), data.grid, data.fingerprint, 10)


def test_a_dataset_says_of_each_spectrum_what_its_settings_say(data):
    expected = dict(
        zip(
            *(pq.read_table(f"{data.name}/../two.parquet")[each].to_pylist() for each in ("id", "settings")),
            strict=True,
        )
    )
    counts = np.zeros(1 + len(SOURCE.classes), int)
    for name in data.examples:
        split = data.split(name)
        for id, source in zip(split.ids, source_of(split.batch).tolist(), strict=True):
            said = expected[id]
            assert source == (NINE if "FEFF 9" in said else TEN if "FEFF 10" in said else 0)
            counts[source] += name == "train"
    assert data.statistics("train").labels["source"].counts.tolist() == counts[1:].tolist() and counts.min() == 0
    streamed = next(iter(data.stream("train", 64, 0)))
    assert set(source_of(streamed).tolist()) == {0, NINE, TEN}


def test_it_learns_a_vector_of_each_source_it_saw(data, run):
    model = load_run(run)
    vectors = np.asarray(model.network.sources.vectors[...])
    assert np.abs(vectors).sum(axis=1).nonzero()[0].tolist() == [0, NINE, TEN]
    assert model.blueprint.sources == tuple(data.statistics("train").labels["source"].counts)
    assert "source unknown" in repr(model)


def test_a_loaded_model_answers_for_the_source_that_it_is_set_to(data, run):
    batch = data.split("test").batch
    network, inputs = load_run(run).network, (jnp.asarray(batch.spectrum), jnp.asarray(batch.atomic_number))
    ask = jax.jit(lambda source: network(*inputs, None, source))
    answers = {}
    for source, number in (("unknown", 0), (9, NINE), ("10", TEN)):
        model = spt_jax.load(run, source=source)
        answers[number] = model.outputs(batch.spectrum, batch.atomic_number)
        assert model.blueprint.source == str(source)
        expected = ask(jnp.full(len(batch.spectrum), number))
        np.testing.assert_allclose(answers[number]["OS"], expected["OS"], atol=1e-4)
    assert not np.allclose(answers[NINE]["OS"], answers[TEN]["OS"], atol=1e-4)
    np.testing.assert_array_equal(spt_jax.load(run).outputs(*batch[:2])["OS"], answers[0]["OS"])

    shares = np.array(load_run(run).blueprint.sources) / sum(load_run(run).blueprint.sources)
    average = spt_jax.load(run, source="average").network.sources
    np.testing.assert_allclose(average.weights[...], [0, *shares], atol=1e-6)
    np.testing.assert_allclose(average(None), shares @ average.vectors[...][1:], atol=1e-6)


def test_what_training_never_saw_is_refused(run, without):
    for source in (8, "FEFF 9", ""):
        with pytest.raises(RunError, match=r"trained on spectra of FEFF 9, 10; give one of these, average or unknown"):
            spt_jax.load(run, source=source)
    with pytest.raises(RunError, match="was not told of sources"):
        spt_jax.load(without, source=10)
    with pytest.raises(SystemExit):
        main(["predict", str(run), str(EXAMPLE), "--source", "8"])


def test_an_exported_file_answers_for_one_source(data, run, tmp_path):
    batch, file = data.split("test").batch, tmp_path / "nine.spt"
    main(["export", str(run), "--out", str(file), "--source", "9"])
    expected = spt_jax.load(run, source=9).outputs(*batch[:2])
    for model in (spt_jax.load(file), spt_jax.load(file, source=9)):
        assert model.blueprint.source == "9"
        np.testing.assert_allclose(model.outputs(*batch[:2])["OS"], expected["OS"], atol=1e-5)
    with pytest.raises(CheckpointError, match=r"exported for source 9; make one with .* --source 10"):
        spt_jax.load(file, source=10)
    with pytest.raises(RunError, match="trained on spectra of FEFF 9, 10"):
        spt_jax.load(file, source=8)


def test_members_of_a_packed_file_are_all_set(data, run, tmp_path):
    batch, one = data.split("test").batch, load_run(run)
    member = PackedMember.of(one.blueprint, one.network)
    pack(Packed((member, member), None, {}), tmp_path / "two.safetensors")
    for source in ("unknown", 10, "average"):
        found = load_packed(tmp_path / "two.safetensors", source).answers(*batch[:2])
        expected = spt_jax.load(run, source=source).answers(*batch[:2])
        np.testing.assert_allclose(found["MBL"], expected["MBL"], atol=5e-3)  # weights in half precision


def test_a_file_of_answers_is_of_one_source(data, run, tmp_path, capsys):
    out = tmp_path / "answers.parquet"
    command = ["predict", str(run), "--data", data.name, "--split", "test", "--out", str(out)]
    main([*command, "--source", "9"])
    table = pq.read_table(out)
    values = dict(zip(table["id"].to_pylist(), table["MBL"].to_pylist(), strict=True))
    split = data.split("test")
    model = spt_jax.load(run, source=9)
    expected = model.answers(*split.batch[:2])["MBL"]
    there = [i for i, id in enumerate(split.ids) if values[id] is not None]
    assert there
    np.testing.assert_allclose([values[split.ids[i]] for i in there], expected[there], atol=1e-4)
    for other in ([], ["--source", "10"]):
        with pytest.raises(SystemExit):
            main([*command, *other])
    assert "another source" in capsys.readouterr().err


def test_a_run_with_sources_begins_with_one_without_and_the_other_way_round(data, run, without):
    told_of = begin_with(without, made(data, config(True))).told
    assert told_of[1:] == ("not taken, of another shape or not there: sources/vectors",)
    told_of = begin_with(run, made(data, config(False))).told
    assert told_of[1:] == (f"not used of {run}: sources/vectors",)


def test_a_network_is_told_a_share_of_the_sources_and_none_of_a_mixture_of_two(data):
    batch = data.split("train").batch
    other = jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), batch)
    keys = jax.random.split(jax.random.key(0), len(batch.spectrum))
    own, theirs = source_of(batch), np.asarray(source_of(other))
    whole = LabelledRows(batch, other, jnp.ones(len(own)))
    np.testing.assert_array_equal(told(whole, keys, 0.0), own)
    mixed = LabelledRows(batch, other, jnp.full(len(own), 0.7))
    np.testing.assert_array_equal(told(mixed, keys, 0.0), np.where(own == theirs, own, 0))
    some = np.asarray(told(whole, keys, 0.3))
    known = own > 0
    assert set(some[known] - own[known]) == {0, -NINE, -TEN} and (some[~known] == 0).all()
    assert abs((some[known] == 0).mean() - 0.3) < 0.12
    bare = Batch(
        batch.spectrum, batch.atomic_number, *(each[:, :9] for each in encode_labels(np.full((len(own), 9), np.nan)))
    )
    np.testing.assert_array_equal(told(LabelledRows(bare, bare, whole.share), keys, 0.0), 0)


def test_hidden_parts_of_spectra_are_learnt_without_a_source(data):
    """Both at once: of the vectors of versions only labels have a say."""
    objective = JointConfig(LabelsConfig(descriptors=("OS",), source_drop=0.0), MaskedConfig())
    both = made(data, config(True, objective))
    batch = jax.tree.map(jnp.asarray, data.split("train").batch)
    keys = jax.random.split(jax.random.key(1), len(batch.spectrum))

    def loss(params, index):
        rows = both.objective.views(batch, keys)
        return both.objective.loss(nnx.merge(both.graph, params, both.constants), rows, keys)[index]

    for index, name in enumerate(both.objective.names):
        gradient = jax.jit(jax.grad(loss), static_argnums=1)(both.params, index)["sources"]["vectors"][...]
        moved = np.abs(gradient).sum(axis=1).nonzero()[0].tolist()
        assert moved == ([0, NINE, TEN] if name == "OS" else [0]), name


def test_of_one_source_it_learns_too_and_of_none_it_is_refused(tmp_path, capsys):
    """The embedded library is all of FEFF 10; a table of spectra says nothing unless it has settings."""
    main(["train", "mlp", "--data", str(LIBRARY), "--out", str(tmp_path / "ten"), "--model.sources", *SMALL])
    main(["predict", str(tmp_path / "ten"), str(EXAMPLE), "--source", "10"])
    with pytest.raises(SystemExit):
        main(["predict", str(tmp_path / "ten"), str(EXAMPLE), "--source", "9"])
    assert "trained on spectra of FEFF 10; give" in " ".join(capsys.readouterr().err.split())

    pq.write_table(table_of(Dataset(LIBRARY)).drop_columns("settings"), tmp_path / "silent.parquet")
    main(["prepare", str(tmp_path / "silent.parquet"), "--out", str(tmp_path / "silent")])
    with pytest.raises(SystemExit):
        main(
            [
                "train",
                "mlp",
                "--data",
                str(tmp_path / "silent"),
                "--out",
                str(tmp_path / "run"),
                "--model.sources",
                *SMALL,
            ]
        )
    assert "says which FEFF calculated it" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
