"""One task -> records: read each spectrum with its structure, check it, put it on the grid, label it.

Runs in worker processes. Every failure becomes a dropped record with a reason; none ends the run.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from pymatgen.core import Structure

from data_pipelines import feff, structures
from data_pipelines.descriptors import Surroundings, describe
from data_pipelines.errors import SpectrumError
from data_pipelines.schema import EnergyGrid, Example
from data_pipelines.sources import SITE_FOLDER, Task
from data_pipelines.spectra import to_grid


@dataclass
class Record:
    """What became of one spectrum found in a source: an example, or the reason why not."""

    id: str
    source: str
    material: str = ""
    kin: tuple[str, ...] = ()
    element: str = ""
    edge: str = ""
    spectrum: list[float] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)  # NaN where masked
    masked: dict[str, str] = field(default_factory=dict)  # descriptor -> reason
    dropped: str = ""
    detail: str = ""

    def example(self) -> Example:
        spectrum, labels = np.array(self.spectrum, np.float32), np.array(self.labels, np.float32)
        return Example(self.id, self.material, tuple(self.kin), self.element, self.edge, spectrum, labels)


@dataclass(frozen=True)
class Site:
    """One absorbing site as its source gives it: (N,) energy in eV, (N,) mu, and who it is."""

    id: str
    material: str
    kin: tuple[str, ...]
    index: int
    element: str
    edge: str
    energy: np.ndarray
    mu: np.ndarray
    known: dict[str, float] = field(default_factory=dict)


def run_task(task: Task, grid: EnergyGrid) -> list[Record]:
    """All records of one task, in its order."""
    surroundings = _Once(task)
    read = {"tree": _read_site_folder, "run": _read_run, "parquet": _read_row}[task.kind]
    records = []
    for member in task.members:
        name = f"row {member}" if task.kind == "parquet" else os.path.relpath(member, task.root)
        try:
            around = surroundings.get()
            site = read(task, member, around)
            if not 0 <= site.index < len(around.structure) or _symbol(around, site.index) != site.element:
                raise SpectrumError("site mismatch", f"site {site.index} of the structure is not {site.element}")
            spectrum = to_grid(site.energy, site.mu, grid, site.element, site.edge)
            labels, masked = describe(around, site.index, site.known)
            record = Record(site.id, task.source, site.material, site.kin, site.element, site.edge)
            record.spectrum, record.labels = spectrum.tolist(), labels.tolist()
            record.masked = masked
        except SpectrumError as error:
            detail = error.detail.replace(f"{task.root}/", "")
            record = Record(f"{task.source}:{name}", task.source, dropped=error.reason, detail=detail)
        except Exception as error:  # a file nobody foresaw must not end a run of hours
            detail = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            record = Record(f"{task.source}:{name}", task.source, dropped="unreadable", detail=detail)
        records.append(record)
    return records


class _Once:
    """The task's structure, read at the first use; its failure is told to every member."""

    def __init__(self, task: Task):
        self.task = task
        self.value: Surroundings | SpectrumError | None = None

    def get(self) -> Surroundings:
        if self.value is None:
            try:
                self.value = Surroundings(_structure(self.task))
            except SpectrumError as error:
                self.value = error
            except Exception as error:
                self.value = SpectrumError("no structure", f"{self.task.structure}: {type(error).__name__}")
        if isinstance(self.value, SpectrumError):
            raise self.value
        return self.value


def _structure(task: Task) -> Structure:
    path = Path(task.structure)
    if task.kind == "parquet":
        return Structure.from_str(_table(task.structure)[int(task.members[0])]["structure"], fmt="json")
    if task.kind == "tree":
        return Structure.from_file(path)
    if (path / "POSCAR").exists():
        return Structure.from_file(path / "POSCAR")
    if not (path / "feff.inp").exists():
        raise SpectrumError("no feff.inp", f"{path}: neither POSCAR nor feff.inp tells the structure")
    return structures.structure_from_inp(path / "feff.inp")


def _symbol(around: Surroundings, index: int) -> str:
    return around.structure[index].specie.symbol


def _read_site_folder(task: Task, member: str, around: Surroundings) -> Site:
    folder = Path(member)
    index, element = SITE_FOLDER.match(folder.name).groups()
    material = Path(task.structure).parent.name
    return _read_folder(folder, f"{material}/{folder.name}", material, around, int(index), element)


def _read_run(task: Task, member: str, around: Surroundings) -> Site:
    folder = Path(member)
    if not (folder / "feff.inp").exists():
        raise SpectrumError("no feff.inp", f"{folder}: which atom absorbs is not known")
    index = structures.find_absorber(around.structure, folder / "feff.inp")
    # A run given by itself has the root "."; its own name is the id then.
    name = folder.name if str(folder) == task.root else os.path.relpath(folder, task.root)
    material = around.structure.composition.reduced_formula
    return _read_folder(folder, name, material, around, index, _symbol(around, index))


def _read_folder(folder: Path, id: str, material: str, around: Surroundings, index: int, element: str) -> Site:
    cards = feff.cards(folder / "feff.inp") if (folder / "feff.inp").exists() else {}
    if cards and "XANE" not in cards:
        raise SpectrumError("not a XANES run", f"{folder}/feff.inp has no XANES card")
    run = feff.read_xmu(folder / "xmu.dat")
    if run.element and run.element != element:
        raise SpectrumError("site mismatch", f"{folder}/xmu.dat was computed for {run.element}, not {element}")
    edge = run.edge or cards.get("EDGE") or "K"
    kin = (around.structure.composition.reduced_formula,)
    return Site(id, material, kin, index, element, edge, run.energy, run.mu)


@lru_cache(maxsize=2)
def _table(path: str) -> list[dict]:
    return pq.read_table(path).to_pylist()


def _read_row(task: Task, member: str, around: Surroundings) -> Site:
    row = _table(task.structure)[int(member)]
    # Snapshots of one molecular-dynamics trajectory are correlated, those of two are not, although
    # they share a formula. Crystal variants belong to their prototype, and equal formulas together.
    trajectory, prototype = row.get("trajectory"), row.get("prototype")
    formula = around.structure.composition.reduced_formula
    kin = (trajectory,) if trajectory else (prototype, formula) if prototype else (formula,)
    edge = json.loads(row.get("settings") or "{}").get("edge", "K")
    energy, mu = np.array(row["omega"], float), np.array(row["mu"], float)
    return Site(row["id"], kin[0], kin, int(row["site_index"]), row["absorber"], edge, energy, mu, _stated_charge(row))


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
