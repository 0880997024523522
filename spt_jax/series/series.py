"""A series of spectra of one absorber -> what changes along it: descriptors with their doubt, trends, species, fractions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.readers.measured import Foil, Measured, Normalisation, ReadAs
from data_pipelines.readers.spectrum import read_spectra
from data_pipelines.schema import descriptor
from data_pipelines.spectra.combination import Combination, combination
from data_pipelines.spectra.components import Components, components
from data_pipelines.spectra.normalise import edge_energy
from data_pipelines.spectra.together import Together, together
from spt_jax.inference.measured import Calibration
from spt_jax.inference.predict import Model
from spt_jax.inference.prediction import Prediction, Value
from spt_jax.inference.said import told
from spt_jax.inference.spectra import predict_files
from spt_jax.series.order import Axis, Order, Place, axis_of, natural, places
from spt_jax.series.trends import Stretch, Trend, parts, trend

# Fewer spectra are no series.
LEAST = 3
# Two neighbouring oxidation states that have this much probability each, and so much together, are told: a mixture or doubt.
SPLIT, BOTH = 0.25, 0.8
EDGE = "edge"

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Quantity:
    """One number along N spectra; NaN where nothing is said. value: (N,) as the model decides. mean: (N,) expected, of a
    class by its calibrated probabilities. low, high: (N,) the 90 % interval of a value, one standard deviation of the
    probabilities about the mean of a class; NaN where there is none. trend and parts: None and empty where fewer than
    three spectra have it; `start` and `stop` of parts count those that have it.
    """

    name: str
    unit: str
    meaning: str
    value: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    trend: Trend | None
    parts: tuple[Stretch, ...]

    @property
    def known(self) -> np.ndarray:
        """(N,) bool."""
        return np.isfinite(self.mean)

    def level(self, place: np.ndarray) -> np.ndarray:
        """(N,) what the parts have at each spectrum; NaN where nothing is said."""
        found = np.full(len(place), np.nan)
        own = np.flatnonzero(self.known)
        for part in self.parts:
            rows = own[part.start : part.stop]
            found[rows] = part.level + part.slope * place[rows]
        return found

    def changes(self, place: np.ndarray) -> list[tuple[float, float]]:
        """Between which places one part ends and the next begins."""
        own = place[self.known]
        return [(float(own[part.start - 1]), float(own[part.start])) for part in self.parts[1:]]


@dataclass(frozen=True)
class Followed:
    """predictions, notes, fits: of N spectra in order. compared: their normalised spectra, then the references. names: of R
    references. ends: are these only the two ends of the series? left_out: why other spectra are not in it, a line each.
    """

    absorber: str
    axis: Axis
    predictions: tuple[Prediction, ...]
    notes: tuple[tuple[str, ...], ...]
    quantities: tuple[Quantity, ...]
    compared: Together
    components: Components
    names: tuple[str, ...]
    ends: bool
    fits: tuple[Combination, ...]
    left_out: tuple[tuple[str, str], ...]
    split: int


def follow(
    model: Model,
    files: Sequence[Path],
    order: Order = "name",
    values: Path | None = None,
    references: Sequence[Path] = (),
    read_as: ReadAs | None = None,
    calibration: Calibration | None = None,
    foil: Foil = "auto",
    normalise: Normalisation = "edges",
    report: Report | None = None,
) -> Followed:
    """A series of spectrum files, ordered as asked. values: a table of file,value that says the places. references: files of
    spectra whose shares are fitted; the mean spectra at both ends of the series where none are given. The rest is as of
    `predict_files`.

    A spectrum that cannot be used, or has no place, is left out and told in `left_out`. Raises UserError where fewer than
    three are left, where they are of several absorbers or stand at one place, and for a reference that cannot be used.
    """
    read_as = read_as or ReadAs()
    given = [each for file in references for each in _references(file, read_as)]
    found: dict[str, Prediction] = {}
    left_out: list[tuple[str, str]] = []
    done = 0
    asked = predict_files(model, files, None, None, read_as, calibration, foil, normalise)
    for done, each in enumerate(asked, start=1):
        if each.error or each.name in found:
            left_out.append((each.name, each.error or f"{each.name}: given more than once"))
        else:
            found[each.name] = each
        if report:
            report("spectra", done, max(done, len(files)))
    absorber = _absorber(list(found.values()))
    spectra = _read(list(found), read_as)
    place: dict[str, Place] = {}
    for name, where in places(list(found), order, values).items():
        try:
            if isinstance(where, UserError):
                raise where
            edge_energy(spectra[name].energy, spectra[name].mu)
            place[name] = where
        except UserError as error:
            left_out.append((name, told(name, error)))
    if len(place) < LEAST:
        first = f"; {left_out[0][1]}" if left_out else ""
        raise UserError(f"a series is of {LEAST} spectra or more, {len(place)} of {done} can be used{first}")
    ordered = sorted(place, key=lambda name: (place[name].value, natural(name)))
    axis = axis_of(order, np.array([place[name].value for name in ordered]))
    if axis.place[0] == axis.place[-1]:
        raise UserError(
            f"all {len(ordered)} spectra have one {order}, {axis.place[0]:g}; say where each is with --values"
        )
    _one_scale(given, absorber, [spectra[name] for name in ordered])
    arrays = [(name, spectra[name].energy, spectra[name].mu) for name in ordered]
    compared = together([*arrays, *((name, each.energy, each.mu) for name, each in given)], len(ordered))
    count = len(ordered)
    if given:
        names, ends, doubt = tuple(name for name, _ in given), compared.mu[count:], compared.doubt[count:]
    else:
        names, ends, doubt = _ends(axis, compared)
    fits = tuple(
        combination(compared.energy, mu, ends, own, doubt)
        for mu, own in zip(compared.mu[:count], compared.doubt, strict=False)
    )
    predictions = tuple(found[name] for name in ordered)
    mixed = [_split(each) for each in predictions]
    notes = tuple(
        tuple(filter(None, (*each.warnings, place[each.name].note, *each.notes, doubt, *fit.doubts.values())))
        for each, doubt, fit in zip(predictions, mixed, fits, strict=True)
    )
    return Followed(
        absorber,
        axis,
        predictions,
        notes,
        (_edge(axis.place, compared.half[:count]), *_quantities(axis.place, predictions)),
        compared,
        components(compared.mu[:count]),
        names,
        not given,
        fits,
        tuple(left_out),
        sum(map(bool, mixed)),
    )


def _absorber(said: Sequence[Prediction]) -> str:
    counts = {each: sum(one.absorber == each for one in said) for each in sorted({one.absorber for one in said})}
    if len(counts) > 1:
        these = ", ".join(f"{absorber} ({count})" for absorber, count in counts.items())
        raise UserError(f"a series is of one absorber, these are of {these}; give the files of one")
    return next(iter(counts), "")


def _read(names: Sequence[str], read_as: ReadAs) -> dict[str, Measured]:
    """The spectra again, as their files have them: answers are given for energies that were moved."""
    files = dict.fromkeys(name if Path(name).is_file() else name.partition("#")[0] for name in names)
    return {name: each for file in files for name, each in read_spectra(file, read_as) if isinstance(each, Measured)}


def _references(file: Path, read_as: ReadAs) -> list[tuple[str, Measured]]:
    found = []
    try:
        # What is said of columns and absorber is said of the files of the series: what a reference states is compared with it.
        own = replace(read_as, element=None, edge=None, columns="", channel=None, beamline="")
        for name, each in read_spectra(file, own):
            if isinstance(each, UserError):
                raise each
            found.append((name.partition("#")[2] or Path(name).stem, each))
    except (UserError, OSError) as error:
        raise UserError(f"reference {file}: {getattr(error, 'strerror', None) or error}") from None
    return found


def _one_scale(references: Sequence[tuple[str, Measured]], absorber: str, spectra: Sequence[Measured]) -> None:
    calculated = {each.calculated for each in spectra}
    for name, each in references:
        own = f"{each.element} {each.edge or 'K'}"
        if each.element and own != absorber:
            raise UserError(f"reference {name} is of {own}, the series of {absorber}")
        if each.calculated not in calculated:
            own, others = ("calculated", "measured") if each.calculated else ("measured", "calculated")
            raise UserError(f"reference {name} is {own}, the series is {others}: they have not one energy scale")


def _ends(axis: Axis, compared: Together) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """The spectra at the first and at the last place, each as their mean: names, mu, and doubt of their edge steps."""
    ends = [axis.place == place for place in axis.place[[0, -1]]]
    names = tuple(axis.said(float(place)) for place in axis.place[[0, -1]])
    # What moves all steps alike, the fine structure where they are measured, is no less in a mean.
    return (
        names,
        np.stack([compared.mu[own].mean(axis=0) for own in ends]),
        np.array([compared.doubt[own].mean() for own in ends]),
    )


def _split(prediction: Prediction) -> str:
    """A note where the oxidation state is shared by two neighbouring ones."""
    chances = prediction.values["OS"].probabilities if "OS" in prediction.values else {}
    likely = sorted(chances, key=lambda state: -chances[state])[:2]
    if len(likely) < 2 or abs(likely[0] - likely[1]) > 1:
        return ""
    if min(chances[state] for state in likely) < SPLIT or sum(chances[state] for state in likely) < BOTH:
        return ""
    low, high = sorted(likely)
    return (
        f"OS is split, {low}: {100 * chances[low]:.0f} %, {high}: {100 * chances[high]:.0f} %: two sites, a mixed valence, or "
        "doubt; the answer is a mean over the sites"
    )


def _edge(place: np.ndarray, half: np.ndarray) -> Quantity:
    none = np.full(len(half), np.nan)
    meaning = "energy of half the edge step, as measured"
    return Quantity(EDGE, "eV", meaning, half, half, none, none, trend(place, half), tuple(parts(place, half)))


def _quantities(place: np.ndarray, predictions: Sequence[Prediction]) -> list[Quantity]:
    names = dict.fromkeys(name for each in predictions for name in each.values if descriptor(name).kind != "elements")
    found = []
    for name in names:
        d = descriptor(name)
        value, mean, low, high = np.array([_numbers(each.values.get(name)) for each in predictions]).T
        own = np.isfinite(mean)
        many = own.sum() >= LEAST and np.ptp(place[own]) > 0
        found.append(
            Quantity(
                name,
                d.unit,
                d.meaning,
                value,
                mean,
                low,
                high,
                trend(place[own], mean[own]) if many else None,
                tuple(parts(place[own], mean[own])) if many else (),
            )
        )
    return found


def _numbers(value: Value | None) -> tuple[float, float, float, float]:
    """What is decided, expected, and the ends of the band."""
    if value is None or isinstance(value.value, tuple):
        return (np.nan,) * 4
    if not value.probabilities:
        return (float(value.value), float(value.value), *(value.interval or (np.nan, np.nan)))
    classes, chances = (np.array(list(each), float) for each in (value.probabilities, value.probabilities.values()))
    chances = chances / chances.sum()
    mean = float(classes @ chances)
    spread = float(np.sqrt(max(classes**2 @ chances - mean**2, 0)))
    return float(value.value), mean, max(mean - spread, classes[0]), min(mean + spread, classes[-1])
