"""A study from beginning to end: choose settings, fit every model with every seed, write what they say.

Everything is a job that is kept when done, so a stopped study goes on where it was, and one that is asked for more
fits only what is new.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.resplit import by_site, thinned
from data_pipelines.dataset.splits import SPLITS
from data_pipelines.errors import RunError
from data_pipelines.files import read_json, write_atomic
from data_pipelines.schema import DESCRIPTORS
from spt_jax.config import Config
from spt_jax.scoring.metrics import main_score, score_answers
from spt_jax.scoring.names import MAIN_SCORE
from spt_jax.study.jobs import Done, Job, run_job
from spt_jax.study.page import write_page
from spt_jax.study.plan import Plan, noisy
from spt_jax.study.scores import robustness_csv, scores_csv
from spt_jax.study.tables import EXPERTS, SPT, Fits, document

Report = Callable[[str, int, int, dict | None], None]
"""(what is fitted, jobs done, jobs in all, line of the training log)."""


def study(dataset: Dataset, out: Path, plan: Plan, report: Report) -> dict:
    """Leaves `out`/study.json, report.html, scores.csv and robustness.csv; returns the document."""
    check(dataset)
    examples = dataset.card["splits"]["train"]["examples"]
    if plan.most_examples and examples > plan.most_examples:
        dataset = thinned(dataset, plan.most_examples / examples)
    claim(out, dataset, "study")
    tuning = sum(len(c.candidates) for c in plan.competitors)
    total = tuning + (plan.seeds - 1) * len(plan.competitors)
    total += len(plan.with_noise) + len(plan.split_by_site) + (plan.seeds if plan.experts else 0)
    count = 0

    def done(job: Job, data: Dataset = dataset, perturbed: bool = True) -> Done:
        nonlocal count
        title = f"{job.model} {job.view} seed {job.seed}".replace("  ", " ")
        report(title, count, total, None)
        found = run_job(job, data, out, lambda line: report(title, count, total, line), perturbed)
        count += 1
        report(title, count, total, None)
        return found

    fits: dict[str, list[Done]] = {}
    for competitor in plan.competitors:
        tried = [done(Job(competitor.model, settings, 0)) for settings in competitor.candidates]
        best = max(tried, key=lambda fit: fit.score)
        others = [done(replace(best.job, seed=seed)) for seed in range(1, plan.seeds)]
        fits[competitor.model] = [best, *others]
        if competitor.model == SPT and plan.experts:
            experts = replace(best.job, model=EXPERTS, experts=True)
            fits[EXPERTS] = [done(replace(experts, seed=seed), perturbed=False) for seed in range(plan.seeds)]
    models = [Fits(name, found, dataset) for name, found in fits.items()]
    trained = {name: fits[name][0].job for name in plan.with_noise}
    with_noise = {
        name: done(replace(job, settings=noisy(job.settings), view="with noise")) for name, job in trained.items()
    }
    result = document(models, [Fits(name, [fit], dataset) for name, fit in with_noise.items()], dataset)
    result["settings"] = {name: asdict(found[0].job.settings) for name, found in fits.items()}
    result["settings_tried"] = {c.model: len(c.candidates) for c in plan.competitors}
    sites = by_site(dataset)
    result["other_split"] = {
        name: _gap(done(replace(fits[name][0].job, view="by site"), sites, False), fits[name][0], sites, dataset)
        for name in plan.split_by_site
    }
    maps = _maps(fits[SPT][0], dataset)
    write_atomic(out / "study.json", json.dumps(result, indent=1) + "\n")
    write_atomic(out / "scores.csv", scores_csv(result))
    write_atomic(out / "robustness.csv", robustness_csv(result))
    write_atomic(out / "report.html", write_page(result, models, dataset, maps))
    return result


def check(dataset: Dataset) -> None:
    """Raises RunError unless there is something to train on, to choose by, and to judge by."""
    for name in SPLITS:
        if not dataset.card["splits"].get(name, {}).get("examples"):
            raise RunError(f"{dataset.path}: a study needs examples in all three splits, {name} has none")


def claim(out: Path, dataset: Dataset, what: str) -> None:
    """A folder belongs to one dataset, to a study or to ablations, and to the score by which its fits were chosen.

    Jobs of other settings may stand side by side.
    """
    path = out / "dataset.json"
    wanted = {"fingerprint": dataset.fingerprint, "what": what, "main_score": MAIN_SCORE}
    if path.exists():
        found = read_json(path)
        if found.get("main_score") != MAIN_SCORE:
            raise RunError(
                f"{out} holds fits that an older version chose by macro-F1; they are chosen by weighted F1 now, and not "
                "mixed: choose another --out"
            )
        if found != wanted:
            raise RunError(f"{out} holds a study or ablations of other data, or a quick study; choose another --out")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(wanted) + "\n")


def _gap(by_site: Done, by_material: Done, sites: Dataset, dataset: Dataset) -> dict:
    """Most likely classes and values of one seed, scored on the test split of each."""
    scores = [
        {n: main_score(s) for n, s in score_answers(fit.answers("test"), data.split("test").batch).items()}
        for fit, data in ((by_site, sites), (by_material, dataset))
    ]
    return {
        name: {"site": scores[0][name], "material": scores[1][name]}
        for name in scores[0]
        if scores[0][name] is not None and scores[1].get(name) is not None
    }


def _maps(fit: Done, dataset: Dataset) -> dict | None:
    """Places of the test spectra by what SPT's shared layer makes of them, and what they are coloured by.

    None where UMAP (extra `study`) is not installed: it is heavy, and the rest of the page does not need it.
    """
    if find_spec("umap") is None or not isinstance(fit.job.settings, Config):
        return None
    from umap import UMAP

    from spt_jax.inference.load import load_run

    test = dataset.split("test")
    hidden = load_run(fit.folder / "run").network.hidden(test.batch.spectrum, test.batch.atomic_number)
    place = UMAP(random_state=0, n_jobs=1).fit_transform(np.asarray(hidden))
    colourings = {"element": np.array([absorber.split()[0] for absorber in test.absorbers])}
    for column, d in enumerate(DESCRIPTORS):
        known = test.batch.mask[:, column]
        if known.any():
            colourings[d.name] = np.where(known, d.values(test.batch.labels[:, column]), np.nan)
    return {"place": place, "colourings": colourings}
