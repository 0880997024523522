"""The TFDS dataset `spt_xas`: the examples of a part once more, as ArrayRecord files that TFDS reads without TensorFlow.

A stranger reads a part with nothing of ours:
`tfds.builder_from_directory("DATASET/spt_xas/PART/1.0.0").as_data_source("train")`.

A shard is made of a shard of blocks, alone and in its order: here one after the other, or each on its own worker of an
Apache Beam runner. (TFDS gives `BeamBasedBuilder` up for this form, which shuffles nothing between workers.) The
records are put together here, ten times as fast as TFDS encodes them.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow_datasets as tfds
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines.dataset.array_records import REMEDY, read_all, write_all
from data_pipelines.dataset.blocks import SHARD_BLOCKS, Blocks
from data_pipelines.dataset.parts import TFDS
from data_pipelines.dataset.splits import SPLITS
from data_pipelines.errors import DatasetError
from data_pipelines.files import replacing
from data_pipelines.places import Place
from data_pipelines.schema import (
    LABELS,
    NAMES,
    SHELL_NAMES,
    SOURCE,
    STRUCTURE_LABELS,
    STRUCTURE_NAMES,
    WIDTHS,
    WORD_BITS,
    WORDS,
    EnergyGrid,
)

if TYPE_CHECKING:
    from data_pipelines.dataset.beam import Beam

VERSION = "1.0.0"
TEXTS = ("id", "material", "element", "edge")


@dataclass(frozen=True)
class Shard:
    """One shard to write: which of the part's shards of blocks becomes which file. Small enough to be sent to a worker."""

    blocks: Path
    ledger: Path
    split: str
    number: int
    target: Path

    def write(self) -> None:
        source, texts = Blocks([self.blocks], self.split), _texts(self.ledger, self.split)
        first, row = self.number * SHARD_BLOCKS, int(source.sizes[: self.number * SHARD_BLOCKS].sum())

        def records() -> Iterator[bytes]:
            place = row
            for block in range(first, min(first + SHARD_BLOCKS, len(source))):
                held = source[block]
                names = [texts[name].slice(place, len(held.spectrum)).to_pylist() for name in TEXTS]
                for spectrum, labels, *values in zip(held.spectrum, held.labels, *names, strict=True):
                    yield _encode(dict(zip(TEXTS, values, strict=True)), spectrum, labels)
                place += len(held.spectrum)

        with replacing(self.target) as partial:
            write_all(partial, records())


