"""Pair distribution functions: structures per second and core, and how far from those of diffpy.pdffit2.

    python -m benchmarks.pdf LIBRARY.parquet [--structures 20]

Structures of a Parquet library at random, X-rays and neutrons in turns, total and differential, r to 10 Å, Qmax 25. The
difference is the largest behind 1 Å, in parts of the main peak; scattering lengths are given to both. CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from pymatgen.core import Structure

from data_pipelines.labels.pdf import PdfGrid, pair_distribution, scattering_lengths


def of_pdffit2(structure: Structure, grid: PdfGrid, element: str | None = None) -> np.ndarray:
    """The same by diffpy.pdffit2, which needs a long range: it ends with the last peak that is in it."""
    from diffpy import pdffit2
    from diffpy.structure import Atom
    from diffpy.structure import Lattice as Cell
    from diffpy.structure import Structure as Atoms

    with open(os.devnull, "w") as nowhere:
        pdffit2.redirect_stdout(nowhere)
        found = Atoms(lattice=Cell(*structure.lattice.abc, *structure.lattice.angles))
        for site in structure:
            found.append(Atom(site.specie.symbol, site.frac_coords))
            found[-1].anisotropy, found[-1].lattice = False, found.lattice
            found[-1].Uisoequiv = grid.displacement
        fit = pdffit2.PdfFit()
        fit.add_structure(found)
        kind = {"xray": "X", "neutron": "N"}[grid.radiation]
        for symbol, length in zip(structure.symbol_set, _lengths_by_symbol(structure, grid), strict=True):
            fit.set_scat(kind, symbol, length)
        step = grid.stop / grid.points
        fit.alloc(kind, grid.qmax, grid.qdamp, step, grid.stop + 25, grid.points + round(25 / step))
        if element:
            for atoms in "ij":
                fit.selectAtomType(1, atoms, element, False)
        fit.calc()
        pdffit2.redirect_stdout(sys.stdout)
        return np.array(fit.getpdf_fit())[: grid.points]


def _lengths_by_symbol(structure: Structure, grid: PdfGrid) -> list[float]:
    symbols = [site.specie.symbol for site in structure]
    lengths = dict(zip(symbols, scattering_lengths(structure, grid.radiation).tolist(), strict=True))
    return [lengths[symbol] for symbol in structure.symbol_set]


def difference(found: np.ndarray, expected: np.ndarray, grid: PdfGrid) -> float:
    """The largest behind 1 Å, in parts of the main peak."""
    behind = grid.r > 1
    return np.abs(found - expected)[behind].max() / np.abs(expected[behind]).max()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", type=Path)
    parser.add_argument("--structures", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    rows = pq.read_table(options.library, columns=["structure", "absorber"]).to_pylist()
    worst, seconds, theirs, atoms = {}, 0.0, 0.0, 0
    for i in rng.choice(len(rows), options.structures, replace=False):
        structure, element = Structure.from_dict(json.loads(rows[i]["structure"])), rows[i]["absorber"]
        atoms += len(structure)
        for radiation in ("xray", "neutron"):
            grid = replace(PdfGrid(points=500), radiation=radiation)
            start = time.process_time()
            found = pair_distribution(structure, replace(grid, points=100))
            seconds += time.process_time() - start
            found = {"total": pair_distribution(structure, grid)}
            found["differential"] = pair_distribution(structure, grid, element)
            start = time.process_time()
            total = of_pdffit2(structure, grid)
            theirs += time.process_time() - start
            expected = {"total": total, "differential": total - of_pdffit2(structure, grid, element)}
            for name in found:
                off = difference(found[name], expected[name], grid)
                worst[radiation, name] = max(worst.get((radiation, name), 0.0), off)
    count = 2 * options.structures
    print(
        f"{count / seconds:.0f} structures/s of {atoms / options.structures:.0f} atoms; pdffit2 {count / theirs:.1f}/s to 35 Å"
    )
    for (radiation, name), off in worst.items():
        print(f"{radiation:8} {name:13} off by {100 * off:.2f} % of the main peak at most")


if __name__ == "__main__":
    main()
