"""One self-contained HTML page of a run: its scores against the trivial answer, how it learnt, where it errs, what next."""

from __future__ import annotations

import shlex
from pathlib import Path

import matplotlib
import numpy as np

from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.resplit import take
from data_pipelines.files import write_atomic
from data_pipelines.library import EXAMPLE
from data_pipelines.pages import html
from data_pipelines.pages.style import BLUE, GREY, ORANGE, RC, as_svg, panel
from data_pipelines.schema import Batch, descriptor, site_kind
from spt_jax.config import ModelConfig
from spt_jax.inference.evaluate import Evaluation
from spt_jax.reports.figures import CONFUSIONS, PARITIES, confusions, parities
from spt_jax.reports.trivial import trivial_answers
from spt_jax.runs.blueprint import Blueprint
from spt_jax.runs.folder import REPORT, read_log
from spt_jax.scoring.metrics import main_score, score_answers
from spt_jax.scoring.names import CLASS_SCORES, ELEMENT_SCORES, VALUE_SCORES, WORDS

_SCORES = (
    "On the {split} split, whose materials training never saw. Classes: {classes}. Small, beside each score: what one "
    "would say from the element alone, by the frequencies of the classes or the mean of its training sites. Green: "
    "better than that; red: not. " + WORDS
)
_CURVES = (
    "Training loss: 1 (grey) is what a constant guess costs. Validation score: mean over the descriptors of "
    "weighted F1 of the most likely classes and R² of values; the model that is kept is that of its maximum (dot)."
)
LESS_IS_BETTER = ("nll", "brier", "rmse", "mae")
MOST = 100_000
"""Training spectra, from all over the split, that say what is usual."""


def write_report(run: Path, evaluation: Evaluation, blueprint: Blueprint, dataset: Dataset) -> None:
    """Write `run`/report.html. `evaluation`: of a split of `dataset`."""
    metrics, split = evaluation.metrics, evaluation.split
    classes = {task.name: evaluation.decided[task.name] for task in blueprint.learnt_tasks if task.kind == "class"}
    trivial = _trivial(evaluation, dataset.split("train", MOST).batch)
    log = read_log(run)
    sections = [
        ("Scores", _SCORES.format(**metrics), _scores(metrics, trivial)),
        ("Learning curves", _CURVES, _curves(log)),
        ("Classes", CONFUSIONS, confusions(classes, split)),
        ("Values", PARITIES, parities(evaluation.answers, split)),
    ]
    model = blueprint.model
    if isinstance(model, ModelConfig) and model.bands:
        note = (
            f"The share of these spectra that have a frequency among their {model.bands} bands. Frequency f folds the "
            f"spectrum at its length / f. Mode {model.band_mode}, band input {model.band_input}."
        )
        sections.append(("Chosen bands", note, _bands(evaluation.outputs["bands"], model.highest_band)))
    sections.append(("What next", "", _next(run, dataset)))
    facts = {
        f"{metrics['split']} spectra": f"{metrics['n']:,}",
        "of materials": f"{len(set(split.materials)):,}",
        "epochs": f"{log[-1]['epoch']:,}",
        "better than trivial": _better(metrics, trivial),
    }
    top = f'<p class="note">Trained on {", ".join(blueprint.absorbers)}.</p>{html.tiles(facts)}'
    write_atomic(run / REPORT, html.page(f"{model.name} report: {run.resolve().name}", top, sections))


def _trivial(evaluation: Evaluation, train: Batch) -> dict[str, dict[str, dict]]:
    """Scores of the trivial answers by kind of site and descriptor, as those of the model in the metrics."""
    split, found = evaluation.split, {}
    kinds = np.array([site_kind(absorber.split()[0]) for absorber in split.absorbers])
    for kind in evaluation.metrics["sites"]:
        batch = take(split, np.flatnonzero(kinds == kind)).batch
        found[kind] = score_answers(trivial_answers(train, batch), batch)
    return found


