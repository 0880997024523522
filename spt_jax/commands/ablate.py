"""What each part of SPT is worth, on a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from data_pipelines.errors import UserError
from data_pipelines.ranges import Range, check
from spt_jax.commands.places_named import Named
from spt_jax.commands.study import JobsLine
from spt_jax.presets import PRESETS


@dataclass(frozen=True)
class Ablate:
    """Change one thing of a preset at a time, and the amount of data, and measure what each is worth.

    Noise filter, bands, band input, fusion, graph, window, kernel, depth, width, augmentation, length of training, and
    10 to 100 % of the training materials with a fitted exponent. Leaves OUT/report.html and ablations.json. Every
    finished fit is kept: after a stop the same command goes on.
    """

    data: tyro.conf.Positional[Named]
    """Dataset folder made by `spt-jax prepare`."""
    out: Path
    """Folder for the fits and the report."""
    preset: str = "base"
    """What is changed."""
    seeds: Annotated[int, Range(least=1)] = 1
    """Fits of each variant. One seed cannot tell small effects from chance."""
    folds: Annotated[int, Range(least=0)] = 0
    """Choose by cross-validation: training and validation materials dealt to so many folds, a fit on each. 5 folds tell
    what one small validation split cannot. No fold holds test spectra."""
    groups: tuple[str, ...] = ()
    """Only these groups, for instance --groups bands data; all where not given."""

    def __post_init__(self) -> None:
        check(self)
        if self.preset not in PRESETS:
            raise UserError(f"unknown preset {self.preset!r}; presets: {', '.join(PRESETS)}")
        if self.folds == 1 or (self.folds and self.seeds > 1):
            raise UserError("folds must be at least 2, or 0 for none, and goes without seeds")

    def run(self) -> None:
        from data_pipelines.dataset.loading import Dataset
        from spt_jax.study.ablations import ablate, variants

        chosen = variants(PRESETS[self.preset]())
        known = list(dict.fromkeys(variant.group for variant in chosen if variant.group))
        if unknown := set(self.groups) - set(known):
            raise UserError(f"unknown group {', '.join(sorted(unknown))}; groups: {', '.join(known)}")
        chosen = [variant for variant in chosen if not self.groups or variant.group in ("", *self.groups)]
        with JobsLine() as line:
            ablate(Dataset(self.data), self.out, chosen, self.seeds, line, self.folds)
        print(f"Report: {self.out}/report.html")
