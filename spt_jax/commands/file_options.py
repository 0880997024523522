"""How spectrum files are to be read, before what they say themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from data_pipelines.errors import UserError
from data_pipelines.ranges import Range, check

if TYPE_CHECKING:
    from data_pipelines.readers.measured import ReadAs


@dataclass(frozen=True)
class FileOptions:
    """Options of every command that reads files."""

    element: str | None = None
    """Absorbing element, before what the file says; not needed for a model of one element."""
    edge: str | None = None
    """Absorption edge, before what the file says; K where nobody says it."""
    channel: Literal["transmission", "fluorescence", "reference"] | None = None
    """Detector to take, before what the edge step over noise says."""
    columns: Annotated[str, tyro.conf.arg(metavar="COLUMNS")] = ""
    """Columns to take, by number or name: "energy=1 mu=ln(i0/i1)", or "energy=2 i0=4 i1=5"."""
    beamline: Annotated[str, tyro.conf.arg(metavar="PRESET")] = ""
    """Columns of a beamline, as listed in docs/files.md."""
    shift: Annotated[float, Range()] = 0.0
    """eV to add to the energies."""
    deglitch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave out points that stand alone, far off their neighbours; told which."""
    taken: Annotated[Literal["auto", "measured", "theory"], tyro.conf.arg(name="as")] = "auto"
    """Whether spectra are measured ones, which are normalised and moved to the energies of calculated ones, with a note, or
    are taken as they are; auto takes FEFF's xmu.dat as theory, and all others as measured."""
    foil: Annotated[float | Literal["auto", "none"], Range(above=0)] = "auto"
    """E0 that the monochromator gave to a metal foil of the element, eV: measured energies are moved by what it is off.
    auto finds that of a foil measured behind the sample, where the file holds a reference channel; none looks for none."""
    normalise: Literal["edges", "mback"] = "edges"
    """How measured mu is brought to edge steps. edges: a line below the edge, a polynomial above it. mback: a background for
    which mu is the tabulated absorption of the atom, for backgrounds that bend (docs/measured.md); extra `mback`."""

    def __post_init__(self) -> None:
        check(self)
        if self.columns:
            from data_pipelines.readers.columns import parse

            parse(self.columns)
        if self.beamline:
            from data_pipelines.readers.beamlines import preset_of

            preset_of(self.beamline)
        if self.taken == "theory" and (self.normalise != "edges" or self.foil not in ("auto", "none")):
            raise UserError("--foil and --normalise are of measured spectra; --as theory takes them as they are")

    @property
    def read_as(self) -> ReadAs:
        from data_pipelines.readers.measured import ReadAs

        calculated = None if self.taken == "auto" else self.taken == "theory"
        given = (
            self.element,
            self.edge,
            self.channel,
            self.columns,
            self.beamline,
            self.shift,
            self.deglitch,
            calculated,
        )
        return ReadAs(*given)


def model_and_files(model: str, files: tuple[Path, ...]) -> tuple[str, tuple[Path, ...]]:
    """The model, "" for the default one, and the spectra, of a command line `[MODEL] FILE...`: who gives no model gives
    spectra first. Raises UserError for a name that is neither, and where no spectra are given."""
    from spt_jax.zoo.shelf import is_model

    first = Path(model)
    if model and not is_model(model):
        if not first.exists() and not Path(model.rpartition("#")[0]).is_file():
            raise UserError(f"{model}: no such file, nor a model of that name (`spt-jax models`)")
        if first.is_dir() and not any(path.is_file() for path in first.iterdir()):
            raise UserError(f"{model}: no files in this folder, nor a model; make a run with `spt-jax train`")
        model, files = "", (first, *files)
    if not files:
        raise UserError("no FILE given; name spectrum files (docs/files.md), or a folder of them")
    return model, files
