"""Files of structures -> `Parent`s: CIF, POSCAR, pymatgen JSON, lists of computed entries, or a folder of them.

What cannot be read is named with its reason and stops nothing else.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifParser
from pymatgen.io.vasp import Poscar

from data_pipelines.errors import SourceError, StructureError
from data_pipelines.run_tree import POSCAR, PROVENANCE
from data_pipelines.schema import SYMBOLS

# Occupancies refined independently may add up to a little more than one; more than this is another error.
OCCUPANCY_TOLERANCE = 1.01
# What this program writes beside structures; none holds one.
SUMMARY = "structures.json"
OPTIONS = "options.json"


@dataclass(frozen=True)
class Parent:
    """One structure of a source, of plain elements and perhaps with partial occupancies.

    `name` is safe for file systems, unique, and the same whatever else is read: it ends in a hash of what was
    read. `family` is what all that comes from one structure shares, so that a split can keep it together.
    """

    name: str
    family: str
    source: str
    sha256: str
    structure: Structure
    steps: tuple[dict, ...] = ()


@dataclass(frozen=True)
class Dropped:
    """Something that became no structure, and why."""

    id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class _Item:
    """One structure in a file that is not parsed yet. `key` is what its name's hash is made of."""

    label: str
    key: bytes
    parse: Callable[[], Structure]
    name: str = ""


def read_sources(
    sources: Sequence[Path], report: Callable[[str, int, int], None] = lambda stage, done, total: None
) -> tuple[list[Parent], list[Dropped]]:
    """Every structure of the files and folders, in a fixed order. Raises SourceError for a source without any file."""
    files = [(file, label) for source in sources for file, label in _files(Path(source))]
    parents: dict[str, Parent] = {}
    dropped = []
    for done, (file, label) in enumerate(files):
        report("reading", done, len(files))
        for found in read_file(file, label):
            if isinstance(found, Dropped):
                dropped.append(found)
            elif found.name in parents:
                first = parents[found.name].source
                dropped.append(Dropped(found.source, "duplicate", f"the same as {first}"))
            else:
                parents[found.name] = found
    report("reading", len(files), len(files))
    return list(parents.values()), dropped


def read_file(path: Path, label: str = "") -> Iterator[Parent | Dropped]:
    """The structures of one file; `label` is what provenance calls the file."""
    label = label or path.name
    try:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if path.name.lower().endswith(".gz"):
            content = gzip.decompress(content)
        origin = _origin(path)
        items = list(_items(path, label, content))
    except StructureError as error:
        yield Dropped(label, error.reason, error.detail)
        return
    except Exception as error:  # readers raise KeyError, IndexError, TypeError, ... at what they do not expect
        yield Dropped(label, "unreadable", _line(error))
        return
    for item in items:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                structure = item.parse()
        except StructureError as error:
            yield Dropped(item.label, error.reason, error.detail)
        except Exception as error:
            yield Dropped(item.label, "unreadable", _line(error))
        else:
            name = item.name or f"{_stem(path)}-{structure.formula}"
            name = f"{_safe(name)}-{hashlib.sha256(item.key).hexdigest()[:8]}"
            parent = Parent(name, name, item.label, digest, structure)
            yield replace(parent, **origin) if origin else parent


def plain(matrix: np.ndarray, species: Sequence[dict[str, float]], fractions: np.ndarray) -> Structure:
    """A structure of elements, occupancies and places only, with right-handed axes.

    matrix: (3, 3) lattice vectors, Angstrom. species: symbol -> occupancy of each site. fractions: (N, 3).
    Raises StructureError for what is no element, and for numbers that are none.
    """
    volume = np.linalg.det(matrix)
    if not (np.isfinite(volume) and np.isfinite(fractions).all() and abs(volume) > 1e-3):
        raise StructureError("no cell", "lattice or coordinates are not finite, or the cell is flat")
    unknown = {symbol for shares in species for symbol in shares} - set(SYMBOLS[1:])
    if unknown:
        raise StructureError("unknown element", ", ".join(sorted(unknown)))
    # pymatgen's CIF reader writes an occupancy of 0 as 1e-8.
    shares = [{symbol: share for symbol, share in site.items() if share > 1e-6} for site in species]
    keep = [i for i, site in enumerate(shares) if site]
    # A left-handed cell would be turned into its mirror image by the POSCAR format.
    hand = np.sign(volume)
    return Structure(Lattice(hand * matrix), [shares[i] for i in keep], hand * fractions[keep])


def undecorated(structure: Structure) -> Structure:
    """Without oxidation states, labels, velocities."""
    species = [_shares((s.symbol, share) for s, share in site.species.items()) for site in structure]
    return plain(structure.lattice.matrix, species, structure.frac_coords)


def _from_dict(found: dict) -> Structure:
    """pymatgen's JSON without pymatgen's reader, which makes every site three times as slowly."""
    species = [_shares((s["element"], s["occu"]) for s in site["species"]) for site in found["sites"]]
    fractions = np.array([site["abc"] for site in found["sites"]], dtype=float).reshape(-1, 3)
    return plain(np.array(found["lattice"]["matrix"], dtype=float), species, fractions)


def _shares(occupants: Iterable[tuple[str, float]]) -> dict[str, float]:
    """One element may stand on a site in several oxidation states."""
    found: dict[str, float] = defaultdict(float)
    for symbol, share in occupants:
        found[symbol] += share
    return dict(found)


