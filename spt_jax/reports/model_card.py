"""What people must know of a model before they trust it, as a JSON document and as text.

From the dataset it was trained on come its sources with their checksums, its elements and its splits; from its answers on
the test split come the scores, element by element, with intervals over materials.
"""

from __future__ import annotations

import platform
import statistics
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from data_pipelines.dataset import calculations
from data_pipelines.dataset.loading import Dataset
from data_pipelines.schema import SHELL_NAMES, SYMBOLS, Batch, EnergyGrid, column_of, descriptor
from spt_jax.inference.evaluate import evaluate
from spt_jax.inference.predict import Model
from spt_jax.scoring.calibration import coverage
from spt_jax.scoring.intervals import draws, middle, resampled_scores
from spt_jax.scoring.metrics import main_score, score_answers
from spt_jax.scoring.names import MAIN_WORDS
from spt_jax.tasks import answers_of

# Test sites and materials of an element below which a score is noise and is left out.
FEWEST_SITES, FEWEST_MATERIALS = 10, 5
CALLS = 50


@dataclass(frozen=True)
class Words:
    """What only its makers know. licence: under which it may be used. attribution: whom its data are owed to."""

    name: str
    about: str
    licence: str
    attribution: tuple[str, ...]
    made_with: str


def make_card(
    words: Words,
    model: Model,
    members: Sequence[Model],
    dataset: Dataset,
) -> dict[str, Any]:
    """The card of a model that is the mean of `members`, which were trained on `dataset`."""
    grid, card, train = model.blueprint.grid, dataset.card, dataset.split("train")
    labelled = train.batch.mask.any(axis=1)
    absorbers = Counter(absorber for absorber, known in zip(train.absorbers, labelled, strict=True) if known)
    return {
        **asdict(words),
        "members": [_kind(member) for member in members],
        "data": {
            "fingerprint": dataset.fingerprint,
            "sources": [{key: each[key] for key in ("name", "sha256", "records")} for each in card["sources"]],
            "calculations": card.get("calculations", []),
            "grid": grid.stated(),
            "splits": card["splits"],
            "rule": "by material: no material, and no near duplicate of one, in two splits",
        },
        "training_spectra": dict(sorted(absorbers.items())),
        "unlabelled_spectra": int((~labelled).sum()),
        "scores": _scores(model, dataset),
        "latency": _latency(model),
    }


def _kind(member: Model) -> str:
    return member.blueprint.model.name.lower()


def _scores(model: Model, dataset: Dataset) -> dict[str, dict[str, dict]]:
    """Absorber -> descriptor -> its scores on the test sites, and low and high, the middle 95 % of the main one; of a
    value also the coverage of its intervals; of the elements of a shell without these."""
    found = evaluate(model, dataset, "test")
    absorbers, materials = np.array(found.split.absorbers), np.array(found.split.materials)
    numbers = found.split.batch.atomic_number
    answers, scores = answers_of(found.outputs, model.blueprint.learnt_tasks, numbers), {}
    intervals = model.decisions.intervals(answers, numbers)
    for absorber in sorted(set(found.split.absorbers)):
        rows = absorbers == absorber
        batch = Batch(*(each[rows] for each in found.split.batch))
        own = {}
        for name, each in score_answers({n: a[rows] for n, a in answers.items()}, batch, model.decisions).items():
            d, column = descriptor(name), column_of(name)
            known = batch.mask[:, column]
            group = materials[rows][known]
            if len(group) < FEWEST_SITES or len(set(group)) < FEWEST_MATERIALS or main_score(each) is None:
                continue
            if d.kind == "elements":
                own[name] = {"main": main_score(each), **each}
                continue
            truth, said = batch.labels[known, column], found.decided[name][rows][known]
            low, high = middle(resampled_scores(d, truth, said, group, draws(group)))
            own[name] = {"main": main_score(each), "low": low, "high": high, **each}
            if name in intervals:
                lowest, highest = intervals[name][rows][known].T
                own[name]["coverage"] = coverage((lowest <= truth) & (truth <= highest), group)
        if own:
            scores[absorber] = own
    return scores


def _latency(model: Model) -> dict[str, Any]:
    """Of one spectrum on the grid, after the first."""
    spectrum = np.linspace(0, 1, model.blueprint.grid.length, dtype=np.float32)[None]
    number = np.array([SYMBOLS.index(model.blueprint.absorbers[0].split()[0])], np.int32)
    times = []
    for _ in range(CALLS + 2):
        began = time.perf_counter()
        model.outputs(spectrum, number)
        times.append(time.perf_counter() - began)
    return {"median_ms": 1e3 * statistics.median(times[2:]), "processor": platform.machine()}


def as_text(card: dict[str, Any]) -> str:
    """For a terminal of 80 columns."""
    grid, splits = EnergyGrid(**card["data"]["grid"]), card["data"]["splits"]
    energy = grid.relative()
    further = f"; to {energy[-1]:g} eV if they are there" if grid.gaps else ""
    unlabelled = card.get("unlabelled_spectra", 0)
    sizes = ", ".join(f"{own['examples']} {split}" for split, own in splits.items())
    names = list(dict.fromkeys(name for own in card["scores"].values() for name in own))
    lines = [
        textwrap.fill(f"{card['name']}: {card['about']}", 80),
        "",
        f"members   {', '.join(card['members'])}; made with {card['made_with']}",
        f"range     {grid.start:g} to {energy[grid.common - 1]:g} eV above the reference energy{further}",
        f"latency   {card['latency']['median_ms']:.1f} ms a spectrum ({card['latency']['processor']})",
        f"split     {sizes} spectra,",
        f"          {card['data']['rule']}",
        *(f"source    {each['name']}, {each['records']} records" for each in card["data"]["sources"]),
        *calculations.as_lines(card["data"].get("calculations", [])),
        *([f"          {unlabelled} of the training spectra have no labels"] if unlabelled else []),
        f"licence   {card['licence']}",
        *(f"          {each}" for each in card["attribution"]),
    ]
    covered = [name for name in names if any("coverage" in own.get(name, {}) for own in card["scores"].values())]
    for title, columns, key in (
        (f"Scores on the test split: {MAIN_WORDS}", [name for name in names if name not in SHELL_NAMES], "main"),
        (
            "Average precision of the elements there, over all pairs of site and element",
            [name for name in names if name in SHELL_NAMES],
            "main",
        ),
        ("Share of test materials whose truth lies in the 90 % interval", covered, "coverage"),
    ):
        if columns:
            lines += ["", title, "          trained" + "".join(f"{name:>7}" for name in columns)]
            lines += _rows(card, columns, key)
    lines.append(f"Empty: fewer than {FEWEST_SITES} test sites or {FEWEST_MATERIALS} materials, so not known.")
    return "\n".join(lines) + "\n"


def _rows(card: dict[str, Any], names: list[str], key: str) -> Iterator[str]:
    """A line for each absorber."""
    for absorber, trained in card["training_spectra"].items():
        own = card["scores"].get(absorber, {})
        cells = (f"{own[name][key]:.2f}" if key in own.get(name, {}) else "" for name in names)
        yield f"{absorber:<10}{trained:>7}" + "".join(f"{cell:>7}" for cell in cells)
