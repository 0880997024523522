"""Sources -> OUT: a folder for each structure and variant with its POSCAR and provenance.json, then structures.json.

A folder is only ever added to. What is there stays, so the same command goes on after a stop and ends with the same
bytes, and more sources may be named later; other options, or fewer sources, are refused.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Poscar

from data_pipelines.errors import CountedError, SourceError, StructureError, UserError
from data_pipelines.files import read_json, write_atomic
from data_pipelines.run_tree import POSCAR, PROVENANCE
from data_pipelines.schema import SYMBOLS
from data_pipelines.structures import distances
from data_pipelines.structures.files import OPTIONS, SUMMARY, Dropped, Parent, passed_over, read_sources
from data_pipelines.structures.options import Options
from data_pipelines.structures.ordering import order
from data_pipelines.structures.supercells import supercell
from data_pipelines.structures.symmetry import inequivalent_sites
from data_pipelines.structures.variants import Recipe, recipes, seed_of

FORMAT = 1
# A variant whose atoms come too close is drawn again this often before it is given up.
ATTEMPTS = 5
# Decimals of lattice (Å) and fractions in a POSCAR: no spectrum sees more, and rounding hides last-bit differences
# between machines.
DIGITS = 10


@dataclass(frozen=True)
class _Job:
    """One structure to make: `make(rng)` gives it with its new steps. `draw` names its random numbers, "" uses none."""

    name: str
    draw: str
    make: Callable[[np.random.Generator], tuple[Structure, list[dict]]]
    steps: tuple[dict, ...]


def make_structures(
    sources: Sequence[Path],
    out: Path,
    options: Options,
    report: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> dict:
    """Make all structures of `sources` under `out` and return what structures.json says.

    `report(stage, done, total)` is called as work goes on. Raises SourceError where nothing can be read, and
    UserError where `out` holds something else.
    """
    wanted = json.dumps({"format": FORMAT, **asdict(options)}, indent=1) + "\n"
    _check(out, wanted)
    parents, dropped = read_sources(sources, report)
    if not parents:
        reasons = sorted({f"{item.reason} ({item.id}: {item.detail})" for item in dropped})
        raise SourceError(f"no structure in {', '.join(map(str, sources))}: {'; '.join(reasons[:3])}")
    names = [name for parent in parents for name in _names(parent, options)]
    _claim(out, wanted, set(names))
    taken = {parent.name for parent in parents}
    kept: list[dict] = []
    done = 0
    for parent in parents:
        report("making", done, len(names))
        family = _Family(parent, taken, out, options)
        family.make()
        kept += family.kept
        dropped += family.dropped
        done += len(family.kept) + len(family.dropped)
    report("making", len(names), len(names))
    document = _summary(parents, kept, dropped, options) | {"passed_over": passed_over(sources)}
    write_atomic(out / SUMMARY, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return document


def as_text(document: dict) -> str:
    """structures.json for the screen: at most 80 columns."""
    counts = document["structures"]
    lines = [f"structures  {counts['kept']} kept, {counts['dropped']} dropped, of {document['parents']} parents"]
    lines += [f"            {n:7d}  {kind}" for kind, n in document["kept_by_kind"].items()]
    lines += [f"            {n:7d}  dropped: {reason}" for reason, n in document["dropped_by_reason"].items()]
    if others := document["passed_over"]:
        files = f"{sum(others.values())} file{'s' if sum(others.values()) > 1 else ''} of unknown format"
        lines.append(f"passed over {files}: {', '.join(f'{n} {ending}' for ending, n in others.items())}")
    runs = document["sites"]
    lines.append(f"FEFF runs   {sum(runs.values())} inequivalent sites")
    lines += [f"            {n:7d}  {element}" for element, n in runs.items()]
    return "\n".join(lines)


def _names(parent: Parent, options: Options) -> list[str]:
    """Materials that one parent gives: itself or its orderings, each followed by its variants."""
    suffixes = [f"-{recipe.suffix}" for recipe in recipes(options.variants)]
    return [base + suffix for base in _bases(parent, options) for suffix in ("", *suffixes)]


def _bases(parent: Parent, options: Options) -> list[str]:
    if parent.structure.is_ordered:
        return [parent.name]
    return [f"{parent.name}-ordering{n}" for n in range(1, options.variants.orderings + 1)]


def _check(out: Path, wanted: str) -> None:
    """Raises UserError where `out` was not made with these options."""
    path = out / OPTIONS
    if path.exists() and path.read_text(encoding="utf-8") != wanted:
        raise UserError(f"{out} was made with other options (see {path}); choose another --out")
    if not path.exists() and any(out.glob(f"*/{PROVENANCE}")):
        raise UserError(f"{out} holds structures but no {OPTIONS}; choose another --out")


def _claim(out: Path, wanted: str, names: set[str]) -> None:
    """Take a new folder, or go on in one that holds nothing but `names`."""
    foreign = {file.parent.name for file in out.glob(f"*/{PROVENANCE}")} - names
    if foreign:
        raise UserError(
            f"{out} holds {min(foreign)}, which is not of these sources; name them all, or choose another --out"
        )
    if not (out / OPTIONS).exists():
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(out / OPTIONS, wanted)


class _Family:
    """Everything made from one parent: provenance of what is kept, and what is not, in a fixed order.

    `taken` are the names of all parents: a variant that is among the sources already is not made again.
    """

    def __init__(self, parent: Parent, taken: set[str], out: Path, options: Options):
        self.parent, self.taken, self.out, self.options = parent, taken, out, options
        self.kept: list[dict] = []
        self.dropped: list[Dropped] = []
        self._seen: dict[str, str] = {}

    def make(self) -> None:
        parent = self.parent
        finished = [self.out / name / PROVENANCE for name in _names(parent, self.options)]
        if all(path.exists() for path in finished):
            self.kept = [read_json(path) for path in finished]
            return
        for name in _bases(parent, self.options):
            if parent.structure.is_ordered:
                job = _Job(name, "", lambda rng: (parent.structure, []), parent.steps)
            else:
                job = _Job(name, name, partial(order, parent.structure), parent.steps)
            base = self._add(job)
            if base is None:
                detail = f"{name} was"
                lost = [Dropped(f"{name}-{r.suffix}", "parent dropped", detail) for r in recipes(self.options.variants)]
                self.dropped += lost
            else:
                self._vary(name, *base)

    def _vary(self, name: str, base: Structure, steps: tuple[dict, ...]) -> None:
        wanted = recipes(self.options.variants)
        copies = -(-self.options.variants.cell_atoms // len(base)) if any(r.in_supercell for r in wanted) else 1
        cell = supercell(base, copies)
        for recipe in wanted:
            start = cell if recipe.in_supercell else (base, [])
            self._add(_Job(f"{name}-{recipe.suffix}", f"{name}/{recipe.draw}", partial(_apply, recipe, *start), steps))

    def _add(self, job: _Job) -> tuple[Structure, tuple[dict, ...]] | None:
        """Keep or drop one structure; as stored, with its steps, or None where there is none to go on from."""
        folder = self.out / job.name
        if job.name in self.taken and job.name != self.parent.name:
            self.dropped.append(Dropped(job.name, "duplicate", "it is one of the sources"))
            return None
        if (folder / PROVENANCE).exists():
            provenance = read_json(folder / PROVENANCE)
            stored = _parse((folder / POSCAR).read_text(encoding="utf-8"))
            self._seen.setdefault(distances.fingerprint(distances.pairs(stored)), job.name)
            self.kept.append(provenance)
            return stored, tuple(provenance["steps"])
        try:
            text, stored, found, steps = self._draw(job)
        except StructureError as error:
            self.dropped.append(Dropped(job.name, error.reason, error.detail))
            return None
        try:
            same = self._seen.setdefault(distances.fingerprint(found), job.name)
            if same != job.name:
                raise StructureError("duplicate", f"the same as {same}")
            provenance = self._provenance(job.name, stored, steps, found)
        except CountedError as error:
            self.dropped.append(Dropped(job.name, error.reason, error.detail))
        else:
            self.kept.append(provenance)
            folder.mkdir(exist_ok=True)
            write_atomic(folder / POSCAR, text)
            write_atomic(folder / PROVENANCE, json.dumps(provenance, indent=1) + "\n")
        return stored, steps

    def _draw(self, job: _Job) -> tuple[str, Structure, distances.Pairs, tuple[dict, ...]]:
        """The first draw in which no two atoms are too close: POSCAR, structure read back, its pairs, steps."""
        for attempt in range(ATTEMPTS if job.draw else 1):
            seed = seed_of(self.options.seed, job.draw, attempt)
            structure, steps = job.make(np.random.default_rng(seed))
            if job.draw:
                steps = [*steps[:-1], {**steps[-1], "seed": seed}]
            text = _poscar(structure, job.name)
            stored = _parse(text)
            found = distances.pairs(stored)
            try:
                distances.shortest(stored, found)
                return text, stored, found, (*job.steps, *steps)
            except StructureError as error:
                failure = error
        raise StructureError(failure.reason, f"{failure.detail}{f', {ATTEMPTS} draws' if job.draw else ''}")

    def _provenance(self, name: str, stored: Structure, steps: Sequence[dict], found: distances.Pairs) -> dict:
        sites = [
            {"index": index, "element": stored[index].specie.symbol, "multiplicity": multiplicity}
            for index, multiplicity in inequivalent_sites(stored)
        ]
        wanted = [site for site in sites if site["element"] in (self.options.elements or SYMBOLS)]
        if not wanted:
            raise StructureError("no absorber", f"none of {', '.join(self.options.elements)} in {stored.formula}")
        return {
            "format": FORMAT,
            "material": name,
            "parent": self.parent.family,
            "source": self.parent.source,
            "source_sha256": self.parent.sha256,
            "steps": list(steps),
            "formula": stored.formula,
            "min_distance": round(distances.shortest(stored, found), 4),
            "sites": wanted,
        }


def _apply(
    recipe: Recipe, start: Structure, steps: list[dict], rng: np.random.Generator
) -> tuple[Structure, list[dict]]:
    structure, step = recipe.make(start, rng)
    return structure, [*steps, step]


def _poscar(structure: Structure, comment: str) -> str:
    """Sites grouped by element in the order of electronegativity, as they are to be numbered."""
    fractions = np.round(np.round(structure.frac_coords, DIGITS) % 1, DIGITS) % 1
    lattice = Lattice(np.round(structure.lattice.matrix, DIGITS) + 0.0)  # + 0.0 turns -0.0 into 0.0
    rounded = Structure(lattice, structure.species, fractions).get_sorted_structure()
    return Poscar(rounded, comment=comment).get_str(significant_figures=DIGITS)


def _parse(text: str) -> Structure:
    """What everyone else will read: indices, distances and symmetry are taken from this."""
    return Poscar.from_str(text, read_velocities=False).structure


def _summary(parents: list[Parent], kept: list[dict], dropped: list[Dropped], options: Options) -> dict:
    sources = {parent.source.split("#")[0]: parent.sha256 for parent in parents}
    elements = Counter(site["element"] for provenance in kept for site in provenance["sites"])
    kinds = Counter(p["steps"][-1]["name"] if p["steps"] else "as read" for p in kept)
    return {
        "format": FORMAT,
        "options": asdict(options),
        "closest": f"{distances.CLOSEST} of the sum of covalent radii",
        "sources": [{"name": name, "sha256": sha256} for name, sha256 in sorted(sources.items())],
        "parents": len(parents),
        "structures": {"kept": len(kept), "dropped": len(dropped)},
        "kept_by_kind": dict(sorted(kinds.items())),
        "dropped_by_reason": dict(sorted(Counter(item.reason for item in dropped).items())),
        "dropped": [asdict(item) for item in dropped],
        "sites": dict(sorted(elements.items())),
    }
