"""Sources -> labelled examples -> dataset: resumable, and the same bytes whatever the number of workers, the engine,
and whether the sources came at once or one after the other.

chunks.py reads every spectrum, staging.py drops repeated ids and assigns the splits over all of them, parts.py writes
one part for each source, and the data card makes them a dataset.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from data_pipelines.dataset import card, chunks, parts, structures
from data_pipelines.dataset.beam import Beam
from data_pipelines.dataset.publishing import clear, publish, workshop
from data_pipelines.dataset.staging import stage
from data_pipelines.errors import DamagedSource, SourceError
from data_pipelines.places import Place, RemotePath, is_remote, place
from data_pipelines.readers.sources import Source, open_source
from data_pipelines.schema import DESCRIPTORS, REFERENCE_ENERGY_EV, SHELL_NAMES, SHELLS, SOURCE, STRUCTURES, EnergyGrid

# Raise with any change of the rules (checks, labels, splits) that the fingerprint does not see by itself.
RECIPE = 3
WORK = ".prepare"
GRID = EnergyGrid()


def prepare(
    sources: Sequence[Path | str],
    out: Place | str,
    grid: EnergyGrid = GRID,
    workers: int = 1,
    overwrite: bool = False,
    add: bool = False,
    beam: Beam | None = None,
    report: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> dict:
    """Ingest `sources` into the dataset folder `out` and return its data card; `out` may be in an object store.

    add: keep the sources that the dataset has. beam: the engine instead of `workers` processes. `report(stage, done,
    total)` is called as work goes on. Raises SourceError for what is no source and what `Beam.check` raises, before any
    work; and where a source is damaged, when the others are in the dataset.
    """
    out = place(out)
    if beam:
        beam.check()
    with workshop(out) as here:
        return _prepare(sources, out, here, grid, workers, overwrite, add, beam, report)


def _prepare(
    sources: Sequence[Path | str],
    out: Place,
    here: Path,
    grid: EnergyGrid,
    workers: int,
    overwrite: bool,
    add: bool,
    beam: Beam | None,
    report: Callable[[str, int, int], None],
) -> dict:
    """As of `prepare`; here: the folder that it is made in."""
    existing = card.read(out) if (out / card.FILE).exists() and not overwrite else None
    work = here / WORK
    opened, damaged = _open([Path(path) for path in sources], work)
    if damaged and (not opened or (existing and not add)):
        _abandon(here)
        raise SourceError("; ".join(damaged))
    lacking = [what for key, what in _NEW.items() if existing and key not in existing]
    if lacking:
        _abandon(here)
        raise SourceError(f"{out} lacks {' and '.join(lacking)}, which are new; prepare it again, with --overwrite")
    if existing and add:
        if EnergyGrid(**existing["grid"]) != grid:
            raise SourceError(f"{out} has another energy grid ({existing['grid']}); add with the same --grid options")
        there = {source["sha256"] for source in existing["sources"]}
        opened = [source for source in opened if source.sha256 not in there]
    old = existing["sources"] if existing and add else []
    described = [*({k: s.get(k, {}) for k in _DESCRIPTION} for s in old), *map(_describe, opened)]
    keys = list(accumulate((_key(s["name"], s["sha256"], grid) for s in described), _chain))
    if existing and (existing["fingerprint"] == keys[-1] or not add):
        clear(here, out, WORK)
        if existing["fingerprint"] == keys[-1]:
            return _unless(damaged, existing, out)
        raise SourceError(
            f"{out} holds a dataset of other sources or another grid; choose another --out, or --add, or --overwrite"
        )

    # Workers on other machines write where all can.
    chunked = out / WORK if beam and isinstance(out, RemotePath) else work
    found = _ingest(opened, grid, chunked, workers, beam, report)
    total = sum(source["records"] for source in old) + sum(source.records for source in opened)
    report("splitting", 0, total)
    new = [(chunks.read(path, work) for path in paths) for paths in found]
    if grid.signals:
        new = [structures.of_sites(tables, grid) for tables in new]
        counts = [sum(map(len, tables)) for tables in new]
    else:
        counts = [source.records for source in opened]
    counts = [*(source["records"] for source in old), *counts]
    read = [parts.records(out, source["part"], grid) for source in old] + new
    staged = stage(read, [source["name"] for source in described], counts, grid, work)
    report("splitting", total, total)
    if not len(staged.kept):
        reasons = sorted(set(map(" ".join, _reasons(staged))))
        _abandon(here)
        raise SourceError(f"no usable spectrum in {', '.join(map(str, sources))}: {'; '.join(reasons[:3])}")
    written = 0
    for i, (source, key) in enumerate(zip(described, keys, strict=True)):
        report("writing", written, total)
        source["part"] = parts.name_of(source["name"], key, staged, np.flatnonzero(staged.source == i))
        if here == out or source["part"] not in {own["part"] for own in old}:
            parts.write(here, source["part"], staged, i, grid, work, overwrite, beam if here == out else None)
            publish(here, out, source["part"], overwrite)
        written += counts[i]
    document = card.make(described, staged, grid, keys[-1])
    document["files"] = _checksums(here, out, document, existing)
    card.write(out, document)
    parts.remove_others(out, [source["part"] for source in described])
    clear(here, out, WORK)
    report("writing", total, total)
    return _unless(damaged, document, out)


def _open(sources: Sequence[Path], work: Path) -> tuple[list[Source], list[str]]:
    """The sources that can be read, and what is wrong with the damaged ones."""
    for path in sources:
        if is_remote(path):
            raise SourceError(f"{place(path)}: sources are read on this machine; copy it here first")
        if not Path(path).exists():
            raise SourceError(f"{path}: no such file or folder")
    opened, damaged = [], []
    for path in sources:
        try:
            opened.append(open_source(path, work))
        except DamagedSource as error:
            damaged.append(str(error))
    return opened, damaged


def _unless(damaged: list[str], document: dict, out: Path) -> dict:
    if damaged:
        raise SourceError(f"{'; '.join(damaged)}. {out} is without: mend and run again with --add")
    return document


# Of a card: what it tells, and a dataset from before there was such a thing cannot be added to.
_NEW = {"shells": " and ".join(SHELL_NAMES), "contradictions": "what tells its sites apart"}
_DESCRIPTION = ("name", "sha256", "materials_without_spectra", "passed_over")


def _describe(source: Source) -> dict:
    told = (source.name, source.sha256, len(source.without_spectra), source.passed_over)
    return dict(zip(_DESCRIPTION, told, strict=True))


def _key(name: str, sha256: str, grid: EnergyGrid) -> str:
    """Same key, same records: source, grid with its anchors, and descriptor table."""
    known = (*DESCRIPTORS, *SHELLS, SOURCE, *(STRUCTURES if grid.signals else ()))
    table = [(d.name, d.kind, d.sites, d.classes, d.plausible) for d in known]
    text = json.dumps([RECIPE, name, sha256, grid.stated(), list(REFERENCE_ENERGY_EV.items()), table])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _chain(before: str, key: str) -> str:
    """Key of the sources up to one: an id that an earlier source has is dropped from a later one."""
    return hashlib.sha256(f"{before} {key}".encode()).hexdigest()[:16]


def _ingest(
    opened: Sequence[Source], grid: EnergyGrid, work: Place, workers: int, beam: Beam | None, report: Callable
) -> list[list[Place]]:
    """The files of records of every source."""
    total, done = sum(source.records for source in opened), 0

    def progress(records: int) -> None:
        nonlocal done
        done += records
        report("ingesting", done, total)

    return [
        chunks.ingest(source.tasks, grid, work / _key(source.name, source.sha256, grid), workers, beam, progress)
        for source in opened
    ]


def _reasons(staged) -> list[tuple[str, str]]:
    names = ("dropped", "detail")
    return [
        (reason, f"({detail})") for reason, detail in zip(*(staged.table[n].to_pylist() for n in names), strict=True)
    ]


def _checksums(here: Path, out: Place, document: dict, existing: dict | None) -> dict[str, str]:
    """Of every file; those that an earlier card has of parts that stay are known, and in an object store not here."""
    known = existing["files"] if existing else {}
    stay = {source["part"] for source in existing["sources"]} if existing else set()
    sums: dict[str, str] = {}
    for source in document["sources"]:
        if here != out and source["part"] in stay:
            sums |= {name: known[name] for name in sorted(known) if parts.of_file(name) == source["part"]}
        for path in parts.files(here, source["part"]):
            name = path.relative_to(here).as_posix()
            old = source["part"] in stay and name in known
            sums |= {name: known[name]} if old else card.checksums(here, [path])
    return sums


def _abandon(here: Path) -> None:
    """Leave nothing of a run that cannot succeed."""
    shutil.rmtree(here / WORK, ignore_errors=True)
    if here.exists() and not any(here.iterdir()):
        here.rmdir()
