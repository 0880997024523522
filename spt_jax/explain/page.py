"""What a model looks at as one self-contained HTML page, drawn from the document of `explanation.explain`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from html import escape

import numpy as np

from data_pipelines.pages import html
from data_pipelines.schema import descriptor
from spt_jax.explain import figures
from spt_jax.explain.edges import PRE_EDGE_FROM_EV, PRE_EDGE_GAP_EV
from spt_jax.explain.physics import CLAIMS, D_ELECTRONS, ERRORS, MINIMUM_MATERIALS, MINIMUM_SITES, Claim

Report = Callable[[str, int, int], None]
Drawn = Callable[[str, str], str]

_REGIONS = (
    "Dotted: the edge of each group, where its mean spectrum crosses half the edge step. Shaded: the pre-edge, from "
    f"{PRE_EDGE_FROM_EV:g} to {PRE_EDGE_GAP_EV:g} eV below the lowest of these edges. Both are found on the grid, whose zero "
    "is the element's fixed reference energy, so that a chemical shift stays to be seen."
)
_GRADIENTS = (
    "Mean over sites of integrated gradients (arXiv 1703.01365) from the mean training spectrum: what each energy adds to "
    "the log-odds of the site's own class against all others, or to the value in its unit. Above: the mean spectra. "
    + _REGIONS
)
_COMPLETE = (
    "The attributions of a site should add up to the change of the output from the mean training spectrum to its own. "
    "The choice of bands is piecewise constant: it has no gradient, and where it changes the output jumps. So bands are "
    "held at those that the site's own spectrum chose, and then attributions do add up. Error: median of what is missing, "
    "as a share of the mean change. Choice of bands: what is left of the real network's change, which no energy can be given."
)
_ATTENTION = (
    "How much attention each energy receives from its neighbours, mean over heads and sites, as a multiple of what it "
    "would get if all attended evenly. Attention says where information is taken from, not what it is worth."
)
_BANDS = (
    "Colour: mean weight of a frequency in the fusion of a block, 0 where a spectrum did not choose it; darkest is the "
    "largest of the picture. Number: per cent of the sites that chose it. Frequency f folds the spectrum at its length / f."
)
_LOST_BANDS = (
    "Score (weighted F1 or R²) lost when one frequency is projected out of the standardised spectrum, which is what the "
    "network folds by default: in raw mu each frequency would be one of the edge step. Below zero the score rose. Such "
    "spectra are unlike any of training, so part of a loss may be that of an odd input."
)
_LOST_WINDOWS = (
    "Score lost when 3 eV of every spectrum become the training mean. Grey: the mean spectrum, without a scale. Neighbouring "
    "energies tell much the same, so a small loss does not mean that nothing is there. " + _REGIONS
)
_PHYSICS = (
    "Three questions whose answers are known without the model, to every element of the dataset. Do the data show it: does "
    "the feature follow the label in the {data} split? Does the model use it: do its answers to the {split} split follow, "
    "when that feature alone is made larger and smaller? ± is a standard error by materials. Seen: more than "
    f"{ERRORS:g} of them above zero; reversed: as far below. Too few: fewer than {MINIMUM_SITES} sites of "
    f"{MINIMUM_MATERIALS} materials. The protocol stands in docs/evaluation.md."
)
_NO_INSIDE = (
    "<p>Cannot be asked: gradients, attention and bands are of a single SPT's run folder, and this is another kind of "
    "model, or several as one. What is said above and below needs its answers alone.</p>"
)
_NO_ATTENTION = "<p>Cannot be asked: this network has no attention (<code>--model.attention none</code>).</p>"
_NO_BANDS = "<p>Cannot be asked: this network chooses no bands (<code>--model.bands 0</code>).</p>"
_NO_GROUPS = "<p>Cannot be asked: no class or third of values of a descriptor has three sites with a label.</p>"


def as_html(document: dict, report: Report = lambda stage, done, total: None) -> str:
    """The page. `report` counts the pictures."""
    inside, described = document["inside"], document["descriptors"]
    total = sum(inside.values()) * len(described) + 2 * len(document["ablation"]["scores"])
    done = itertools.count(1)

    def drawn(svg: str, caption: str) -> str:
        report("drawing", next(done), total)
        return html.panel(svg, caption)

    energy, asked = np.array(document["energy_ev"]), document["physics"]
    sections = [
        ("Physics", _PHYSICS.format(data=asked["data_split"], split=document["split"]), _physics(asked["findings"])),
        ("Without a frequency", _LOST_BANDS, _lost_bands(document, drawn)),
        ("Without an energy", _LOST_WINDOWS, _lost_windows(document, energy, drawn)),
    ]
    if not described:
        sections.insert(1, ("Inside", "", _NO_GROUPS))
    elif not inside["gradients"]:
        sections.insert(1, ("Inside", "", _NO_INSIDE))
    else:
        sections[1:1] = [
            ("Integrated gradients", _GRADIENTS, _gradients(document, energy, drawn)),
            ("Completeness", _COMPLETE, _completeness(document)),
            ("Attention", f"{_ATTENTION} {_REGIONS}", _attention(document, energy, drawn))
            if inside["attention"]
            else ("Attention", "", _NO_ATTENTION),
            ("Bands", _BANDS, _bands(document, drawn)) if inside["bands"] else ("Bands", "", _NO_BANDS),
        ]
    own = {each["question"]: each for each in asked["findings"] if each["absorber"] == document["absorber"]}
    facts = {"absorber": document["absorber"], f"{document['split']} sites": f"{document['sites']:,}"}
    facts |= {claim.text: _tile(own[claim.name], claim) for claim in CLAIMS}
    meanings = (html.named(descriptor(name)) for name in ("CN", "OS", "OCN"))
    top = f'{html.tiles(facts)}<p class="note">{"; ".join(meanings)}.</p>'
    return html.page(f"What the model looks at: {document['run']}", top, sections)


def _tile(found: dict, claim: Claim) -> str:
    """Both verdicts and the numbers behind them."""
    data, model = found["data"], found["model"]
    return f"data: {_finding(data, claim.data_unit)}model: {_finding(model, claim.model_unit)}"


def _physics(findings: list[dict]) -> str:
    parts = []
    for claim in CLAIMS:
        rows = [
            [each["absorber"].split()[0], _finding(each["data"]), _finding(each["model"])]
            for each in findings
            if each["question"] == claim.name
        ]
        header = ["", f"data, {claim.data_unit}", f"model, {claim.model_unit}"]
        parts.append(f"<div><b>{claim.text[0].upper()}{claim.text[1:]}</b>{html.table(header, rows)}</div>")
    return f'<div class="beside">{"".join(parts)}</div><p class="note">{escape(D_ELECTRONS)}</p>'


def _finding(found: dict | None, unit: str = "") -> str:
    """A verdict, and below it the numbers."""
    if found is None:
        return "not learnt"
    if found["effect"] is None:
        return f"too few<br><small>{found['sites']:,} sites</small>"
    verdict = (
        found["verdict"]
        if found["verdict"] == "not seen"
        else html.judged(found["verdict"] == "seen", found["verdict"])
    )
    numbers = f"{found['effect']:+.3f} ± {found['error']:.3f}".replace(" ", "\u00a0")
    return f"{verdict}<br><small>{numbers}{' ' if unit else ''}{unit}, {found['sites']:,}\u00a0sites</small>"


def _gradients(document: dict, energy: np.ndarray, drawn: Drawn) -> str:
    return html.panels(
        drawn(figures.attribution(energy, found["groups"], found["unit"]), f"{_named(name)} {_legend(found)}")
        for name, found in document["descriptors"].items()
    )


def _completeness(document: dict) -> str:
    rows = []
    for name, found in document["descriptors"].items():
        complete = found["gap"] <= document["tolerance"]
        whole = html.judged(complete, "complete" if complete else f"above {document['tolerance']:.0%}")
        sites = sum(group["explained"] for group in found["groups"])
        rows.append([name, sites, f"{found['gap']:.2%}", whole, f"{found['choice']:.1%}"])
    return html.table(["descriptor", "sites explained", "error", "verdict", "choice of bands"], rows)


def _attention(document: dict, energy: np.ndarray, drawn: Drawn) -> str:
    even = np.array(document["even_attention"])
    return html.panels(
        drawn(figures.attention(energy, found["groups"], even), f"{_named(name)} {_legend(found)}")
        for name, found in document["descriptors"].items()
    )


def _bands(document: dict, drawn: Drawn) -> str:
    return html.panels(
        drawn(figures.bands(found["groups"]), _named(name)) for name, found in document["descriptors"].items()
    )


def _lost_bands(document: dict, drawn: Drawn) -> str:
    lost = document["ablation"]
    return html.panels(
        drawn(figures.lost_bands(lost["frequencies"], loss), f"{_named(name)}, score {lost['scores'][name]:.3f}")
        for name, loss in lost["bands"].items()
    )


def _lost_windows(document: dict, energy: np.ndarray, drawn: Drawn) -> str:
    lost, mean, found = document["ablation"], np.array(document["mean"], float), document["descriptors"]
    return html.panels(
        drawn(
            figures.lost_windows(
                energy, lost["window_starts_ev"], loss, mean, found[name]["groups"] if name in found else []
            ),
            f"{_named(name)}, score {lost['scores'][name]:.3f}",
        )
        for name, loss in lost["windows"].items()
    )


def _named(name: str) -> str:
    return html.named(descriptor(name))


def _legend(found: dict) -> str:
    """The groups in their colours, with their number of sites, on a line of their own."""
    groups = found["groups"]
    names = [f"{escape(group['label'])} <small>({group['sites']})</small>" for group in groups]
    return f"<br>{html.legend(zip(names, figures.colours(len(groups)), strict=True))}"
