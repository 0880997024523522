"""What a model looks at as one self-contained HTML page, drawn from the document of `explanation.explain`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from html import escape

import numpy as np

from data_pipelines.pages import html
from data_pipelines.schema import descriptor
from spt_jax.explain import figures
from spt_jax.explain.edges import NEAR_EDGE_EV, PRE_EDGE_GAP_EV
from spt_jax.explain.physics import D_ELECTRONS

Report = Callable[[str, int, int], None]
Drawn = Callable[[str, str], str]

_REGIONS = (
    "Dotted: the edge of each group, where its mean spectrum crosses half the edge step. Shaded: the pre-edge, from the "
    f"start of the grid to {PRE_EDGE_GAP_EV:g} eV below the lowest of these edges. Both are found on the grid, whose zero "
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
_PRE_EDGE = (
    "Without it CN accuracy ({accuracy:.2f}) drops by {loss:.3f}, without as much far above the edge by {far:.3f}; error "
    "of the difference ± {error:.3f}. Share of |attribution| {share:.1%}, if even {even:.1%}."
)
_SLOPE = (
    "{slope:+.3f} ± {error:.3f} per eV that spectra are moved up. Share of |attribution| near the edge {share:.1%}, if "
    "even {even:.1%}."
)


def as_html(document: dict, report: Report = lambda stage, done, total: None) -> str:
    """The page. `report` counts the pictures."""
    total = 3 * len(document["descriptors"]) + 2 * len(document["ablation"]["scores"]) + 1
    done = itertools.count(1)

    def drawn(svg: str, caption: str) -> str:
        report("drawing", next(done), total)
        return html.panel(svg, caption)

    energy = np.array(document["energy_ev"])
    sections = (
        ("Physics check", "Two questions whose answers are known without the model.", _physics(document, drawn)),
        ("Integrated gradients", _GRADIENTS, _gradients(document, energy, drawn)),
        ("Completeness", _COMPLETE, _completeness(document)),
        ("Attention", f"{_ATTENTION} {_REGIONS}", _attention(document, energy, drawn)),
        ("Bands", _BANDS, _bands(document, drawn)),
        ("Without a frequency", _LOST_BANDS, _lost_bands(document, drawn)),
        ("Without an energy", _LOST_WINDOWS, _lost_windows(document, energy, drawn)),
    )
    report("drawing", total, total)
    coordination, oxidation = document["checks"]
    facts = {
        "absorber": document["absorber"],
        f"{document['split']} sites": f"{document['sites']:,}",
        "The pre-edge tells CN 4 from CN 6": _tile(coordination, _PRE_EDGE),
        "A higher edge raises the predicted OS": _tile(oxidation, _SLOPE),
    }
    meanings = (html.named(descriptor(name)) for name in ("CN", "OS"))
    top = f'{html.tiles(facts)}<p class="note">{"; ".join(meanings)}.</p>'
    return html.page(f"What the model looks at: {document['run']}", top, sections)


def _tile(check: dict, told: str) -> str:
    """A verdict and the numbers behind it, or why there is none."""
    if check["confirmed"] is None:
        return f"not asked<small>{escape(check['line'])}</small>"
    verdict = html.judged(check["confirmed"], "confirmed" if check["confirmed"] else "not confirmed")
    return f"{verdict}<small>{told.format(**check)}</small>"


def _physics(document: dict, drawn: Drawn) -> str:
    coordination, oxidation = document["checks"]
    lines = "".join(f"<p>{escape(check['line'])}</p>" for check in document["checks"])
    note = f'<p class="note">{escape(D_ELECTRONS)}</p>'
    parts = []
    if oxidation["confirmed"] is not None:
        caption = "<b>OS</b> expectation over the class probabilities, mean over all sites with a label"
        parts.append(drawn(figures.shift(oxidation["shifts_ev"], oxidation["predicted"]), caption))
    if coordination["confirmed"] is not None:
        rows = [[f"{float(gap):g}", f"{lost:+.3f}"] for gap, lost in coordination["by_gap"].items()]
        table = html.table(["pre-edge ends below the edge, eV", "CN accuracy lost, above that far away"], rows)
        gap = f"The verdict takes {PRE_EDGE_GAP_EV:g} eV: nearer, the rising edge of many sites is part of it."
        parts.append(f'<div>{table}<p class="note">{gap}</p></div>')
    near = f"Near the edge means within {NEAR_EDGE_EV:g} eV of the edge of the site's class."
    return f'{lines}<div class="beside">{"".join(parts)}</div><p class="note">{near}</p>{note}'


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
    if not any(any(each) for each in next(iter(document["descriptors"].values()))["groups"][0]["attention"]):
        return "<p>This network has no attention.</p>"
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
