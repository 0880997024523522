"""What each part of SPT is worth: the preset with one thing changed at a time, and with less data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.resplit import folds as dealt
from data_pipelines.dataset.resplit import thinned
from data_pipelines.files import write_atomic
from spt_jax.config import BandInput, Config
from spt_jax.scoring.metrics import main_score, score_answers
from spt_jax.scoring.names import MAIN_SCORE
from spt_jax.study.ablations_page import ablations_page
from spt_jax.study.jobs import Done, Job, run_job
from spt_jax.study.run import Report, check, claim
from spt_jax.study.tables import SPT

SHARES = (0.1, 0.2, 0.35, 0.5, 0.7)


@dataclass(frozen=True)
class Variant:
    """The preset with something else. share: of the training materials."""

    group: str
    name: str
    config: Config
    share: float = 1.0


def variants(preset: Config) -> list[Variant]:
    """Every change of every group, without those that change nothing; the preset itself comes first."""
    model, train = preset.model, preset.train
    groups: dict[str, dict[str, dict[str, Any]]] = {
        "bands": {
            "none": {"bands": 0},
            "fixed": {"band_mode": "fixed"},
            "of the batch": {"band_mode": "batch"},
        },
        "noise filter": {"none": {"denoise": False}},
        "band input": {kind: {"band_input": kind} for kind in get_args(BandInput)},
        "fusion": {kind: {"fusion": kind} for kind in ("query", "amplitude", "mean")},
        "graph": {kind: {"attention": kind} for kind in ("none", "gatv1", "gatv2")},
        "bands and graph": {"neither": {"bands": 0, "attention": "none"}},
        "window": {f"w = {w}": {"window": w} for w in (1, 2, 4, 8, 16)},
        "bands kept": {f"k = {k}": {"bands": k} for k in (1, 2, 3, 5)},
        "kernel": {f"{k} x {k}": {"kernel": k} for k in (1, 3, 5, 7)},
        "blocks": {f"{n} blocks": {"blocks": n} for n in (1, 2, 3)},
        "width": {f"d = {d}": {"width": d} for d in (24, 48, 96)},
        "dense layers": {f"{n} layers": {"hidden_layers": n} for n in (1, 2, 3, 4)},
    }
    found = [Variant("", "preset", preset)]
    for group, changes in groups.items():
        for name, fields in changes.items():
            found.append(Variant(group, name, replace(preset, model=replace(model, **fields))))
    for name, fields in {
        "no noise": {"noise": 0.0},
        "noise to 0.03": {"noise": 0.03},
        "no energy shift": {"energy_shift": 0.0},
        "no edge-step error": {"amplitude": 0.0},
        "no mixtures": {"mixup": 0.0},
        "mixtures": {"mixup": 0.4},
        "mixtures alone": {"noise": 0.0, "energy_shift": 0.0, "amplitude": 0.0, "mixup": 0.4},
        "none": {"noise": 0.0, "energy_shift": 0.0, "amplitude": 0.0, "mixup": 0.0},
    }.items():
        found.append(Variant("augmentation", name, replace(preset, objective=replace(preset.objective, **fields))))
    for epochs in (max(train.epochs // 3, 1), 2 * train.epochs):
        schedule = replace(train, epochs=epochs, warmup_epochs=min(train.warmup_epochs, epochs))
        found.append(Variant("training", f"{epochs} epochs", replace(preset, train=schedule)))
    found += [Variant("data", f"{share:.0%} of the materials", preset, share) for share in SHARES]
    return [variant for i, variant in enumerate(found) if not i or (variant.config, variant.share) != (preset, 1.0)]


def ablate(dataset: Dataset, out: Path, chosen: list[Variant], seeds: int, report: Report, folds: int = 0) -> dict:
    """Fit every variant with every seed, or on every fold, and leave `out`/report.html and ablations.json.

    Finished fits are kept. folds: 0 takes the dataset's own training and validation splits.
    """
    check(dataset)
    claim(out, dataset, "ablations")
    if folds:
        runs = [(f"fold {i} of {folds}", fold, 0) for i, fold in enumerate(dealt(dataset, folds), start=1)]
    else:
        runs = [("", dataset, seed) for seed in range(seeds)]
    total, count, rows = len(chosen) * len(runs), 0, []
    for variant in chosen:
        title = f"{variant.group} {variant.name}".strip()
        fits, examples = [], []
        for place, data, seed in runs:
            label, view = f"{title} {place}".strip(), place
            report(label, count, total, None)
            if variant.share != 1:
                data, view = thinned(data, variant.share), f"share {variant.share:g} {place}".strip()
            told = partial(report, label, count, total)
            fits.append(run_job(Job(SPT, variant.config, seed, view=view), data, out, told, perturbed=False))
            examples.append(len(data.split("train").ids))
            count += 1
        about = {"group": variant.group, "name": variant.name, "share": variant.share}
        rows.append({**about, "examples": round(np.mean(examples)), **_scored(fits, dataset)})
    report("done", total, total, None)
    result = {
        "dataset": dataset.fingerprint,
        "main_score": MAIN_SCORE,
        "seeds": seeds,
        "folds": folds,
        "preset": asdict(chosen[0].config),
        "variants": rows,
        "scaling": scaling(rows),
    }
    write_atomic(out / "ablations.json", json.dumps(result, indent=1) + "\n")
    write_atomic(out / "report.html", ablations_page(result))
    return result


def _scored(fits: list[Done], dataset: Dataset) -> dict:
    """Main score by descriptor of each fit on what it was validated by and on the test split, and their means."""
    batch = dataset.split("test").batch
    tested = [{n: main_score(s) for n, s in score_answers(fit.answers("test"), batch).items()} for fit in fits]
    found: dict[str, Any] = {"seconds": [fit.seconds for fit in fits]}
    for split, each in (("validation", [fit.validation for fit in fits]), ("test", tested)):
        found[split] = {name: [scores[name] for scores in each] for name in each[0]}
        found[f"{split}_mean"] = [
            float(np.mean([score for score in scores.values() if score is not None])) for scores in each
        ]
    return found


def scaling(rows: list[dict]) -> dict | None:
    """1 - mean test score = a n^-b over the shares of the data, by least squares of the logarithms.

    b: the exponent, with its standard error; None for fewer than three sizes.
    """
    points = [(row["examples"], 1 - np.mean(row["test_mean"])) for row in rows if row["group"] in ("", "data")]
    if len({n for n, _ in points}) < 3:
        return None
    x, y = np.log(np.array(points)).T
    (slope, offset), covariance = np.polyfit(x, y, 1, cov="unscaled")
    left = y - (slope * x + offset)
    error = float(np.sqrt(covariance[0, 0] * (left @ left) / (len(x) - 2)))
    return {"exponent": float(-slope), "error": error, "factor": float(np.exp(offset))}
