"""The contract between data and training: descriptor table, energy grid and Batch.

Everything that depends on *which* descriptors exist (labels, masks, heads, losses,
metrics, printed tables) follows from `DESCRIPTORS`. A fork adds a descriptor with one row
here and one function in `descriptors.py`. `SHELLS` are those whose label is a set of elements.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np

from data_pipelines.errors import RunError
from data_pipelines.ranges import Range, check

# Index = atomic number; "" stands at 0.
SYMBOLS: tuple[str, ...] = (
    "",
    *(
        "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr "
        "Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta "
        "W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm"
    ).split(),
)

SiteKind = Literal["non-O", "O"]
SITE_KINDS: tuple[SiteKind, ...] = ("non-O", "O")


def site_kind(element: str) -> SiteKind:
    """Oxygen absorbers carry other descriptors than all the rest (paper, section on the XAS data engine)."""
    return "O" if element == "O" else "non-O"


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


def descriptor(name: str) -> Descriptor:
    for d in (*DESCRIPTORS, *SHELLS, SOURCE):
        if d.name == name:
            return d
    raise ValueError(f"unknown descriptor {name!r}; known: {', '.join((*NAMES, *SHELL_NAMES))}")


def column_of(name: str) -> int:
    """Of its label, or of the first word of it."""
    return NAMES.index(name) if name in NAMES else len(NAMES) + WORDS * SHELL_NAMES.index(name)


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
    """

    start: Annotated[float, Range()] = 2.0
    step: Annotated[float, Range(above=0)] = 0.5
    points: Annotated[int, Range(least=16)] = 144
    required: Annotated[int, Range(least=0)] = 0

    def __post_init__(self) -> None:
        check(self)
        if 0 < self.required < 16 or self.required > self.points:
            raise RunError(f"required ({self.required}) must be 0, for all points, or 16 to points ({self.points})")
        if self.required == self.points:  # equal grids are to be equal
            object.__setattr__(self, "required", 0)

    def __str__(self) -> str:
        """For an error message."""
        first, *_, last = energy = self.relative()
        further = f", required to {energy[self.common - 1]:g} eV" if self.gaps else ""
        return f"of {self.points} points, {first:g} to {last:g} eV{further}"

    @property
    def common(self) -> int:
        """How many points, from the first, every spectrum has."""
        return self.required or self.points

    @property
    def gaps(self) -> bool:
        """May a spectrum end before the grid does?"""
        return self.common < self.points

    def stated(self) -> dict:
        """As it is written down; without `required` where that says nothing, as it was before there was any."""
        return {name: value for name, value in asdict(self).items() if name != "required" or self.gaps}

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

    spectrum: (B, L) float32, NaN at energies that are not known. atomic_number: (B,) int32.
    labels: (B, LABELS) float32; a class label is the *index* into `Descriptor.classes`, a regression
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
    for column, d in (*enumerate(DESCRIPTORS), (SOURCE_COLUMN, SOURCE)):
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
    """(N, LABELS) of stored labels; of an older dataset too, which has nothing of what came later."""
    if labels.shape[1] not in WIDTHS:
        return labels
    return np.pad(labels, ((0, 0), (0, LABELS - labels.shape[1])), constant_values=np.nan)


def words_of(atomic_numbers: Iterable[int]) -> np.ndarray:
    """A set of elements -> (WORDS,) float32. Raises ValueError for one that is not in SYMBOLS.

    >>> members(words_of({8, 29})[None])[0].nonzero()[0].tolist()
    [8, 29]
    """
    words = [0] * WORDS
    for number in set(atomic_numbers):
        if not 0 < number < len(SYMBOLS):
            raise ValueError(f"no element {number}")
        words[number // WORD_BITS] |= 1 << number % WORD_BITS
    return np.array(words, np.float32)


def members(words: np.ndarray) -> np.ndarray:
    """(N, WORDS) words -> (N, Z) bool: is the element of this atomic number in the set?"""
    bits = words.astype(np.int64)[:, :, None] >> np.arange(WORD_BITS) & 1
    return bits.reshape(len(words), WORDS * WORD_BITS)[:, : len(SYMBOLS)].astype(bool)


def shell_labels(rows: Batch, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(N,) which rows have the set of a shell, and (n, Z) `members` of those that have it."""
    column = column_of(name)
    if rows.labels.shape[1] < SOURCE_COLUMN:
        return np.zeros(len(rows.labels), bool), np.zeros((0, len(SYMBOLS)), bool)
    known = np.asarray(rows.mask[:, column])
    return known, members(np.asarray(rows.labels)[known, column : column + WORDS])


def source_of(rows: Batch) -> np.ndarray:
    """(B,) int32 number of each row's source, as of numpy so of jax: 0 where it is not known, else 1 + its class."""
    if rows.labels.shape[1] < LABELS:
        return 0 * rows.atomic_number
    return ((1 + rows.labels[:, SOURCE_COLUMN]) * rows.mask[:, SOURCE_COLUMN]).astype(np.int32)
