"""From files of spectra to a dataset."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from data_pipelines.errors import UserError
from data_pipelines.schema import EnergyGrid
from spt_jax.commands.screen import bars


@dataclass(frozen=True)
class Prepare:
    """Read FEFF spectra with their structures, check and label them, and build a dataset.

    A source is a folder tree or .tar archive of FEFF runs (MATERIAL/POSCAR beside MATERIAL/FEFF-XANES/NNN_El), a
    single FEFF run folder, or a .parquet library. After a stop the same command goes on where it was.
    """

    sources: tyro.conf.Positional[tuple[Path, ...]]
    """Folders, archives or Parquet files."""
    out: Path
    """Dataset folder to make; data_card.txt in it tells what went into it and what did not."""
    grid: EnergyGrid = field(default_factory=EnergyGrid)
    workers: int = 0
    """Processes; 0 means one per core."""
    overwrite: bool = False
    """Replace a dataset of other sources in `out`, or a damaged one."""

    def run(self) -> None:
        from data_pipelines import card
        from data_pipelines.ingest import prepare

        if not self.sources:
            raise UserError("no SOURCE given; name folders, .tar archives or .parquet files")
        with bars() as report:
            workers = self.workers or os.cpu_count() or 1
            document = prepare(list(self.sources), self.out, self.grid, workers, self.overwrite, report)
        print(card.as_text(document))
        print(f"Next: spt-jax train base --data {self.out} --out run")