def _scores(metrics: dict, trivial: dict) -> str:
    tables = ""
    for of, names in (("class", CLASS_SCORES), ("regression", VALUE_SCORES), ("elements", ELEMENT_SCORES)):
        rows = []
        for kind, part in metrics["sites"].items():
            for name, found in part["descriptors"].items():
                if found["kind"] == of:
                    bar = trivial[kind].get(name, {})
                    pairs = [_pair(found, bar, key) for key in names]
                    unit = f" <small>{descriptor(name).unit}</small>"
                    rows.append([f'<span class="{kind}">{kind}</span>', f"{name}{unit}", found["n"], *pairs])
        tables += html.table(["sites", "descriptor", "n", *names.values()], rows)
    meanings = (f"<b>{name}</b> {descriptor(name).meaning}" for name in metrics["descriptors"])
    return f'{tables}<p class="note">{"; ".join(meanings)}.</p>'


def _pair(found: dict, bar: dict, key: str) -> str:
    """A score in the colour of its comparison, and the trivial one."""
    score, other = found[key], bar.get(key)
    told = "" if score is None else f"{score:.3f}"
    # Frequencies of the training sites are well calibrated, and know nothing.
    if score is None or other is None or key == "ece":
        return told
    if score != other:
        told = html.judged((score > other) != (key in LESS_IS_BETTER), told)
    return f"{told} <small>{other:.3f}</small>"


def _better(metrics: dict, trivial: dict) -> str:
    """How many main scores, weighted F1 or R2, are above those of the trivial answer."""
    pairs = [
        (main_score(found), main_score(trivial[kind][name]))
        for kind, part in metrics["sites"].items()
        for name, found in part["descriptors"].items()
        if name in trivial[kind]
    ]
    pairs = [pair for pair in pairs if None not in pair]
    better = sum(score > other for score, other in pairs)
    words = html.judged(better > len(pairs) / 2, f"{better} of {len(pairs)}")
    return f"{words}<small>weighted F1 or R² of a descriptor, O and other sites apart</small>"


@matplotlib.rc_context(RC)
def _curves(log: list[dict]) -> str:
    loss, axes = panel()
    axes.axhline(1, color=GREY, linewidth=1)
    axes.plot([line["epoch"] for line in log], [line["loss"] for line in log], color=BLUE)
    axes.set(xlabel="epoch", ylim=(0, None))
    scored = [(line["epoch"], line["score"]) for line in log if "score" in line]
    score, axes = panel()
    axes.plot(*zip(*scored, strict=True), color=ORANGE)
    axes.plot(*max(scored, key=lambda point: point[1]), "o", color=ORANGE, markersize=5)
    axes.set(xlabel="epoch")
    return html.panels(
        (html.panel(as_svg(loss), "<b>Training loss</b>"), html.panel(as_svg(score), "<b>Validation score</b>"))
    )


@matplotlib.rc_context(RC)
def _bands(bands: np.ndarray, highest: int) -> str:
    """bands: (N, blocks, k) chosen frequencies."""
    drawn = []
    for block in range(bands.shape[1]):
        share = np.bincount(bands[:, block].ravel(), minlength=highest + 1)[1:] / len(bands)
        figure, axes = panel(3.7, 2.1)
        axes.bar(range(1, highest + 1), share, color=BLUE)
        axes.set(xlabel="frequency f", ylabel="share of spectra", ylim=(0, 1.02))
        axes.set_xticks(range(1, highest + 1))
        drawn.append(html.panel(as_svg(figure), f"<b>Block {block + 1}</b>"))
    return html.panels(drawn)


def _next(run: Path, dataset: Dataset) -> str:
    folder, data, example = (shlex.quote(str(path.resolve())) for path in (run, dataset.path, EXAMPLE))
    return (
        "<p>Descriptors of a spectrum; which energies and bands the model reads them from; the model as one file:</p>"
        + html.commands(
            (
                f"spt-jax predict {folder} {example}",
                f"spt-jax explain {folder} --data {data}",
                f"spt-jax export {folder} --out {folder}/model.spt",
            )
        )
        + "<p>What the dataset holds, and a dataset of your own FEFF runs to train on:</p>"
        + html.commands(
            (
                f"spt-jax data card {data} --html data_card.html",
                "spt-jax prepare YOUR_FEFF_RUNS --out dataset",
                "spt-jax train base --data dataset --out run",
            )
        )
    )
