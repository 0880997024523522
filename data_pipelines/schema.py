"""The contract between data and training: descriptor table, energy grid and Batch.

Everything that depends on *which* descriptors exist (labels, masks, heads, losses,
metrics, printed tables) follows from `DESCRIPTORS`. A fork adds a descriptor with one row
here and one function in `descriptors.py`. `SHELLS` are those whose label is a set of elements, `STRUCTURES` those of a whole structure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np

from data_pipelines.errors import RunError
from data_pipelines.ranges import Range, check
from data_pipelines.signals import parse_signal

# Index = atomic number; "" stands at 0.
SYMBOLS: tuple[str, ...] = (
    "",
    *(
        "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr "
        "Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta "
        "W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm"
    ).split(),
)

SiteKind = Literal["non-O", "O", "structure"]
SITE_KINDS: tuple[SiteKind, ...] = ("non-O", "O", "structure")
STRUCTURE = "structure"
"""Stands for the absorbing element where a row is a whole structure; its atomic number is 0."""


def site_kind(element: str) -> SiteKind:
    """Oxygen absorbers carry other descriptors than all the rest (paper, section on the XAS data engine)."""
    return "O" if element == "O" else "structure" if element == STRUCTURE else "non-O"


def number_of(element: str) -> int:
    """Atomic number of a symbol, 0 for STRUCTURE."""
    return 0 if element == STRUCTURE else SYMBOLS.index(element)


@dataclass(frozen=True)
class Descriptor:
    """One row of the table.

    `classes` lists every value a class descriptor may take; a computed value outside it
    (CN 0, CN 12+) is a label artefact and is masked and counted. `plausible` does the same
    for regressions, in `unit`.

    >>> descriptor("CN").accepts(6), descriptor("CN").accepts(0)
    (True, False)
    """

    name: str
    kind: Literal["class", "regression", "elements"]
    unit: str
    sites: tuple[SiteKind, ...]
    meaning: str
    classes: tuple[int, ...] = ()
    plausible: tuple[float, float] = (-np.inf, np.inf)

    def values(self, labels: np.ndarray) -> np.ndarray:
        """(N,) labels of a Batch, indices of classes or numbers in the unit -> (N,) float values."""
        return np.take(self.classes, labels.astype(int)).astype(float) if self.classes else labels.astype(float)

    def accepts(self, value: float) -> bool:
        if self.kind == "class":
            return value in self.classes
        return self.plausible[0] <= value <= self.plausible[1]


BOTH: tuple[SiteKind, ...] = ("non-O", "O")

DESCRIPTORS: tuple[Descriptor, ...] = (
    Descriptor("OS", "class", "", BOTH, "oxidation state of the absorber", tuple(range(-4, 9))),
    Descriptor("CN", "class", "", BOTH, "first-shell coordination number", tuple(range(1, 12))),
    Descriptor("CN2", "class", "", BOTH, "second-shell coordination number", tuple(range(0, 61))),
    Descriptor("OCN", "class", "", ("non-O",), "oxygens among the first neighbours", tuple(range(0, 12))),
    Descriptor("NNRS", "regression", "Å", BOTH, "standard deviation of first-neighbour bond lengths", plausible=(0, 1)),
    Descriptor("MOOD", "regression", "Å", ("non-O",), "minimum O-O distance in the first shell", plausible=(2, 5)),
    Descriptor("NNOSM", "regression", "", ("O",), "mean oxidation state of the first neighbours", plausible=(-4, 8)),
    Descriptor(
        "PSGO",
        "class",
        "",
        BOTH,
        "order of the crystal's point group",
        (1, 2, 3, 4, 6, 8, 12, 16, 24, 48),
    ),
    Descriptor("MBL", "regression", "Å", BOTH, "mean first-neighbour bond length", plausible=(1, 4)),
)

NAMES: tuple[str, ...] = tuple(d.name for d in DESCRIPTORS)

# Learnt only where they are asked for by name.
SHELLS: tuple[Descriptor, ...] = (
    Descriptor("NN1", "elements", "", BOTH, "elements among the first neighbours"),
    Descriptor("NN2", "elements", "", BOTH, "elements in the second shell"),
)

SHELL_NAMES: tuple[str, ...] = tuple(d.name for d in SHELLS)

# float32 holds whole numbers below 2^24, so a set of elements is so many of them: bit b of word w is Z = 24 w + b.
WORD_BITS = 24
WORDS = -(-len(SYMBOLS) // WORD_BITS)

# Beside the labels because it is of each spectrum as they are. It is never an answer.
SOURCE = Descriptor("source", "class", "", BOTH, "major version of FEFF that calculated it", (6, 7, 8, 9, 10))
SOURCE_COLUMN = len(DESCRIPTORS) + len(SHELLS) * WORDS

LABELS = SOURCE_COLUMN + 1
"""Columns of labels: one of each of DESCRIPTORS, then the words of each of SHELLS, then SOURCE."""

WIDTHS = (len(DESCRIPTORS), SOURCE_COLUMN, LABELS)
"""Columns of labels that datasets have had, oldest first; each begins with those before it."""

# Elements that a structure's descriptors are about.
METALS = ("Li", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu")
EVERY: tuple[SiteKind, ...] = SITE_KINDS

STRUCTURES: tuple[Descriptor, ...] = (
    *(
        Descriptor(f"x_{m}", "regression", "", EVERY, f"{m} atoms per transition metal atom", (), (0, 20))
        for m in METALS
    ),
    *(Descriptor(f"OS_{m}", "regression", "", EVERY, f"mean oxidation state of {m}", (), (-4, 8)) for m in METALS),
    *(Descriptor(f"CN_{m}", "regression", "", EVERY, f"mean coordination number of {m}", (), (0, 12)) for m in METALS),
    *(Descriptor(f"MBL_{m}", "regression", "Å", EVERY, f"mean bond length of {m}", (), (1, 4)) for m in METALS),
    Descriptor("vacancy", "class", "", EVERY, "is any oxygen missing", (0, 1)),
    Descriptor("vacancies", "regression", "", EVERY, "share of the oxygen sites that is empty", (), (0, 1)),
    Descriptor("antisite", "class", "", EVERY, "has any lithium changed places with a metal", (0, 1)),
    Descriptor("antisites", "regression", "", EVERY, "share of the lithium sites that hold a metal", (), (0, 1)),
)

STRUCTURE_NAMES: tuple[str, ...] = tuple(d.name for d in STRUCTURES)
STRUCTURE_LABELS = LABELS + len(STRUCTURES)
"""Columns of labels of rows with several signals: LABELS, then one of each of STRUCTURES."""

COLUMNED: tuple[tuple[int, Descriptor], ...] = (*enumerate(DESCRIPTORS), *enumerate(STRUCTURES, LABELS))
"""All descriptors whose label is one column, with it. Labels of sites end before those of STRUCTURES."""


def columned(labels: np.ndarray) -> tuple[tuple[int, Descriptor], ...]:
    """Those of COLUMNED that (N, D) labels have room for."""
    return COLUMNED if labels.shape[1] == STRUCTURE_LABELS else COLUMNED[: len(DESCRIPTORS)]


def descriptor(name: str) -> Descriptor:
    for d in (*DESCRIPTORS, *SHELLS, SOURCE, *STRUCTURES):
        if d.name == name:
            return d
    raise ValueError(f"unknown descriptor {name!r}; known: {', '.join((*NAMES, *SHELL_NAMES, *STRUCTURE_NAMES))}")


def column_of(name: str) -> int:
    """Of its label, or of the first word of it."""
    for column, d in COLUMNED:
        if d.name == name:
            return column
    return len(NAMES) + WORDS * SHELL_NAMES.index(name)


# Anchors of the energy grid: one fixed energy per element, so that a chemical shift stays in the
# spectrum. K binding energies in eV from the X-ray Data Booklet (LBNL, 2009, table 1-1), except O and P
# (543.1 and 2145.5 there): in oxides FEFF's edge begins lower, and the grid must begin below the edge.
REFERENCE_ENERGY_EV: dict[tuple[str, str], float] = {
    (pair.split(":")[0], "K"): float(pair.split(":")[1])
    for pair in (
        "Li:54.7 Be:111.5 B:188 C:284.2 N:409.9 O:528 F:696.7 Na:1070.8 Mg:1303 Al:1559.6 Si:1839 "
        "P:2141 S:2472 Cl:2822.4 K:3608.4 Ca:4038.5 Sc:4492 Ti:4966 V:5465 Cr:5989 Mn:6539 Fe:7112 "
        "Co:7709 Ni:8333 Cu:8979 Zn:9659 Ga:10367 Ge:11103 As:11867 Se:12658 Br:13474 Rb:15200 "
        "Sr:16105 Y:17038 Zr:17998 Nb:18986 Mo:20000 Ru:22117 Rh:23220 Pd:24350 Ag:25514 Cd:26711 "
        "In:27940 Sn:29200 Sb:30491 Te:31814 I:33169"
    ).split()
}


@dataclass(frozen=True)
class EnergyGrid:
    """Uniform grid of `points` energies from `start` in steps of `step`, eV above the reference energy.

    Every spectrum has the first `required` of them, all where that is 0, and its edge step is measured there. Of the
    rest a spectrum has what it has: an energy beyond its end is NaN.

    A row is one spectrum, or several `signals` side by side, each of `points` numbers: docs/fusion.md.
    """

    start: Annotated[float, Range()] = 2.0
    step: Annotated[float, Range(above=0)] = 0.5
    points: Annotated[int, Range(least=16)] = 144
    required: Annotated[int, Range(least=0)] = 0
    signals: tuple[str, ...] = ()
    """What lies side by side in a row: 'Ni K' 'O K' PDF, or XANES dPDF of whichever element absorbs. A missing one is NaN."""
    each: Literal["structure", "site"] = "structure"
    """With signals: is a row a structure, of which edges are means over sites, or one site?"""
    heights: Literal["step", "area", "share"] = "step"
    """With signals: each edge has a unit edge step, or a unit mean, or its element's share of the atoms as edge step."""

    def __post_init__(self) -> None:
        check(self)
        object.__setattr__(self, "signals", tuple(self.signals))  # a list, where read from JSON
        for signal in map(parse_signal, self.signals):
            if signal.element and signal.element not in SYMBOLS[1:]:
                raise RunError(f"signals: no element {signal.element!r}")
            if signal.is_spectrum and signal.element and (signal.element, signal.edge) not in REFERENCE_ENERGY_EV:
                raise RunError(f"signals: no reference energy for the {signal.element} {signal.edge} edge")
        if 0 < self.required < 16 or self.required > self.points:
            raise RunError(f"required ({self.required}) must be 0, for all points, or 16 to points ({self.points})")
        if self.required == self.points:  # equal grids are to be equal
            object.__setattr__(self, "required", 0)

    def __str__(self) -> str:
        """For an error message."""
        first, *_, last = energy = self.relative()
        further = f", required to {energy[self.common - 1]:g} eV" if self.common < self.points else ""
        further += f", of {self.each}s with {', '.join(self.signals)} ({self.heights})" if self.signals else ""
        return f"of {self.points} points, {first:g} to {last:g} eV{further}"

    @property
    def common(self) -> int:
        """How many points, from the first, every spectrum has."""
        return self.required or self.points

    @property
    def length(self) -> int:
        """Numbers in a row."""
        return self.points * max(len(self.signals), 1)

    @property
    def labels(self) -> int:
        """Columns of labels of a row."""
        return STRUCTURE_LABELS if self.signals else LABELS

    @property
    def gaps(self) -> bool:
        """May a row lack some of its numbers?"""
        return self.common < self.points or bool(self.signals)

    @property
    def alone(self) -> EnergyGrid:
        """Of one spectrum."""
        return EnergyGrid(self.start, self.step, self.points, self.required)

    def stated(self) -> dict:
        """As it is written down; without what says nothing, as it was before there was any."""
        said: dict = {"start": self.start, "step": self.step, "points": self.points}
        if self.common < self.points:
            said["required"] = self.required
        if self.signals:
            said |= {"signals": list(self.signals), "each": self.each, "heights": self.heights}
        return said

    def relative(self) -> np.ndarray:
        """(points,) eV above the reference energy."""
        return self.start + self.step * np.arange(self.points)

    def absolute(self, element: str, edge: str = "K") -> np.ndarray:
        """(points,) eV. Raises ValueError for an edge without a reference energy.

        >>> EnergyGrid().absolute("Cu")[:3]
        array([8981. , 8981.5, 8982. ])
        """
        try:
            return REFERENCE_ENERGY_EV[element, edge] + self.relative()
        except KeyError:
            raise ValueError(f"no reference energy for the {element} {edge} edge") from None


