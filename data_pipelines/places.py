"""Where data and runs lie: a folder of this machine, or one of an object store, named gs://, s3:// or memory://.

`place` makes a path of a name. A local one is pathlib's and costs nothing more; a remote one is a RemotePath, which has
the methods of pathlib that datasets and runs need. An object store has no rename and no folders: an object is put
whole or not at all, and a folder is published by the object that names the others, written last.

fsspec is the one library behind it, and this file alone knows it. What fails for a moment is asked again, with longer
and longer waits, counted and told (faults.py); what fails for good is one line that says what to do.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from importlib import import_module
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import IO, Any, NamedTuple, TypeVar

from data_pipelines import faults
from data_pipelines.errors import MissingExtra, PlaceError

T = TypeVar("T")
# Scheme -> how long a store may keep silent, and who asks again: we do, so that every time is counted.
SCHEMES: dict[str, dict[str, Any]] = {
    "gs": {"use_listings_cache": False},
    "s3": {
        "use_listings_cache": False,
        "config_kwargs": {"connect_timeout": 10, "read_timeout": 30, "retries": {"total_max_attempts": 1}},
    },
    "memory": {},
}
# Scheme -> how what was put is compared with what the store has of it; s3fs sends sums that the store compares.
CHECKED: dict[str, dict[str, Any]] = {"gs": {"consistency": "md5"}}
DRIVERS = {"gs": "gcsfs", "s3": "s3fs", "memory": "fsspec"}
NAMED = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):(//?)(.*)", re.DOTALL)
# Bytes that a file object fetches at once.
BUFFER = 2**20


class Stat(NamedTuple):
    """Of an object, as of os.stat."""

    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True, order=True)
class RemotePath:
    """An object, or what stands for a folder: all objects whose names begin with it. key: bucket, then names.

    It has no `__fspath__`: what can only open local files must fail, and not make a folder named "s3:".
    """

    scheme: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}"

    def __truediv__(self, name: str | PurePosixPath) -> RemotePath:
        """There is nothing above a bucket."""
        bucket, _, own = self.key.partition("/")
        return RemotePath(self.scheme, f"{bucket}{normpath(f'/{own}/{name}')}".rstrip("/").replace("//", "/"))

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.key).suffix

    @property
    def stem(self) -> str:
        return PurePosixPath(self.key).stem

    @property
    def parent(self) -> RemotePath:
        return self / ".."

    def with_name(self, name: str) -> RemotePath:
        return self.parent / name

    def with_suffix(self, suffix: str) -> RemotePath:
        return self.with_name(self.stem + suffix)

    def relative_to(self, other: RemotePath) -> PurePosixPath:
        return PurePosixPath(self.key).relative_to(other.key)

    def as_posix(self) -> str:
        return str(self)

    def absolute(self) -> RemotePath:
        return self

    def resolve(self) -> RemotePath:
        return self

    def expanduser(self) -> RemotePath:
        return self

    def exists(self) -> bool:
        """Raises PlaceError where not even the bucket is there."""
        return bool(self._kind())

    def is_file(self) -> bool:
        return self._kind() == "file"

    def is_dir(self) -> bool:
        return self._kind() == "directory"

    def _kind(self) -> str:
        """ "" where there is nothing. Not fsspec's `exists`, which takes any failure for an answer."""
        try:
            return self._told("read", lambda fs: fs.info(self.key))["type"]
        except FileNotFoundError:
            return ""

    def stat(self) -> Stat:
        """Raises FileNotFoundError where there is no such object."""
        found = self._told("read", lambda fs: fs.info(self.key))
        changed = found.get("LastModified") or found.get("mtime") or found.get("created")
        seconds = changed.timestamp() if hasattr(changed, "timestamp") else 0
        return Stat(int(found["size"]), int(seconds * 1e9))

    def iterdir(self) -> Iterator[RemotePath]:
        found = self._told("list", lambda fs: fs.ls(self.key, detail=False)) if self.is_dir() else ()
        return (own for own in map(self._of, sorted(found)) if own != self)

    def sizes(self) -> dict[RemotePath, int]:
        """Of itself, if it is an object, or of all objects below it, by one listing."""
        found = self._told("list", lambda fs: fs.find(self.key, detail=True))
        return {self._of(key): int(info["size"]) for key, info in sorted(found.items())}

    def rglob(self, pattern: str) -> Iterator[RemotePath]:
        """All objects below whose own name is of the pattern; there are no folders among them."""
        return (path for path in self._below() if fnmatch(path.name, pattern))

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """All objects, no folders, whose names below this one are of the pattern, part for part."""
        wanted = pattern.split("/")
        for path in self._below():
            parts = path.relative_to(self).parts
            if len(parts) == len(wanted) and all(map(fnmatch, parts, wanted)):
                yield path

    def _below(self) -> list[RemotePath]:
        found = self.sizes()
        if not found:
            _bucket(self.scheme, self.key.partition("/")[0])
        return [path for path in found if path != self]

    def read_bytes(self) -> bytes:
        """Raises FileNotFoundError where there is no such object."""
        return self._told("read", lambda fs: fs.cat_file(self.key))

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self.read_bytes().decode(encoding, errors)

    def read_range(self, start: int, stop: int) -> bytes:
        """The bytes from one to another, all of them. Raises FileNotFoundError where there is no such object."""

        def read(fs: Any) -> bytes:
            found = fs.cat_file(self.key, start=start, end=stop)
            if len(found) != stop - start:
                raise ConnectionError(f"{len(found)} bytes of {stop - start}")
            return found

        return self._told("read", read) if stop > start else b""

    def open(self, mode: str = "rb") -> IO[bytes]:
        """To read only, and anywhere in it: what is asked for is fetched."""
        if mode != "rb":
            raise ValueError(f"a remote object is read with open('rb') and written whole, not {mode!r}")
        return io.BufferedReader(_Ranges(self), BUFFER)

    def write_bytes(self, content: bytes) -> None:
        """Put the object, whole or not at all."""
        self._told("write", lambda fs: fs.pipe_file(self.key, content, **CHECKED.get(self.scheme, {})))

    def write_text(self, content: str, encoding: str = "utf-8") -> None:
        self.write_bytes(content.encode(encoding))

    def upload(self, file: Path) -> None:
        """Put a file of this machine, whole or not at all."""
        self._told("write", lambda fs: fs.put_file(str(file), self.key, **CHECKED.get(self.scheme, {})))

    def download(self, file: Path) -> None:
        """Into a file of this machine, whose folder is there."""
        self._told("read", lambda fs: fs.get_file(self.key, str(file)))

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self._told("remove", lambda fs: fs.rm_file(self.key))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_tree(self) -> None:
        """All objects below it, if there are any."""
        for path in list(self.rglob("*")):
            path.unlink(missing_ok=True)

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """A folder is there when something is in it; its bucket must be. Raises PlaceError where it is not."""
        _bucket(self.scheme, self.key.partition("/")[0])

    def _of(self, key: str) -> RemotePath:
        return RemotePath(self.scheme, key.strip("/"))

    def _told(self, what: str, call: Callable[[Any], T]) -> T:
        """Raises PlaceError where not even the bucket is there."""
        try:
            return faults.retried(str(self), what, lambda: call(filesystem(self.scheme)))
        except FileNotFoundError:
            _bucket(self.scheme, self.key.partition("/")[0])
            raise


