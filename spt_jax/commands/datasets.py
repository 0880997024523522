"""From files of spectra to a dataset."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from data_pipelines.errors import UserError
from data_pipelines.ranges import Range, check
from data_pipelines.schema import EnergyGrid
from spt_jax.commands.places_named import Named
from spt_jax.commands.screen import Bars


@dataclass(frozen=True)
class Prepare:
    """Read FEFF spectra with their structures, check and label them, and build a dataset.

    A source is a folder tree or .tar archive of FEFF runs (MATERIAL/POSCAR beside MATERIAL/FEFF-XANES/NNN_El), a
    single FEFF run folder, or a .parquet library; also spectra without structures, .parquet (id, absorber, omega, mu,
    and columns named as descriptors where there are labels) or .npz (mu, element, e0_eV, step_eV). After a stop the
    same command goes on where it was.

    With --grid.signals a row holds several signals of one structure, or site: edges, and pair distribution functions.

      spt-jax prepare runs --out dataset --grid.signals "Ni K" "Co K" "O K" PDF
    """

    sources: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="SOURCE...")]]
    """Folders, archives, Parquet or .npz files."""
    out: Named
    """Dataset folder to make; data_card.txt in it tells what went into it and what did not."""
    grid: EnergyGrid = field(default_factory=EnergyGrid)
    workers: Annotated[int, Range(least=0)] = 0
    """Processes; 0 means one per core."""
    add: bool = False
    """Add the sources to the dataset in `out`; what it has is not read again."""
    overwrite: bool = False
    """Replace a dataset of other sources in `out`, or a damaged one."""
    beam: str = ""
    """Work on this Apache Beam runner (DirectRunner, PortableRunner, FlinkRunner, DataflowRunner, ...) instead of own
    processes; `out` must be on storage that its workers share, or in a bucket."""
    beam_options: tuple[str, ...] = ()
    """Pipeline options of the runner, without the dashes: job_endpoint=localhost:8099 environment_type=LOOPBACK"""
    beam_wait: Annotated[float, Range(above=0)] = 1800.0
    """Give up when no worker has finished anything for so many seconds; what is done is kept."""

    def __post_init__(self) -> None:
        check(self)
        if not self.sources:
            raise UserError("no SOURCE given; name folders, .tar archives, .parquet or .npz files")
        if self.add and self.overwrite:
            raise UserError("--add keeps what --overwrite replaces; give one of them")
        if self.beam_options and not self.beam:
            raise UserError("--beam-options are of the runner that --beam names; give it too")

    def run(self) -> None:
        from data_pipelines.dataset import card
        from data_pipelines.dataset.beam import Beam
        from data_pipelines.dataset.build import prepare

        options = tuple(f"--{option}" for option in self.beam_options)
        beam = Beam(self.beam, options, self.beam_wait) if self.beam else None
        workers = self.workers or os.cpu_count() or 1
        with Bars() as report:
            document = prepare(list(self.sources), self.out, self.grid, workers, self.overwrite, self.add, beam, report)
        print(card.as_text(document))
        labelled = any(kind["labelled"] for kinds in document["descriptors"].values() for kind in kinds.values())
        preset = "fusion" if self.grid.signals else "base"
        print(f"Next: spt-jax train {preset} {'' if labelled else '--objective masked '}--data {self.out} --out run")


@dataclass(frozen=True)
class Verify:
    """Check a dataset: every file against its checksum, every record against the ledger, every split for leaks.

    Names what is missing, damaged, duplicated or in the wrong split, a line each; exit status 1 if there is any.
    """

    dataset: tyro.conf.Positional[Named]
    """Dataset folder made by `spt-jax prepare`."""

    def run(self) -> None:
        from data_pipelines.dataset import card
        from data_pipelines.dataset.verify import verify

        with Bars() as report:
            problems = list(verify(self.dataset, report))
        for problem in problems:
            print(problem)
        document = card.read(self.dataset)
        if problems:
            raise UserError(f"{self.dataset}: {len(problems)} problem(s)")
        print(f"{self.dataset}: whole. {len(document['files'])} files, {document['records']['kept']} examples")
