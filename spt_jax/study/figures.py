"""The pictures of a study, each from its document, as inline SVG; the colours of the models are named on the page."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data_pipelines.pages.style import BLUE, GREY, INK, ORANGE, OTHERS, RC, as_svg, panel
from data_pipelines.schema import DESCRIPTORS
from spt_jax.scoring.ranks import alike
from spt_jax.study.tables import EXPERTS, SPT

AXES = {"noise": "σ of the noise (edge steps)", "broadening": "σ of the broadening (eV)", "shift": "energy shift (eV)"}
AXES |= {
    "resampling": "step of the measured points (eV)",
    "missing start": "missing at the start (eV)",
    "missing end": "missing at the end (eV)",
}


def colours(models: list[str]) -> dict[str, str]:
    """SPT and its experts in the colours of the project, every other model in its own."""
    others = iter(OTHERS * 2)
    own = {SPT: BLUE, EXPERTS: ORANGE}
    return {name: own.get(name) or next(others) for name in models}


@matplotlib.rc_context(RC)
def radar(of_kind: dict) -> str:
    """Mean test score of each model on each descriptor, every axis from 0 in the middle to the best one outside."""
    names = [name for name in named(of_kind) if name != "OS" or _varies(of_kind, name)]
    models = list(of_kind["scores"])
    angle = np.linspace(0, 2 * np.pi, len(names), endpoint=False)
    best = {
        name: max(of_kind["scores"][m][name]["mean"] for m in models if name in of_kind["scores"][m]) for name in names
    }
    figure = Figure(figsize=(3.7, 3.3))
    axes = figure.add_axes((0.16, 0.13, 0.68, 0.74), projection="polar")
    for model, colour in colours(models).items():
        values = [max(of_kind["scores"][model].get(name, {"mean": 0})["mean"], 0) / best[name] for name in names]
        width, order = (2.4, 3) if model == SPT else (1, 2)
        axes.plot([*angle, angle[0]], [*values, values[0]], color=colour, linewidth=width, zorder=order)
    axes.set_xticks(angle, [f"{name}\n{best[name]:.2f}" for name in names])
    axes.set(ylim=(0, 1.03), theta_offset=np.pi / 2, theta_direction=-1)
    axes.set_yticks([0.25, 0.5, 0.75, 1], ["", "", "", ""])
    axes.grid(color=GREY, linewidth=0.5)
    axes.spines["polar"].set_visible(False)
    return as_svg(figure)


SINGLE, ENSEMBLE = BLUE, ORANGE


@matplotlib.rc_context(RC)
def against(of_kind: dict, seeds: int) -> str:
    """SPT minus the best competitor of each descriptor with its 95 % interval: single models, and ensembles of seeds."""
    rows = list(of_kind["against"].items())
    figure = Figure(figsize=(3.7, 0.6 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for i, (_, each) in enumerate(rows):
        several = (("single", SINGLE, -0.13), ("ensemble", ENSEMBLE, 0.13))
        for key, colour, offset in several if seeds > 1 else (("single", SINGLE, 0),):
            d = each[key]
            axes.plot([d["low"], d["high"]], [i + offset] * 2, color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot(d["score"], i + offset, "o", color=colour, markersize=5)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{name} / {each['best']}" for name, each in rows])
    axes.invert_yaxis()
    axes.set_xlabel("score of SPT less that of the other")
    return as_svg(figure)


@matplotlib.rc_context(RC)
def noise(document: dict, of_kind: dict, models: list[str], name: str) -> str:
    """Score of a descriptor against the noise."""
    which = _cases(document, "noise")
    drawn = {m: [of_kind["robustness"][m][name][i] for i in which] for m in models}
    return _lines(document, which, drawn, of_kind, "noise")


@matplotlib.rc_context(RC)
def perturbed(document: dict, of_kind: dict, models: list[str], kind: str) -> str:
    """Mean score over the descriptors against a kind of perturbation; the undisturbed spectrum at 0."""
    names = [n for n in named(of_kind) if all(None not in of_kind["robustness"][m][n] for m in models)]
    which = _cases(document, kind)
    drawn = {m: [np.mean([of_kind["robustness"][m][n][i] for n in names]) for i in which] for m in models}
    return _lines(document, which, drawn, of_kind, kind)


def _cases(document: dict, kind: str) -> list[int]:
    """Perturbations of a kind in order of size, the undisturbed spectrum among them."""
    cases = document["perturbations"]
    clean = next(i for i, case in enumerate(cases) if case["kind"] == "noise" and case["size"] == 0)
    own = [i for i, case in enumerate(cases) if case["kind"] == kind and i != clean]
    return sorted([clean, *own], key=lambda i: cases[i]["size"])


def _lines(document: dict, which: list[int], drawn: dict[str, list[float]], of_kind: dict, kind: str) -> str:
    figure, axes = panel()
    sizes, palette = [document["perturbations"][i]["size"] for i in which], colours(list(of_kind["scores"]))
    for model, values in drawn.items():
        width, order = (2.2, 3) if model == SPT else (1.1, 2)
        # R2 has no lower end; below 0 all is lost anyway.
        scores = np.maximum(np.array(values, float), 0)
        axes.plot(sizes, scores, color=palette[model], linewidth=width, zorder=order)
    axes.set(xlabel=AXES[kind], ylabel="score", ylim=(0, None))
    return as_svg(figure)


@matplotlib.rc_context(RC)
def joint_and_experts(of_kind: dict) -> str:
    """Score of the joint model and of one expert per descriptor, each with its seeds."""
    figure, axes = panel()
    names = named(of_kind)
    for offset, model, colour in ((-0.2, SPT, BLUE), (0.2, EXPERTS, ORANGE)):
        scores = of_kind["scores"][model]
        place = [i + offset for i in range(len(names))]
        axes.bar(place, [scores[name]["mean"] for name in names], 0.38, color=colour, alpha=0.8)
        for x, name in zip(place, names, strict=True):
            axes.plot([x] * len(scores[name]["seeds"]), scores[name]["seeds"], ".", color=INK, markersize=4)
    low = min(0, *(s for m in (SPT, EXPERTS) for n in names for s in of_kind["scores"][m][n]["seeds"]))
    axes.set(ylabel="test score", ylim=(max(low, -0.5), None))
    axes.set_xticks(range(len(names)), names, fontsize=7.5)
    return as_svg(figure)


@matplotlib.rc_context(RC)
def minutes(cost: dict[str, list[float]]) -> str:
    """Mean seconds of training of the joint model and of all experts, in minutes."""
    figure, axes = panel()
    for model, colour in ((SPT, BLUE), (EXPERTS, ORANGE)):
        axes.bar([model], [np.mean(cost[model]) / 60], 0.6, color=colour, alpha=0.8)
    axes.set(ylabel="minutes of training")
    return as_svg(figure)


@matplotlib.rc_context(RC)
def place(places: np.ndarray, values: np.ndarray) -> str:
    """(N, 2) places of the test spectra, coloured by (N,) names, or by numbers with NaN where unknown."""
    figure = Figure(figsize=(3.7, 2.7))
    axes = figure.add_axes((0.01, 0.02, 0.78, 0.96))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if values.dtype.kind in "UO":
        _by_name(axes, places, values)
        return as_svg(figure)
    known = np.isfinite(values)
    axes.scatter(*places[~known].T, s=4, color="#e4e4e4", linewidths=0)
    low, high = np.quantile(values[known], (0.02, 0.98))
    points = axes.scatter(*places[known].T, s=5, c=values[known], cmap="viridis", vmin=low, vmax=high, linewidths=0)
    figure.colorbar(points, cax=figure.add_axes((0.83, 0.12, 0.035, 0.76))).outline.set_visible(False)
    return as_svg(figure)


def _by_name(axes: Axes, place: np.ndarray, names: np.ndarray) -> None:
    for name, colour in zip(np.unique(names), (BLUE, ORANGE, *OTHERS) * 6, strict=False):
        axes.scatter(*place[names == name].T, s=5, color=colour, label=name, linewidths=0)
    axes.legend(frameon=False, fontsize=7, markerscale=2, loc="upper left", bbox_to_anchor=(1, 1))


def named(of_kind: dict) -> list[str]:
    """Descriptors that every model answers, in the order of the table."""
    return [d.name for d in DESCRIPTORS if all(d.name in scores for scores in of_kind["scores"].values())]


def _varies(of_kind: dict, name: str) -> bool:
    return any(score["mean"] < 1 for score in (scores[name] for scores in of_kind["scores"].values()))


@matplotlib.rc_context(RC)
def critical_difference_figure(ranks: dict[str, float], distance: float) -> Figure:
    """Models along the axis of mean ranks; a bar joins those that are not told apart (Demsar 2006, figure 1)."""
    ordered, groups = sorted(ranks.items(), key=lambda item: item[1]), alike(ranks, distance)
    count, left = len(ordered), (len(ordered) + 1) // 2
    first_label = 0.55 + 0.25 * len(groups)
    bottom = first_label + 0.32 * (max(left, count - left) - 1) + 0.3
    figure = Figure(figsize=(6.4, 0.55 * (bottom + 1.2)))
    axes = figure.add_axes((0.22, 0, 0.56, 1))
    margin = 0.04 * max(count - 1, 1)
    axes.set(xlim=(1 - margin, count + margin), ylim=(bottom, -1.2))
    axes.axis("off")
    axes.plot((1, count), (0, 0), color=INK, linewidth=1)
    for rank in range(1, count + 1):
        axes.plot((rank, rank), (0, -0.12), color=INK, linewidth=1)
        axes.text(rank, -0.2, str(rank), ha="center", va="bottom")
    shown = min(distance, count - 1)
    axes.plot((1, 1 + shown), (-0.75, -0.75), color=INK, linewidth=1, marker="|")
    axes.text(1 + shown + margin, -0.75, f"critical distance {distance:.2f}", va="center")
    for i, (name, rank) in enumerate(ordered):
        best = i < left
        y = first_label + 0.32 * (i if best else count - 1 - i)
        end = 1 - margin if best else count + margin
        axes.plot((rank, rank, end), (0, y, y), color=INK, linewidth=0.8)
        text = f"{name}  {rank:.2f}" if best else f"{rank:.2f}  {name}"
        axes.text(end, y, f"{text} " if best else f" {text}", ha="right" if best else "left", va="center")
    for i, (best, worst) in enumerate(groups):
        axes.plot((best, worst), (0.3 + 0.25 * i,) * 2, color=BLUE, linewidth=4, solid_capstyle="butt")
    return figure
