"""One task -> the absorbing sites that its source holds, each with its spectrum and, where there is one, its structure."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pymatgen.core import Structure

from data_pipelines.dataset.calculations import as_text, stated
from data_pipelines.errors import CountedError, SpectrumError
from data_pipelines.feff import match, output
from data_pipelines.labels.descriptors import Surroundings
from data_pipelines.labels.structure import UNTOLD, Defects, defects_of_row, defects_of_steps
from data_pipelines.readers.sources import SourceTask
from data_pipelines.run_tree import CODE, INPUT, POSCAR, PROVENANCE, SETTINGS, SITE_FOLDER
from data_pipelines.schema import NAMES
from data_pipelines.signals import SPECTRA
from data_pipelines.structures.distances import check_apart, pairs, site_key


@dataclass(frozen=True)
class Site:
    """One absorbing site as its source gives it: (N,) energy in eV, (N,) mu, and who it is.

    whole: what the structure is called, the same for all its sites. defects: of it, where the source tells.
    """

    id: str
    material: str
    kin: tuple[str, ...]
    index: int
    element: str
    edge: str
    energy: np.ndarray
    mu: np.ndarray
    known: dict[str, float] = field(default_factory=dict)
    settings: str = ""
    place: str = ""
    structure: Structure | None = None
    whole: str = ""
    technique: str = "XANES"
    defects: Defects = UNTOLD


@dataclass(frozen=True)
class TaskReader:
    """read: member of the task -> its site; raises what is counted. around: the task's structure, read at the first use;
    None where its kind has none."""

    read: Callable[[str | int], Site]
    around: Callable[[], Surroundings] | None


def reader_of(task: SourceTask) -> TaskReader:
    if task.kind in _ROWS:
        own = _ROWS[task.kind]
        return TaskReader(lambda member: own(task, member), None)
    around, read_site = _Once(task), _SITES[task.kind]

    def read(member: str | int) -> Site:
        here = around.get()
        site = read_site(task, member, here)
        if not 0 <= site.index < len(here.structure) or _symbol(here, site.index) != site.element:
            raise SpectrumError("site mismatch", f"site {site.index} of the structure is not {site.element}")
        whole = site.whole or site.material
        return replace(site, place=site_key(here.structure, site.index), structure=here.structure, whole=whole)

    return TaskReader(read, around.get)


class _Once:
    """The task's structure, read at the first use; its failure is told to every member."""

    def __init__(self, task: SourceTask):
        self.task = task
        self.value: Surroundings | SpectrumError | None = None

    def get(self) -> Surroundings:
        if self.value is None:
            try:
                with np.errstate(all="ignore"):  # a file may hold any numbers
                    self.value = _checked(Surroundings(_structure(self.task)))
            except CountedError as error:
                self.value = SpectrumError(error.reason, error.detail)
            except Exception as error:
                self.value = SpectrumError("no structure", f"{self.task.structure}: {type(error).__name__}")
        if isinstance(self.value, SpectrumError):
            raise self.value
        return self.value


def _checked(around: Surroundings) -> Surroundings:
    """Raises StructureError where atoms coincide, or stand nowhere."""
    check_apart(around.structure, pairs(around.structure))
    return around


def _structure(task: SourceTask) -> Structure:
    path = Path(task.structure)
    if task.kind == "library":
        return Structure.from_str(_row(task, task.members[0])["structure"], fmt="json")
    if task.kind == "tree":
        return Structure.from_file(path)
    if (path / POSCAR).exists():
        return Structure.from_file(path / POSCAR)
    if not (path / INPUT).exists():
        raise SpectrumError("no feff.inp", f"{path}: neither {POSCAR} nor {INPUT} tells the structure")
    return match.structure_from_inp(path / INPUT)


def _symbol(around: Surroundings, index: int) -> str:
    return around.structure[index].specie.symbol


def _read_site_folder(task: SourceTask, member: str, around: Surroundings) -> Site:
    folder = Path(member)
    index, element = SITE_FOLDER.match(folder.name).groups()
    material = Path(task.structure).parent.name
    if (folder / INPUT).exists() and int(index) < len(around.structure):
        match.check_absorber(around.structure, int(index), folder / INPUT)
    return _read_folder(folder, f"{material}/{folder.name}", material, around, int(index), element)


def _read_run(task: SourceTask, member: str, around: Surroundings) -> Site:
    folder = Path(member)
    if not (folder / INPUT).exists():
        raise SpectrumError("no feff.inp", f"{folder}: which atom absorbs is not known")
    index = match.find_absorber(around.structure, folder / INPUT)
    # A run given by itself has the root "."; its own name is the id then.
    name = folder.name if str(folder) == task.root else os.path.relpath(folder, task.root)
    material = around.structure.composition.reduced_formula
    return _read_folder(folder, name, material, around, index, _symbol(around, index))


def _read_folder(folder: Path, id: str, material: str, around: Surroundings, index: int, element: str) -> Site:
    run, edge, cards = output.read_run(folder, element)
    made = _made(folder)
    kin = (*((made["parent"],) if made.get("parent") else ()), around.structure.composition.reduced_formula)
    defects = defects_of_steps(made["steps"]) if "steps" in made else UNTOLD
    written = folder / SETTINGS  # by `spt-jax feff`; else what the input says
    settings = json.loads(written.read_text(encoding="utf-8")) if written.exists() else cards
    settings = {CODE: run.version, **settings}
    told = {"settings": as_text(settings), "whole": os.path.dirname(id) or id, "defects": defects}
    return replace(Site(id, material, kin, index, element, edge, run.energy, run.mu), **told)


