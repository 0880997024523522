"""One task -> records: read each spectrum with its structure, check it, put it on the grid, label it.

Runs in worker processes. Every failure becomes a dropped record with a reason; none ends the run.
Spectra that come without a structure have the labels that their source states, or none.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pymatgen.core import Structure

from data_pipelines.dataset.calculations import as_text, stated, version
from data_pipelines.errors import CountedError, SpectrumError
from data_pipelines.feff import match, output
from data_pipelines.labels.descriptors import Surroundings, describe
from data_pipelines.readers.sources import SourceTask
from data_pipelines.run_tree import CODE, INPUT, POSCAR, PROVENANCE, SETTINGS, SITE_FOLDER
from data_pipelines.schema import DESCRIPTORS, LABELS, NAMES, SHELL_NAMES, SOURCE_COLUMN, EnergyGrid, site_kind
from data_pipelines.spectra.grid import all_to_grid, post_edge
from data_pipelines.spectra.spikes import check_spikes, resolved
from data_pipelines.structures.distances import check_apart, pairs, site_key

# What else is said of a spectrum with a spike.
SPIKY = ("implausible edge step", "glitch")


@dataclass
class Record:
    """What became of one spectrum found in a source: labelled, or dropped for a reason.

    spectrum: (grid.points,) float32, mu with unit edge step; None where dropped. labels: (LABELS,) float32,
    NaN where masked. masked: descriptor -> reason. settings: of the calculation, as JSON, "" where the source has none.
    site: equal for equivalent sites of one structure, "" without one. withheld: of `contradictions`, later.
    """

    id: str
    material: str = ""
    kin: tuple[str, ...] = ()
    element: str = ""
    edge: str = ""
    spectrum: np.ndarray | None = None
    labels: np.ndarray | None = None
    masked: dict[str, str] = field(default_factory=dict)
    settings: str = ""
    site: str = ""
    withheld: str = ""
    dropped: str = ""
    detail: str = ""


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
    settings: str = ""
    place: str = ""
    structure: Structure | None = None


def run_task(task: SourceTask, grid: EnergyGrid) -> list[Record]:
    """All records of one task, in its order."""
    label, read = READERS[task.kind](task)
    sites = [_try(read, member) for member in task.members]
    good = [site for site in sites if isinstance(site, Site)]
    spectra = iter(all_to_grid([(site.energy, site.mu, site.element, site.edge) for site in good], grid))
    records = []
    for member, site in zip(task.members, sites, strict=True):
        spectrum = next(spectra) if isinstance(site, Site) else site
        # A spike among the highest points makes the edge step implausible, and says more.
        if isinstance(site, Site) and getattr(spectrum, "reason", SPIKY[0]) in SPIKY:
            spectrum = _try(partial(_without_spikes, spectrum), site)
        labels = _try(label, site) if isinstance(spectrum, np.ndarray) else spectrum
        if isinstance(labels, SpectrumError):
            detail = labels.detail.replace(f"{task.root}/", "")
            records.append(Record(_name(task, member), dropped=labels.reason, detail=detail))
        else:
            labels[0][SOURCE_COLUMN] = version(site.settings)
            names = (site.id, site.material, site.kin, site.element, site.edge)
            records.append(Record(*names, spectrum, *labels, site.settings, site.place))
    return records


def _without_spikes(spectrum: np.ndarray | SpectrumError, site: Site) -> np.ndarray | SpectrumError:
    step = post_edge(site.mu).mean()
    if np.isfinite(site.mu).all() and step > 0:
        check_spikes(site.mu / step, site.id, resolved(site.energy, site.element, site.edge))
    return spectrum


def _try(function: Callable, argument: Any) -> Any:
    """What the function returns, or why it does not."""
    try:
        return function(argument)
    except SpectrumError as error:
        return error
    except CountedError as error:
        return SpectrumError(error.reason, error.detail)
    except Exception as error:  # a file nobody foresaw must not end a run of hours
        return SpectrumError("unreadable", f"{type(error).__name__}: {error}".splitlines()[0][:200])


def _name(task: SourceTask, member: str | int) -> str:
    """What a dropped record is called: its place in the source."""
    place = f"row {task.first_row + member}" if isinstance(member, int) else os.path.relpath(member, task.root)
    return f"{task.source}:{place}"


def _with_structure(read_site: Callable[[SourceTask, str | int, Surroundings], Site]) -> Callable:
    """A reader of members that belong to the task's structure."""

    def reader(task: SourceTask) -> tuple[Callable, Callable]:
        surroundings = _Once(task)

        def read(member: str | int) -> Site:
            around = surroundings.get()
            site = read_site(task, member, around)
            if not 0 <= site.index < len(around.structure) or _symbol(around, site.index) != site.element:
                raise SpectrumError("site mismatch", f"site {site.index} of the structure is not {site.element}")
            return replace(site, place=site_key(around.structure, site.index), structure=around.structure)

        return lambda site: describe(surroundings.get(), site.index, site.known), read

    return reader