class Batch(NamedTuple):
    """All that training sees of the data.

    spectrum: (B, L) float32, NaN at energies that are not known; of several signals one after the other, as
    `EnergyGrid.signals` names them. atomic_number: (B,) int32, 0 for a structure as a whole.
    labels: (B, LABELS) float32, or STRUCTURE_LABELS where there are several signals; a class label is the *index* into `Descriptor.classes`, a regression
    label is in its unit, a set of elements is WORDS words; 0 where masked. mask: (B, LABELS) bool,
    True where the label exists. A batch may end with those of DESCRIPTORS, and has neither sets nor a source then.
    """

    spectrum: np.ndarray
    atomic_number: np.ndarray
    labels: np.ndarray
    mask: np.ndarray


def encode_labels(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) stored labels -> (N, LABELS) Batch labels and mask. A class value missing from the table is an error.

    >>> labels = np.full((1, len(NAMES)), np.nan)
    >>> labels[0, [NAMES.index("CN"), NAMES.index("MBL")]] = 4, 1.95
    >>> encoded, mask = encode_labels(labels)
    >>> encoded[mask]  # 4 is the fourth class of CN
    array([3.  , 1.95], dtype=float32)
    """
    labels = widened(labels)
    mask = np.isfinite(labels)
    encoded = np.where(mask, labels, 0).astype(np.float32)
    for column, d in (*columned(labels), (SOURCE_COLUMN, SOURCE)):
        if d.kind == "class":
            present = mask[:, column]
            values = labels[present, column].astype(int)
            index = np.searchsorted(d.classes, values)
            known = np.take(d.classes, index, mode="clip") == values
            if not known.all():
                raise ValueError(f"{d.name} label {values[~known][0]} is not among its classes")
            encoded[present, column] = index
    return encoded, mask


def widened(labels: np.ndarray) -> np.ndarray:
    """(N, LABELS) of stored labels of sites; of an older dataset too, which has nothing of what came later."""
    if labels.shape[1] not in WIDTHS:
        return labels
    return np.pad(labels, ((0, 0), (0, LABELS - labels.shape[1])), constant_values=np.nan)


def source_of(rows: Batch) -> np.ndarray:
    """(B,) int32 number of each row's source, as of numpy so of jax: 0 where it is not known, else 1 + its class."""
    if rows.labels.shape[1] < LABELS:
        return 0 * rows.atomic_number
    return ((1 + rows.labels[:, SOURCE_COLUMN]) * rows.mask[:, SOURCE_COLUMN]).astype(np.int32)
