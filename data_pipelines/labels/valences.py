"""Valences of a crystal's sites, the same that pymatgen's `BVAnalyzer()` finds, without its enumeration.

Bond-valence sums (O'Keeffe and Brese, J. Am. Chem. Soc. 113, 3226 (1991)) give each inequivalent site
probabilities of its valences; the neutral combination of largest product is taken, among those in which the
valences of an element differ by one at most. BVAnalyzer walks all combinations in order until 100,000 are
counted. Here branches that cannot win are only counted, which the charge that is left to place tells at once.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from pymatgen.analysis.bond_valence import BV_PARAMS, ELECTRONEG, ICSD_BV_DATA, PRIOR_PROB
from pymatgen.core import Element, Structure

RADIUS = 4.0
# Relaxed structures of density-functional theory have bonds too long by this factor.
SCALE = 1.015
SOFTNESS = 0.31
COMBINATIONS = 100_000
LEAST_SHARE = 0.01
# Products of probabilities in another order differ by less.
ROUNDING = 1e-9


def valences(structure: Structure, equivalent: np.ndarray) -> list[int] | None:
    """(N,) valences of an ordered structure whose sites of one number in `equivalent` (N,) are equivalent.

    None where no neutral combination is found, or the tables have no entry for an element.
    """
    symbols = [site.specie.symbol for site in structure]
    if any(Element(symbol) not in BV_PARAMS for symbol in symbols):
        return None
    groups = [np.flatnonzero(equivalent == number) for number in np.unique(equivalent)]
    groups.sort(key=lambda sites: -structure[int(sites[0])].species.average_electroneg)
    options = []
    for sites in groups:
        share = _probabilities(structure, symbols, int(sites[0]))
        ranked = sorted(share, key=lambda valence: -share[valence])
        options.append([(v, share[v]) for v in ranked if share[v] > LEAST_SHARE * share[ranked[0]]])
    if not all(options):
        return None
    best = _Search([symbols[sites[0]] for sites in groups], [len(sites) for sites in groups], options).best
    if best is None:
        return None
    result = np.empty(len(structure), int)
    for sites, valence in zip(groups, best, strict=True):
        result[sites] = valence
    return result.tolist()


def _probabilities(structure: Structure, symbols: list[str], site: int) -> dict[int, float]:
    """Valence -> probability of a site. The sums run in the order of BVAnalyzer, so that ties fall as there."""
    _, index, _, distance = structure.get_neighbor_list(RADIUS, sites=[structure[site]])
    here = symbols[site]
    total = 0.0
    for j, d in zip(index.tolist(), distance.tolist(), strict=True):
        length, sign = _bond(here, symbols[j])
        if sign:
            total += math.exp((length - d * SCALE) / SOFTNESS) * sign
    share = {
        valence: math.exp(-((total - mean) ** 2) / 2 / (std**2)) / std * prior
        for valence, mean, std, prior in _observed(here)
    }
    norm = sum(share.values())
    return {valence: each / norm if norm else 0.0 for valence, each in share.items()}


@cache
def _bond(one: str, other: str) -> tuple[float, int]:
    """Length of a bond of valence 1 in Å, and its sign for the first element; sign 0 where there is no bond."""
    a, b = Element(one), Element(other)
    if a == b or not (a in ELECTRONEG or b in ELECTRONEG):
        return 0.0, 0
    r1, r2, c1, c2 = BV_PARAMS[a]["r"], BV_PARAMS[b]["r"], BV_PARAMS[a]["c"], BV_PARAMS[b]["c"]
    length = r1 + r2 - r1 * r2 * (math.sqrt(c1) - math.sqrt(c2)) ** 2 / (c1 * r1 + c2 * r2)
    return length, 1 if a.X < b.X else -1


@cache
def _observed(symbol: str) -> list[tuple[int, float, float, float]]:
    """(valence, mean and deviation of its bond-valence sum, frequency) of an element's ions in the ICSD."""
    return [
        (ion.oxi_state, data["mean"], data["std"], PRIOR_PROB[ion])
        for ion, data in ICSD_BV_DATA.items()
        if ion.symbol == symbol and ion.oxi_state != 0 and data["std"] > 0
    ]


class _Search:
    """The neutral combination of the largest product of probabilities, among the first that BVAnalyzer meets.

    Level i chooses the valence of group i, of `counts[i]` sites; `options[i]` is (valence, probability), most
    probable first. A branch ends where the groups left cannot bring the charge back to zero.
    """

    def __init__(self, symbols: list[str], counts: list[int], options: list[list[tuple[int, float]]]):
        self.symbols, self.counts, self.options = symbols, counts, options
        low = [min(v for v, _ in each) * n for each, n in zip(options, counts, strict=True)]
        high = [max(v for v, _ in each) * n for each, n in zip(options, counts, strict=True)]
        self.lowest = [sum(low[i:]) for i in range(len(low) + 1)]
        self.highest = [sum(high[i:]) for i in range(len(high) + 1)]
        self.rest = cache(self._rest)
        self.best: list[int] | None = None
        self.score = 0.0
        self.met = 0
        self._descend([], 0, 1.0, {})

    def _ends(self, level: int, charge: int) -> bool:
        return charge + self.highest[level] < 0 or charge + self.lowest[level] > 0

    def _rest(self, level: int, charge: int) -> tuple[int, float]:
        """Below a node: how many combinations BVAnalyzer counts, and the largest product of a neutral one."""
        if self._ends(level, charge):
            return 1, 0.0
        if level == len(self.counts):
            return 1, 1.0
        count, product = 0, 0.0
        for valence, share in self.options[level]:
            below, best = self.rest(level + 1, charge + valence * self.counts[level])
            count, product = count + below, max(product, share * best)
        return count, product

    def _descend(self, chosen: list[int], charge: int, product: float, spans: dict[str, tuple[int, int]]) -> None:
        if self.met > COMBINATIONS:
            return
        level = len(chosen)
        count, best = self.rest(level, charge)
        if product * best <= self.score * (1 - ROUNDING):
            self.met += count
            return
        if level == len(self.counts):
            self.met += 1
            if product > self.score:
                self.best, self.score = chosen, product
            return
        symbol, number = self.symbols[level], self.counts[level]
        low, high = spans.get(symbol, (math.inf, -math.inf))
        for valence, share in self.options[level]:
            span = min(low, valence), max(high, valence)
            below = charge + valence * number
            if span[1] - span[0] > 1:
                if self.met <= COMBINATIONS:
                    self.met += self.rest(level + 1, below)[0]
            else:
                self._descend([*chosen, valence], below, product * share, {**spans, symbol: span})
