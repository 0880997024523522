"""Paths of object stores: what pathlib would say, faults that pass and faults that do not."""

import pickle
import sys
from pathlib import Path

import pytest

from data_pipelines import faults, places
from data_pipelines.errors import PlaceError
from data_pipelines.files import file_sha256, write_atomic
from data_pipelines.places import RemotePath, is_remote, place
from tests.data_pipelines.stores import BUCKET, NEEDS_S3, Store, forget


def test_names_become_paths(tmp_path, monkeypatch):
    assert place("run") == Path("run") and place(Path("a:0.3")) == Path("a:0.3") and place("C:/x") == Path("C:/x")
    assert place("file:///a/b") == Path("/a/b")
    assert str(place("s3://bucket/a//b/../c/")) == "s3://bucket/a/c" == str(place(Path("s3://bucket/a/c")))
    assert str(place("gs://bucket")) == "gs://bucket" == str(place("gs://bucket/a/../..").parent)
    assert is_remote("memory://a/b") and not is_remote(tmp_path)
    monkeypatch.chdir(tmp_path)
    for text, why in {"az://a/b": "az:// is not known", "s3://": "no bucket", "GS:///": "no bucket"}.items():
        with pytest.raises(PlaceError, match=why):
            place(text)
    (tmp_path / "s3:" / "x").mkdir(parents=True)
    assert place("s3:/x") == Path("s3:/x")  # what is there is meant


def test_parts_of_a_path_are_those_of_pathlib():
    path = place("s3://bucket/a/b.tar.gz")
    assert (path.name, path.stem, path.suffix) == ("b.tar.gz", "b.tar", ".gz")
    assert str(path.parent) == "s3://bucket/a" and str(path.with_suffix(".x")) == "s3://bucket/a/b.tar.x"
    assert path.relative_to(place("s3://bucket")).as_posix() == "a/b.tar.gz"
    assert pickle.loads(pickle.dumps(path)) == path and sorted([path / "b", path / "a"])[0] == path / "a"
    with pytest.raises(TypeError):
        open(path)  # noqa: SIM115


def test_a_folder_of_objects(store: Store):
    root = store.root
    assert not root.exists() and not root.is_dir() and list(root.rglob("*")) == []
    write_atomic(root / "a/b.txt", "Å" * 9)
    (root / "a/c/d.bin").write_bytes(bytes(range(256)) * 40)
    assert root.is_dir() and (root / "a").is_dir() and (root / "a/b.txt").is_file() and not (root / "a/b").exists()
    assert (root / "a/b.txt").read_text() == "Å" * 9 and (root / "a/b.txt").stat().st_size == 18
    assert list(root.rglob("*")) == [root / "a/b.txt", root / "a/c/d.bin"]
    assert list(root.glob("*/*.txt")) == [root / "a/b.txt"] and list(root.glob("*")) == []
    assert list((root / "a").iterdir()) == [root / "a/b.txt", root / "a/c"]
    assert (root / "a/c/d.bin").read_range(255, 258) == b"\xff\x00\x01"
    with (root / "a/c/d.bin").open() as file:
        assert file.seek(-3, 2) and file.read() == b"\xfd\xfe\xff" and file.seek(1) and file.read(2) == b"\x01\x02"
    with pytest.raises(FileNotFoundError, match="a/none"):
        (root / "a/none").read_bytes()
    (root / "a/b.txt").unlink()
    (root / "a/b.txt").unlink(missing_ok=True)
    assert not (root / "a/b.txt").exists()


def test_files_go_and_come(store: Store, tmp_path):
    (tmp_path / "here").write_bytes(bytes(6_000_000))
    (store.root / "there").upload(tmp_path / "here")
    (store.root / "there").download(tmp_path / "back")
    assert file_sha256(store.root / "there") == file_sha256(tmp_path / "here") == file_sha256(tmp_path / "back")


@NEEDS_S3
@pytest.mark.parametrize("status", [500, 503, 0])
def test_what_fails_for_a_moment_is_asked_again_and_counted(s3_store: Store, status, caplog):
    (s3_store.root / "x").write_bytes(b"one")
    left = 3

    def fault(method: str, path: str) -> int | None:
        nonlocal left
        left -= 1
        return status if left >= 0 else None

    before = faults.count()
    s3_store.fault = fault
    assert (s3_store.root / "x").read_bytes() == b"one"
    # What a dropped connection had asked, aiohttp asks once more by itself.
    assert faults.count() - before == 3 or (status == 0 and faults.count() > before)
    assert f"try {faults.count() - before + 1} of 7" in caplog.text
    assert f"s3://{BUCKET}/folder/x: cannot read" in caplog.text
    left = 2
    (s3_store.root / "x").write_bytes(b"two")
    left = 2
    assert (s3_store.root / "x").exists() and (s3_store.root / "x").read_bytes() == b"two"
    left = 2
    assert [path.name for path in s3_store.root.rglob("*")] == ["x"]
    s3_store.fault = lambda method, path: status
    with pytest.raises(PlaceError, match="cannot read, tried 7 times"):
        (s3_store.root / "x").exists()


@NEEDS_S3
def test_what_fails_for_good_is_said_at_once(s3_store: Store, tmp_path, monkeypatch):
    none, before = place("s3://nowhere/run"), faults.count()
    (tmp_path / "file").write_text("x")
    for call in (
        none.exists,
        none.is_dir,
        none.read_bytes,
        none.mkdir,
        lambda: list(none.rglob("*")),
        lambda: none.write_bytes(b""),
        lambda: none.upload(tmp_path / "file"),
    ):
        with pytest.raises(PlaceError, match=r"s3://nowhere: no such bucket; make it first, or correct the name"):
            call()
    s3_store.fault = lambda method, path: 403 if method in ("PUT", "POST", "DELETE") else None
    with pytest.raises(PlaceError, match=r"no permission to write, the bucket may be read-only .* credentials"):
        write_atomic(s3_store.root / "x", "x")
    s3_store.fault = lambda method, path: 403
    with pytest.raises(PlaceError, match="no permission to read"):
        (s3_store.root / "x").read_bytes()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    forget()
    with pytest.raises(PlaceError, match=r"no credentials for s3://.*set AWS_ACCESS_KEY_ID"):
        (s3_store.root / "x").read_bytes()
    assert faults.count() == before


def test_memory_fails_and_recovers(monkeypatch):
    """Whatever a driver raises of a network."""
    path, calls = place("memory://b/x"), iter([ConnectionResetError(), TimeoutError(), None])
    path.write_bytes(b"1")
    real = places.filesystem("memory").cat_file

    def failing(*args, **kwargs):
        error = next(calls)
        if error:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(faults, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(places.filesystem("memory"), "cat_file", failing)
    assert path.read_bytes() == b"1"
    path.unlink()


def test_a_driver_that_is_missing_is_named(monkeypatch):
    forget()
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ValueError, match=r"for gs:// paths, install the extra `remote`"):
        RemotePath("gs", "b/x").exists()
    forget()


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b" "])
def test_what_is_put_is_there_to_the_last_byte(store: Store, tmp_path, end):
    content = b"\r\n--\n" + end
    (tmp_path / "here").write_bytes(content)
    (store.root / "put").upload(tmp_path / "here")
    (store.root / "written").write_bytes(content)
    assert (store.root / "put").read_bytes() == content == (store.root / "written").read_bytes()
