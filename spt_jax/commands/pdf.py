"""Pair distribution functions of structures, and which of them a measured one is of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from data_pipelines.errors import StructureError, UserError
from data_pipelines.ranges import Range, check
from spt_jax.commands.screen import Bars, console, errors


@dataclass(frozen=True)
class Pdf:
    """The pair distribution function G(r) of structures, as X-rays or neutrons would measure it; with --measured, which of
    them a measured one is of.

    Against a measured one (.gr of PDFgetX3, xPDFsuite, PDFgetN, ...) each structure is scaled, and its atoms' mean
    square displacement is fitted; the best comes first, by Rw, which is 0 where nothing is left. Radiation and Qmax are then
    those that the file states. The structure itself is not refined: lattice constants that are off by a
    percent cost much.

      spt-jax pdf NiO.cif --element Ni
      spt-jax pdf anatase.cif rutile.cif --measured film.gr --out film.svg
    """

    structures: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="STRUCTURE...")]
    """Files, as of `spt-jax structures`."""
    measured: Path | None = None
    """A measured one."""
    element: str | None = None
    """Only pairs in which an atom of this element takes part: the differential one."""
    radiation: Literal["auto", "xray", "neutron"] = "auto"
    """auto is what the measured file states, else xray."""
    qmax: Annotated[float | None, Range(above=0, most=100)] = None
    """As far as it is measured in Q, 1/Å; 25 where nobody says it."""
    stop: Annotated[float, Range(least=2, most=60)] = 20.0
    """Largest distance, Å."""
    points: Annotated[int, Range(least=20, most=10_000)] = 500
    """Points in r."""
    qdamp: Annotated[float, Range(least=0, most=0.5)] = 0.0
    """Of the instrument's resolution, 1/Å: 0.03 to 0.06 of many."""
    displacement: Annotated[float, Range(above=0, most=0.2)] = 0.007
    """Mean square displacement of all atoms along one direction, Å^2, without a measured one."""
    out: Path = Path("pdf.svg")
    """Picture to write, .svg or .png; the numbers go beside it as .csv."""

    def __post_init__(self) -> None:
        check(self)
        if not self.structures:
            raise UserError("no STRUCTURE given; name .cif, POSCAR or .json files")
        if self.out.suffix not in (".svg", ".png"):
            raise UserError(f"{self.out}: name a file that ends in .svg or .png")
        if self.measured and self.element:
            raise UserError("--element gives a differential one, and --measured is a total one; leave one of them out")

    def run(self) -> None:
        from data_pipelines.files import write_atomic
        from data_pipelines.labels.pdf import PdfGrid
        from data_pipelines.readers.gr import read_gr, to_pdf_grid
        from data_pipelines.structures.files import Parent, read_file
        from data_pipelines.survey.pdf import as_csv, as_figure, calculated, fitted

        if self.measured and not self.measured.is_file():
            raise UserError(f"{self.measured}: no such file")
        found = read_gr(self.measured) if self.measured else None
        stated = (found and found.radiation) or "xray"
        radiation = stated if self.radiation == "auto" else self.radiation
        qmax = self.qmax or (found and found.qmax) or 25.0
        grid = PdfGrid(self.stop, self.points, qmax, self.qdamp, self.displacement, radiation)
        wanted = to_pdf_grid(found, grid, str(self.measured)) if found else None
        each, bad = [], []
        with Bars() as report:
            for done, path in enumerate(self.structures):
                report("structures", done, len(self.structures))
                if not path.is_file():
                    bad.append(f"{path}: no such file")
                    continue
                for one in read_file(path, str(path)):
                    try:
                        if not isinstance(one, Parent):
                            raise StructureError(one.reason, one.detail)
                        name = one.source.rpartition("/")[2]
                        if found:
                            each.append(fitted(one.structure, name, grid, found, str(self.measured)))
                        else:
                            each.append(calculated(one.structure, name, grid, self.element))
                    except StructureError as error:
                        bad.append(f"{path}: {error}")
        each.sort(key=lambda one: one.rw)
        if each:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.out, as_figure(grid, each, wanted, self.out.suffix[1:]))
            write_atomic(self.out.with_suffix(".csv"), as_csv(grid, each, wanted))
            if found:
                lines = [f"{self.measured}: {radiation}, Qmax {qmax:g} 1/Å, to {self.stop:g} Å"]
                for one in each:
                    fit = f"Rw {one.rw:.3f}  U {one.displacement:.4f} Å^2  scale {one.scale:.3g}"
                    lines.append(f"  {fit}  {one.name}")
                for line in lines:
                    console.print(line, highlight=False, markup=False, soft_wrap=True)
            print(f"{self.out}, {self.out.with_suffix('.csv')}")
        if len(bad) == 1 and not each:
            raise UserError(bad[0])
        for line in bad:
            errors.print(line, markup=False, highlight=False, soft_wrap=True)
        if bad:
            raise UserError(f"{len(bad)} structure(s) could not be used")
