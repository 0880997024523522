"""A study as one self-contained page."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np

from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import MissingExtra
from data_pipelines.pages import html
from data_pipelines.pages.style import as_svg
from data_pipelines.schema import DESCRIPTORS, descriptor
from spt_jax.reports.figures import CONFUSIONS, PARITIES, ROC, confusions, parities, roc_curves
from spt_jax.scoring.names import WORDS
from spt_jax.study import figures
from spt_jax.study.scores import all_scores, scores_note, scores_table
from spt_jax.study.tables import EXPERTS, PRICE, SPT, Fits


def write_page(document: dict, models: list[Fits], dataset: Dataset, maps: dict | None) -> str:
    """The page. maps: places of the test spectra and their colourings; None where UMAP is not installed."""
    sections = [section for kind, found in document["sites"].items() for section in _of_kind(document, kind, found)]
    test, first = dataset.split("test"), models[0].members[0]
    sections += [
        (
            "Classes",
            f"SPT, first seed, as decided. {CONFUSIONS}",
            confusions(first.decisions.classes(first.test), test),
        ),
        ("ROC", f"SPT, first seed. {ROC}", roc_curves(first.test, test)),
        ("Values", f"SPT, first seed. {PARITIES}", parities(first.test, test)),
        ("Price", PRICE_NOTE, _price_table(document)),
        ("Calibration", CALIBRATION, _calibration_table(document)),
        ("Lipschitz constants", LIPSCHITZ, _lipschitz_table(document)),
    ]
    if maps:
        note = (
            "UMAP of what the shared layer of SPT makes of each test spectrum (first seed). Grey: no label. "
            "Distances between far groups mean little."
        )
        names = {d.name: html.named(d) for d in DESCRIPTORS}
        drawn = (
            html.panel(figures.place(maps["place"], each), names.get(name, f"<b>{name}</b>"))
            for name, each in maps["colourings"].items()
        )
        sections.append(("Maps", note, html.panels(drawn)))
    else:
        sections.append(("Maps", f"None: {escape(str(MissingExtra('study', 'maps by UMAP')))}.", ""))
    if document.get("other_split"):
        sections.append(("Split by site", BY_SITE, _site_table(document)))
    meanings = "; ".join(map(html.named, DESCRIPTORS))
    top = f'<p class="note">{escape(_top(document))}</p><p class="note">{meanings}.</p>'
    return html.page("SPT and its competitors", top, sections)


def _of_kind(document: dict, kind: str, of_kind: dict) -> Iterator[tuple[str, str, str]]:
    """The sections about one kind of site."""
    legend = _legend(document["models"])
    yield f"{kind}: scores", scores_note(of_kind), scores_table(document, kind, of_kind)
    yield f"{kind}: all scores", f"Mean over seeds. {WORDS}", all_scores(of_kind)
    note = "Each axis from 0 to the best score of any model, written at its end."
    yield f"{kind}: at a glance", note, legend + html.panels([html.panel(figures.radar(of_kind), "")])
    if of_kind["against"]:
        note = (
            "SPT minus the competitor that does best <em>on the test split</em> at each descriptor, so chosen "
            "against SPT; 95 % intervals from a bootstrap over materials. Single: mean over seeds; ensemble: mean "
            "answers of the seeds of each."
        )
        seeds = len(document["seeds"])
        key = html.legend((("single", figures.SINGLE), ("ensemble", figures.ENSEMBLE))) if seeds > 1 else ""
        yield f"{kind}: against the best", note, html.panels([html.panel(figures.against(of_kind, seeds), key)])
    if of_kind["ranks"]:
        note = (
            f"Mean rank over {of_kind['ranks']['cases']} descriptors and seeds; a bar joins models that Nemenyi's "
            "test does not tell apart. It takes the cases as independent, which they are not quite."
        )
        drawn = figures.critical_difference_figure(of_kind["ranks"]["mean"], of_kind["ranks"]["distance"])
        yield f"{kind}: ranks", note, html.wide(as_svg(drawn))
    if EXPERTS in document["models"]:
        note = "One model for all descriptors, against one model for each. Dots: seeds."
        cost = {name: document["cost"][name] for name in (SPT, EXPERTS)}
        drawn = html.panel(figures.joint_and_experts(of_kind), ""), html.panel(figures.minutes(cost), "")
        yield f"{kind}: joint and experts", note, _legend([SPT, EXPERTS]) + html.panels(drawn)
    yield f"{kind}: robustness", ROBUST, _robustness(document, of_kind)
    if of_kind["with_noise"]:
        yield f"{kind}: trained with noise", WITH_NOISE, _with_noise(document, of_kind)


def _legend(models: list[str]) -> str:
    return f"<p>{html.legend(figures.colours(models).items())}</p>"


def _top(document: dict) -> str:
    counts = ", ".join(f"{name} {count:,}" for name, count in document["examples"].items())
    seeds = f"{len(document['seeds'])} seeds" if len(document["seeds"]) > 1 else "One seed"
    return (
        f"Spectra: {counts}; dataset {document['dataset']}. {seeds} each, all models on the same "
        "inputs, splits and number of settings tried; settings and decision rules chosen on the validation split."
    )


ROBUST = (
    "Test spectra with noise, a wrong energy axis, worse resolution, coarser points, or a range that was not measured "
    "(filled with the nearest value). Mean over seeds; a score below 0 counts as 0."
)


def _robustness(document: dict, of_kind: dict) -> str:
    models = [name for name in document["models"] if name != EXPERTS]
    cases = document["perturbations"]
    kinds = list(dict.fromkeys(case["kind"] for case in cases))
    strongest = [
        max((i for i, case in enumerate(cases) if case["kind"] == kind), key=lambda i: cases[i]["size"])
        for kind in kinds
    ]
    rows = []
    for model in models:
        cells = []
        for i in strongest:
            pairs = [(v[0], v[i]) for v in of_kind["robustness"][model].values() if None not in (v[0], v[i])]
            cells.append(f"{np.mean([max(after, 0) - max(before, 0) for before, after in pairs]):+.3f}")
        rows.append([model, *cells])
    heads = [f"{cases[i]['kind']} {cases[i]['size']:g}" for i in strongest]
    caption = '<p class="note">Change of the score by the strongest of each kind, mean over descriptors:</p>'
    noise = (
        html.panel(figures.noise(document, of_kind, models, name), html.named(descriptor(name)))
        for name in figures.named(of_kind)
    )
    others = (
        html.panel(figures.perturbed(document, of_kind, models, kind), f"<b>All descriptors</b>, {kind}")
        for kind in kinds
        if kind != "noise"
    )
    return f"{_legend(models)}{html.panels((*noise, *others))}{caption}{html.table(['', *heads], rows)}"


WITH_NOISE = (
    "Score without noise, and what the strongest noise of the study takes from it: models as they are (mean over seeds), "
    "and trained with noise up to the same strength (one seed). SPT filters its input by the noise it finds there "
    "(model/denoise.py); the others get what is given."
)


def _with_noise(document: dict, of_kind: dict) -> str:
    cases = document["perturbations"]
    noise = [i for i, case in enumerate(cases) if case["kind"] == "noise"]
    clean, worst = (pick(noise, key=lambda i: cases[i]["size"]) for pick in (min, max))
    names = [d.name for d in DESCRIPTORS if all(d.name in of_kind["robustness"][m] for m in of_kind["with_noise"])]
    rows = []
    for model, noisy in of_kind["with_noise"].items():
        for title, found in ((model, of_kind["robustness"][model]), ("with noise", noisy)):
            pairs = [(found[name][clean], found[name][worst]) for name in names]
            cells = ["" if None in (a, b) else f"{a:.3f} <small>{max(b, 0) - max(a, 0):+.3f}</small>" for a, b in pairs]
            rows.append([title, *cells])
    return html.table(["", *names], rows)


CALIBRATION = (
    "Expected calibration error of the most likely class (15 bins) as it is, then with one temperature per "
    "descriptor, then what as many spectra would show by chance if the probabilities were exact; and how many sites, "
    "and sites of a random material, lie within intervals meant for 90 %. All fitted on the validation split. Mean over "
    "seeds."
)


def _calibration_table(document: dict) -> str:
    rows = []
    for model, found in document["calibration"].items():
        for name, n in found.items():
            if "ece" in n:
                errors = [f"{n[key]:.3f}" for key in ("ece_raw", "ece", "ece_if_exact")]
                rows.append([model, name, *errors, f"{n['temperature']:.2f}", "", "", ""])
            else:
                unit = descriptor(name).unit
                width = f"± {n['halfwidth']:.3f} {unit}"
                cover = [f"{100 * n[key]:.1f} %" for key in ("coverage_sites", "coverage_materials")]
                rows.append([model, name, "", "", "", "", width, *cover])
    heads = ["", "", "error", "with temperature", "by chance", "temperature"]
    heads += ["90 % interval", "sites in it", "by material"]
    shown = [row for row in rows if row[0] in (SPT, EXPERTS)]
    rest = [row for row in rows if row[0] not in (SPT, EXPERTS)]
    return f"{html.table(heads, shown)}<details><summary>Competitors</summary>{html.table(heads, rest)}</details>"


LIPSCHITZ = (
    "How far an answer moves when the spectrum does, measured: the largest ratio over 8 random directions of L2 norm 0.1 "
    "edge steps, of each test spectrum. Median and, small, the largest; probabilities by their L2 norm, values in "
    "standard deviations of the labels. A lower bound, the same for every model, that sees the jumps of trees as well."
)


def _lipschitz_table(document: dict) -> str:
    names = [d.name for d in DESCRIPTORS if any(d.name in found for found in document["lipschitz"].values())]
    rows = []
    for model, found in document["lipschitz"].items():
        each = [found.get(name) for name in names]
        rows.append(
            [model, *("" if e is None else f"{e['median']:.2f} <small>{e['largest']:.1f}</small>" for e in each)]
        )
    return html.table(["", *names], rows)


PRICE_NOTE = (
    "What accuracy costs, on the device of the study; mean over seeds. Trained: training spectra in a second, of a network "
    "in the median epoch, of trees over the fit. Answered: the test split at once, compilation apart."
)


def _price_table(document: dict) -> str:
    rows = [
        [model, *("" if each[name] is None else f"{each[name]:,.0f}" for name in PRICE)]
        for model, each in document["price"].items()
    ]
    return html.table(["", *PRICE.values()], rows)


BY_SITE = (
    "The same models on a split by site, where other sites of the same crystals were trained on: the gap is what a "
    "random split flatters, not what the model knows of a new material."
)


def _site_table(document: dict) -> str:
    rows = []
    for model, scores in document["other_split"].items():
        for name, each in scores.items():
            material, site = each["material"], each["site"]
            rows.append([model, name, f"{material:.3f}", f"{site:.3f}", f"{site - material:+.3f}"])
    return html.table(["", "", "by material", "by site", "gap"], rows)
