"""Finding work: a tree, an archive, a FEFF run folder, a Parquet or .npz file -> `SourceTask`s.

A task is one structure with all its spectra, so that neighbour finding is shared, or a run of rows that have no
structure. It holds paths and numbers only, and a worker process reads them (`chunks.py`).
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.errors import DamagedSource, SourceError, line_of
from data_pipelines.files import file_sha256
from data_pipelines.run_tree import INPUT, POSCAR, PROVENANCE, RECORDS, SITE_FOLDER, XMU

LIBRARY_COLUMNS = {"id", "absorber", "site_index", "structure", "omega", "mu"}
TABLE_COLUMNS = {"id", "absorber", "omega", "mu"}
NPZ_ARRAYS = {"mu", "element", "e0_eV", "step_eV"}
# Rows without a structure that are worked on together; they share nothing.
TABLE_ROWS = 1024
# A worker holds one row group in memory.
LARGEST_ROW_GROUP = 200_000


@dataclass(frozen=True)
class SourceTask:
    """Spectra that are read together.

    kind "tree": `structure` is a POSCAR and `members` are site folders <NNN>_<El> of it.
    kind "run":  one run folder with its own structure; `members` holds it alone.
    kind "library": rows of one structure in a Parquet file, `structure`; `members` are row numbers in `row_group`.
    kind "table": rows without a structure, of a Parquet file in the same way.
    kind "npz": rows of an .npz file of spectra without structures.
    `source` and `root` say where it came from; ids and reports are relative to root. `first_row` is the number in the
    file of the first row of the row group.
    """

    kind: str
    source: str
    root: str
    structure: str
    members: Sequence
    row_group: int = 0
    first_row: int = 0


@dataclass(frozen=True)
class Source:
    """One SOURCE argument: its name, checksum, tasks, and materials that came without any spectrum.

    passed_over: how many files beside the runs of a tree are of no use here, by their ending; none of FEFF's own.
    """

    name: str
    sha256: str
    tasks: tuple[SourceTask, ...]
    without_spectra: tuple[str, ...] = ()
    passed_over: dict[str, int] = field(default_factory=dict)

    @property
    def records(self) -> int:
        return sum(len(task.members) for task in self.tasks)


def open_source(path: Path | str, scratch: Path) -> Source:
    """Read the listing of one source. Archives are unpacked under `scratch`, once.

    Raises SourceError for what is no source, DamagedSource for what was one.
    """
    path = Path(path)
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    if path.is_dir():
        return _tree(path, path.name)
    if path.suffix == ".parquet":
        return _parquet(path)
    if path.suffix == ".npz":
        return _npz(path)
    if re.search(r"\.(tar|tgz|txz|tar\.\w+)$", path.name):
        source = _tree(_unpack(path, scratch), path.name)
        return replace(source, sha256=file_sha256(path))
    raise SourceError(f"{path}: not a folder, .tar archive, .parquet or .npz file")


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
            raise DamagedSource(f"{path}: damaged archive ({str(error).splitlines()[0]})") from None
        partial.rename(target)
    return target


def _tree(root: Path, name: str) -> Source:
    digest = hashlib.sha256()
    by_poscar: dict[Path, list[Path]] = defaultdict(list)
    runs: list[Path] = []
    poscars: set[Path] = set()
    others: Counter[str] = Counter()
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))  # unfinished runs are hidden
        here = Path(folder)
        for file in sorted({POSCAR, PROVENANCE, INPUT, XMU} & set(files)):
            digest.update(str((here / file).relative_to(root)).encode("utf-8", "surrogateescape"))
            digest.update(bytes.fromhex(file_sha256(here / file)))
        has_run = INPUT in files or XMU in files
        if POSCAR in files:
            poscars.add(here / POSCAR)
        if has_run or SITE_FOLDER.match(here.name):
            shared = [p / POSCAR for p in (here.parent, here.parent.parent) if (p / POSCAR).exists()]
            if SITE_FOLDER.match(here.name) and shared and POSCAR not in files:
                by_poscar[shared[0]].append(here)
            elif has_run:
                runs.append(here)
        else:
            strange = set(files) - {POSCAR, PROVENANCE, *RECORDS}
            others.update(Path(file).suffix.lower() or file for file in strange if not file.startswith("."))
    if not by_poscar and not runs:
        found = ", ".join(f"{count} {ending}" for ending, count in sorted(others.items()))
        raise SourceError(f"{root}: {found or 'nothing'} below this folder, but no FEFF run ({INPUT}, {XMU})")
    tasks = [
        SourceTask("tree", name, str(root), str(poscar), tuple(map(str, members)))
        for poscar, members in sorted(by_poscar.items())
    ]
    tasks += [SourceTask("run", name, str(root), str(run), (str(run),)) for run in runs]
    lonely = poscars - set(by_poscar) - {run / POSCAR for run in runs}
    without = tuple(sorted(str(p.parent.relative_to(root)) for p in lonely))
    return Source(name, digest.hexdigest(), tuple(tasks), without, dict(sorted(others.items())))


def _parquet(path: Path) -> Source:
    """A FEFF library, whose rows carry their structures, or a table of spectra without any."""
    try:
        file = pq.ParquetFile(path)
        columns = set(file.schema_arrow.names)
        wanted = LIBRARY_COLUMNS if columns & {"structure", "site_index"} else TABLE_COLUMNS
        if wanted - columns:
            raise SourceError(f"{path}: not a FEFF library, columns {', '.join(sorted(wanted - columns))} are missing")
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        if max(groups, default=0) > LARGEST_ROW_GROUP:
            raise SourceError(
                f"{path}: a row group of {max(groups)} rows; write the file with at most {LARGEST_ROW_GROUP} in one"
            )
        tasks: list[SourceTask] = []
        for group, rows in enumerate(groups):
            if wanted is LIBRARY_COLUMNS:
                structures = file.read_row_group(group, columns=["structure"])["structure"].to_pylist()
                members = _by_structure(structures)
            else:
                members = _runs(rows)
            kind = "library" if wanted is LIBRARY_COLUMNS else "table"
            first = sum(groups[:group])
            tasks += [SourceTask(kind, path.name, str(path), str(path), own, group, first) for own in members]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DamagedSource(f"{path}: damaged Parquet file ({line_of(error)})") from None
    return Source(path.name, file_sha256(path), tuple(tasks))


def _by_structure(structures: list[str]) -> list[tuple[int, ...]]:
    rows: dict[str, list[int]] = defaultdict(list)
    for number, structure in enumerate(structures):
        rows[structure].append(number)
    return list(map(tuple, rows.values()))


def _runs(rows: int) -> list[range]:
    return [range(start, min(start + TABLE_ROWS, rows)) for start in range(0, rows, TABLE_ROWS)]


def _npz(path: Path) -> Source:
    """mu (N, L), element (N,), and energies e0_eV + step_eV * i, one of each for every spectrum or for all."""
    try:
        with np.load(path) as file:
            missing = NPZ_ARRAYS - set(file.files)
            if missing:
                raise SourceError(f"{path}: not a set of spectra, arrays {', '.join(sorted(missing))} are missing")
            rows, elements = file["mu"].shape, file["element"].shape
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedSource(f"{path}: damaged .npz file ({str(error).splitlines()[0]})") from None
    if len(rows) != 2 or elements != rows[:1]:
        raise SourceError(f"{path}: mu of shape {rows} and element of shape {elements} do not belong together")
    tasks = (SourceTask("npz", path.name, str(path), str(path), own) for own in _runs(rows[0]))
    return Source(path.name, file_sha256(path), tuple(tasks))