def _without_structure(read_site: Callable[[SourceTask, int], Site]) -> Callable:
    """A reader of rows with the labels that the source states."""
    return lambda task: (_stated, lambda member: read_site(task, member))


def _stated(site: Site) -> tuple[np.ndarray, dict[str, str]]:
    labels = np.full(LABELS, np.nan, np.float32)
    masked = dict.fromkeys(SHELL_NAMES, "no structure")
    for column, d in enumerate(DESCRIPTORS):
        if site_kind(site.element) in d.sites:
            value = site.known.get(d.name)
            if value is None:
                masked[d.name] = "no structure"
            elif not math.isfinite(value):
                masked[d.name] = "source gives no single value"
            elif not d.accepts(value):
                masked[d.name] = "outside the plausible range"
            else:
                labels[column] = value
    return labels, masked


class _Once:
    """The task's structure, read at the first use; its failure is told to every member."""

    def __init__(self, task: SourceTask):
        self.task = task
        self.value: Surroundings | SpectrumError | None = None

    def get(self) -> Surroundings:
        if self.value is None:
            try:
                with np.errstate(all="ignore"):  # a file may hold any numbers
                    around = Surroundings(_structure(self.task))
                    check_apart(around.structure, pairs(around.structure))
                self.value = around
            except CountedError as error:
                self.value = SpectrumError(error.reason, error.detail)
            except Exception as error:
                self.value = SpectrumError("no structure", f"{self.task.structure}: {type(error).__name__}")
        if isinstance(self.value, SpectrumError):
            raise self.value
        return self.value


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
    kin = (*_parent(folder), around.structure.composition.reduced_formula)
    written = folder / SETTINGS  # by `spt-jax feff`; else what the input says
    settings = json.loads(written.read_text(encoding="utf-8")) if written.exists() else cards
    settings = {CODE: run.version, **settings}
    return Site(id, material, kin, index, element, edge, run.energy, run.mu, settings=as_text(settings))


def _parent(folder: Path) -> tuple[str, ...]:
    """The structure that a variant was made from, where `spt-jax structures` left word of it: a key of the family."""
    for place in (folder, folder.parent, folder.parent.parent):
        if (place / PROVENANCE).exists():
            parent = json.loads((place / PROVENANCE).read_text(encoding="utf-8")).get("parent")
            return (parent,) if parent else ()
    return ()


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
    return Site(row["id"], kin[0], kin, index, absorber, edge, energy, mu, charge, as_text(settings))


def _read_table_row(task: SourceTask, member: int) -> Site:
    """`material`, `edge`, `settings` and columns named as descriptors are optional. Without a material every spectrum is its own."""
    row = _row(task, member)
    material = row.get("material") or row["id"]
    edge, settings = row.get("edge") or "K", as_text(stated(row.get("settings")))
    known = {name: float(row[name]) for name in NAMES if row.get(name) is not None}
    energy, mu = np.array(row["omega"], float), np.array(row["mu"], float)
    return Site(str(row["id"]), str(material), (str(material),), 0, row["absorber"], edge, energy, mu, known, settings)


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
    return Site(id, id, (id,), 0, element, "K", energy, mu, settings=settings)


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


# kind of a task -> (task) -> (site -> labels and masks, member -> site)
READERS: dict[str, Callable[[SourceTask], tuple[Callable, Callable]]] = {
    "tree": _with_structure(_read_site_folder),
    "run": _with_structure(_read_run),
    "library": _with_structure(_read_library_row),
    "table": _without_structure(_read_table_row),
    "npz": _without_structure(_read_npz_row),
}
