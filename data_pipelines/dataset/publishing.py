"""Where a dataset is made, and how it comes to where it shall lie.

On this machine both are the same folder. What shall lie in an object store is made in a folder of this machine's cache,
and put there part by part: each object whole, the card that names them last, so that a reader finds the old dataset or
the new one. After a kill the same command goes on with what is missing, here and there.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from data_pipelines.dataset import parts
from data_pipelines.files import cache_folder, locked
from data_pipelines.places import Place, RemotePath

MARK = ".being_prepared"
# Files that are put at a time.
AT_A_TIME = 8


@contextmanager
def workshop(out: Place) -> Iterator[Path]:
    """The folder to make it in, which stays after an error. Raises UserError where another process is at it, and
    PlaceError where there is no such bucket, or one that may not be written to."""
    if isinstance(out, Path):
        yield out
        return
    mark = out / MARK  # who may not write should know before hours of work
    mark.write_bytes(b"")
    mark.unlink()
    name = hashlib.sha256(str(out).encode()).hexdigest()[:16]
    folder = cache_folder() / "prepare" / name
    with locked(folder.with_suffix(".lock"), str(out)):
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        folder.with_suffix(".lock").unlink(missing_ok=True)


def publish(here: Path, out: Place, part: str, anew: bool) -> None:
    """Put the files of a part where they shall lie; anew: also those that are there.

    A part is named after its content and an object is put whole, so one of the same name and size is the same.
    """
    if isinstance(out, Path):
        return
    there: dict[RemotePath, int] = {}
    for path in () if anew else parts.paths(out, part).values():
        there |= path.sizes()

    def put(file: Path) -> None:
        target = out / file.relative_to(here).as_posix()
        if there.get(target) != file.stat().st_size:
            target.upload(file)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(put, parts.files(here, part)))


def clear(here: Path, out: Place, work: str) -> None:
    """Remove what served to make it, once it is published."""
    shutil.rmtree(here if isinstance(out, RemotePath) else here / work, ignore_errors=True)
    if isinstance(out, RemotePath):
        (out / work).remove_tree()
