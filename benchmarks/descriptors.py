"""Labels: sites per second and core, against pymatgen asked again for each site and descriptor.

    python -m benchmarks.descriptors --library cu_k_feff9.tar.xz                # 40 structures at random
    python -m benchmarks.descriptors --library library.parquet --structures 10
    python -m benchmarks.descriptors --small                                    # shows that it runs

Three ways in turns on each structure, all to the same labels, which are compared: `describe`; pymatgen with every
answer about the structure kept and used again; pymatgen asked anew for each site and descriptor. CPU seconds.
"""

from __future__ import annotations

import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks import measure

try:
    import pyarrow.parquet as pq
    from pymatgen.analysis.bond_valence import BVAnalyzer
    from pymatgen.analysis.local_env import CrystalNN
    from pymatgen.core import Lattice, Structure
    from pymatgen.symmetry import analyzer
    from pymatgen.symmetry.groups import PointGroup

    from data_pipelines.labels.descriptors import MAX_INEQUIVALENT_SITES, Surroundings, describe
    from data_pipelines.readers.sources import SourceTask, open_source
    from data_pipelines.run_tree import SITE_FOLDER
    from data_pipelines.schema import DESCRIPTORS, site_kind
except ImportError as error:
    raise SystemExit(f"descriptors needs the packages that data are read with: {error}") from None


class Pymatgen:
    """The descriptors of one structure as one writes them with pymatgen, each asking for what it needs.

    `keep` answers each question about the structure once.
    """

    def __init__(self, structure: Structure, keep: bool):
        self.structure = structure
        once: Callable = cache if keep else lambda function: function
        self.neighbours = once(lambda site: CrystalNN().get_nn_info(structure, site))
        self.valences = once(self._valences)
        self.order = once(self._order)

    def _valences(self) -> list[int]:
        symmetry = analyzer.SpacegroupAnalyzer(self.structure, symprec=0.1).get_symmetry_dataset()
        if len(set(symmetry.equivalent_atoms)) > MAX_INEQUIVALENT_SITES:
            raise ValueError("BVAnalyzer does not come back")
        return BVAnalyzer().get_valences(self.structure)

    def _order(self) -> int:
        return len(PointGroup(analyzer.SpacegroupAnalyzer(self.structure).get_point_group_symbol()).symmetry_ops)

    def lengths(self, site: int) -> list[float]:
        centre = self.structure[site].coords
        return [np.linalg.norm(n["site"].coords - centre) for n in self.neighbours(site)]

    def beyond(self, site: int) -> int:
        near, far = {(site, 0, 0, 0)}, set()
        for n in self.neighbours(site):
            near.add((n["site_index"], *n["image"]))
            for m in self.neighbours(n["site_index"]):
                far.add((m["site_index"], *np.add(n["image"], m["image"]).tolist()))
        return len(far - near)

    def oxygen_distance(self, site: int) -> float:
        oxygens = [n["site"].coords for n in self.neighbours(site) if n["site"].specie.symbol == "O"]
        return min(np.linalg.norm(a - b) for i, a in enumerate(oxygens) for b in oxygens[:i])

    def labels(self, site: int) -> np.ndarray:
        """(D,) float32, NaN where there is none."""
        ways: dict[str, Callable[[], float]] = {
            "OS": lambda: self.valences()[site],
            "CN": lambda: len(self.neighbours(site)),
            "CN2": lambda: self.beyond(site),
            "OCN": lambda: sum(n["site"].specie.symbol == "O" for n in self.neighbours(site)),
            "NNRS": lambda: np.std(self.lengths(site)),
            "MOOD": lambda: self.oxygen_distance(site),
            "NNOSM": lambda: np.mean([self.valences()[n["site_index"]] for n in self.neighbours(site)]),
            "PSGO": self.order,
            "MBL": lambda: np.mean(self.lengths(site)),
        }
        kind = site_kind(self.structure[site].specie.symbol)
        found = np.full(len(DESCRIPTORS), np.nan, np.float32)
        for column, d in enumerate(DESCRIPTORS):
            if kind in d.sites:
                try:
                    value = ways[d.name]()
                except (ValueError, RuntimeError, IndexError, KeyError, TypeError):
                    continue
                if np.isfinite(value) and d.accepts(value):
                    found[column] = value
        return found


