"""A dataset that is made in an object store has the bytes of one made here, whatever happens on the way."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_pipelines import faults, places
from data_pipelines.dataset.build import prepare
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.publishing import workshop
from data_pipelines.dataset.verify import verify
from data_pipelines.errors import PlaceError, SourceError, UserError
from data_pipelines.places import Place
from data_pipelines.schema import EnergyGrid
from tests.data_pipelines.stores import NEEDS_S3, Store

GRID = EnergyGrid()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "spt-jax" / "prepare"


def contents(folder: Place) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_same_bytes_and_nothing_left_here(built, store: Store, cache):
    told = []
    card = prepare(built.sources, str(store.root), built.grid, report=lambda *line: told.append(line))
    assert card == built.card and contents(store.root) == contents(built.out)
    assert told[-1][0] == "writing" and not [path for path in cache.rglob("*") if path.is_file()]
    assert list(verify(store.root)) == []
    assert prepare(built.sources, str(store.root), built.grid) == card  # is there already
    with pytest.raises(SourceError, match=r"://.*holds a dataset of other sources"):
        prepare(built.sources[1:], store.root, built.grid)


def test_sources_are_added_and_what_stays_is_not_written_again(built, store: Store, tmp_path, monkeypatch):
    first, *more = built.sources
    prepare([first], store.root, GRID)
    prepare([first], tmp_path / "here", GRID)
    before, written, real = contents(store.root), [], places.RemotePath.upload
    monkeypatch.setattr(places.RemotePath, "upload", lambda path, file: written.append(path) or real(path, file))
    prepare(more, store.root, GRID, add=True)
    prepare(more, tmp_path / "here", GRID, add=True)
    after = contents(store.root)
    assert after == contents(tmp_path / "here")
    stayed = {name for name in before.keys() & after.keys() if not name.startswith("data_card")}
    assert stayed and not stayed & {path.relative_to(store.root).as_posix() for path in written}
    prepare(more, store.root, GRID, overwrite=True)
    prepare(more, tmp_path / "here", GRID, overwrite=True)
    assert contents(store.root) == contents(tmp_path / "here")


def test_an_error_while_publishing_leaves_no_dataset_and_the_same_command_goes_on(
    built,
    store: Store,
    monkeypatch,
):
    real, count = places.RemotePath.upload, 0

    def upload(path: places.RemotePath, file: Path) -> None:
        nonlocal count
        count += 1
        if count == 5:
            raise PlaceError("the bucket is full")
        real(path, file)

    monkeypatch.setattr(places.RemotePath, "upload", upload)
    with pytest.raises(PlaceError):
        prepare(built.sources, store.root, built.grid)
    assert not (store.root / "data_card.json").exists()
    there = len(list(store.root.rglob("*")))
    count = 10
    prepare(built.sources, store.root, built.grid)
    assert contents(store.root) == contents(built.out)
    assert count - 10 <= len(contents(built.out)) - there


@NEEDS_S3
@pytest.mark.parametrize("put", [1, 9, -1])
def test_a_kill_in_mid_write_and_the_same_command_goes_on(built, s3_store: Store, put):
    """put: number of the upload in which the process dies; -1: that of the card."""
    sources = [str(path) for path in built.sources]
    code = f"from data_pipelines.dataset.build import prepare; prepare({sources!r}, {str(s3_store.root)!r})"
    seen = 0

    def kill(method: str, path: str) -> int | None:
        nonlocal seen
        seen += method == "PUT"
        if method == "PUT" and (seen == put or (put == -1 and path.endswith("card.json"))):
            process.send_signal(signal.SIGKILL)
            return 0
        return None

    s3_store.fault = kill
    with subprocess.Popen([sys.executable, "-c", code], env=os.environ) as process:
        assert process.wait(120) == -signal.SIGKILL
    s3_store.fault = lambda method, path: None
    assert not (s3_store.root / "data_card.json").exists()
    there = {str(path) for path in s3_store.root.rglob("*")}
    s3_store.requests.clear()
    prepare(built.sources, s3_store.root, built.grid)
    assert contents(s3_store.root) == contents(built.out)
    again = {f"s3:/{path}" for method, path in s3_store.requests if method == "PUT"}
    assert not {path for path in again & there if "data_card" not in path}


@NEEDS_S3
def test_a_store_that_fails_now_and_then_gets_it_whole(built, s3_store: Store):
    rng, before = np.random.default_rng(1), faults.count()
    s3_store.fault = lambda method, path: int(rng.choice([0, 500, 503])) if rng.random() < 0.2 else None
    prepare(built.sources, s3_store.root, built.grid)
    s3_store.fault = lambda method, path: None
    assert contents(s3_store.root) == contents(built.out) and faults.count() > before


@NEEDS_S3
def test_what_cannot_be_written_to_is_said_before_any_work(built, s3_store: Store, tmp_path):
    def never(*_):
        raise AssertionError("no work was expected")

    with pytest.raises(PlaceError, match="s3://nowhere: no such bucket"):
        prepare(built.sources, "s3://nowhere/data", built.grid, report=never)
    s3_store.fault = lambda method, path: 403 if method == "PUT" else None
    with pytest.raises(PlaceError, match=r"no permission to write, the bucket may be read-only"):
        prepare(built.sources, s3_store.root, built.grid, report=never)


def test_two_at_once_and_remote_sources_are_refused(built, store: Store):
    with pytest.raises(SourceError, match=r"://.*: sources are read on this machine; copy it here first"):
        prepare([str(store.root / "runs")], store.root, built.grid)
    with workshop(store.root), pytest.raises(UserError, match=r"://.*: process \d+ .* is writing it"):
        prepare(built.sources, store.root, built.grid)


def test_beam_reads_and_writes_there(built, store: Store, tmp_path):
    """Its workers hand their records over in the store."""
    pytest.importorskip("apache_beam")
    from data_pipelines.dataset.beam import Beam

    if store.root.scheme == "memory":
        pytest.skip("the memory of one process")
    prepare(built.sources, store.root, built.grid, beam=Beam("DirectRunner"))
    assert contents(store.root) == contents(built.out)


def test_it_trains_from_there(built, store: Store):
    prepare(built.sources, store.root, built.grid)
    one, other = Dataset(built.out).split("train").batch, Dataset(store.root).split("train").batch
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
