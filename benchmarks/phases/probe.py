"""How well calculated and measured pixels can be told apart in the latent space, beside how well classes can.

    python -m benchmarks.phases.probe --library FEFF10 --model RUN [RUN ...]

Calculated: images of the theory's structures without any error of the theory. Measured: the same with one. Both of one dose,
the same drift, thickness and background. A logistic regression on latent coordinates is fitted to some images of both kinds and
asked of others: 0.5 is mixed. Its classes are those of the network for each pixel by itself, without end members.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import measure
from benchmarks.phases.__main__ import SMALL
from benchmarks.phases.library import SETS, edges, split, structures
from data_pipelines.spectra.phases import PhasePlanting, phase_image
from spt_jax.eels.answer import ImageModel, load_image_model

EXACT = {"misplaced": 0.0, "bent": 0.0, "blurred": 0.0}
FOLDS = 4


def probed(model: ImageModel, how: PhasePlanting, curves: dict, images: int, seed: int) -> dict[str, float]:
    """domain: accuracy of the probe on images that it was not fitted to. accuracy: of classes, calculated and measured."""
    latent, domain, image, right = [], [], [], {0: [], 1: []}
    for number in range(images):
        for kind, planting in enumerate((replace(how, **EXACT), how)):
            made = phase_image(planting, curves, np.random.default_rng((seed, number, kind)))
            found = model.answer_frame(made.counts, made.energy)
            order = [model.classes.index(name) for name in made.classes]
            right[kind].append((found.phase[0] == np.array(order)[made.phase]).mean())
            latent.append(found.latent.reshape(-1, found.latent.shape[-1]))
            domain += [kind] * len(latent[-1])
            image += [number] * len(latent[-1])
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = GroupKFold(min(FOLDS, images)).split(np.concatenate(latent), domain, image)
    scores = cross_val_score(probe, np.concatenate(latent), np.array(domain), cv=list(folds))
    return {
        "domain": float(scores.mean()),
        "accuracy_calculated": float(np.mean(right[0])),
        "accuracy_measured": float(np.mean(right[1])),
    }


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = measure.parser(__doc__, "live")
    parser.add_argument("--library", type=Path, required=True, metavar="DIR", help="folder of the FEFF10 parquet files")
    parser.add_argument("--model", type=Path, nargs="+", required=True, metavar="RUN")
    parser.add_argument("--set", choices=tuple(SETS), default="oxides", help="which classes, of which absorber")
    parser.add_argument("--images", type=int, default=8, metavar="N", help="of each kind")
    parser.add_argument("--dose", type=float, default=100.0, help="mean counts of a channel before the edge")
    parser.add_argument("--split", type=int, default=0, help="seed of which materials are theory")
    parser.add_argument("--seed", type=int, default=0, help="of the images")
    options = parser.parse_args(arguments)
    phases = SETS[options.set]
    how = replace(phases.how, dose=options.dose, **(SMALL if options.small else {}))
    curves = edges(split(structures(options.library, phases), options.split)[0])
    lines = []
    for run in options.model:
        found = probed(load_image_model(run), how, curves, options.images, options.seed)
        case = f"probe, {options.set}, dose {options.dose:g}, {run.name}"
        lines.append(_line(options, case, how, found))
    return lines


def _line(options: argparse.Namespace, case: str, how: PhasePlanting, found: dict[str, float]) -> dict:
    line = measure.record("phases_probe", case, options, length=how.channels, batch=how.height * how.width, **found)
    print(json.dumps({"case": case, **{name: round(value, 4) for name, value in found.items()}}), flush=True)
    return line


if __name__ == "__main__":
    main()
