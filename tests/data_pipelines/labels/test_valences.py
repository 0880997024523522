"""Valences are those of pymatgen's BVAnalyzer, and the search is its enumeration, cut short where nothing is lost."""

import itertools
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from pymatgen.analysis.bond_valence import BVAnalyzer
from pymatgen.core import Structure

from data_pipelines.labels import valences as module
from data_pipelines.labels.descriptors import NoLabel, Surroundings
from data_pipelines.labels.valences import _Search


def of_pymatgen(structure: Structure) -> list[int] | None:
    try:
        return BVAnalyzer().get_valences(structure)
    except ValueError:
        return None


def ours(structure: Structure) -> list[float] | None:
    around = Surroundings(structure)
    try:
        return [around.valence(site) for site in range(len(structure))]
    except NoLabel:
        return None


@pytest.mark.parametrize("metals", ["Co", "Mn", "Fe", "Cu", "Xe", "Au"])
def test_crystals_and_their_substitutes(metals, runs, rng):
    for folder in rng.permutation(sorted(runs.iterdir()))[:3]:
        structure = Structure.from_file(folder / "POSCAR")
        changed = [s for s in structure.symbol_set if s not in ("O", "P", "Li")][:1]
        structure.replace_species(dict.fromkeys(changed, metals))
        if len(structure) > 2 and rng.random() < 0.5:
            structure.remove_sites([int(rng.integers(len(structure)))])
        assert ours(structure) == of_pymatgen(structure), structure.formula


def test_library(shared, rng):
    table = pq.read_table(shared("feff10/crystalline.parquet"), columns=["structure"])["structure"].to_pylist()
    small = (Structure.from_str(str(text), fmt="json") for text in rng.permutation(sorted(set(table)))[:60])
    for structure in itertools.islice((s for s in small if len(s) <= 16), 12):
        assert ours(structure) == of_pymatgen(structure), structure.formula


def test_copper_library(copper_oxides, rng):
    """Small cells: pymatgen needs minutes for some of the large ones."""
    structures = (Structure.from_str(copper_oxides[n][0], fmt="poscar") for n in rng.permutation(sorted(copper_oxides)))
    for structure in itertools.islice((s for s in structures if len(s) <= 24), 10):
        assert ours(structure) == of_pymatgen(structure), structure.formula


def enumerate_all(symbols, counts, options, limit) -> tuple[list[int] | None, int]:
    """The rule written out: every combination in order, pruned by charge only, until `limit` are met."""
    best, score, met = None, 0.0, 0

    def descend(chosen: list[tuple[int, float]]) -> None:
        nonlocal best, score, met
        if met > limit:
            return
        level = len(chosen)
        charge = sum(v * n for (v, _), n in zip(chosen, counts, strict=False))
        rest = list(zip(options[level:], counts[level:], strict=True))
        high = charge + sum(max(v for v, _ in each) * n for each, n in rest)
        low = charge + sum(min(v for v, _ in each) * n for each, n in rest)
        if high < 0 or low > 0:
            met += 1
        elif level == len(counts):
            met += 1
            by_symbol = {s: [v for (v, _), t in zip(chosen, symbols, strict=True) if s == t] for s in symbols}
            product = math.prod(p for _, p in chosen)
            if all(max(v) - min(v) <= 1 for v in by_symbol.values()) and product > score:
                best, score = [v for v, _ in chosen], product
        else:
            for option in options[level]:
                descend([*chosen, option])

    descend([])
    return best, met


def test_search_is_the_enumeration(rng, monkeypatch):
    found = 0
    for _ in range(400):
        size, limit = int(rng.integers(1, 8)), int(rng.choice([3, 40, 100_000]))
        monkeypatch.setattr(module, "COMBINATIONS", limit)
        symbols = rng.choice(["Fe", "Mn", "O"], size).tolist()
        options = []
        for symbol in symbols:
            values = rng.permutation([-2, -1] if symbol == "O" else [2, 3, 4])[: rng.integers(1, 4)]
            # Few distinct probabilities: ties are common.
            options.append([(int(v), float(p)) for v, p in zip(values, rng.choice([0.1, 0.3, 0.6], 3), strict=False)])
        counts = rng.integers(1, 5, size).tolist()
        search = _Search(symbols, counts, options)
        best, met = enumerate_all(symbols, counts, options, limit)
        assert search.best == best
        assert min(search.met, limit + 1) == min(met, limit + 1)
        found += best is not None
    assert found, "some combination is neutral"


def test_many_inequivalent_sites_end_soon(rng):
    """Far too many combinations to list: forty sites of three valences each."""
    symbols, counts = ["Fe"] * 20 + ["O"] * 20, [1] * 40
    options = [[(2, 0.6), (3, 0.3), (4, 0.1)]] * 20 + [[(-2, 0.9), (-1, 0.1)]] * 20
    assert _Search(symbols, counts, options).best == [2] * 20 + [-2] * 20
    shares = rng.dirichlet(np.ones(3), 20)
    options[:20] = [list(zip((2, 3, 4), map(float, share), strict=True)) for share in shares]
    search = _Search(symbols, counts, options)
    assert search.best is None or sum(search.best) == 0
