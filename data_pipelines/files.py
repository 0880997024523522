"""Files that are either whole or absent, their checksums, and locks between processes."""

from __future__ import annotations

import atexit
import hashlib
import io
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, cast

from data_pipelines.errors import UserError
from data_pipelines.places import Place, RemotePath

if sys.platform != "win32":
    import errno
    import fcntl

    # Of disks that cannot lock, as some of clusters are mounted.
    NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def cache_folder() -> Path:
    """Where what can be made again is kept between starts: $XDG_CACHE_HOME/spt-jax, or ~/.cache/spt-jax."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spt-jax"


@cache
def scratch() -> Path:
    """This process's own folder for copies of what is remote; it goes with the process, and those of killed ones go now."""
    root = cache_folder() / "remote"
    root.mkdir(parents=True, exist_ok=True)
    for left in root.iterdir():
        with suppress(UserError, OSError), locked(left / "in_use", ""):
            shutil.rmtree(left)
    own, held = Path(tempfile.mkdtemp(dir=root)), ExitStack()
    held.enter_context(locked(own / "in_use", "copies of what is remote"))
    atexit.register(held.close)
    atexit.register(shutil.rmtree, own, ignore_errors=True)  # first: the last that is registered
    return own


def write_atomic(path: Place, content: str | bytes) -> None:
    """Write under a temporary name, flush to disk, rename: a kill leaves the old file or the new one, and an error nothing
    more. Text is UTF-8. A remote object is put whole or not at all by itself."""
    content = content.encode() if isinstance(content, str) else content
    if isinstance(path, RemotePath):
        path.write_bytes(bytes(content))
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name for one who writes by himself; at the end flushed to disk and renamed, after an error removed."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """No other process comes past here with this lock file meanwhile; its folder is made, and both may be removed.

    The system gives it back however a process ends. Raises UserError where another one has it, who is said to be
    writing `what`. Windows, and disks that cannot lock, let everybody pass.
    """
    file = _lock(path, what)
    try:
        yield
    finally:
        file.close()


def _lock(path: Path, what: str) -> IO[str]:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
        except FileNotFoundError:  # who had it has just removed the folder
            continue
        try:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {platform.node()}")
                file.flush()
                return file
        except BlockingIOError:
            file.seek(0)
            owner = file.read() or "another process"
            file.close()
            raise UserError(f"{what}: {owner} is writing it; wait until it is through, or stop it") from None
        except FileNotFoundError:
            pass
        except OSError as error:
            if sys.platform != "win32" and error.errno in NO_LOCKS:
                return file
            file.close()
            raise
        file.close()  # one that was removed between


def read_json(path: Place) -> dict:
    """A JSON object that this program wrote. Raises UserError where something else has damaged it since."""
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("no object")
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); remove it and run the same command again") from None
    return found


def files_in(folder: Path) -> dict[str, tuple[int, int]]:
    """By name, bytes and time of the last change, ns, of the files of a watched folder: without those with a dot in front, and
    without links that lead out of it. Raises OSError where it cannot be read."""
    found, inside = {}, os.path.join(os.path.realpath(folder), "")
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.name[0] == "." or not entry.is_file():
                    continue
                if entry.is_symlink() and not os.path.realpath(entry.path).startswith(inside):
                    continue
                state = entry.stat()
            except OSError:  # it went meanwhile
                continue
            found[entry.name] = (state.st_size, state.st_mtime_ns)
    return found


def file_sha256(path: Place) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()
