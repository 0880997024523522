"""Finding work: a tree, an archive, a FEFF run folder or a Parquet file -> `Task`s.

A task is one structure with all its spectra, so that neighbour finding is shared; it holds
paths only, and a worker process reads them (`ingest.py`).
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import tarfile
import zlib
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.errors import SourceError
from data_pipelines.files import file_sha256

SITE_FOLDER = re.compile(r"^(\d+)_([A-Z][a-z]?)$")
PARQUET_COLUMNS = {"id", "absorber", "site_index", "structure", "omega", "mu"}


@dataclass(frozen=True)
class Task:
    """One structure's spectra.

    kind "tree": `structure` is a POSCAR and `members` are site folders <NNN>_<El> of it.
    kind "run":  one run folder with its own structure; `members` holds it alone.
    kind "parquet": `structure` is the file and `members` are row numbers in it.
    `source` and `root` say where it came from; ids and reports are relative to root.
    """

    kind: str
    source: str
    root: str
    structure: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """One SOURCE argument: its name, checksum, tasks, and materials that came without any spectrum."""

    name: str
    sha256: str
    tasks: tuple[Task, ...]
    without_spectra: tuple[str, ...] = ()


def open_source(path: Path | str, scratch: Path) -> Source:
    """Read the listing of one source. Archives are unpacked under `scratch`, once."""
    path = Path(path)
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    if path.is_dir():
        return _tree(path, path.name)
    if path.suffix == ".parquet":
        return _parquet(path)
    if re.search(r"\.(tar|tgz|txz|tar\.\w+)$", path.name):
        source = _tree(_unpack(path, scratch), path.name)
        return replace(source, sha256=file_sha256(path))
    raise SourceError(f"{path}: not a folder, .tar archive or .parquet file")


def _unpack(path: Path, scratch: Path) -> Path:
    target = scratch / f"unpacked-{file_sha256(path)[:16]}"
    if not target.exists():
        partial = target.with_suffix(".partial")
        try:
            with tarfile.open(path) as archive:
                archive.extractall(partial, filter="data")
                while archive.fileobj.read(1 << 20):
                    pass  # to the very end, where the stream keeps its checksum
        except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise SourceError(f"{path}: damaged archive ({str(error).splitlines()[0]})") from None
        partial.rename(target)
    return target


def _tree(root: Path, name: str) -> Source:
    digest = hashlib.sha256()
    by_poscar: dict[Path, list[Path]] = defaultdict(list)
    runs: list[Path] = []
    poscars: set[Path] = set()
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))  # unfinished runs are hidden
        here = Path(folder)
        for file in sorted({"POSCAR", "feff.inp", "xmu.dat"} & set(files)):
            digest.update(str((here / file).relative_to(root)).encode("utf-8", "surrogateescape"))
            digest.update(bytes.fromhex(file_sha256(here / file)))
        has_run = "feff.inp" in files or "xmu.dat" in files
        if "POSCAR" in files:
            poscars.add(here / "POSCAR")
        if has_run or SITE_FOLDER.match(here.name):
            shared = [p / "POSCAR" for p in (here.parent, here.parent.parent) if (p / "POSCAR").exists()]
            if SITE_FOLDER.match(here.name) and shared and "POSCAR" not in files:
                by_poscar[shared[0]].append(here)
            elif has_run:
                runs.append(here)
    if not by_poscar and not runs:
        raise SourceError(f"{root}: no FEFF run (feff.inp, xmu.dat) below this folder")
    tasks = [
        Task("tree", name, str(root), str(poscar), tuple(map(str, members)))
        for poscar, members in sorted(by_poscar.items())
    ]
    tasks += [Task("run", name, str(root), str(run), (str(run),)) for run in runs]
    lonely = poscars - set(by_poscar) - {run / "POSCAR" for run in runs}
    return Source(
        name, digest.hexdigest(), tuple(tasks), tuple(sorted(str(p.parent.relative_to(root)) for p in lonely))
    )


def _parquet(path: Path) -> Source:
    try:
        table = pq.ParquetFile(path)
        missing = PARQUET_COLUMNS - set(table.schema_arrow.names)
        if missing:
            raise SourceError(f"{path}: not a FEFF library, columns {', '.join(sorted(missing))} are missing")
        structures = table.read(columns=["structure"])["structure"].to_pylist()
    except pa.ArrowInvalid as error:
        raise SourceError(f"{path}: damaged Parquet file ({str(error).splitlines()[0]})") from None
    rows: dict[str, list[str]] = defaultdict(list)
    for number, structure in enumerate(structures):
        rows[structure].append(str(number))
    tasks = tuple(Task("parquet", path.name, str(path), str(path), tuple(numbers)) for numbers in rows.values())
    return Source(path.name, file_sha256(path), tasks)
