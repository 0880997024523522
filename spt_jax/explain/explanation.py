"""All that can be said of how a model reads the spectra of one element: the document behind the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from data_pipelines.dataset.loading import Dataset, Split
from data_pipelines.dataset.resplit import take
from data_pipelines.errors import DatasetError
from data_pipelines.schema import NAMES, Batch, descriptor
from spt_jax.explain import ablation, physics
from spt_jax.explain.attribution import TOLERANCE, Attribution, Explainer, Looked, Question, evenly_received
from spt_jax.explain.edges import edge, far_windows, pre_edge
from spt_jax.inference.predict import Model
from spt_jax.tasks import Task

# Groups of one descriptor, each drawn as a curve; and the fewest sites whose mean is worth one.
MOST_GROUPS, FEWEST_SITES = 5, 3
WINDOW_EV = 3.0

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Group:
    """Sites that are averaged: those of one class, or a third of the values. rows: (n,) of the batch."""

    label: str
    rows: np.ndarray
    of: int = 0

    def sample(self, most: int) -> np.ndarray:
        """At most so many of its rows, evenly from all."""
        return self.rows[np.linspace(0, len(self.rows) - 1, min(most, len(self.rows))).astype(int)]


def groups(task: Task, batch: Batch) -> list[Group]:
    """The most frequent classes, in order; or the lower, middle and upper third of the values. None of a shell."""
    if task.kind == "elements":
        return []
    rows = np.flatnonzero(batch.mask[:, task.column])
    labels = batch.labels[rows, task.column]
    if task.classes:
        found, counts = np.unique(labels.astype(int), return_counts=True)
        kept = sorted(found[np.argsort(-counts, kind="stable")][:MOST_GROUPS])
        made = [Group(f"{descriptor(task.name).classes[c]}", rows[labels == c], int(c)) for c in kept]
    else:
        # A value that never changes is one group.
        thirds = [part for part in np.array_split(np.argsort(labels, kind="stable"), 3) if len(part)]
        thirds = thirds if len(labels) and np.ptp(labels) > 0 else [np.arange(len(labels))]
        made = [
            Group(f"{labels[part].min():.2f} to {labels[part].max():.2f}", rows[part]) for part in thirds if len(part)
        ]
    return [group for group in made if len(group.rows) >= FEWEST_SITES]


def select(model: Model, dataset: Dataset, name: str, element: str | None) -> tuple[Split, str]:
    """The sites of one absorber in a split, and its name, "Cu K": the most frequent one where no element is given.

    Raises DatasetError or SpectrumError where the split, its grid or the element do not fit the model.
    """
    model.check_grid(dataset.name, dataset.grid)
    split = dataset.split(name)
    known = sorted(set(split.absorbers), key=lambda absorber: (-split.absorbers.count(absorber), absorber))
    found = [absorber for absorber in known if element is None or absorber.split()[0] == element]
    if not found:
        raise DatasetError(f"{dataset.path}: no {element} in split {name!r}; it has {', '.join(known)}")
    absorber = model.absorber(*found[0].split())
    return take(split, np.flatnonzero([each == absorber for each in split.absorbers])), absorber


def explain(model: Model, split: Split, sites: int, report: Report) -> dict:
    """What JSON and page tell of the spectra of one absorber. `sites`: how many of each group get integrated gradients.

    report(stage, done, total) is called as work goes on. Raises RunError for a model without inner parts.
    """
    explainer, blueprint, batch = Explainer(model), model.blueprint, split.batch
    energy, mean = blueprint.grid.relative(), np.array(blueprint.spectrum_mean)
    looked = explainer.look(batch.spectrum, batch.atomic_number)
    asked = [(task, found) for task in blueprint.learnt_tasks if (found := groups(task, batch))]
    attributed: dict[str, tuple[np.ndarray, Attribution]] = {}
    for done, (task, found) in enumerate(asked):
        rows = [group.sample(sites) for group in found]
        questions = [Question(task, group.of) for group, own in zip(found, rows, strict=True) for _ in own]
        together = np.concatenate(rows)
        report("gradients", done, len(asked) + 1)
        attribution = explainer.attribute(batch.spectrum[together], batch.atomic_number[together], questions)
        attributed[task.name] = together, attribution
    report("gradients", len(asked), len(asked) + 1)
    checks = _coordination(explainer, model, split, sites, energy, mean), _oxidation(model, split, attributed, energy)
    report("gradients", len(asked) + 1, len(asked) + 1)
    return {
        "sites": len(split.ids),
        "energy_ev": energy.tolist(),
        "training_mean": mean.tolist(),
        "mean": _listed(_mean_curve(batch.spectrum)),
        "even_attention": evenly_received(len(energy), blueprint.model.window).tolist(),
        "tolerance": TOLERANCE,
        "checks": checks,
        "descriptors": {
            task.name: _descriptor(task, found, split, energy, looked, *attributed[task.name]) for task, found in asked
        },
        "ablation": _ablation(model, batch, energy, report),
    }


def _mean_curve(spectra: np.ndarray) -> np.ndarray:
    """(N, L) -> (L,) float64 mean of those that have the energy; NaN where none has."""
    known = np.isfinite(spectra)
    total = np.where(known, spectra, 0).sum(axis=0, dtype=np.float64)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


def _listed(curve: np.ndarray) -> list[float | None]:
    """For JSON, which has no NaN."""
    return [value if np.isfinite(value) else None for value in curve.tolist()]


def _descriptor(
    task: Task,
    found: list[Group],
    split: Split,
    energy: np.ndarray,
    looked: Looked,
    explained: np.ndarray,
    attribution: Attribution,
) -> dict:
    step = energy[1] - energy[0]
    curves = []
    for group in found:
        mu, own = _mean_curve(split.batch.spectrum[group.rows]), np.isin(explained, group.rows)
        curves.append(
            {
                "label": group.label,
                "sites": len(group.rows),
                "explained": int(own.sum()),
                "edge_ev": edge(energy, mu),
                "mean": _listed(mu),
                "attribution_per_ev": (attribution.values[own].mean(axis=0) / step).tolist(),
                "attention": looked.attention[group.rows].mean(axis=0).tolist(),
                "shares": looked.shares[group.rows].mean(axis=0).tolist(),
                "chosen": looked.chosen[group.rows].mean(axis=0).tolist(),
            }
        )
    unit = descriptor(task.name).unit
    return {
        "kind": descriptor(task.name).kind,
        "unit": "log-odds" if task.classes else unit,
        "groups": curves,
        "gap": attribution.gap,
        "choice": attribution.choice,
    }


def _ablation(model: Model, batch: Batch, energy: np.ndarray, report: Report) -> dict:
    mean, std = (np.array(each) for each in (model.blueprint.spectrum_mean, model.blueprint.spectrum_std))
    by_element = model.network.by_element
    standard = by_element.of(int(batch.atomic_number[0])) if by_element else (mean, std)
    frequencies = range(1, model.blueprint.model.highest_band + 1)
    cut = ablation.windows(len(energy), max(round(WINDOW_EV / (energy[1] - energy[0])), 1))
    total = len(frequencies) + len(cut)
    scores, bands = ablation.losses(
        model.answers,
        batch,
        (ablation.without_frequency(batch.spectrum, f, *standard) for f in frequencies),
        len(frequencies),
        lambda done, _: report("ablation", done, total),
    )
    _, windows = ablation.losses(
        model.answers,
        batch,
        (ablation.without_window(batch.spectrum, window, mean) for window in cut),
        len(cut),
        lambda done, _: report("ablation", len(frequencies) + done, total),
    )
    return {
        "scores": scores,
        "frequencies": list(frequencies),
        "bands": {name: values.tolist() for name, values in bands.items()},
        "window_starts_ev": [float(energy[window.start]) for window in cut],
        "windows": {name: values.tolist() for name, values in windows.items()},
    }


def _coordination(
    explainer: Explainer, model: Model, split: Split, sites: int, energy: np.ndarray, mean: np.ndarray
) -> dict:
    few, many = physics.FEW, physics.MANY
    classes, column = descriptor("CN").classes, NAMES.index("CN")
    task = next((task for task in model.blueprint.learnt_tasks if task.name == "CN"), None)
    index = [classes.index(number) for number in (few, many)]
    of = [np.flatnonzero(split.batch.mask[:, column] & (split.batch.labels[:, column] == i)) for i in index]
    if task is None or min(map(len, of)) < FEWEST_SITES:
        return _not_asked(f"CN {few} against {many}: not asked, for the model or the split has too few such sites")
    below = min(edge(energy, split.batch.spectrum[rows].mean(axis=0)) for rows in of)
    points = int(pre_edge(energy, below).sum())
    if not points or not far_windows(energy, below, points):
        return _not_asked(f"CN {few} against {many}: not asked, for the grid has no pre-edge or nothing far above it")
    rows = np.concatenate([Group("", each).sample(sites) for each in of])
    batch = split.batch
    questions = [Question(task, index[0], (index[1],))] * len(rows)
    attribution = explainer.attribute(batch.spectrum[rows], batch.atomic_number[rows], questions)
    found = physics.coordination(
        model.answers, take(split, np.sort(np.concatenate(of))), energy, mean, attribution.values
    )
    return {"confirmed": found.confirmed, "line": found.line(), **asdict(found)}


def _oxidation(model: Model, split: Split, attributed: dict, energy: np.ndarray) -> dict:
    rows = np.flatnonzero(split.batch.mask[:, NAMES.index("OS")])
    if "OS" not in attributed or len(np.unique(split.batch.labels[rows, NAMES.index("OS")])) < 2:
        return _not_asked("OS: not asked, for the model or the split has fewer than two oxidation states")
    explained, attribution = attributed["OS"]
    found = physics.oxidation(
        model.answers, take(split, rows), energy, attribution.values, np.searchsorted(rows, explained)
    )
    return {"confirmed": found.confirmed, "line": found.line(), **asdict(found)}


def _not_asked(line: str) -> dict:
    return {"confirmed": None, "line": f"{line}."}
