"""Files of structures -> `Parent`s: CIF, POSCAR, pymatgen JSON, lists of computed entries, or a folder of them.

What cannot be read is named with its reason and stops nothing else; files of other formats are counted.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Poscar

from data_pipelines.errors import SourceError, StructureError, line_of, printable
from data_pipelines.files import file_sha256
from data_pipelines.run_tree import POSCAR, PROVENANCE
from data_pipelines.schema import SYMBOLS
from data_pipelines.structures import cif, distances
from data_pipelines.structures.composition import ISOTOPES

# What this program writes beside structures; none holds one.
SUMMARY = "structures.json"
OPTIONS = "options.json"
# Further names that pymatgen reads a crystal from.
OTHERS = re.compile(r"(?i).*\.(cssr|xsf|res)|(chgcar|locpot|vasprun|bestsqs|rndstr).*|.*rndstr\.in")
KNOWN = ".cif, .mcif, POSCAR, CONTCAR, .vasp, .json, .cssr, .xsf, CHGCAR or vasprun.xml, packed by gzip, bzip2 or xz if you like"
UNPACK = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
# Ten thousand structures; what is read of it takes some twenty times as much memory.
LARGEST_BYTES = 100_000_000


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
        with UNPACK.get(path.suffix.lower(), open)(path, "rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise StructureError("too large", f"{label} holds more than {LARGEST_BYTES // 1_000_000} MB; part it")
        digest = file_sha256(path)
        origin = _origin(path)
        items = list(_items(path, label, content))
    except StructureError as error:
        yield Dropped(label, error.reason, error.detail)
        return
    except Exception as error:  # readers raise KeyError, IndexError, TypeError, ... at what they do not expect
        yield Dropped(label, "unreadable", line_of(error))
        return
    for item in items:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                structure = item.parse()
        except StructureError as error:
            yield Dropped(item.label, error.reason, error.detail)
        except Exception as error:
            yield Dropped(item.label, "unreadable", line_of(error))
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
    if not (distances.is_cell(matrix) and np.isfinite(fractions).all()):
        raise StructureError("no cell", "lattice or coordinates are not finite, or the cell is flat")
    unknown = {symbol for shares in species for symbol in shares} - set(SYMBOLS[1:])
    if unknown:
        raise StructureError("unknown element", ", ".join(sorted(unknown)))
    # pymatgen's CIF reader writes an occupancy of 0 as 1e-8.
    shares = [{symbol: share for symbol, share in site.items() if share > 1e-6} for site in species]
    keep = [i for i, site in enumerate(shares) if site]
    # A left-handed cell would be turned into its mirror image by the POSCAR format.
    hand = np.sign(np.linalg.det(matrix))
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
    """One element may stand on a site in several oxidation states, or as isotopes."""
    found: dict[str, float] = defaultdict(float)
    for symbol, share in occupants:
        found[ISOTOPES.get(symbol, symbol)] += share
    return dict(found)


def passed_over(sources: Sequence[Path]) -> dict[str, int]:
    """Files of folders that are of no format read here: how many by their ending, or by their name without one."""
    found = Counter(
        Path(_unpacked(file.name)).suffix.lower() or file.name
        for source in map(Path, sources)
        if source.is_dir()
        for file in _below(source)
        if not _format(file)
    )
    return dict(sorted(found.items()))


def _files(source: Path) -> Iterator[tuple[Path, str]]:
    """Files of one source with their labels, which hold no path that is only of this machine."""
    if not source.exists():
        raise SourceError(f"{source}: no such file or folder")
    if source.is_file():
        yield source, printable(source.name)
        return
    known = [path for path in _below(source) if _format(path)]
    if not known:
        others = ", ".join(f"{count} {ending}" for ending, count in passed_over([source]).items())
        raise SourceError(f"{source}: {others or 'nothing'} below this folder, but no {KNOWN}")
    for path in known:
        yield path, printable(f"{source.resolve().name}/{path.relative_to(source).as_posix()}")


def _below(folder: Path) -> Iterator[Path]:
    """Files below a folder in a fixed order, without those that are hidden or that this program wrote beside others."""
    for here, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if name not in (PROVENANCE, SUMMARY, OPTIONS) and not name.startswith("."):
                yield Path(here) / name


def _unpacked(name: str) -> str:
    """A file's name without what tells how it is packed."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in UNPACK else name


def _format(path: Path) -> str:
    name = _unpacked(path.name).lower()
    if name.startswith(("poscar", "contcar")) or name.endswith((".vasp", "poscar", "contcar")):
        return "poscar"
    if name.endswith((".cif", ".mcif")):
        return "cif"
    if name.endswith((".json", ".mson")):
        return "json"
    return "other" if OTHERS.fullmatch(name) else ""


def _items(path: Path, label: str, content: bytes) -> Iterator[_Item]:
    text = content.decode("utf-8-sig", "replace")
    match _format(path):
        case "cif":
            yield from _cif(path, label, text)
        case "poscar":
            yield _Item(label, content, lambda: _poscar(text), _stem(path))
        case "json":
            yield from _json(path, label, text)
        case "other":
            yield _Item(label, content, lambda: undecorated(Structure.from_file(path)))
        case _:
            raise StructureError("unknown format", f"not {KNOWN}")


def _cif(path: Path, label: str, text: str) -> Iterator[_Item]:
    """Every block with atoms. Occupancies are those in the file, whatever its name says."""
    found = cif.read_blocks(text)
    good = [block for block in found if isinstance(block, Structure)]
    for number, structure in enumerate(good, start=1):
        mark = f"{number}" if len(good) > 1 else ""
        name = f"{_stem(path)}-{mark}" if mark else _stem(path)
        key = f"{text}{mark}".encode()
        yield _Item(f"{label}#{mark}" if mark else label, key, partial(undecorated, structure), name)
    for place, error in enumerate(found, start=1):
        if isinstance(error, StructureError):
            block = f"{place} of {len(found)} blocks with atoms: " if len(found) > 1 else ""
            yield _Item(label, b"", partial(_refuse, error.reason, f"{block}{error.detail}"))


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
    stem = re.sub(r"(?i)\.(m?cif|json|mson|vasp|poscar|cssr|xsf|res)$", "", _unpacked(path.name))
    return path.resolve().parent.name if stem.upper() in (POSCAR, "CONTCAR") else stem


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", name.replace(" ", "")).strip("._-")[:64] or "structure"
