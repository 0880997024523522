"""All that can be said of how a model reads the spectra of one element: the document behind the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data_pipelines.dataset.loading import Dataset, Split
from data_pipelines.dataset.resplit import take
from data_pipelines.errors import DatasetError
from data_pipelines.schema import Batch, descriptor
from spt_jax.config import ModelConfig
from spt_jax.explain import ablation
from spt_jax.explain.attribution import TOLERANCE, Attribution, Explainer, Looked, Question, evenly_received
from spt_jax.explain.edges import edge
from spt_jax.explain.physics import findings
from spt_jax.inference.predict import Model
from spt_jax.model.spt import SPT
from spt_jax.tasks import Task

# Groups of one descriptor, each drawn as a curve; and the fewest sites whose mean is worth one.
MOST_GROUPS, FEWEST_SITES = 5, 3
WINDOW_EV = 3.0
# Of the training split, which shows what the data say: so many sites, from all over it.
MOST_SITES = 20_000

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


def physics(model: Model, dataset: Dataset, name: str, report: Report) -> dict:
    """The questions of physics to the data and to a model, for all elements: what JSON and page tell of them."""
    shown = "train" if dataset.examples.get("train") else name
    asked, learnt = dataset.split(name), {task.name for task in model.blueprint.learnt_tasks}
    # Of an element that it was not trained on a model says nothing.
    asked = take(asked, np.flatnonzero(np.isin(asked.absorbers, model.blueprint.absorbers)))
    data = dataset.split(shown, MOST_SITES)
    found = findings(
        model.answers, learnt, data, asked, dataset.grid.relative(), lambda *done: report("physics", *done)
    )
    return {"data_split": shown, "findings": found}


def explain(model: Model, split: Split, sites: int, report: Report) -> dict:
    """What JSON and page tell of the spectra of one absorber. `sites`: how many of each group get integrated gradients.

    report(stage, done, total) is called as work goes on. Of a model that is no SPT, all that needs its answers alone.
    """
    blueprint, batch = model.blueprint, split.batch
    energy, mean = blueprint.grid.relative(), np.array(blueprint.spectrum_mean)
    asked = [(task, found) for task in blueprint.learnt_tasks if (found := groups(task, batch))]
    described = {
        task.name: {
            "kind": task.kind,
            "unit": "log-odds" if task.classes else descriptor(task.name).unit,
            "groups": [_curves(group, batch, energy) for group in found],
        }
        for task, found in asked
    }
    inside = {"gradients": False, "attention": False, "bands": False}
    if isinstance(model.network, SPT):
        inside = {
            "gradients": True,
            "attention": model.network.config.attention != "none",
            "bands": model.network.config.bands > 0,
        }
        explainer = Explainer(model)
        looked = explainer.look(batch.spectrum, batch.atomic_number)
        for done, (task, found) in enumerate(asked):
            report("gradients", done, len(asked))
            attributed, exactness = _attributed(explainer, task, found, batch, sites, energy)
            described[task.name] |= exactness
            for curves, own, group in zip(described[task.name]["groups"], attributed, found, strict=True):
                curves |= {**own, **_looked(looked, group)}
        report("gradients", len(asked), len(asked))
    return {
        "sites": len(split.ids),
        "energy_ev": energy.tolist(),
        "training_mean": _listed(mean),
        "mean": _listed(_mean_curve(batch.spectrum)),
        "inside": inside,
        "even_attention": evenly_received(len(energy), model.network.config.window).tolist()
        if inside["attention"]
        else None,
        "tolerance": TOLERANCE,
        "descriptors": described,
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


def _curves(group: Group, batch: Batch, energy: np.ndarray) -> dict:
    mu = _mean_curve(batch.spectrum[group.rows])
    return {"label": group.label, "sites": len(group.rows), "edge_ev": edge(energy, mu), "mean": _listed(mu)}


def _attributed(
    explainer: Explainer, task: Task, found: list[Group], batch: Batch, sites: int, energy: np.ndarray
) -> tuple[list[dict], dict]:
    """Integrated gradients of some sites of each group, all in one call, and how exact they are."""
    rows = [group.sample(sites) for group in found]
    questions = [Question(task, group.of) for group, own in zip(found, rows, strict=True) for _ in own]
    together = np.concatenate(rows)
    made: Attribution = explainer.attribute(batch.spectrum[together], batch.atomic_number[together], questions)
    step, ends = energy[1] - energy[0], np.cumsum([len(own) for own in rows])
    attributed = [
        {"explained": len(values), "attribution_per_ev": (values.mean(axis=0) / step).tolist()}
        for values in np.split(made.values, ends[:-1])
    ]
    return attributed, {"gap": made.gap, "choice": made.choice}


def _looked(looked: Looked, group: Group) -> dict:
    return {
        "attention": looked.attention[group.rows].mean(axis=0).tolist(),
        "shares": looked.shares[group.rows].mean(axis=0).tolist(),
        "chosen": looked.chosen[group.rows].mean(axis=0).tolist(),
    }


def _ablation(model: Model, batch: Batch, energy: np.ndarray, report: Report) -> dict:
    mean, std = (np.array(each) for each in (model.blueprint.spectrum_mean, model.blueprint.spectrum_std))
    own, by_element = model.blueprint.model, getattr(model.network, "by_element", None)
    standard = by_element.of(int(batch.atomic_number[0])) if by_element else (mean, std)
    highest = own.highest_band if isinstance(own, ModelConfig) else min(ModelConfig.highest_band, len(energy) // 2)
    frequencies = range(1, highest + 1)
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
