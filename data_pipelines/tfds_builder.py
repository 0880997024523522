"""The TFDS dataset `spt_xas`: ArrayRecord shards, written and read without TensorFlow.

A stranger reads it with nothing of ours:
`tfds.builder_from_directory("DATASET/spt_xas/1.0.0").as_data_source("train")`.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.schema import NAMES, EnergyGrid, Example
from data_pipelines.splits import SPLITS

NAME = "spt_xas"
VERSION = "1.0.0"


class SptXas(tfds.core.GeneratorBasedBuilder):
    """K-edge XANES spectra of single sites with structure descriptors (NaN where there is no label)."""

    name = NAME
    VERSION = tfds.core.Version(VERSION)

    def __init__(self, *, data_dir: str, examples: Sequence[Example], splits: Sequence[str], grid: EnergyGrid):
        self.examples, self.splits, self.grid = examples, splits, grid
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "material": tfds.features.Text(),
                    "element": tfds.features.Text(),
                    "edge": tfds.features.Text(),
                    "spectrum": tfds.features.Tensor(shape=(self.grid.points,), dtype=np.float32),
                    "labels": tfds.features.Tensor(shape=(len(NAMES),), dtype=np.float32),
                }
            ),
            description="Site-resolved XANES spectra, mu with unit edge step. Labels: " + ", ".join(NAMES),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in SPLITS if split in self.splits}

    def _generate_examples(self, split):
        for example, own in zip(self.examples, self.splits, strict=True):
            if own == split:
                fields = example._asdict()
                del fields["kin"]
                yield example.id, fields


def write(out: Path, examples: Sequence[Example], splits: Sequence[str], grid: EnergyGrid) -> None:
    """Write `out`/spt_xas, replacing an older one only when the new one is complete."""
    partial = out / ".tfds-partial"
    shutil.rmtree(partial, ignore_errors=True)
    builder = SptXas(data_dir=str(partial), examples=examples, splits=splits, grid=grid)
    config = tfds.download.DownloadConfig(compute_stats=tfds.download.ComputeStatsMode.SKIP)
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # it announces a download, of which there is none
        builder.download_and_prepare(download_config=config)
    shutil.rmtree(out / NAME, ignore_errors=True)
    (partial / NAME).rename(out / NAME)
    shutil.rmtree(partial)


def data_source(dataset: Path, split: str):
    """Random access to one split: `len()`, and `[i]` -> dict of numpy values."""
    return tfds.builder_from_directory(str(dataset / NAME / VERSION)).as_data_source(split)
