"""A damaged dataset: what is missing, flipped, exchanged, doubled or leaked is named."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.dataset import card, parts
from data_pipelines.dataset.blocks import Blocks, Rows, join
from data_pipelines.dataset.blocks import write as write_blocks
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.verify import verify


@pytest.fixture
def copy(built, tmp_path):
    shutil.copytree(built.out, tmp_path / "copy")
    return tmp_path / "copy"


def reseal(dataset: Path) -> None:
    """Make all checksums right again, as one would who means to deceive."""
    document = card.read(dataset)
    files = [path for source in document["sources"] for path in parts.files(dataset, source["part"])]
    card.write(dataset, {**document, "files": card.checksums(dataset, files)})


def test_a_whole_dataset_is_whole(built):
    assert list(verify(built.out)) == []


@pytest.mark.parametrize("kind", ["blocks", "spt_xas", "ledger", "statistics"])
def test_flipped_bit_and_missing_file_are_named(copy, kind, rng):
    files = [p for p in sorted((copy / kind).rglob("*")) if p.is_file()]
    path = files[rng.integers(len(files))]
    data = bytearray(path.read_bytes())
    place = int(rng.integers(len(data)))
    data[place] ^= 1 << int(rng.integers(8))
    good = path.read_bytes()
    path.write_bytes(data)
    assert any(str(path) in problem and "damaged" in problem for problem in verify(copy))
    path.write_bytes(good)
    assert list(verify(copy)) == []
    path.unlink()
    assert f"{path}: missing" in list(verify(copy))


def test_stray_file_is_named(copy):
    (copy / "blocks" / "train-00000-of-00001.array_record").write_bytes(b"")
    assert any("not in the data card" in problem for problem in verify(copy))


def test_duplicated_and_exchanged_records_are_named(copy):
    """With right checksums."""
    [source] = [s for s in card.read(copy)["sources"] if s["splits"]["train"] > 3]
    folder = parts.paths(copy, source["part"])[parts.FOLDERS[0]]
    held = join([*Blocks([folder], "train")])
    others = {name: [*Blocks([folder], name)] for name, n in source["splits"].items() if n and name != "train"}
    rows = np.arange(len(held.spectrum))
    rows[2] = 1
    write_blocks(folder, {**others, "train": [Rows(*(array[rows] for array in held))]})
    reseal(copy)
    ids = Dataset(copy).split("train").ids
    problems = list(verify(copy))
    assert len(problems) == 1 and "row 2" in problems[0] and "is not the record" in problems[0]
    assert any(id in problems[0] for id in ids)


def test_record_twice_in_the_ledgers_is_named(copy):
    document = card.read(copy)
    part = document["sources"][0]["part"]
    path = parts.paths(copy, part)[parts.LEDGER]
    ledger = pq.read_table(path)
    ids = ledger["id"].to_pylist()
    rows = np.flatnonzero(np.array(ledger["split"].to_pylist()) == "train")
    ids[rows[0]] = ids[rows[1]]
    pq.write_table(ledger.set_column(0, "id", pa.array(ids)), path)
    reseal(copy)
    problems = list(verify(copy))
    assert any(ids[rows[0]] in p and "is in" in p for p in problems)


def test_leak_between_splits_is_named(copy, built):
    """Files and records in order, but a family in two splits."""
    document = card.read(copy)
    source = next(s for s in document["sources"] if s["splits"]["train"] > 3)
    path = parts.paths(copy, source["part"])[parts.LEDGER]
    ledger = pq.read_table(path)
    kin = ledger["kin"].to_pylist()
    names = ledger["split"].to_pylist()
    train, test = names.index("train"), names.index("test")
    kin[test] = kin[train]
    place = ledger.schema.get_field_index("kin")
    pq.write_table(ledger.set_column(place, "kin", pa.array(kin, pa.list_(pa.string()))), path)
    reseal(copy)
    problems = list(verify(copy))
    assert problems and all("its family in train" in p for p in problems)
