"""One fit of a study: train a model with one seed, and keep what it answers, so that a stop costs one fit at most.

STUDY/jobs/NAME/run          the run folder of a network, which goes on where it stopped
STUDY/jobs/NAME/answers.npz  answers on validation, test and every perturbed test set; Lipschitz constants
STUDY/jobs/NAME/job.json     what was fitted and how long it took; written last, so a job that has one is done
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines.dataset.loading import Dataset
from data_pipelines.files import read_json, write_atomic
from spt_jax.config import Config
from spt_jax.peers.trees import TreeSettings, fit_trees
from spt_jax.robustness.lipschitz import sampled
from spt_jax.robustness.perturb import PERTURBATIONS, perturb
from spt_jax.scoring.metrics import main_score, score_answers
from spt_jax.tasks import Answers, Predictor, make_tasks

Settings = Config | TreeSettings


@dataclass(frozen=True)
class Job:
    """model: its name in tables. experts: one network per descriptor instead of one for all. seed: of the fit.

    view: what the data are to it, where not the dataset as it is.
    """

    model: str
    settings: Settings
    seed: int
    experts: bool = False
    view: str = ""

    @property
    def name(self) -> str:
        """A folder name that belongs to these settings alone."""
        text = json.dumps([asdict(self.settings), self.experts], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        words = (self.model, self.view, f"seed{self.seed}", digest)
        return "-".join(word.lower().replace(" ", "_") for word in words if word)


@dataclass(frozen=True)
class Done:
    """A finished job. seconds: of fitting. validation: main score by descriptor, `score` their mean. price: what it takes."""

    job: Job
    folder: Path
    seconds: float
    validation: dict[str, float | None]
    price: dict[str, float | None] = field(default_factory=dict)

    @property
    def score(self) -> float:
        return float(np.mean([value for value in self.validation.values() if value is not None]))

    def answers(self, split: str) -> Answers:
        """Answers on "validation" or "test"; "perturbed": on all PERTURBATIONS of the test split, with these in front.

        "lipschitz": (N,) constants of the test spectra in place of answers, as `lipschitz.sampled` finds them.
        """
        with np.load(self.folder / "answers.npz") as stored:
            found = {key.split("/")[1]: stored[key] for key in stored.files if key.startswith(f"{split}/")}
        return {name: each.astype(np.float32) for name, each in found.items()}


def run_job(job: Job, dataset: Dataset, out: Path, report: Callable[[dict], None], perturbed: bool = True) -> Done:
    """Fit and record, or read what an earlier call recorded."""
    folder = out / "jobs" / job.name
    record = folder / "job.json"
    if not record.exists():
        folder.mkdir(parents=True, exist_ok=True)
        predictor, seconds, speed, parameters = fit(job, dataset, folder / "run", report)
        validation = dataset.split("validation").batch
        test = dataset.split("test").batch
        answers = {
            "validation": predictor(validation.spectrum, validation.atomic_number),
            "test": predictor(test.spectrum, test.atomic_number),
        }
        # Not the first time: that one compiles.
        began = time.perf_counter()
        predictor(test.spectrum, test.atomic_number)
        answered = len(test.spectrum) / (time.perf_counter() - began)
        if perturbed:
            answers["perturbed"] = on_perturbed(predictor, dataset)
            tasks = make_tasks(tuple(answers["test"]), dataset.statistics("train"))
            answers["lipschitz"] = sampled(predictor, test.spectrum, test.atomic_number, tasks, directions=8)
        stored = io.BytesIO()
        named = {f"{split}/{name}": each for split, found in answers.items() for name, each in found.items()}
        np.savez_compressed(stored, **named)
        write_atomic(folder / "answers.npz", stored.getvalue())
        scores = {name: main_score(s) for name, s in score_answers(answers["validation"], validation).items()}
        document = {
            "model": job.model,
            "seed": job.seed,
            "view": job.view,
            "experts": job.experts,
            "settings": asdict(job.settings),
            "seconds": round(seconds, 2),
            "validation": scores,
            "price": {"parameters": parameters, "trained_per_s": speed, "answered_per_s": answered},
        }
        write_atomic(record, json.dumps(document, indent=1) + "\n")
    document = read_json(record)
    return Done(job, folder, document["seconds"], document["validation"], document.get("price", {}))


class Fitted(NamedTuple):
    """seconds: of fitting, of a network those of all its epochs, compilation included. speed: training spectra in a
    second, of a network in the median epoch. parameters: None of trees."""

    predictor: Predictor
    seconds: float
    speed: float
    parameters: int | None


def fit(job: Job, dataset: Dataset, run: Path, report: Callable[[dict], None]) -> Fitted:
    """The fitted model, and what it took."""
    if isinstance(job.settings, TreeSettings):
        rows, began = dataset.split("train").batch, time.perf_counter()
        predictor = fit_trees(job.settings, rows, job.seed)
        seconds = time.perf_counter() - began
        return Fitted(predictor, seconds, len(rows.spectrum) / seconds, None)

    import jax
    from flax import nnx

    from spt_jax.inference.load import load_members, load_run
    from spt_jax.runs.folder import read_log
    from spt_jax.training.ensemble import train_members
    from spt_jax.training.loop import train

    config = replace(job.settings, train=replace(job.settings.train, seed=job.seed))
    if job.experts:
        train_members(config, dataset, run, report=report)
        models = list(load_members(run).values())
    else:
        train(config, dataset, run, report)
        models = [load_run(run)]

    def answers(spectrum: np.ndarray, atomic_number: np.ndarray) -> Answers:
        return {name: each for m in models for name, each in m.answers(spectrum, atomic_number).items()}

    log = read_log(run)
    sizes = [leaf.size for model in models for leaf in jax.tree.leaves(nnx.state(model.network, nnx.Param))]
    seconds, speed = sum(line["seconds"] for line in log), float(np.median([line["spectra_per_s"] for line in log]))
    return Fitted(answers, seconds, speed, sum(sizes))


def on_perturbed(predictor: Predictor, dataset: Dataset) -> Answers:
    """Answers on every perturbation of the test split, (P, N, ...); probabilities in half precision."""
    test, count = dataset.split("test").batch, len(PERTURBATIONS)
    # One call for all: a forest starts its threads anew at each.
    spectra = np.concatenate([perturb(test.spectrum, dataset.grid, case, seed=0) for case in PERTURBATIONS])
    answers = predictor(spectra, np.tile(test.atomic_number, count))
    return {
        name: each.astype(np.float16 if each.ndim == 2 else np.float32).reshape(count, -1, *each.shape[1:])
        for name, each in answers.items()
    }
