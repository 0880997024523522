"""Tree models on the inputs of SPT: one estimator per descriptor, answering as any other model does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.class_weight import compute_sample_weight

from data_pipelines.errors import MissingExtra
from data_pipelines.ranges import Range, check
from data_pipelines.schema import NAMES, Batch, Descriptor, columned
from spt_jax.tasks import Answers, Predictor

FORESTS = {
    "random_forest": (RandomForestClassifier, RandomForestRegressor),
    "extra_trees": (ExtraTreesClassifier, ExtraTreesRegressor),
}
BINS = 64
"""Histogram bins of XGBoost: mu varies smoothly, and its default of 256 costs four times as much for each node."""


@dataclass(frozen=True)
class TreeSettings:
    """Which trees, and how they grow. XGBoost on a descriptor of 30 classes wants `TREES["xgboost"]`, or minutes."""

    kind: Literal["decision_tree", "random_forest", "extra_trees", "xgboost"] = "extra_trees"
    """XGBoost needs the extra `baselines`."""
    trees: Annotated[int, Range(least=1)] = 500
    """Trees of a forest; rounds of XGBoost, each one tree per class."""
    max_features: Annotated[float | None, Range(above=0, most=1)] = None
    """Share of inputs tried at each node; the library's default where not given."""
    min_leaf: Annotated[int, Range(least=1)] = 1
    """Fewest training spectra in a leaf; for XGBoost their least sum of second derivatives."""
    depth: Annotated[int | None, Range(least=1)] = None
    """Deepest tree; as deep as it grows (XGBoost: 6) where not given."""
    learning_rate: Annotated[float, Range(above=0, most=1)] = 0.1
    """Share of each tree that is kept; XGBoost alone."""
    balanced: bool = False
    """Weigh spectra so that every class counts the same."""
    noise: Annotated[float, Range(least=0)] = 0.0
    """Largest sigma, in edge steps, of Gaussian noise on two more copies of each training spectrum; 0 adds none."""

    def __post_init__(self) -> None:
        check(self)


TREES: dict[str, TreeSettings] = {
    "decision_tree": TreeSettings("decision_tree", min_leaf=5),
    "random_forest": TreeSettings("random_forest"),
    "extra_trees": TreeSettings("extra_trees"),
    "xgboost": TreeSettings("xgboost", trees=200, max_features=0.3),
}


def fit_trees(settings: TreeSettings, train: Batch, seed: int, descriptors: tuple[str, ...] = NAMES) -> Predictor:
    """One estimator for each descriptor with training labels; the others are not answered.

    The inputs are the (L,) spectrum and, where the training set has several elements, the atomic number. All
    estimators are held in memory: 500 unpruned trees on 28 classes of 3,140 spectra take 0.43 GiB, the eight
    descriptors of Cu together 1.6 GiB.
    """
    train = with_noise(train, settings.noise, seed)
    several = len(np.unique(train.atomic_number)) > 1

    def inputs(spectrum: np.ndarray, atomic_number: np.ndarray) -> np.ndarray:
        return np.column_stack([spectrum, atomic_number]).astype(np.float32) if several else np.asarray(spectrum)

    fitted: list[tuple[Descriptor, np.ndarray, Any]] = []
    for column, d in columned(train.labels):
        known = train.mask[:, column]
        if d.name in descriptors and known.any():
            x = inputs(train.spectrum[known], train.atomic_number[known])
            fitted.append((d, *_fit(settings, d, x, train.labels[known, column], seed)))

    def predict(spectrum: np.ndarray, atomic_number: np.ndarray) -> Answers:
        x = inputs(spectrum, atomic_number)
        return {d.name: _answer(d, present, model, x) for d, present, model in fitted}

    return predict


def with_noise(train: Batch, largest: float, seed: int) -> Batch:
    """The spectra, and two copies with noise, each spectrum of a sigma of its own: what networks see over the epochs."""
    if not largest:
        return train
    rng, copies = np.random.default_rng(seed), [train]
    for _ in range(2):
        sigma = largest * rng.random((len(train.spectrum), 1))
        noisy = train.spectrum + sigma * rng.standard_normal(train.spectrum.shape)
        copies.append(train._replace(spectrum=noisy.astype(np.float32)))
    return Batch(*(np.concatenate(parts) for parts in zip(*copies, strict=True)))


def _fit(settings: TreeSettings, d: Descriptor, x: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, Any]:
    """(class indices that occur, estimator over them); no estimator where a single class does."""
    if d.kind == "regression":
        return np.empty(0, int), _estimator(settings, False, seed).fit(x, labels)
    # XGBoost wants classes counted from 0 without gaps.
    present, index = np.unique(labels.astype(int), return_inverse=True)
    if len(present) == 1:
        return present, None
    weight = compute_sample_weight("balanced", index) if settings.balanced else None
    return present, _estimator(settings, True, seed).fit(x, index, sample_weight=weight)


def _answer(d: Descriptor, present: np.ndarray, model: Any, x: np.ndarray) -> np.ndarray:
    """(N, C) probabilities, 0 for a class that training never showed; or (N,) values in the unit."""
    if d.kind == "regression":
        return np.clip(model.predict(x), *d.plausible)
    probabilities = np.zeros((len(x), len(d.classes)))
    probabilities[:, present] = 1.0 if model is None else model.predict_proba(x)
    return probabilities


def _estimator(settings: TreeSettings, classify: bool, seed: int) -> Any:
    """A fresh estimator with scikit-learn's interface."""
    which = 0 if classify else 1
    growth = {"random_state": seed, "max_depth": settings.depth}
    if settings.kind == "xgboost":
        try:
            from xgboost import XGBClassifier, XGBRegressor
        except ModuleNotFoundError:
            raise MissingExtra("baselines", "XGBoost") from None
        return (XGBClassifier, XGBRegressor)[which](
            n_estimators=settings.trees,
            learning_rate=settings.learning_rate,
            min_child_weight=settings.min_leaf,
            colsample_bynode=settings.max_features,
            max_bin=BINS,
            tree_method="hist",
            n_jobs=-1,
            **growth,
        )
    growth["min_samples_leaf"] = settings.min_leaf
    if settings.max_features is not None:
        growth["max_features"] = settings.max_features
    if settings.kind == "decision_tree":
        return (DecisionTreeClassifier, DecisionTreeRegressor)[which](**growth)
    return FORESTS[settings.kind][which](n_estimators=settings.trees, n_jobs=-1, **growth)
