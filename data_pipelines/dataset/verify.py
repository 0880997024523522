"""Is a dataset whole? Every file against its checksum, every record against the ledger, every split against the rule."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from data_pipelines.dataset import blocks, card, parts, tfds
from data_pipelines.dataset.splits import SPLITS
from data_pipelines.dataset.staging import stage
from data_pipelines.errors import DatasetError
from data_pipelines.files import file_sha256
from data_pipelines.places import Place, RemotePath
from data_pipelines.schema import EnergyGrid

Report = Callable[[str, int, int], None]


def verify(dataset: Place, report: Report = lambda stage, done, total: None) -> Iterator[str]:
    """What is wrong with a dataset, a line for each; nothing for a whole one. Raises DatasetError without a data card."""
    document = card.read(dataset)
    yield from _files(dataset, document, report)
    whole = True
    for source in document["sources"]:
        for problem in _records(dataset, source, report):
            whole = False
            yield problem
    yield from _ids(dataset, document)
    if whole:  # else there is no telling what the spectra should have been
        yield from _splits(dataset, document, report)


def _files(dataset: Place, document: dict, report: Report) -> Iterator[str]:
    for number, (name, sha256) in enumerate(document["files"].items()):
        report("files", number, len(document["files"]))
        path = dataset / name
        if not path.exists():
            yield f"{path}: missing"
        elif file_sha256(path) != sha256:
            yield f"{path}: damaged (checksum differs from the data card)"
    report("files", len(document["files"]), len(document["files"]))
    for folder in parts.FOLDERS:
        for path in sorted((dataset / folder).rglob("*")):
            if (isinstance(path, RemotePath) or path.is_file()) and path.relative_to(
                dataset
            ).as_posix() not in document["files"]:
                yield f"{path}: not in the data card"


def _records(dataset: Place, source: dict, report: Report) -> Iterator[str]:
    """The blocks and the TFDS files of a part, record by record, against its ledger."""
    part = source["part"]
    try:
        ledger = parts.ledger(dataset, part)
    except DatasetError as error:
        yield str(error)
        return
    if len(ledger) != source["records"]:
        yield f"{parts.paths(dataset, part)[parts.LEDGER]}: {len(ledger)} records, {source['records']} in the data card"
    split = np.array(ledger["split"].to_pylist())
    for name in SPLITS:
        own = ledger.take(np.flatnonzero(split == name)).sort_by("row")["id"].to_pylist()
        if len(own) != source["splits"][name]:
            yield f"{dataset}: {len(own)} {name} examples of {part} in the ledger, {source['splits'][name]} in the data card"
        if own:
            problems = list(_split(dataset, part, name, own, report))
            yield from problems or _statistics(dataset, part, name)


def _statistics(dataset: Place, part: str, split: str) -> Iterator[str]:
    path = parts.paths(dataset, part)[parts.STATISTICS]
    if not path.exists():  # told already, or the dataset is from before there were any
        return
    try:
        if not parts.told(dataset, part, split).agrees(parts.measure(dataset, part, split)):
            yield f"{path}: not the statistics of the {split} examples of {part}"
    except DatasetError as error:
        yield str(error)


def _split(dataset: Place, part: str, split: str, ids: list[str], report: Report) -> Iterator[str]:
    place = {id: row for row, id in enumerate(ids)}
    digests: list[bytes | None] = [None] * len(ids)
    try:
        for number, example in enumerate(tfds.examples(dataset, part, split)):
            if number % blocks.BLOCK_ROWS == 0:
                report(f"{part} {split}", number, 2 * len(ids))
            row = place.get(example["id"])
            if row is None:
                yield f"{example['file']}: record {example['id']!r} is not in the ledger"
            elif digests[row] is not None:
                yield f"{example['file']}: record {example['id']!r} is there twice"
            else:
                digests[row] = _digest(example["spectrum"], example["labels"])
    except DatasetError as error:
        yield str(error)
    missing = [id for id, digest in zip(ids, digests, strict=True) if digest is None]
    if missing:
        yield f"{parts.paths(dataset, part)[parts.TFDS]}: {_some(missing)} of split {split} missing"
    try:
        source, row = blocks.Blocks([parts.paths(dataset, part)[blocks.FOLDER]], split), 0
        for block in range(len(source)):
            report(f"{part} {split}", len(ids) + row, 2 * len(ids))
            held = source[block]
            for spectrum, labels in zip(held.spectrum, held.labels, strict=True):
                if row >= len(ids):
                    break
                if digests[row] not in (None, _digest(spectrum, labels)):
                    yield f"{source.path(block)}: row {row} is not the record {ids[row]!r}"
                row += 1
        if source.rows != len(ids):
            yield f"{source.path(len(source) - 1)}: {source.rows} {split} rows, {len(ids)} in the ledger"
    except DatasetError as error:
        yield str(error)
    report(f"{part} {split}", 2 * len(ids), 2 * len(ids))


def _digest(spectrum: np.ndarray, labels: np.ndarray) -> bytes:
    return hashlib.blake2b(spectrum.tobytes() + labels.tobytes(), digest_size=8).digest()


def _some(ids: list[str]) -> str:
    return f"record {ids[0]!r}" + (f" and {len(ids) - 1} more" if len(ids) > 1 else "")


def _ids(dataset: Place, document: dict) -> Iterator[str]:
    """No example is in two parts, or twice in one."""
    seen: dict[str, str] = {}
    for source in document["sources"]:
        try:
            ledger = parts.ledger(dataset, source["part"])
        except DatasetError:
            continue  # told already
        for id, split in zip(ledger["id"].to_pylist(), ledger["split"].to_pylist(), strict=True):
            if split and id in seen:
                yield f"{dataset}: record {id!r} is in {source['part']} and in {seen[id]}"
            if split:
                seen[id] = source["part"]


def _splits(dataset: Place, document: dict, report: Report) -> Iterator[str]:
    """The splits once more from what is stored: a family in two of them would be a leak."""
    sources, total = document["sources"], document["records"]["found"]
    report("splits", 0, total)
    with TemporaryDirectory() as scratch:
        grid = EnergyGrid(**document["grid"])
        read = [parts.records(dataset, source["part"], grid) for source in sources]
        counts = [source["records"] for source in sources]
        staged = stage(read, [source["name"] for source in sources], counts, grid, Path(scratch))
    stored = np.concatenate([parts.ledger(dataset, source["part"])["split"].to_pylist() for source in sources])
    right = np.array([*SPLITS, ""])[staged.split]
    ids = staged.table["id"]
    for row in np.flatnonzero(stored != right):
        yield f"{dataset}: record {ids[row].as_py()!r} is in split {stored[row] or 'none'}, its family in {right[row] or 'none'}"
    report("splits", total, total)
