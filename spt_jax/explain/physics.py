"""Three questions whose answers physics knows, to the data and to a model, element by element.

| question | descriptor | feature of a spectrum | why |
|---|---|---|---|
| pre-edge | CN 4 against 6 | area of mu above its lower convex hull, 15 to 5 eV below the edge | without an inversion \
centre p mixes into empty d states (Yamamoto, X-Ray Spectrometry 37, 572 (2008)) |
| edge | OS | energy of the edge (`edges.edge`) | a charged ion binds its 1s electron more tightly (Kunzl's law) |
| white line | OCN | largest mu from the edge to 15 eV above it | each neighbour scatters back, and oxygen takes charge |

Protocol, fixed before it was run on the joint set of eleven elements:

- *Data*: sites of the training split, whatever split is asked. The feature on the label by least squares: the difference of the mean areas
  (eV times edge step) of CN 4 and 6, the slope of the edge (eV per charge), the slope of the height (edge steps per O).
- *Model*: sites with the label in the split that is asked. The feature alone is made larger and smaller, and the
  change of the answer between the two is averaged: ln p(4) / p(6) with 150 and 50 % of the area; the expected OS of
  spectra moved by +1 and -1 eV, by eV; the expected OCN with 110 and 90 % of what lies above the edge step in the
  window. Both ways, so that what any odd spectrum does cancels. Needs nothing of a model but its answers.
- Windows follow the edge of each site. A site is left out where less than three energies of the pre-edge lie on the
  grid, or where the spectrum ends before the window of the white line does.
- *Standard errors* by materials: deviations of the sites of one are added before they are squared.
- *Verdict*: all three should be above zero. "seen" above three standard errors, "reversed" below minus three, else
  "not seen". Three, for some sixty questions are asked at once, and at two one or two would be seen by chance.
- *Too few*: of the data, unless two classes have 10 sites of 5 materials each; of a model, where the data have too few
  or the split asked has not 10 sites of 5 materials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from data_pipelines.dataset.data import Split, take
from data_pipelines.schema import NAMES, descriptor
from spt_jax.explain.edges import WHITE_LINE_EV, above_convex, edge, pre_edge, white_line
from spt_jax.tasks import Answers, Predictor

FEW, MANY = 4, 6
MINIMUM_SITES, MINIMUM_MATERIALS = 10, 5
# A difference is seen where it exceeds this many of its standard errors.
ERRORS = 3.0
AREA_CHANGE, HEIGHT_CHANGE, SHIFT_EV = 0.5, 0.1, 1.0
LEAST_POINTS = 3
D_ELECTRONS = (
    "A strong pre-edge needs empty 3d states (Ti, V, Cr, Mn, Fe in high charges). Cu2+ is 3d9 with one hole, mostly "
    "square planar or Jahn-Teller distorted (1s -> 4p_z gives such sites a shoulder on the rising edge), and Cu+ and "
    "Zn2+ are 3d10 without any: there the pre-edge is weak or absent, and spectra that differ elsewhere need not be "
    "told by it. FEFF computes dipole transitions, so that only p character is seen; and below its first energy the "
    "grid is filled with its first value."
)


@dataclass(frozen=True)
class Claim:
    """A feature, what it should tell, and how it is changed.

    feature(energy, mu) -> its value of one (L,) mu, NaN where it is not known. changed(energy, mu, sign) -> mu with it
    larger (sign 1) or smaller (-1). read(answers) -> (N,) what should follow. step: what the change is divided by.
    """

    name: str
    descriptor: str
    text: str
    data_unit: str
    model_unit: str
    feature: Callable[[np.ndarray, np.ndarray], float]
    changed: Callable[[np.ndarray, np.ndarray, int], np.ndarray]
    read: Callable[[Answers], np.ndarray]
    step: float = 1.0

    def rows(self, split: Split) -> tuple[np.ndarray, np.ndarray]:
        """(n,) sites of a split that are asked, and (n,) values of their labels: of CN, 1 for 4 and 0 for 6."""
        column = NAMES.index(self.descriptor)
        rows = np.flatnonzero(split.batch.mask[:, column])
        values = descriptor(self.descriptor).values(split.batch.labels[rows, column])
        if self.descriptor == "CN":
            either = np.isin(values, (FEW, MANY))
            return rows[either], (values[either] == FEW).astype(float)
        return rows, values


@dataclass(frozen=True)
class Finding:
    """How much of an effect there is, in its unit, over how many sites; None where they are too few."""

    sites: int
    effect: float | None = None
    error: float | None = None

    @property
    def verdict(self) -> str:
        """seen, not seen, reversed or too few."""
        if self.effect is None or self.error is None:
            return "too few"
        if abs(self.effect) <= ERRORS * self.error:
            return "not seen"
        return "seen" if self.effect > 0 else "reversed"

    def document(self) -> dict:
        return {**asdict(self), "verdict": self.verdict}


def findings(
    answer: Predictor,
    learnt: set[str],
    data: Split,
    asked: Split,
    energy: np.ndarray,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict]:
    """What data and model say to each question, element by element, as JSON has it. learnt: names of descriptors.

    "model" is None where it did not learn the descriptor. report(done, total) counts the elements.
    """
    found = []
    absorbers = sorted(set(data.absorbers) | set(asked.absorbers))
    for done, absorber in enumerate(absorbers, start=1):
        own, shown = (take(each, np.flatnonzero([a == absorber for a in each.absorbers])) for each in (data, asked))
        for claim in CLAIMS:
            told = {
                "absorber": absorber,
                "question": claim.name,
                "data": in_data(claim, own, energy),
                "model": None,
            }
            if claim.descriptor in learnt:
                many = told["data"].effect is not None
                told["model"] = in_model(claim, answer, shown, energy) if many else Finding(len(claim.rows(shown)[0]))
            found.append({key: each.document() if isinstance(each, Finding) else each for key, each in told.items()})
        report(done, len(absorbers))
    return found


def table(found: list[dict], data: str, asked: str) -> list[str]:
    """Lines of `findings`, for a terminal."""

    def cell(each: dict | None, unit: str) -> str:
        if each is None:
            return "not learnt"
        if each["effect"] is None:
            return f"too few    ({each['sites']} sites)"
        return f"{each['verdict']:9s}  {each['effect']:+.3f} ± {each['error']:.3f} {unit} ({each['sites']} sites)"

    lines = []
    for claim in CLAIMS:
        lines.append(f"{claim.text:39s}  {'data (' + data + ')':54s}  model ({asked})")
        lines += [
            f"  {each['absorber']:37s}  {cell(each['data'], claim.data_unit):54s}  {cell(each['model'], claim.model_unit)}"
            for each in found
            if each["question"] == claim.name
        ]
    return lines


def in_data(claim: Claim, split: Split, energy: np.ndarray) -> Finding:
    """Does the feature follow the label in the sites of one element?"""
    rows, label = claim.rows(split)
    value = np.array([claim.feature(energy, mu) for mu in split.batch.spectrum[rows]], float)
    known = np.isfinite(value)
    label, value, material = label[known], value[known], np.array(split.materials)[rows][known]
    if sum(enough(material[label == each]) for each in np.unique(label)) < 2:
        return Finding(len(label))
    return Finding(len(label), *slope(label, value, material))


def in_model(claim: Claim, answer: Predictor, split: Split, energy: np.ndarray) -> Finding:
    """Does the answer to the sites of one element follow the feature?"""
    rows, _ = claim.rows(split)
    rows = np.array([row for row in rows if np.isfinite(claim.feature(energy, split.batch.spectrum[row]))], int)
    material, batch = np.array(split.materials)[rows], split.batch
    if not enough(material):
        return Finding(len(rows))
    more, less = (
        claim.read(
            answer(
                np.stack([claim.changed(energy, mu, sign) for mu in batch.spectrum[rows]]).astype(np.float32),
                batch.atomic_number[rows],
            )
        )
        for sign in (1, -1)
    )
    change = (more - less) / claim.step
    return Finding(len(rows), float(change.mean()), standard_error(change, tuple(material)))


def enough(materials: np.ndarray) -> bool:
    return len(materials) >= MINIMUM_SITES and len(set(materials)) >= MINIMUM_MATERIALS


def slope(x: np.ndarray, y: np.ndarray, materials: np.ndarray) -> tuple[float, float]:
    """Of (N,) y on (N,) x by least squares, and its standard error by materials. Of an x of 0 and 1: difference of means."""
    x = x - x.mean()
    value = float(x @ y / (x @ x))
    _, material = np.unique(materials, return_inverse=True)
    scatter = np.bincount(material, x * (y - y.mean() - value * x))
    return value, float(np.sqrt((scatter**2).sum()) / (x @ x))


def standard_error(values: np.ndarray, materials: tuple[str, ...]) -> float:
    """Of the mean of (N,) values. Sites of one material are alike: their deviations are added before they are squared."""
    _, material = np.unique(materials, return_inverse=True)
    return float(np.sqrt((np.bincount(material, values - values.mean()) ** 2).sum()) / len(values))


def area(energy: np.ndarray, mu: np.ndarray) -> float:
    """eV times edge step."""
    inside = pre_edge(energy, edge(energy, mu))
    return float(above_convex(mu[inside]).sum() * (energy[1] - energy[0])) if inside.sum() >= LEAST_POINTS else np.nan


def with_area(energy: np.ndarray, mu: np.ndarray, sign: int) -> np.ndarray:
    """1.5 or 0.5 times the pre-edge peak."""
    inside, new = pre_edge(energy, edge(energy, mu)), mu.copy()
    new[inside] += sign * AREA_CHANGE * above_convex(mu[inside])
    return new


def height(energy: np.ndarray, mu: np.ndarray) -> float:
    """In edge steps."""
    at, last = edge(energy, mu), energy[np.isfinite(mu)][-1]
    return float(mu[white_line(energy, at)].max()) if last >= at + WHITE_LINE_EV else np.nan


def with_height(energy: np.ndarray, mu: np.ndarray, sign: int) -> np.ndarray:
    """1.1 or 0.9 times what of the white line lies above the edge step."""
    inside = white_line(energy, edge(energy, mu)) & (mu > 1)
    return np.where(inside, mu + sign * HEIGHT_CHANGE * (mu - 1), mu)


def moved(energy: np.ndarray, mu: np.ndarray, sign: int) -> np.ndarray:
    """1 eV up or down; it ends where it ended, and what comes in from beyond an end has the value there."""
    known = np.isfinite(mu)
    return np.where(known, np.interp(energy - sign * SHIFT_EV, energy[known], mu[known]), mu)


def odds(answers: Answers) -> np.ndarray:
    """(N,) ln p(CN 4) / p(CN 6)."""
    few, many = (answers["CN"][:, descriptor("CN").classes.index(number)] for number in (FEW, MANY))
    return np.log(np.maximum(few, 1e-9)) - np.log(np.maximum(many, 1e-9))


def expected(name: str) -> Callable[[Answers], np.ndarray]:
    """(N,) mean of the class probabilities."""
    return lambda answers: answers[name] @ np.array(descriptor(name).classes, float)


CLAIMS = (
    Claim(
        "pre-edge",
        "CN",
        f"the pre-edge is larger for CN {FEW} than for {MANY}",
        "eV",
        "log-odds",
        area,
        with_area,
        odds,
    ),
    Claim(
        "edge",
        "OS",
        "the edge rises with OS",
        "eV per charge",
        "charges per eV",
        edge,
        moved,
        expected("OS"),
        2 * SHIFT_EV,
    ),
    Claim(
        "white line", "OCN", "the white line rises with OCN", "steps per O", "O", height, with_height, expected("OCN")
    ),
)
