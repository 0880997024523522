"""A model against the labels of a split: predictions, the metrics document, and its table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from data_pipelines.dataset.data import Data, Split
from data_pipelines.dataset.opening import open_spectra
from data_pipelines.schema import SHELL_NAMES, SITE_KINDS, SYMBOLS, Batch, descriptor, site_kind
from spt_jax.inference.output import legend
from spt_jax.inference.predict import Model, load
from spt_jax.scoring.decide import element_prior
from spt_jax.scoring.metrics import score_answers
from spt_jax.scoring.names import CLASS_SCORES, COMMON, ELEMENT_SCORES, MAIN_SCORE, MAIN_WORDS, VALUE_SCORES
from spt_jax.tasks import Answers, answers_of

FITTED, MOST_LIKELY = "by the rule fitted on the validation materials", "the most likely"


@dataclass(frozen=True)
class Evaluation:
    """A split, what a model says of it, and `metrics`, the JSON document of `spt-jax evaluate`.

    outputs: (N, ...) of the heads, and "bands". answers: calibrated. decided: class indices and values, as scored.
    """

    split: Split = field(repr=False)
    outputs: dict[str, np.ndarray] = field(repr=False)
    answers: Answers = field(repr=False)
    decided: Answers = field(repr=False)
    metrics: dict


def evaluate(model: Model | Path | str, dataset: Data | Path | str, name: str = "test") -> Evaluation:
    """Scores over all labelled sites of a split, and apart for O and non-O sites, of the classes that the model decides.

    model, dataset: or the folders that hold them. Raises DatasetError or SpectrumError where they do not fit each other.
    """
    model = model if isinstance(model, Model) else load(model)
    dataset = dataset if isinstance(dataset, Data) else open_spectra(dataset)
    split = dataset.split(name)
    model.check_absorbers(split.absorbers)
    model.check_grid(dataset.name, dataset.grid)
    outputs = model.outputs(split.batch.spectrum, split.batch.atomic_number)
    kinds = np.array([site_kind(absorber.split()[0]) for absorber in split.absorbers])
    answers, decisions = answers_of(outputs, model.blueprint.learnt_tasks, split.batch.atomic_number), model.decisions
    usual = _usual(answers, dataset, split.batch)

    def scores(rows: np.ndarray) -> dict:
        batch = Batch(*(each[rows] for each in split.batch))
        found = score_answers({name: each[rows] for name, each in answers.items()}, batch, decisions)
        for name, each in score_answers({name: each[rows] for name, each in usual.items()}, batch).items():
            found[name]["prior"] = {key: each[key] for key in (*ELEMENT_SCORES, "elements")}
        return {"n": int(rows.sum()), "descriptors": found}

    everything = scores(np.ones(len(kinds), bool))
    sites = {kind: scores(kinds == kind) for kind in SITE_KINDS if (kinds == kind).any()}
    rule = FITTED if model.blueprint.decisions else MOST_LIKELY
    metrics = {"split": name, "main_score": MAIN_SCORE, "classes": rule, **everything, "sites": sites}
    said = decisions.probabilities(answers, split.batch.atomic_number)
    return Evaluation(split, outputs, said, decisions.decided(answers), metrics)


def _usual(answers: Answers, dataset: Data, batch: Batch) -> Answers:
    """Of the shells that are answered, what the absorber alone would tell; nothing without training labels."""
    names = [name for name in answers if name in SHELL_NAMES]
    if not names or not dataset.examples.get("train"):
        return {}
    labels = dataset.statistics("train").labels
    return {name: element_prior(labels[name].counts, batch.atomic_number) for name in names if labels[name].count}


def as_tables(metrics: dict) -> Group:
    """The metrics document as a table of classes, one of values and two of the elements of shells, the main score first,
    and what the words mean."""
    title = f"{metrics['split']} split, {metrics['n']} spectra; main scores: {MAIN_WORDS}"
    about = (
        f"classes: {metrics['classes']}\n"
        f"common: classes of {COMMON} sites or more, - where there is none\n"
        "NLL, Brier, calibration error: of the probabilities, less is better\n"
        f"{legend(metrics['descriptors'])}"
    )
    tables = [_table(metrics, "class", CLASS_SCORES), _table(metrics, "regression", VALUE_SCORES)]
    shells = {name: found for name, found in metrics["descriptors"].items() if found["kind"] == "elements"}
    if shells:
        about += f"\n{_ABOUT_SHELLS}"
        tables += [_shells(metrics), _elements(shells)]
    return Group(title, *(table for table in tables if table.row_count), about)


def _table(metrics: dict, kind: str, names: dict[str, str]) -> Table:
    """One block per kind of site; names: of the scores that are its columns."""
    table = Table(box=SIMPLE_HEAD, padding=0)
    for column in ("sites", ""):
        table.add_column(column, vertical="bottom")
    for column in ("n", *names.values()):
        table.add_column(column.replace(" ", "\n"), justify="right", vertical="bottom")
    for sites, part in metrics["sites"].items():
        for name, s in part["descriptors"].items():
            if s["kind"] == kind:
                unit = descriptor(name).unit
                table.add_row(
                    sites, f"{name} ({unit})" if unit else name, str(s["n"]), *(_told(s[key]) for key in names)
                )
        table.add_section()
    return table


_ABOUT_SHELLS = (
    "AP: average precision; prior: that of the element's frequency in training by absorber, which knows no spectrum\n"
    f"macro AP: mean of the elements at {COMMON} sites or more; the others are in the metrics, not in the table"
)


def _shells(metrics: dict) -> Table:
    """A row for each shell and kind of site, and of all, each score beside that of the prior."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for column in ("sites", "", "n", *(word for name in ELEMENT_SCORES.values() for word in (name, "prior"))):
        table.add_column(column, justify="left" if column in ("sites", "") else "right")
    for sites, part in {**metrics["sites"], "all": metrics}.items():
        for name, found in part["descriptors"].items():
            if found["kind"] == "elements":
                cells = [_told(of.get(key)) for key in ELEMENT_SCORES for of in (found, found.get("prior", {}))]
                table.add_row(sites, name, str(found["n"]), *cells)
    return table


def _elements(shells: dict[str, dict]) -> Table:
    """A row for each element at enough sites of any shell, most frequent first."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("element")
    for column in (word for name in shells for word in (f"{name} sites", "AP", "prior")):
        table.add_column(column, justify="right")
    most = {s: max(found["elements"].get(s, {"sites": 0})["sites"] for found in shells.values()) for s in SYMBOLS}
    for symbol in sorted((s for s in SYMBOLS if most[s] >= COMMON), key=lambda s: -most[s]):
        cells = []
        for found in shells.values():
            own, prior = (of.get("elements", {}).get(symbol, {}) for of in (found, found.get("prior", {})))
            cells += [str(own.get("sites", 0)), _told(own.get("ap")), _told(prior.get("ap"))]
        table.add_row(symbol, *cells)
    return table


def _told(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"