class SptXas(tfds.core.ShardBasedBuilder):
    """XANES spectra of single sites with structure descriptors (NaN where there is no label)."""

    name = TFDS
    VERSION = tfds.core.Version(VERSION)
    # TFDS writes it into the files, where it means nothing: the name of their first day, so that bytes stay the same.
    __module__ = "data_pipelines.tfds_builder"

    def __init__(self, *, data_dir: str, part: str, blocks: Path, ledger: Path, grid: EnergyGrid, beam: Beam | None):
        self.blocks, self.ledger, self.grid, self.beam, self.scratch = blocks, ledger, grid, beam, Path(data_dir)
        super().__init__(data_dir=data_dir, config=tfds.core.BuilderConfig(name=part), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        further = f"; then {', '.join(STRUCTURE_NAMES)}" if self.grid.signals else ""
        return self.dataset_info_from_configs(
            features=_features(self.grid.length, self.grid.labels),
            description=f"{self._rows}. Labels: {', '.join(NAMES)}; then {WORDS} numbers each for "
            f"{', '.join(SHELL_NAMES)}, sets of elements: bit b of number w is Z = {WORD_BITS} w + b; then the "
            f"{SOURCE.meaning}{further}.",
        )

    @property
    def _rows(self) -> str:
        if not self.grid.signals:
            return "Site-resolved XANES spectra, mu with unit edge step"
        return (
            f"Rows of a {self.grid.each}: {', '.join(self.grid.signals)} side by side, {self.grid.points} numbers each, NaN "
            "where a signal is missing"
        )

    def _download_and_prepare(self, dl_manager, download_config) -> None:
        shards, infos = [], []
        for split in (split for split in SPLITS if any(self.blocks.glob(f"{split}-*"))):
            sizes = Blocks([self.blocks], split).sizes
            rows = [int(sizes[i : i + SHARD_BLOCKS].sum()) for i in range(0, len(sizes), SHARD_BLOCKS)]
            template = self._get_filename_template(split_name=split)
            own = [
                Shard(
                    self.blocks,
                    self.ledger,
                    split,
                    i,
                    Path(template.sharded_filepath(shard_index=i, num_shards=len(rows))),
                )
                for i in range(len(rows))
            ]
            shards += own
            infos.append((split, rows, template, own))
        if self.beam:
            self.beam.run({shard.target: shard.write for shard in shards}, self.scratch)
        else:
            for shard in shards:
                shard.write()
        self.info.set_splits(
            tfds.core.splits.SplitDict(
                tfds.core.splits.SplitInfo(
                    name=split,
                    shard_lengths=rows,
                    num_bytes=sum(shard.target.stat().st_size for shard in own),
                    filename_template=template,
                )
                for split, rows, template, own in infos
            )
        )

    def _shard_iterators_per_split(self, dl_manager):
        raise NotImplementedError("shards are written from blocks")


def _encode(texts: dict[str, str], spectrum: np.ndarray, labels: np.ndarray) -> bytes:
    """One record as TFDS reads it, the same bytes every time."""
    example = tf_example_pb2.Example()
    for name, text in texts.items():
        example.features.feature[name].bytes_list.value.append(text.encode())
    for name, array in (("spectrum", spectrum), ("labels", labels)):
        example.features.feature[name].float_list.value.extend(array.tolist())
    return example.SerializeToString(deterministic=True)


@lru_cache(maxsize=1)
def _texts(ledger: Path, split: str) -> pa.Table:
    """What the blocks do not hold, in their order."""
    return pq.read_table(ledger, columns=[*TEXTS, "row"], filters=pc.field("split") == split).sort_by("row")


def write(out: Path, part: str, blocks: Path, ledger: Path, grid: EnergyGrid, beam: Beam | None) -> None:
    """Write `out`/spt_xas/`part` from the part's blocks and its ledger."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # it warns that no list has a configuration named after the part
    tfds.disable_progress_bar()
    builder = SptXas(data_dir=str(out), part=part, blocks=blocks, ledger=ledger, grid=grid, beam=beam)
    config = tfds.download.DownloadConfig(compute_stats=tfds.download.ComputeStatsMode.SKIP)
    with contextlib.redirect_stdout(io.StringIO()):  # it announces a download, of which there is none
        builder.download_and_prepare(download_config=config)


@dataclass(frozen=True)
class Found:
    """A TFDS dataset of our features. files: of each split, and how many records each of them should hold."""

    points: int
    metadata: dict
    files: dict[str, dict[Place, int]]


def find(folder: Place) -> Found:
    """What lies in the folder of a version. Raises DatasetError; for other features, naming the first that differs."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # it warns of every set that its lists do not have
    try:
        info = _told_by(folder)
        features, kind = dict(info.features.items()), info.file_format.value
        files = {
            split: dict(zip((folder / Path(path).name for path in own.filepaths), own.shard_lengths, strict=True))
            for split, own in info.splits.items()
        }
    except Exception as error:  # TFDS raises whatever its JSON and file layers do
        detail = " ".join(str(error).split())[:200]
        raise DatasetError(f"{folder}: not a TFDS dataset ({type(error).__name__}: {detail})") from None
    if kind != "array_record":
        raise DatasetError(f"{folder}: its files are {kind}; write them with file_format='array_record'")
    shape = getattr(features.get("spectrum"), "shape", ())
    points = shape[0] if len(shape) == 1 and shape[0] else EnergyGrid().points
    for name, feature in _features(points, LABELS).items():
        own = _told(features[name]) if name in features else "missing"
        allowed = [_array(width) for width in (*WIDTHS, STRUCTURE_LABELS)] if name == "labels" else [feature]
        wanted = [_told(each) for each in allowed]
        if own not in wanted:
            raise DatasetError(f"{folder}: feature {name!r} is {own}, expected {' or '.join(wanted)}")
    return Found(points, dict(info.metadata or {}), files)


def _told_by(folder: Place) -> tfds.core.DatasetInfo:
    """What its JSON files say; TFDS reads them on this machine."""
    if isinstance(folder, Path):
        return tfds.builder_from_directory(str(folder)).info
    with TemporaryDirectory() as scratch:
        for path in folder.glob("*.json"):
            path.download(Path(scratch) / path.name)
        return tfds.builder_from_directory(scratch).info


def _features(points: int, labels: int) -> tfds.features.FeaturesDict:
    texts = {name: tfds.features.Text() for name in TEXTS}
    return tfds.features.FeaturesDict({**texts, "spectrum": _array(points), "labels": _array(labels)})


def _array(length: int) -> tfds.features.Tensor:
    return tfds.features.Tensor(shape=(length,), dtype=np.float32)


def _told(feature: tfds.features.FeatureConnector) -> str:
    """Its repr keeps silent about how it is stored."""
    encoding = getattr(feature.to_json_content(), "encoding", "") or "none"
    return f"{feature!r}" + ("" if encoding == "none" else f" stored as {encoding}")


def decode(record: bytes) -> dict:
    """An example as `_encode` writes it, seven times as fast as TFDS does. Raises ValueError where it is none."""
    try:
        features = tf_example_pb2.Example.FromString(record).features.feature
        texts = {name: features[name].bytes_list.value[0].decode() for name in TEXTS}
    except (DecodeError, IndexError) as error:
        raise ValueError(f"not an example of these features ({error})") from None
    return texts | {name: np.array(features[name].float_list.value, np.float32) for name in ("spectrum", "labels")}


def examples(dataset: Place, part: str, split: str) -> Iterator[dict]:
    """Every record that the files of a split really hold, decoded, and the `file` it lies in.

    Raises DatasetError that names a file which is missing or damaged.
    """
    for path in find(dataset / TFDS / part / VERSION).files.get(split, ()):
        for record in read_all(path):
            try:
                yield {**decode(record), "file": path}
            except ValueError as error:
                raise DatasetError(f"{path}: damaged ({error}); {REMEDY}") from None
