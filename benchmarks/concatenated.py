"""The recipe of machine-learning-fused spectroscopy (arXiv 2501.08919): features of each signal, side by side, to one model per target.

Features of a spectrum: its cumulative sum, cubic polynomials of stretches of 2.5 and 5 eV, and 20 Gaussians; a pair
distribution function enters as it is. Columns are standardised, then their principal components are taken. A signal
that a row lacks has the training mean of its columns. Settings are drawn at random and judged on folds over the training
materials alone, as many for every model.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_pipelines.errors import MissingExtra
from data_pipelines.schema import Descriptor, EnergyGrid
from data_pipelines.signals import parse_signal
from spt_jax.explain.signals import measure_of, scored, told

PIECES_EV = (2.5, 5.0)
GAUSSIANS, WIDEST_EV, NARROWEST_EV = 20, 5.0, 0.5
SECONDS, CALLS = 2.0, 60  # of one fit of Gaussians
KINDS = ("spectra", "cdf", "cubic", "gaussians")
INNER = 3  # folds that settings are judged on
Models = tuple[Callable[..., Any], Callable[..., Any]]


@dataclass(frozen=True)
class Features:
    """values: (N, F), NaN where a row lacks the signal. signal, kind: (F,) which signal and which of KINDS a column is of."""

    values: np.ndarray
    signal: np.ndarray
    kind: np.ndarray

    def columns(self, signals: tuple[int, ...], kinds: tuple[str, ...]) -> np.ndarray:
        return self.values[:, np.isin(self.signal, signals) & np.isin(self.kind, kinds)]


def features(spectrum: np.ndarray, grid: EnergyGrid, kinds: tuple[str, ...], cache: Path | None = None) -> Features:
    """Of (N, S * L) rows. A function of r is of every kind, as it is. cache: folder where fitted Gaussians are kept."""
    found: list[tuple[np.ndarray, int, str]] = []
    energy = grid.relative()
    for place, (name, own) in enumerate(zip(grid.signals, np.split(spectrum, len(grid.signals), axis=1), strict=True)):
        there = np.isfinite(own).all(axis=1)
        for kind in kinds:
            if kind == "spectra" or not parse_signal(name).is_spectrum:
                made = own[there]
            elif kind == "cdf":
                made = cdf(own[there])
            elif kind == "cubic":
                made = np.hstack([cubic(own[there], energy, width) for width in PIECES_EV])
            else:
                made = all_gaussians(own[there], energy, cache)
            block = np.full((len(own), made.shape[1]), np.nan)
            block[there] = made
            found.append((block, place, kind))
    return Features(
        np.hstack([block for block, _, _ in found]),
        np.concatenate([np.full(block.shape[1], place) for block, place, _ in found]),
        np.concatenate([np.full(block.shape[1], kind) for block, _, kind in found]),
    )


def cdf(mu: np.ndarray) -> np.ndarray:
    """(N, L) -> (N, L) cumulative sum, 1 at the end."""
    total = np.cumsum(mu, axis=1, dtype=np.float64)
    return total / total[:, -1:]


def cubic(mu: np.ndarray, energy: np.ndarray, width: float) -> np.ndarray:
    """(N, L) -> (N, 4 P) coefficients of the cubic that is nearest to each stretch, its energies scaled to -1 ... 1."""
    size, found = max(round(width / (energy[1] - energy[0])), 4), []
    for start in range(0, len(energy) - size + 1, size):
        powers = np.vander(np.linspace(-1, 1, size), 4)
        found.append(mu[:, start : start + size] @ np.linalg.pinv(powers).T)
    return np.hstack(found)


def all_gaussians(mu: np.ndarray, energy: np.ndarray, cache: Path | None) -> np.ndarray:
    """(N, L) -> (N, 60) as of `gaussians`."""
    key = hashlib.sha256(np.ascontiguousarray(mu, np.float32).tobytes() + energy.tobytes()).hexdigest()[:16]
    path = cache and cache / f"gaussians-{key}.npy"
    if path and path.exists():
        return np.load(path)
    found = np.array([gaussians(row, energy) for row in mu]).reshape(len(mu), 3 * GAUSSIANS)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, found)
    return found


def gaussians(mu: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """(L,) -> (60,) heights, centres and full widths at half maximum of 20 Gaussians whose sum is nearest to it.

    Each within its own twentieth of the energies and half of its neighbours', so that a column means the same in every
    spectrum. At most SECONDS or CALLS: what was reached then.
    """
    edges = np.linspace(energy[0], energy[-1], GAUSSIANS + 1)
    middle, reach = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    start = np.concatenate(
        [np.maximum(np.interp(middle, energy, mu), 1e-3), middle, np.full(GAUSSIANS, 0.8 * WIDEST_EV)]
    )
    low = np.concatenate([np.zeros(GAUSSIANS), middle - reach, np.full(GAUSSIANS, NARROWEST_EV)])
    high = np.concatenate([np.full(GAUSSIANS, 2 * mu.max() + 1), middle + reach, np.full(GAUSSIANS, WIDEST_EV)])
    began, scale = time.monotonic(), 4 * np.log(2)
    best = [np.inf, start]

    def parts(x: np.ndarray) -> tuple[np.ndarray, ...]:
        height, centre, width = np.split(x, 3)
        apart = energy[:, None] - centre
        return height, width, apart, np.exp(-scale * (apart / width) ** 2)

    def missing(x: np.ndarray) -> np.ndarray:
        height, _, _, shape = parts(x)
        left = shape @ height - mu
        if (cost := float(left @ left)) < best[0]:
            best[:] = cost, x.copy()
        if time.monotonic() - began > SECONDS:
            raise TimeoutError
        return left

    def slopes(x: np.ndarray) -> np.ndarray:
        height, width, apart, shape = parts(x)
        curve = height * shape * 2 * scale * apart / width**2
        return np.hstack([shape, curve, curve * apart / width])

    with suppress(TimeoutError):
        least_squares(missing, start, slopes, (low, high), max_nfev=CALLS)
    return best[1]


def boosted() -> Models:
    try:
        from xgboost import XGBClassifier, XGBRegressor
    except ModuleNotFoundError:
        raise MissingExtra("study", "gradient boosting") from None
    return XGBClassifier, XGBRegressor


def linear(C: float, random_state: int) -> tuple[Any, Any]:
    return LogisticRegression(C=C, max_iter=2000, random_state=random_state), Ridge(alpha=1 / C)


FEATURE_SETS = (("cdf",), ("cubic",), ("cdf", "cubic"), ("cdf", "cubic", "gaussians"), ("spectra",))
COMPONENTS = (10, 20, 40)
_FOREST = {"n_estimators": (150,), "min_samples_leaf": (1, 2, 4), "max_features": ("sqrt", 0.3, 1.0)}
SPACES: dict[str, dict[str, tuple]] = {
    "gradient boosting": {
        "n_estimators": (100, 200, 400),
        "max_depth": (2, 3, 5),
        "learning_rate": (0.03, 0.1, 0.2),
        "subsample": (0.7, 1.0),
        "colsample_bytree": (0.5, 1.0),
    },
    "random forest": _FOREST,
    "extra trees": _FOREST,
    "logistic regression": {"C": (0.01, 0.1, 1.0, 10.0)},
    "MLP": {"alpha": (1e-4, 1e-2, 1.0), "learning_rate_init": (1e-3, 3e-3), "hidden_layer_sizes": ((128, 64),)},
}


@dataclass(frozen=True)
class Setting:
    """kinds: features. components: of PCA, 0 for none. fields: of the estimator, as (name, value)."""

    kinds: tuple[str, ...]
    components: int
    fields: tuple[tuple[str, Any], ...]


def draw(model: str, count: int, seed: int, kinds: tuple[str, ...] = KINDS) -> list[Setting]:
    """So many different settings, or all there are; of feature sets that need no others than `kinds`."""
    rng, found = np.random.default_rng(seed), []
    sets = [each for each in FEATURE_SETS if set(each) <= set(kinds)]
    for _ in range(20 * count):
        own = tuple((name, values[rng.integers(len(values))]) for name, values in SPACES[model].items())
        made = Setting(sets[rng.integers(len(sets))], int(rng.choice(COMPONENTS)), own)
        if made not in found:
            found.append(made)
        if len(found) == count:
            break
    return found


Fitted = Callable[[np.ndarray], np.ndarray]


def fit(model: str, setting: Setting, d: Descriptor, x: np.ndarray, labels: np.ndarray, seed: int) -> Fitted:
    """(n, F) columns and (n,) labels -> a function of columns that gives (N, C) probabilities or (N,) values."""
    which, given = int(d.kind == "regression"), dict(setting.fields)
    if model == "gradient boosting":
        estimator = boosted()[which](random_state=seed, n_jobs=1, tree_method="hist", **given)
    elif model == "logistic regression":
        estimator = linear(**given, random_state=seed)[which]
    elif model == "MLP":
        estimator = (MLPClassifier, MLPRegressor)[which](random_state=seed, max_iter=400, **given)
    else:
        forest = {
            "random forest": (RandomForestClassifier, RandomForestRegressor),
            "extra trees": (ExtraTreesClassifier, ExtraTreesRegressor),
        }[model]
        estimator = forest[which](random_state=seed, n_jobs=1, **given)
    steps: list[Any] = [SimpleImputer(keep_empty_features=True), StandardScaler()]
    if setting.components:
        steps.append(PCA(min(setting.components, *x.shape), random_state=seed))
    classes = len(d.classes)
    present, index = np.unique(labels.astype(int), return_inverse=True) if classes else (None, labels)
    if present is not None and len(present) == 1:
        return lambda rows: np.eye(classes)[np.full(len(rows), present[0])]
    # A target of small spread would be left alone by penalties that are made for one of spread 1.
    middle, spread = (0.0, 1.0) if classes else (labels.mean(), max(labels.std(), 1e-9))
    fitted = make_pipeline(*steps, estimator).fit(x, index if classes else (labels - middle) / spread)

    def answer(rows: np.ndarray) -> np.ndarray:
        if present is None:
            return np.clip(fitted.predict(rows) * spread + middle, *d.plausible)
        found = np.zeros((len(rows), classes))
        found[:, present] = fitted.predict_proba(rows)
        return found

    return answer


def search(
    model: str,
    settings: list[Setting],
    d: Descriptor,
    of: Callable[[tuple[str, ...]], np.ndarray],
    labels: np.ndarray,
    groups: np.ndarray,
    seed: int,
) -> Setting:
    """The setting with the best mean score on INNER folds over the groups of the training rows.

    of: columns of the training rows by kinds of features. A fold on which there is no score counts for none.
    """
    if len(settings) == 1 or len(np.unique(groups)) < INNER:
        return settings[0]
    measure, mean = measure_of(d), {}
    for setting in settings:
        x, scores = of(setting.kinds), []
        for train, held in GroupKFold(INNER).split(x, groups=groups):
            said = told(d, fit(model, setting, d, x[train], labels[train], seed)(x[held]))
            scores.append(measure.better * scored(d, labels[held], said))
        finite = [score for score in scores if np.isfinite(score)]
        mean[setting] = np.mean(finite) if finite else -np.inf
    return max(settings, key=mean.__getitem__)


def importance(
    answer: Fitted, d: Descriptor, x: np.ndarray, owner: np.ndarray, labels: np.ndarray, seed: int, repeats: int = 10
) -> np.ndarray:
    """(S,) score lost when all columns of a signal are dealt anew among the rows together, in the mean of `repeats`.

    owner: (F,) which signal a column is of.
    """
    rng, better = np.random.default_rng(seed), measure_of(d).better
    whole, lost = scored(d, labels, told(d, answer(x))), []
    for signal in range(owner.max() + 1):
        own, scores = owner == signal, []
        for _ in range(repeats):
            mixed = x.copy()
            mixed[:, own] = x[rng.permutation(len(x))][:, own]
            scores.append(better * (whole - scored(d, labels, told(d, answer(mixed)))))
        lost.append(float(np.mean(scores)))
    return np.array(lost)
