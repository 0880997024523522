"""Phases of planted spectrum images of calculated edges: classes, shares and denoised spectra of every method, by dose and labels.

    python -m benchmarks.phases --library FEFF10 [--images 8] [--doses 10 100 1000] [--labels 1 3 10] [--json results.jsonl]
    python -m benchmarks.phases --library FEFF10 --write FOLDER

Every line is printed as JSON: means over images, and the middle 95 % of them over images drawn anew. known: images of the
structures that are theory, with an error of the theory that nobody knows; new: of structures that the theory does not have.
An image is the same at every dose but for its counts, and the same for every method. `--write` writes the theory, whole and
as so many labels of each class, and the images, and measures nothing. A model is trained on those of one seed and asked with
`--model` on those of another.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from benchmarks import measure
from benchmarks.phases import classical, vae
from benchmarks.phases.library import SETS, PhaseSet, Structure, edges, split, structures, write_theory
from benchmarks.phases.metrics import SCORES, scored, summary
from benchmarks.phases.ours import answers_of_model
from benchmarks.phases.task import PhaseAnswers, PhaseTask, chosen, labelled, posed
from benchmarks.phases.written import write_image
from data_pipelines.errors import UserError
from data_pipelines.spectra.phases import PhaseImage, PhasePlanting, phase_image

Method = Callable[[PhaseTask], PhaseAnswers]
# The upper bound sees the truth and no labels.
BOUND = "nnls_truth"
METHODS: dict[str, Method] = {
    BOUND: classical.nnls_truth,
    "nnls": classical.nnls_references,
    "nnls_aligned": classical.nnls_aligned,
    "pca_knn": classical.pca_knn,
    "nmf": classical.nmf,
    "kmeans": classical.kmeans,
    "vae_knn": vae.vae_knn,
    "vae_gp": vae.vae_gp,
}
# These learn each image anew, which is no part of the time of an answer.
NETWORKS = ("vae_knn", "vae_gp")
DOSES, LABELS = (10.0, 30.0, 100.0, 1000.0, 10_000.0), (1, 3, 10, 50)
SMALL = {"height": 8, "width": 8, "grain": 1.5}


class Theory(NamedTuple):
    """Structures by class: those that are theory, and those that images are made of, by kind of image."""

    known: dict[str, list[Structure]]
    measured: dict[str, dict[str, list[Structure]]]


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = measure.parser(__doc__)
    parser.add_argument("--library", type=Path, required=True, metavar="DIR", help="folder of the FEFF10 parquet files")
    parser.add_argument("--set", choices=tuple(SETS), default="oxides", help="which classes, of which absorber")
    parser.add_argument("--images", type=int, default=8, metavar="N", help="of each kind and dose")
    parser.add_argument("--kinds", nargs="+", choices=("known", "new"), default=("known", "new"))
    parser.add_argument(
        "--doses", nargs="+", type=float, default=DOSES, help="mean counts of a channel before the edge"
    )
    parser.add_argument("--labels", nargs="+", type=int, default=LABELS, help="labelled spectra of a class")
    parser.add_argument("--methods", nargs="*", choices=tuple(METHODS), default=tuple(METHODS))
    parser.add_argument("--model", type=Path, default=None, metavar="RUN", help="also ask this one")
    parser.add_argument(
        "--write", type=Path, default=None, metavar="DIR", help="write theory and images, measure nothing"
    )
    parser.add_argument("--split", type=int, default=0, help="seed of which materials are theory")
    parser.add_argument("--seed", type=int, default=0, help="of the images")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except UserError as error:
        raise SystemExit(str(error)) from None
    finally:
        jax.clear_caches()


def _run(options: argparse.Namespace) -> list[dict]:
    if options.images < 1 or min(options.labels) < 1:
        raise UserError("--images and --labels are 1 or more")
    phases = SETS[options.set]
    known, new = split(structures(options.library, phases), options.split)
    theory = Theory(known, {"known": known, "new": new})
    if options.write:
        write_theory(options.write / "theory", known)
        for count in options.labels:
            picked = chosen([len(each) for each in known.values()], count, options.seed)
            some = {k: [each[i] for i in own] for (k, each), own in zip(known.items(), picked, strict=True)}
            write_theory(options.write / f"theory_{count}", some)
        for name, how, made in _images(options, phases, theory):
            print(write_image(options.write, name, how, made))
        return []
    methods = {name: METHODS[name] for name in options.methods}
    if options.model:
        methods["model"] = partial(answers_of_model, options.model)
    lines = []
    for kind in options.kinds:
        for dose in options.doses:
            one = argparse.Namespace(**{**vars(options), "kinds": (kind,), "doses": (dose,)})
            lines += _measured(one, phases, theory, methods)
    measure.show(lines, {name: name.replace("_", " ") for name in SCORES} | {"spectra_per_s": "spectra/s"})
    return lines


def _images(
    options: argparse.Namespace, phases: PhaseSet, theory: Theory
) -> Iterator[tuple[str, PhasePlanting, PhaseImage]]:
    """(name, how, image) of every kind, dose and number."""
    for kind in options.kinds:
        curves = edges(theory.measured[kind])
        for dose in options.doses:
            how = replace(phases.how, dose=dose, **(SMALL if options.small else {}))
            for number in range(options.images):
                rng = np.random.default_rng((options.seed, number))
                yield f"{kind}_{number}_dose_{dose:g}", how, phase_image(how, curves, rng)


def _measured(options: argparse.Namespace, phases: PhaseSet, theory: Theory, methods: dict[str, Method]) -> list[dict]:
    """The lines of one kind and dose."""
    scores: dict[tuple[int | None, str], list[dict]] = {}
    seconds: dict[tuple[int | None, str], list[float]] = {}
    learning: list[float] = []
    curves, pixels, length = edges(theory.known), 0, 0
    for number, (name, how, made) in enumerate(_images(options, phases, theory)):
        for count in options.labels:
            known = labelled(how, curves, count, options.seed)
            task = posed(phases, how, made, known, name, options.seed + number)
            pixels, length = task.signal.shape
            for method, answer in methods.items():
                key = (None if method == BOUND else count, method)
                if len(scores.setdefault(key, [])) > number:
                    continue
                if method in NETWORKS:
                    learning.append(vae.learnt_of(task).seconds)
                began = time.perf_counter()
                found = answer(task)
                seconds.setdefault(key, []).append(time.perf_counter() - began)
                scores[key].append(scored(task, found))
    lines = []
    for (count, method), each in scores.items():
        words = "" if count is None else f", {count} labels"
        case = f"{options.set}, {options.kinds[0]}, dose {options.doses[0]:g}{words}, {method}"
        # The first call may compile.
        rate = pixels / float(np.median(seconds[count, method][1:] or seconds[count, method]))
        found = {**summary(each), "images": len(each), "spectra_per_s": rate, "split": options.split}
        if method in NETWORKS:
            found["learning_s"] = float(np.median(learning))
        line = measure.record("phases", case, options, length=length, batch=pixels, **found)
        short = {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}
        print(json.dumps({"case": case, "device": line["device"], **short}), flush=True)
        lines.append(line)
    return lines


if __name__ == "__main__":
    main()
