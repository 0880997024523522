"""What changes along a series of spectra."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from data_pipelines.errors import UserError
from spt_jax.commands.file_options import FileOptions, model_and_files
from spt_jax.commands.screen import Bars, console, errors


@dataclass(frozen=True)
class Series(FileOptions):
    """Descriptors along a series of spectra of one absorber, measured in operando or over a composition: trends, changes,
    how many species there are, and the fractions of references. Without a MODEL by the default one (`spt-jax models`).

    Prints a table, and writes one figure and, beside it, one CSV file with a row for each spectrum (docs/series.md). A
    spectrum that cannot be used, or whose place is not known, costs a line, and exit status 1 at the end. Of references,
    --columns and --beamline are not asked, and --foil and --normalise are for the model's answers alone.

      spt-jax series scans/*.xdi --order time
      spt-jax series cell/*.dat --order voltage --references LiNiO2.xdi NiO.xdi
      spt-jax series spt-k scans --order x --values x.csv --out composition.png
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = ""
    """A model, as of `spt-jax predict`."""
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE...")] = ()
    """Spectrum files, or folders of them; a file of several spectra gives all, FILE#NAME one of them."""
    order: Literal["name", "x", "voltage", "time"] = "name"
    """What the series is along. name: file names, scan2 before scan10. x: as x0.25 in the name of the file or its folder, or
    `x: 0.25` in the header. voltage: as 4.80V, 4p8V or 4300mV, or `voltage: 4.8 V`. time: the date in the header, else of
    the file's last change, with a note."""
    values: Path | None = None
    """CSV file with the columns file,value, which says the place of each spectrum along --order."""
    references: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE...")] = ()
    """Spectra of the same absorber and energy scale, whose fractions are fitted; where not given, the two ends of the series."""
    out: Path = Path("series.svg")
    """Figure to write, .svg or .png; the numbers go to the same name with .csv."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.values and self.order == "name":
            raise UserError("--values says the places along x, voltage or time; say which with --order")
        if self.out.suffix not in (".svg", ".png"):
            raise UserError(f"--out is a figure, .svg or .png, got {self.out}")

    def run(self) -> None:
        from data_pipelines.files import write_atomic
        from spt_jax.inference.kept import load_kept
        from spt_jax.inference.measured import Calibration
        from spt_jax.inference.predict import CHUNK
        from spt_jax.inference.spectra import files_of
        from spt_jax.series.figure import as_figure
        from spt_jax.series.output import as_csv, as_table, lines
        from spt_jax.series.series import follow

        name, given = model_and_files(self.model, self.files)
        files, table = files_of(given), self.out.with_suffix(".csv")
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with Bars() as report:
            found = follow(
                load_kept(name, report=report),
                files,
                self.order,
                self.values,
                self.references,
                self.read_as,
                Calibration.of(name),
                self.foil,
                self.normalise,
                report if len(files) > CHUNK else None,
            )
        write_atomic(table, as_csv(found))
        write_atomic(self.out, as_figure(found, self.out.suffix[1:]))
        for _, why in found.left_out:
            errors.print(why, markup=False, highlight=False, soft_wrap=True)
        console.print(as_table(found))
        for line in lines(found):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        print(f"{self.out}, {table}")
        if found.left_out:
            raise UserError(
                f"{len(found.left_out)} of {len(found.left_out) + len(found.predictions)} spectra could not be used"
            )