def shared(structure: Structure, sites: list[int]) -> np.ndarray:
    around = Surroundings(structure)
    return np.stack([describe(around, site)[0][: len(DESCRIPTORS)] for site in sites])


def kept(structure: Structure, sites: list[int]) -> np.ndarray:
    asked = Pymatgen(structure, keep=True)
    return np.stack([asked.labels(site) for site in sites])


def anew(structure: Structure, sites: list[int]) -> np.ndarray:
    asked = Pymatgen(structure, keep=False)
    return np.stack([asked.labels(site) for site in sites])


WAYS = {"shared": shared, "pymatgen, answers kept": kept, "pymatgen, asked anew": anew}


def library(path: Path, count: int) -> Iterator[tuple[Structure, list[int]]]:
    """`count` structures at random, each with the indices of its labelled sites."""
    with TemporaryDirectory() as scratch:
        tasks = [task for task in open_source(path, Path(scratch)).tasks if task.kind != "run"]
        for number in np.random.default_rng(0).permutation(len(tasks))[:count]:
            yield _read(tasks[number])


def _read(task: SourceTask) -> tuple[Structure, list[int]]:
    if task.kind == "tree":
        return Structure.from_file(task.structure), [int(SITE_FOLDER.match(Path(m).name)[1]) for m in task.members]
    rows = pq.read_table(task.structure, columns=["structure", "site_index"]).to_pylist()
    rows = [rows[int(member)] for member in task.members]
    return Structure.from_str(rows[0]["structure"], fmt="json"), [int(row["site_index"]) for row in rows]


def oxides() -> Iterator[tuple[Structure, list[int]]]:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.18), ["Ni", "O"], [[0, 0, 0], [0.5] * 3])
    yield salt, [0, 4]
    yield (
        Structure.from_spacegroup(
            "P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ["Ti", "O"], [[0] * 3, [0.305] * 2 + [0]]
        ),
        [0, 2],
    )


def main(argv: list[str] | None = None) -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--library", type=Path, default=None, help="tree, archive or Parquet file of FEFF runs")
    parser.add_argument("--structures", type=int, default=40, help="how many of it, at random")
    options = parser.parse_args(argv)
    if not (options.library or options.small):
        parser.error("--library is needed (or --small)")
    cells = library(options.library, options.structures) if options.library else oxides()
    show(run(list(cells), options))


def run(cells: list[tuple[Structure, list[int]]], options: Namespace) -> list[dict]:
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    labels: dict[str, list[np.ndarray]] = {name: [] for name in WAYS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for way in WAYS.values():
            way(*next(oxides()))  # tables are read at the first use
        for number, (structure, sites) in enumerate(cells):
            names = list(WAYS)[number % len(WAYS) :] + list(WAYS)[: number % len(WAYS)]
            for name in names:
                # Its memory of symmetry searches would give the later ways those of the first.
                analyzer._get_symmetry_dataset.cache_clear()
                began = time.process_time()
                labels[name].append(WAYS[name](structure.copy(), sites))
                seconds[name].append(time.process_time() - began)
    counts = [len(each) for _, each in cells]
    sites = sum(counts)
    per_second = {name: sites / sum(each) for name, each in seconds.items()}
    ours = np.concatenate(labels["shared"])
    lines = []
    for name in WAYS:
        theirs = np.concatenate(labels[name])
        both = np.isfinite(ours) & np.isfinite(theirs)
        fields = {
            "median_ms": 1e3 * float(np.median(np.divide(seconds[name], counts))),
            "max_error": float(np.abs(ours - theirs, where=both, out=np.zeros(ours.shape)).max()),
            "masks_differ": int((np.isfinite(ours) != np.isfinite(theirs)).sum()),
            "labels": int(both.sum()),
            "structures": len(cells),
            "sites": sites,
            "sites_per_s": per_second[name],
            "speedup": per_second["shared"] / per_second[name],
        }
        lines.append(measure.record("descriptors", name, options, length=None, batch=None, **fields))
    return lines


def show(lines: list[dict]) -> None:
    columns = {"sites_per_s": "sites/s/core", "median_ms": "ms p50", "speedup": "ratio"}
    measure.show(lines, {**columns, "max_error": "max diff", "masks_differ": "masks differ"})
    line = lines[0]
    print(f"{line['sites']:,} sites of {line['structures']:,} structures, {line['labels']:,} labels compared")


if __name__ == "__main__":
    main()
