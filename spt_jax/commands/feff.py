"""From structures to spectra: FEFF for every site."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from data_pipelines.errors import UserError
from data_pipelines.feff.input import FeffSettings
from data_pipelines.ranges import Range, check
from spt_jax.commands.screen import Bars, console


@dataclass(frozen=True)
class Feff:
    """Compute the XANES of every inequivalent site with your own FEFF 9 or 10, for `spt-jax prepare` to read.

    A run is judged by its xmu.dat; one that fails is tried again with safer settings, and in the end listed with its
    reason in OUT/campaign.json. After a stop the same command goes on where it was.
    """

    structures: tyro.conf.Positional[Path]
    """Folder of MATERIAL/POSCAR, as `spt-jax structures` makes it; MATERIAL/provenance.json may name the sites."""
    feff_cmd: str = ""
    """FEFF: one program, its modules in order with commas between, or a shell line; run in each site's own folder."""
    out: Path | None = None
    """Folder of the runs, MATERIAL/FEFF-XANES/NNN_El; STRUCTURES itself where not given."""
    elements: tuple[str, ...] = ()
    """Absorbers, such as Co Ni O; all where not given."""
    settings: FeffSettings = field(default_factory=FeffSettings)
    workers: Annotated[int, Range(least=0)] = 0
    """Runs at once on this machine; 0 means one per core."""
    time_limit: Annotated[float, Range(above=0)] = 3600
    """Seconds after which one attempt is killed."""
    retries: Annotated[int, Range(least=0)] = 2
    """Further attempts at most, with safer settings; 0 keeps all spectra of one kind."""
    engine: Path | None = None
    """Python file whose `config` is a Parsl configuration: SLURM, PBS, Kubernetes (docs/feff.md)."""
    redo_failed: bool = False
    """Try sites again that an earlier campaign listed as failed."""

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        from data_pipelines.feff.campaign import FILE, Campaign, run_campaign

        out = self.out or self.structures
        campaign = Campaign(
            self.structures,
            out,
            self.feff_cmd,
            self.settings,
            self.elements,
            self.workers or os.cpu_count() or 1,
            self.time_limit,
            self.retries,
            self.engine,
            self.redo_failed,
        )
        with Bars() as report:
            summary = run_campaign(campaign, report)
        _show(summary)
        print(f"Every failure with its reason: {out / FILE}" if summary["failed"] else "No failures.")
        if left_out := summary["materials_left_out"]:
            first = f"{left_out[0]['material']}: {left_out[0]['reason']} ({left_out[0]['detail']})"
            raise UserError(f"{len(left_out)} material(s) left out, the first {first}; {out / FILE} names all")
        if summary["done"]:
            print(f"Next: spt-jax prepare {out} --out dataset")


def _show(summary: dict) -> None:
    from rich.table import Table

    table = Table("absorber", "done", "failed")
    for element, counts in summary["elements"].items():
        table.add_row(element, str(counts.get("done", 0)), str(counts.get("failed", 0)))
    console.print(table)
    safer = summary["done"] - summary["done_at_try"].get("1", 0)
    print(f"{summary['done']} of {summary['sites']} sites have a spectrum, {safer} of them with safer settings.")
    for reason, count in summary["failed_by_reason"].items():
        first = next(f for f in summary["failures"] if f["reason"] == reason)
        print(f"{count} failed: {reason}, first {first['run']} ({first['detail']})")