def _made(folder: Path) -> dict:
    """What `spt-jax structures` says of the structure's making: parent, a key of the family, and steps; {} without."""
    for place in (folder, folder.parent, folder.parent.parent):
        if (place / PROVENANCE).exists():
            return json.loads((place / PROVENANCE).read_text(encoding="utf-8"))
    return {}


@lru_cache(maxsize=1)
def _columns(path: str, row_group: int) -> dict[str, Sequence]:
    """A row group by columns: lists of numbers as arrays, all else as Python has it."""
    columns: dict[str, Sequence] = {}
    table = pq.ParquetFile(path).read_row_group(row_group)
    for name in table.column_names:
        column = pa.concat_arrays(table[name].chunks)
        if pa.types.is_list(column.type) and pa.types.is_floating(column.type.value_type) and not column.null_count:
            columns[name] = np.split(column.flatten().to_numpy(zero_copy_only=False), column.offsets[1:-1].to_numpy())
        else:
            columns[name] = column.to_pylist()
    return columns


def _row(task: SourceTask, member: int) -> dict:
    return {name: column[member] for name, column in _columns(task.structure, task.row_group).items()}


def _read_library_row(task: SourceTask, member: int, around: Surroundings) -> Site:
    row = _row(task, member)
    # Snapshots of one molecular-dynamics trajectory are correlated, those of two are not, although
    # they share a formula. Crystal variants belong to their prototype, and equal formulas together.
    trajectory, prototype = row.get("trajectory"), row.get("prototype")
    formula = around.structure.composition.reduced_formula
    kin = (trajectory,) if trajectory else (prototype, formula) if prototype else (formula,)
    settings = stated(row.get("settings"))
    edge, absorber = settings.get("edge", "K"), row["absorber"]
    energy, mu = np.array(row["omega"], float), np.array(row["mu"], float)
    if row.get("chi") is not None:
        output.check_scattering(np.array(row["chi"], float), row["id"])
    index, charge = int(row["site_index"]), _stated_charge(row)
    site = Site(row["id"], kin[0], kin, index, absorber, edge, energy, mu, charge, as_text(settings))
    whole = row.get("structure_id") or f"{kin[0]}/{hashlib.sha256(row['structure'].encode()).hexdigest()[:12]}"
    return replace(site, whole=whole, technique=_technique(row), defects=defects_of_row(row))


def _read_table_row(task: SourceTask, member: int) -> Site:
    """`material`, `edge`, `technique`, `structure_id`, `settings` and columns named as descriptors are optional. Without a material every spectrum is its own."""
    row = _row(task, member)
    material = row.get("material") or row["id"]
    edge, settings = row.get("edge") or "K", as_text(stated(row.get("settings")))
    known = {name: float(row[name]) for name in NAMES if row.get(name) is not None}
    energy, mu = np.array(row["omega"], float), np.array(row["mu"], float)
    site = Site(str(row["id"]), str(material), (str(material),), 0, row["absorber"], edge, energy, mu, known, settings)
    return replace(site, whole=str(row.get("structure_id") or material), technique=_technique(row))


def _technique(row: dict) -> str:
    """Raises SpectrumError for one that is not known."""
    technique = row.get("technique") or SPECTRA[0]
    if technique not in SPECTRA:
        raise SpectrumError("unknown technique", f"{technique!r}; known: {', '.join(SPECTRA)}")
    return technique


@lru_cache(maxsize=1)
def _arrays(path: str) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        rows = len(file["mu"])
        scale = {name: np.broadcast_to(file[name], rows) for name in ("e0_eV", "step_eV")}
        settings = np.broadcast_to(file["settings"] if "settings" in file.files else "", rows)
        return {"mu": file["mu"], "element": file["element"], "settings": settings, **scale}


def _read_npz_row(task: SourceTask, member: int) -> Site:
    arrays = _arrays(task.structure)
    mu = arrays["mu"][member].astype(float)
    energy = arrays["e0_eV"][member] + arrays["step_eV"][member] * np.arange(len(mu))
    id = f"{Path(task.structure).stem}/{member:07d}"
    element, settings = str(arrays["element"][member]), as_text(stated(str(arrays["settings"][member])))
    return Site(id, id, (id,), 0, element, "K", energy, mu, settings=settings, whole=id)


def _stated_charge(row: dict) -> dict[str, float]:
    """The oxidation state that a source states, NaN where it states no integer; {} where it states none.

    BVAnalyzer is arbitrary on mixed-valent cells and does not finish on molten ones, so such sources
    carry the charge themselves: per site (OS_formal), or delocalised over the metal (OS_mean).
    """
    if "OS_formal" not in row:
        return {}
    delocalised = row.get("charge_model") == "deloc" and row["absorber"] != "O"
    charge = row["OS_mean" if delocalised else "OS_formal"]
    return {"OS": float(charge) if charge is not None and float(charge).is_integer() else float("nan")}


_SITES: dict[str, Callable[[SourceTask, str | int, Surroundings], Site]] = {
    "tree": _read_site_folder,
    "run": _read_run,
    "library": _read_library_row,
}
_ROWS: dict[str, Callable[[SourceTask, int], Site]] = {"table": _read_table_row, "npz": _read_npz_row}
