"""What several signals of one structure are worth to a model, as one self-contained HTML page."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from html import escape

import numpy as np

from data_pipelines.pages import html
from data_pipelines.pages.style import BLUE, ENERGY
from data_pipelines.schema import descriptor
from data_pipelines.signals import parse_signal
from spt_jax.explain import signals_figures as figures

Report = Callable[[str, int, int], None]
Drawn = Callable[[str, str], str]

_TABLE = (
    "Scores of this split with one signal, with two and with all; the others are missing, as NaN in their slots. Beside each "
    "the middle 95 % of it when whole materials are drawn anew. AUROC is the chance that a structure with a defect gets a "
    "higher probability of it than one without, 0.5 being a guess; MAE is the mean absolute error. None: what the training "
    "labels say to a structure without any signal, since no network learnt from such a one. The best choice of a column is bold."
)
_SHAPLEY = (
    "Bars: exact Shapley values, what a signal adds to the score in the mean over all orders in which signals may come. They "
    "add up to the score of all signals less that of none. Of an error it is what is saved of it. Line: the middle 95 % over "
    "materials. Ring: what is lost when this signal alone is left out; where two signals tell the same, both rings are near 0 "
    "and the bars are not."
)
_ANSWERS = (
    "The same for each structure's own answer instead of a score: by how much a signal moves it, in the mean, up or down. "
    "The values of every structure are in the JSON file."
)
_WEIGHTS = (
    "Mean weight of each signal in the network's pooling where it is there, and the middle 90 % of the structures. A weight "
    "says where information is taken from, not what it is worth."
)
_LIMITS = (
    "AUROC of structures with so much of a defect against all without it. Blue: all signals, with the range of amounts and "
    "the middle 95 % over materials; thin: each alone. The limit is the least amount from which on every range is told from none."
)
_ROC = "How many of the defects are found at how many false alarms. Blue: all signals, with the middle 95 % over materials."
_PARITY = "Every structure, by all its signals."
_STRETCHES = (
    "Per cent of what all signals are worth (score of all less that of none) lost when a stretch of one signal is the training "
    "mean. Below zero the score rose. Neighbouring energies tell much the same, so a small loss does not mean that nothing is "
    "there. A dot: all signals are worth nothing here. Of {rows} structures at the most."
)
GROUPS = {
    "Defects": ("vacanc", "antisite"),
    "Contents": ("x_",),
    "Mean oxidation states": ("OS_",),
    "Mean coordination numbers": ("CN_",),
    "Mean bond lengths": ("MBL_",),
}


def as_html(document: dict, report: Report = lambda stage, done, total: None) -> str:
    """The page of a document of `signals_explained.explain_signals`, with run and split. `report` counts the pictures."""
    described, defects, names = document["descriptors"], document["defects"], document["signals"]
    total = len(described) + 2 * len(defects) + len(document["contents"]) + len(names) + bool(document["weights"])
    done = itertools.count(1)

    def drawn(svg: str, caption: str) -> str:
        report("drawing", next(done), total)
        return html.panel(svg, caption)

    sections = [
        ("Choices of signals", _TABLE, _tables(document)),
        ("Worth of each signal", _SHAPLEY, _shapley(document, drawn)),
        ("Change of answers", _ANSWERS, _changes(document)),
    ]
    if document["weights"]:
        picture = drawn(figures.weighed(names, document["weights"]), "Weight in the pooling")
        sections.append(("Weights", _WEIGHTS, html.panels([picture])))
    if defects:
        key = html.legend([("all", BLUE), *zip(map(escape, names), figures.colours(len(names)), strict=True)])
        limits, curves = [], []
        for name, found in defects.items():
            limits.append(drawn(figures.limits(found["curves"], found["amount"]), _limit_caption(name, found)))
            curves.append(drawn(figures.roc_curves(found["curves"]), _roc_caption(name, found, described[name])))
        sections.append(("Detection limit", _LIMITS, key + html.panels(limits)))
        sections.append(("ROC", _ROC, key + html.panels(curves)))
    if document["contents"]:
        pictures = [
            drawn(figures.parity(found["truth"], found["answer"]), f"{_named(name)}, MAE {_all(described[name]):.3f}")
            for name, found in document["contents"].items()
        ]
        sections.append(("Contents", _PARITY, html.panels(pictures)))
    sections.append(
        ("Without a stretch", _STRETCHES.format(rows=document["most_for_stretches"]), _stretches(document, drawn))
    )
    facts = {
        f"{document['split']} structures"
        if document["each"] == "structure"
        else f"{document['split']} rows": f"{document['rows']:,}"
    }
    facts |= {"materials": f"{document['materials']:,}"}
    facts |= {f"with {escape(name)}": f"{count:,}" for name, count in zip(names, document["present"], strict=True)}
    top = f'{html.tiles(facts)}<p class="note">{_heights(document)}</p>'
    return html.page(f"What each signal is worth: {document['run']}", top, sections)


def _heights(document: dict) -> str:
    how = {
        "step": "Every edge has a unit edge step, so its height says nothing of how much of the element there is.",
        "area": "Every edge has a unit mean, so its height says nothing of how much of the element there is.",
        "share": "Every edge is as high as its element's share of the atoms, which tells the composition away.",
    }
    return how[document["heights"]]


def _groups(described: dict) -> dict[str, list[str]]:
    """Descriptors that stand in one table."""
    found: dict[str, list[str]] = {}
    for name in described:
        group = next((group for group, starts in GROUPS.items() if name.startswith(starts)), "Sites")
        found.setdefault(group, []).append(name)
    return found


def _tables(document: dict) -> str:
    described, names, parts = document["descriptors"], document["signals"], []
    for group, own in _groups(described).items():
        columns = [described[name] for name in own]
        every = range(len(columns[0]["choices"]))
        shown = [i for i in every if len(columns[0]["choices"][i]["signals"]) in (0, 1, 2, len(names))]
        shown.sort(key=lambda i: (len(columns[0]["choices"][i]["signals"]), columns[0]["choices"][i]["signals"]))
        best = [max(shown, key=lambda i, c=c: c["better"] * c["choices"][i]["score"]) for c in columns]
        rows = []
        for i in shown:
            chosen = columns[0]["choices"][i]["signals"]
            label = "all" if len(chosen) == len(names) else " + ".join(escape(names[s]) for s in chosen) or "none"
            label = label.replace(" ", "\u00a0")
            rows.append([label, *(_cell(c["choices"][i], i == b) for c, b in zip(columns, best, strict=True))])
        header = ["", *(f"{name}<br><small>{described[name]['measure']}</small>" for name in own)]
        parts.append(f"<div><b>{group}</b>{html.table(header, rows)}</div>")
    return "".join(parts)


def _cell(choice: dict, best: bool) -> str:
    score = f"<b>{choice['score']:.3f}</b>" if best else f"{choice['score']:.3f}"
    # Joined by characters at which no line breaks.
    return f"{score}\u00a0<small>{choice['low']:.3f}\u2060–\u2060{choice['high']:.3f}</small>"


def _shapley(document: dict, drawn: Drawn) -> str:
    pictures = []
    for name, found in document["descriptors"].items():
        gained = found["choices"][-1]["score"], found["choices"][0]["score"]
        unit = f"{found['measure']} {'gained' if found['better'] > 0 else 'saved'}"
        caption = f"{_named(name)}<br>{found['measure']} {gained[1]:.3f} without any, {gained[0]:.3f} with all"
        svg = figures.shares(document["signals"], found["shapley"], found["left_out"], unit)
        pictures.append(drawn(svg, caption))
    return html.panels(pictures)


def _changes(document: dict) -> str:
    rows = []
    for name, found in document["descriptors"].items():
        own = found["answers"]
        unit = "probability" if found["kind"] == "class" else own["unit"]
        rows.append([name, *(f"{each:.3g}" for each in own["mean_change"]), unit])
    return html.table(["", *map(escape, document["signals"]), ""], rows)


def _limit_caption(name: str, found: dict) -> str:
    limit = found["curves"]["all"]["limit"]
    said = "no limit found" if limit is None else f"limit {100 * limit:.3g} %"
    counts = ", ".join(f"{each['rows']}" for each in found["curves"]["all"]["ranges"])
    return f"{_named(name)}: {said}<br>structures in each range: {counts}"


def _roc_caption(name: str, found: dict, described: dict) -> str:
    area, precision = described["choices"][-1], found["curves"]["all"]["precision"]
    return (
        f"{_named(name)}<br>AUROC {area['score']:.3f} ({area['low']:.3f} to {area['high']:.3f}), AUPRC "
        f"{precision['score']:.3f} ({precision['low']:.3f} to {precision['high']:.3f}); {found['share']:.0%} have it"
    )


def _all(found: dict) -> float:
    return found["choices"][-1]["score"]


def _stretches(document: dict, drawn: Drawn) -> str:
    described, pictures = document["descriptors"], []
    for place, signal in enumerate(document["signals"]):
        parts = [part for part in document["stretches"] if part["signal"] == place]
        shares = np.full((len(described), len(parts)), np.nan)
        for row, (name, found) in enumerate(described.items()):
            worth = found["better"] * (found["choices"][-1]["score"] - found["choices"][0]["score"])
            if worth > 0:
                shares[row] = [part["lost"].get(name, np.nan) / worth for part in parts]
        axis = ENERGY if parse_signal(signal).is_spectrum else "r, Å"
        starts = [part["start"] for part in parts]
        svg = figures.lost_stretches(list(described), starts, parts[-1]["stop"], shares, axis)
        pictures.append(drawn(svg, f"<b>{escape(signal)}</b>"))
    return html.panels(pictures)


def _named(name: str) -> str:
    return html.named(descriptor(name))