def _files(source: Path) -> Iterator[tuple[Path, str]]:
    """Files of one source with their labels, which hold no path that is only of this machine."""
    if not source.exists():
        raise SourceError(f"{source}: no such file or folder")
    if source.is_file():
        yield source, source.name
        return
    count = 0
    for folder, subfolders, names in os.walk(source):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if _format(path) and name not in (PROVENANCE, SUMMARY, OPTIONS) and not name.startswith("."):
                count += 1
                yield path, f"{source.resolve().name}/{path.relative_to(source).as_posix()}"
    if not count:
        raise SourceError(f"{source}: no .cif, POSCAR, CONTCAR, .vasp, .json or .json.gz below this folder")


def _format(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    if name.startswith(("poscar", "contcar")) or name.endswith((".vasp", ".poscar")):
        return "poscar"
    return next((suffix for suffix in ("cif", "json") if name.endswith(f".{suffix}")), "")


def _items(path: Path, label: str, content: bytes) -> Iterator[_Item]:
    text = content.decode("utf-8", "replace")
    match _format(path):
        case "cif":
            yield from _cif(path, label, text)
        case "poscar":
            yield _Item(label, content, lambda: _poscar(text), _stem(path))
        case "json":
            yield from _json(path, label, text)
        case _:
            raise StructureError("unknown format", "not .cif, POSCAR, CONTCAR, .vasp, .json or .json.gz")


def _cif(path: Path, label: str, text: str) -> Iterator[_Item]:
    """Every block with atoms. Occupancies are those in the file, whatever its name says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Of two blocks with one name pymatgen would keep the second alone.
        counter = itertools.count(1)
        numbered = re.sub(r"(?m)^(\s*data_)", lambda found: f"{found[0]}{next(counter)}_", text)
        parser = CifParser.from_str(numbered, occupancy_tolerance=OCCUPANCY_TOLERANCE, check_cif=False)
        blocks = [block for block in parser.as_dict().values() if "_atom_site_fract_x" in block]
        try:
            structures = parser.parse_structures(primitive=False, on_error="ignore")
        except ValueError:
            structures = []
    for number, structure in enumerate(structures):
        mark = f"{number + 1}" if len(structures) > 1 else ""
        formula = str(blocks[number].get("_chemical_formula_sum", "")) if len(blocks) == len(structures) else ""
        missing = set(re.findall("[A-Z][a-z]?", formula)) - {e.symbol for e in structure.composition}
        item = _Item(f"{label}#{mark}" if mark else label, f"{text}{mark}".encode(), partial(undecorated, structure))
        if missing:
            detail = f"the formula has {', '.join(sorted(missing))}, the list of atoms has not"
            item = replace(item, parse=partial(_refuse, "atoms missing", detail))
        yield replace(item, name=f"{_stem(path)}-{mark}" if mark else _stem(path))
    if len(structures) < max(1, len(blocks)):
        said = [text.splitlines()[-1] for text in parser.warnings if text.startswith("No structure")]
        detail = f"{len(blocks) - len(structures)} of {len(blocks)} blocks with atoms; {'; '.join(said)}"
        yield _Item(label, b"", partial(_refuse, "unreadable", detail))


def _poscar(text: str) -> Structure:
    found = Poscar.from_str(text, read_velocities=False)
    if not found.true_names:
        raise StructureError("no elements", "POSCAR of VASP 4 without element symbols")
    return undecorated(found.structure)


def _json(path: Path, label: str, text: str) -> Iterator[_Item]:
    """A Structure, an object with one (a computed entry, a document of a database), or a list of either."""
    found = json.loads(text)
    many = isinstance(found, list)
    for number, entry in enumerate(found if many else [found]):
        entry = entry if isinstance(entry, dict) else {}
        inner = entry.get("structure", entry)
        if isinstance(inner, dict) and {"lattice", "sites"} <= set(inner):
            parse = partial(_from_dict, inner)
        else:
            parse = partial(_refuse, "no structure", "this JSON holds no pymatgen Structure")
        name = str(entry.get("material_id") or entry.get("entry_id") or ("" if many else _stem(path)))
        key = json.dumps(entry, sort_keys=True).encode()
        yield _Item(f"{label}#{number + 1}" if many else label, key, parse, name)


def _refuse(reason: str, detail: str) -> Structure:
    raise StructureError(reason, detail)


def _origin(path: Path) -> dict | None:
    """What a POSCAR that this program wrote inherits: its variants belong to the family of its own parent."""
    beside = path.with_name(PROVENANCE)
    if path.name != POSCAR or not beside.exists():
        return None
    found = json.loads(beside.read_text(encoding="utf-8"))
    if found.get("material") != path.parent.name:
        return None
    return {
        "name": found["material"],
        "family": found["parent"],
        "source": found["source"],
        "sha256": found["source_sha256"],
        "steps": tuple(found["steps"]),
    }


def _stem(path: Path) -> str:
    """A file's name without what tells its format; the folder's name for a plain POSCAR."""
    stem = re.sub(r"(?i)(\.(cif|json|vasp|poscar))?(\.gz)?$", "", path.name)
    return path.resolve().parent.name if stem.upper() in (POSCAR, "CONTCAR") else stem


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", name.replace(" ", "")).strip("._-")[:64] or "structure"


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
