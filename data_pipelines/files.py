"""Files that are either whole or absent, and their checksums."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_pipelines.errors import UserError


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write under a temporary name, flush to disk, rename: a kill leaves the old file or the new one. Text is UTF-8."""
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


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


def read_json(path: Path) -> dict:
    """A JSON object that this program wrote. Raises UserError where something else has damaged it since."""
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("no object")
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); remove it and run the same command again") from None
    return found


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
