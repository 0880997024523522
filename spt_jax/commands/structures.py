"""From files of structures to the structures that spectra are computed of."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from data_pipelines.errors import UserError
from data_pipelines.ranges import Range, check
from data_pipelines.structures.options import Options, Variants
from spt_jax.commands.screen import Bars


@dataclass(frozen=True)
class Structures:
    """Read structures, order partial occupancies, make variants, and find the sites to compute spectra of.

    A source is a .cif, .mcif, POSCAR, CONTCAR or .vasp file, pymatgen JSON (a structure, a computed entry, or a list
    of them), .cssr, .xsf, CHGCAR or vasprun.xml, also packed, or a folder of such files; others are counted. Every
    structure becomes OUT/MATERIAL/POSCAR with provenance.json: where it came from, each step with its seed, and its
    symmetry-inequivalent sites. What cannot be read or made is named with its reason in OUT/structures.json. The same
    command goes on after a stop; sources may be added later.
    Run it on an OUT to make variants of variants.
    """

    sources: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="SOURCE...")]]
    """Files or folders."""
    out: Path
    """Folder to make."""
    elements: tuple[str, ...] = ()
    """Absorbing elements, such as Co O; all where none is named."""
    seed: Annotated[int, Range(least=0)] = 0
    """Other numbers make other random variants."""
    variants: tyro.conf.OmitArgPrefixes[Variants] = field(default_factory=Variants)

    def __post_init__(self) -> None:
        check(self)
        if not self.sources:
            raise UserError("no SOURCE given; name .cif, POSCAR or .json files, or folders of them")

    def run(self) -> None:
        from data_pipelines.structures.files import SUMMARY
        from data_pipelines.structures.make import as_text, make_structures

        options = Options(self.elements, self.seed, self.variants)
        with Bars() as report:
            document = make_structures(self.sources, self.out, options, report)
        print(as_text(document))
        unread = [item for item in document["dropped"] if item["reason"] == "unreadable"]
        if unread:
            first = f"{unread[0]['id']} ({unread[0]['detail']})"
            raise UserError(f"{len(unread)} structure(s) not read, the first {first}; {self.out / SUMMARY} names all")
        print(f"Next: spt-jax feff {self.out} --feff-cmd COMMAND")
