"""Reads that fail for a moment, that take long, and blocks that are damaged: told, counted, and got over where asked."""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_pipelines import faults
from data_pipelines.dataset.blocks import Blocks
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.opening import open_data
from data_pipelines.errors import DatasetError
from data_pipelines.library import LIBRARY
from tests.data_pipelines.dataset.test_hosts import BATCH, shown
from tests.data_pipelines.dataset.test_hosts import id_of as id_of
from tests.data_pipelines.dataset.test_hosts import library as library

COMPILER = shutil.which("cc") or shutil.which("gcc")
READ = """
import json, logging, os, sys
from pathlib import Path
from data_pipelines import faults
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import UserError
logging.basicConfig(format="%(message)s")
faults.FIRST_WAIT = 0.001
data = Dataset(sys.argv[1])
if sys.argv[3] == "opening":
    Path(os.environ["FAULTY_COUNT"]).write_text(sys.argv[2])
stream = iter(data.stream("train", 24, 7))
Path(os.environ["FAULTY_COUNT"]).write_text(sys.argv[2])
sums = []
try:
    sums += [float(next(stream).spectrum.sum()) for _ in range(3)]
except UserError as error:
    print(error, file=sys.stderr)
print(json.dumps([sums, faults.counts()]))
"""


def damaged(library: Dataset, folder: Path, block: int) -> Path:
    """A copy of the dataset with bytes of one training block changed; the file that it lies in."""
    shutil.copytree(library.path, folder)
    source = Dataset(folder).blocks("train")
    wanted, path = source[block].spectrum[3].tobytes(), source.path(block)
    content = bytearray(path.read_bytes())
    place = content.index(wanted)
    content[place + 8] ^= 255
    path.write_bytes(bytes(content))
    return path


@pytest.mark.skipif(not COMPILER, reason="needs a C compiler, for a disk that fails")
@pytest.mark.parametrize(("failures", "when"), [(3, "opening"), (3, "reading"), (99, "reading")])
def test_a_disk_that_fails_for_a_moment_is_asked_again(library, tmp_path, failures, when):
    """The same batches, and every time counted; after seven times in a row one line names the file."""
    built = tmp_path / "faulty_reads.so"
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-o", built, Path(__file__).parent / "faulty_reads.c", "-ldl"], check=True
    )
    environment = {"LD_PRELOAD": str(built), "FAULTY_NAME": "train-", "FAULTY_COUNT": str(tmp_path / "count")}
    command = [sys.executable, "-c", READ, str(library.path), str(failures), when]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    sums, counts = json.loads(done.stdout)
    if failures > faults.TRIES:
        [line] = [line for line in done.stderr.splitlines() if "tried 7 times" in line]
        assert "train-0" in line and "cannot read" in line and "Input/output error" in line
        return
    np.testing.assert_allclose(sums, [batch.sum() for batch in shown(library, 1, 3)[0]], rtol=1e-6)
    times = 6 if when == "opening" else 3
    assert counts == {"asked_again": times}
    assert done.stderr.count("cannot read (OSError: [Errno 5] Input/output error); try") == times


def test_a_slow_read_is_told_once_and_counted(monkeypatch, caplog):
    """While it goes on: one that never ends would not be told after it."""
    monkeypatch.setattr(faults, "SLOW", 0.05)
    monkeypatch.setattr(faults, "_slow", set())
    before = faults.counts()
    with caplog.at_level(logging.WARNING):
        for times in (1, 2):
            with faults.watched("/data/train-00003"):
                began = time.monotonic()
                while faults.since(before).get("slow_reads", 0) < times:
                    assert time.monotonic() - began < 60
                    time.sleep(0.01)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1 and told[0].startswith("/data/train-00003: a read of it has taken")


def test_a_damaged_block_is_named_with_its_rows(library, tmp_path):
    path = damaged(library, tmp_path / "data", 5)
    dataset = open_data(tmp_path / "data")
    with pytest.raises(DatasetError) as caught:
        shown(dataset, 1, library.examples["train"] // BATCH)
    text = str(caught.value)
    assert text.startswith(f"{path}: damaged (") and "\n" not in text
    assert "block 1, rows 80 to 95 of train" in text and text.endswith("--train.input stream --execution.skip-damaged")


@pytest.mark.parametrize("block", [0, 5, -1])
def test_rows_of_a_damaged_block_are_replaced_alike_on_any_number_of_hosts(library, id_of, tmp_path, caplog, block):
    """The first and the last, by which the sizes are known, too: the last has fewer rows."""
    block %= len(library.blocks("train").sizes)
    damaged(library, tmp_path / "data", block)
    dataset, steps = Dataset(tmp_path / "data"), library.examples["train"] // BATCH
    sizes = library.blocks("train").sizes
    lost = set(library.split("train").ids[sizes[:block].sum() : sizes[: block + 1].sum()])
    whole, found = shown(library, 1, 2 * steps)[0], {}
    for hosts in (1, 4, 8):
        streams = [iter(dataset.stream("train", BATCH, 7, host, hosts, skip_damaged=True)) for host in range(hosts)]
        before = faults.counts()
        found[hosts] = [np.concatenate([next(stream).spectrum for stream in streams]) for _ in range(2 * steps)]
        replaced = [
            (one, other)
            for batch, given in zip(whole, found[hosts], strict=True)
            for one, other in zip(batch, given, strict=True)
            if (one != other).any()
        ]
        assert faults.since(before) == {"replaced_rows": len(replaced)} and len(replaced) > len(lost)
        assert {id_of[one.tobytes()] for one, _ in replaced} == lost
        assert not {id_of[other.tobytes()] for _, other in replaced} & lost
        for one, other in zip(found[1], found[hosts], strict=True):
            np.testing.assert_array_equal(one, other)
    assert "other rows are shown in its place" in caplog.text
    for number, batch in enumerate(found[1][:steps]):
        own = dataset.ids_of("train", BATCH, 7, number, skip_damaged=True)
        assert own == [id_of[row.tobytes()] for row in batch]
    ids = Counter(id_of[row.tobytes()] for batch in found[1][:steps] for row in batch)
    assert not lost & set(ids) and sum(ids.values()) == steps * BATCH


def test_a_set_without_a_whole_block_is_refused(library, tmp_path):
    """What every host would wait for without end."""
    shutil.copytree(LIBRARY, tmp_path / "data")
    source = Blocks(list((tmp_path / "data" / "blocks").iterdir()), "train")
    wanted = source[0].spectrum[3].tobytes()
    content = bytearray(source.path(0).read_bytes())
    content[content.index(wanted)] ^= 255
    source.path(0).write_bytes(bytes(content))
    with pytest.raises(DatasetError, match="damaged"):
        next(iter(Dataset(tmp_path / "data").stream("train", BATCH, 7, skip_damaged=True)))
