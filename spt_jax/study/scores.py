"""The scores of a study as tables: on its page, and as CSV."""

from __future__ import annotations

import csv
import io

import numpy as np

from data_pipelines.pages import html
from data_pipelines.schema import DESCRIPTORS
from spt_jax.scoring.names import CLASS_SCORES, MAIN_SCORE, MAIN_WORDS, VALUE_SCORES
from spt_jax.study.tables import EXPERTS, SPT

NAMES = CLASS_SCORES | VALUE_SCORES
PAPER = {
    "non-O": {"OS": "0.969", "CN": "0.98", "CN2": "0.811", "OCN": "0.983", "PSGO": "0.523", "NNRS": "0.764"}
    | {"MOOD": "0.690"},
    "O": {"CN": "0.951", "CN2": "0.827", "PSGO": "0.620", "NNRS": "0.846", "NNOSM": "0.938"},
}
"""The joint model of arXiv 2603.27684 on its own FEFF10 spectra of Li-Co-Mn-Ni-O and LFP; the better of two values."""


def scores_note(of_kind: dict) -> str:
    """What the numbers of `scores_table` are."""
    return (
        f"{of_kind['n']:,} test sites. {MAIN_WORDS[0].upper()}{MAIN_WORDS[1:]}: mean ± standard deviation over seeds, "
        "and below them the ensemble of the seeds, where there are several. In bold the best single model. Paper: the "
        "joint model of arXiv 2603.27684 on other spectra and a split that is not said to keep materials apart; its F1 "
        "equals its accuracy, so it is weighted too. Compare orders, not digits."
    )


def scores_table(document: dict, kind: str, of_kind: dict) -> str:
    """Main scores, a descriptor to a row and a model to a column."""
    rows = []
    for d in DESCRIPTORS:
        cells, best = [], None
        present = {m: s[d.name] for m, s in of_kind["scores"].items() if d.name in s}
        if not present:
            continue
        best = max(present, key=lambda m: present[m]["mean"])
        for model in document["models"]:
            each = present.get(model)
            if not each:
                cells.append("")
                continue
            spread = "" if each["spread"] is None else f"<br><small>±&nbsp;{each['spread']:.3f}</small>"
            text = f"{each['mean']:.3f}"
            text = f"<b>{text}</b>" if model == best else text
            together = "" if each["spread"] is None else f"<br><small>{each['ensemble']:.3f}</small>"
            cells.append(f"{text}{spread}{together}")
        rows.append([d.name, NAMES[MAIN_SCORE[d.kind]], *cells, PAPER[kind].get(d.name, "")])
    return html.table(["", "", *document["models"], "paper"], rows)


def all_scores(of_kind: dict) -> str:
    """Every score, a model and descriptor to a row; the competitors of SPT folded away."""
    tables = ""
    for kind, names in (("class", CLASS_SCORES), ("regression", VALUE_SCORES)):
        rows: dict[bool, list[list[str]]] = {True: [], False: []}
        for model, scores in of_kind["scores"].items():
            for name, each in scores.items():
                if each["kind"] == kind:
                    cells = [_mean([one[key] for one in each["all"]]) for key in names]
                    rows[model in (SPT, EXPERTS)].append([model, name, *cells])
        heads = ["", "", *names.values()]
        competitors = html.table(heads, rows[False])
        tables += html.table(heads, rows[True])
        tables += f"<details><summary>Competitors</summary>{competitors}</details>" if competitors else ""
    return tables


def _mean(values: list[float | None]) -> str:
    return "" if None in values else f"{np.mean(values):.3f}"


def scores_csv(document: dict) -> str:
    """One line per model, kind of site, descriptor and seed."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("sites", "model", "descriptor", "seed", "n", *NAMES))
    for kind, of_kind in document["sites"].items():
        for model, scores in of_kind["scores"].items():
            for name, each in scores.items():
                for seed, one in zip(document["seeds"], each["all"], strict=False):
                    lines.writerow((kind, model, name, seed, one["n"], *(one.get(key, "") for key in NAMES)))
    return text.getvalue()


def robustness_csv(document: dict) -> str:
    """One line per model, kind of site, descriptor and perturbation: the mean main score over seeds."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("sites", "model", "descriptor", "perturbation", "size", "f1_weighted_or_r2"))
    for kind, of_kind in document["sites"].items():
        for model, by_name in of_kind["robustness"].items():
            for name, values in by_name.items():
                for case, value in zip(document["perturbations"], values, strict=True):
                    lines.writerow((kind, model, name, case["kind"], case["size"], "" if value is None else value))
    return text.getvalue()
