"""One network for all elements, or one for each: python -m benchmarks.joint DATASET FOLDER.

For every seed a network learns from all elements, and one from each element alone: of a small share of the spectra with
half the batch and twice the epochs, as it would be trained. Fits are kept in FOLDER, so the same command goes on after a
stop. Printed: mean main scores of the split, and how far the joint network is ahead, with 95 % intervals over materials.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.pretraining import JUDGED, LABELS
from data_pipelines.dataset.data import Data, Split, take
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.resplit import Resplit
from data_pipelines.dataset.splits import SPLITS
from spt_jax.config import Config
from spt_jax.inference.predict import load
from spt_jax.presets import ALL_PRESETS
from spt_jax.study.compare import Compared, compare
from spt_jax.tasks import Answers
from spt_jax.training.assemble import FEWEST
from spt_jax.training.loop import train

SMALL = 1500


def only(split: Split, elements: Sequence[str]) -> Split:
    """The labelled spectra of these absorbers."""
    wanted = np.isin([absorber.split()[0] for absorber in split.absorbers], elements)
    return take(split, np.flatnonzero(wanted & split.batch.mask.any(axis=1)))


def alone(dataset: Dataset, element: str) -> Resplit:
    """The dataset of one element, as it would be prepared: on the part of the grid that its spectra have."""
    splits = {name: only(dataset.split(name), [element]) for name in SPLITS}
    there = np.isfinite(splits["train"].batch.spectrum).sum(axis=0)
    points = int((there >= min(FEWEST, len(splits["train"].ids))).sum())
    narrow = {name: _first(split, points) for name, split in splits.items()}
    found = Resplit(dataset, narrow, f"{element}, {points} energies")
    found.grid = replace(dataset.grid, points=points)
    return found


def _first(split: Split, points: int) -> Split:
    return replace(split, batch=split.batch._replace(spectrum=split.batch.spectrum[:, :points]))


def settings(preset: str, data: Data, seed: int) -> Config:
    config = ALL_PRESETS[preset]()
    objective = replace(config.objective, descriptors=LABELS.descriptors, cut=0.25 if data.grid.gaps else 0.0)
    schedule = replace(config.train, seed=seed, patience=0)
    if data.count("train") < SMALL:
        schedule = replace(schedule, batch_size=schedule.batch_size // 2, epochs=2 * schedule.epochs)
    return replace(config, objective=objective, train=schedule)


def answers(preset: str, data: Data, seed: int, out: Path, split: Split) -> Answers:
    train(settings(preset, data, seed), data, out)
    return load(out).answers(split.batch.spectrum, split.batch.atomic_number)


def told(name: str, found: dict[str, Compared]) -> str:
    own, joint = found["alone"], found["joint"]
    ahead = joint.ahead
    return (
        f"{name:4s} alone {own.score:.3f} +- {own.spread:.3f}  joint {joint.score:.3f} +- {joint.spread:.3f}"
        f"  ahead {ahead.score:+.3f} ({ahead.low:+.3f} to {ahead.high:+.3f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", default="mlp", choices=ALL_PRESETS)
    parser.add_argument("--elements", nargs="+", default=JUDGED)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--split", default="test", choices=SPLITS)
    options = parser.parse_args()
    dataset, preset, seeds = Dataset(options.dataset), options.preset, options.seeds
    judged = {element: only(dataset.split(options.split), [element]) for element in options.elements}
    found = {(element, kind): [] for element, kind in product(judged, ("alone", "joint"))}
    for seed in seeds:
        for element, split in judged.items():
            own = alone(dataset, element)
            narrow = _first(split, own.grid.points)
            each = answers(preset, own, seed, options.folder / f"{preset}-{element}-{seed}", narrow)
            found[element, "alone"].append(each)
            each = answers(preset, dataset, seed, options.folder / f"{preset}-{seed}", split)
            found[element, "joint"].append(each)
    means, errors = [], []
    for element, split in judged.items():
        both = compare({kind: found[element, kind] for kind in ("alone", "joint")}, split)
        print(told(element, both), f" {options.split} spectra: {len(split.ids)}", flush=True)
        means.append([both[kind].score for kind in ("alone", "joint")])
        errors.append((both["joint"].ahead.high - both["joint"].ahead.low) / 2)
    own, joint = np.mean(means, axis=0)
    # Materials of different elements are nearly all different ones.
    error = np.linalg.norm(errors) / len(errors)
    print(f"mean alone {own:.3f}  joint {joint:.3f}  ahead {joint - own:+.3f} +- {error:.3f}")


if __name__ == "__main__":
    main()