Place = Path | RemotePath


class _Ranges(io.RawIOBase):
    """The file object beneath the buffer."""

    def __init__(self, path: RemotePath):
        self._path, self._size, self._place = path, path.stat().st_size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = max(0, offset + (0, self._place, self._size)[whence])
        return self._place

    def readinto(self, buffer: Any) -> int:
        stop = min(self._place + len(buffer), self._size)
        found = self._path.read_range(self._place, stop) if stop > self._place else b""
        buffer[: len(found)] = found
        self._place += len(found)
        return len(found)


def place(named: str | os.PathLike[str] | RemotePath) -> Place:
    """The path of a name: s3://BUCKET/NAME is remote, a name without :// is of this machine.

    A remote name that went through pathlib, which folds the slashes, is unfolded. Raises PlaceError for a scheme that
    is not known, and for a name without a bucket.
    """
    if isinstance(named, RemotePath):
        return named
    text = os.fspath(named)
    found = NAMED.fullmatch(text)
    if not found or (found[2] == "/" and found[1] not in SCHEMES) or Path(text).exists():
        return Path(named)
    scheme, (bucket, _, key) = found[1].lower(), found[3].strip("/").partition("/")
    if scheme == "file":
        return Path(f"/{found[3].lstrip('/')}")
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise PlaceError(f"{text}: {scheme}:// is not known; give a folder of this machine or one of {known}")
    if not bucket:
        raise PlaceError(f"{text}: no bucket; write {scheme}://BUCKET/FOLDER")
    return RemotePath(scheme, bucket) / key


def is_remote(named: str | os.PathLike[str] | RemotePath) -> bool:
    """Whether this names something in an object store, rather than on this machine or by an address of the web."""
    if isinstance(named, RemotePath):
        return True
    found = NAMED.fullmatch(os.fspath(named))
    return bool(found) and found[1].lower() in SCHEMES and isinstance(place(named), RemotePath)


@cache
def filesystem(scheme: str) -> Any:
    """fsspec's, once for each scheme. Raises MissingExtra where its driver is not installed."""
    import fsspec  # loads what local paths do not need

    # Else gcsfs asks another service of what kind each bucket is, which not everybody may.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    try:
        import_module(DRIVERS[scheme])
        made = fsspec.filesystem(scheme, skip_instance_cache=True, **SCHEMES[scheme])
    except ImportError:
        raise MissingExtra("remote", f"{scheme}:// paths") from None
    if scheme == "s3":
        made.retries = 1  # we ask again ourselves
    return made


@cache
def _bucket(scheme: str, name: str) -> None:
    """Raises PlaceError where there is no such bucket; what was there once is not asked for again."""
    path = f"{scheme}://{name}"
    try:
        if scheme != "memory":
            faults.retried(path, "read", lambda: filesystem(scheme).info(name))
    except FileNotFoundError:
        raise PlaceError(f"{path}: no such bucket; make it first, or correct the name") from None
