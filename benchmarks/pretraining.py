"""What spectra without labels are worth: scores at shares of the labelled materials, with and without pretraining.

python -m benchmarks.pretraining LABELLED UNLABELLED FOLDER: datasets of `spt-jax prepare` on one grid. Of the unlabelled
spectra none is used that nearly equals one of a validation or test material. Fits are kept in FOLDER, so the same
command goes on after a stop; each prints its mean score of the validation spectra of six metals.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from data_pipelines.dataset.data import Data, Split, join, take
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.mixture import Mixture
from data_pipelines.dataset.resplit import Resplit, thinned
from data_pipelines.dataset.splits import SPLITS
from data_pipelines.schema import NAMES, SYMBOLS
from spt_jax.config import Config, JointConfig, LabelsConfig, MaskedConfig, ObjectiveConfig, TrainConfig
from spt_jax.inference.predict import load
from spt_jax.presets import PEERS, base, dense
from spt_jax.scoring.metrics import main_score, score_answers
from spt_jax.training.loop import train

NETWORKS = {"dense": dense().model, "spt": base().model, "mlp": PEERS["mlp"]}
LABELS = LabelsConfig(energy_shift=0.25, descriptors=tuple(name for name in NAMES if name != "NNOSM"))
MASKED = MaskedConfig()
TRAIN = TrainConfig(batch_size=128, patience=0, validate_every=4)
JUDGED = ("Ti", "V", "Cr", "Co", "Ni", "Cu")
SHARES = (0.1, 0.25, 0.5, 1.0)
MODES = ("labels", "pretrained", "joint")
# Two spectra of one element that agree to this at every energy, in edge steps, are taken for one.
TWINS = 0.02


def without_labels(split: Split) -> Split:
    return replace(split, batch=split.batch._replace(mask=np.zeros_like(split.batch.mask)))


def unlabelled(labelled: Dataset, other: Dataset) -> Resplit:
    """The training spectra of `labelled` without their labels, and those of `other` that nearly equal none of
    `labelled`. The validation spectra of `other` judge; its test spectra are trained on."""
    known, more = (join([data.split(name) for name in SPLITS]) for data in (labelled, other))
    place = np.repeat(SPLITS, [labelled.count(name) for name in SPLITS])
    near = np.zeros((2, len(more.ids)), bool)
    for row, (number, mu) in enumerate(zip(more.batch.atomic_number, more.batch.spectrum, strict=True)):
        same = known.batch.atomic_number == number
        twins = np.abs(known.batch.spectrum[same] - mu).max(axis=1) <= TWINS
        near[:, row] = (twins & (place[same] != "train")).any(), twins.any()
    print(
        f"of {len(more.ids)} unlabelled spectra {near[0].sum()} nearly equal one of a validation or test material",
        end="",
    )
    print(f", {(near[1] & ~near[0]).sum()} more a training spectrum")
    judging = np.repeat(SPLITS, [other.count(name) for name in SPLITS]) == "validation"
    rest, judges = (take(more, np.flatnonzero(~near[1] & mask)) for mask in (~judging, judging))
    own = without_labels(join([labelled.split("train"), rest]))
    print(f"pretraining: {len(own.ids)} spectra, judged by {len(judges.ids)}", flush=True)
    return Resplit(labelled, {"train": own, "validation": judges}, f"with {other.fingerprint} without labels")


def longer(config: TrainConfig, share: float) -> TrainConfig:
    """More epochs where there is less data, though fewer steps."""
    return replace(config, epochs=round(config.epochs / share**0.5))


def scored(run: Path, data: Data) -> tuple[float, dict[str, float]]:
    """Main scores of the validation spectra that count, by the most likely class, and their mean."""
    split = data.split("validation")
    counted = np.isin(split.batch.atomic_number, [SYMBOLS.index(symbol) for symbol in JUDGED])
    batch = take(split, np.flatnonzero(counted)).batch
    scores = score_answers(load(run).answers(batch.spectrum, batch.atomic_number), batch)
    found = {name: main_score(each) for name, each in scores.items()}
    return float(np.mean(list(found.values()))), found


@dataclass(frozen=True)
class Curve:
    """The fits of one network from one seed. more: spectra without labels."""

    labelled: Dataset
    more: Resplit
    folder: Path
    network: str
    seed: int

    def score(self, mode: str, share: float) -> tuple[float, dict[str, float]]:
        data = self.labelled if share == 1 else thinned(self.labelled, share)
        settings = longer(TRAIN, share)
        if mode == "labels":
            run = self.fit(f"{mode}-{share:g}", LABELS, settings, data)
        elif mode == "pretrained":
            begun = self.fit("masked", MASKED, TRAIN, self.more)
            run = self.fit(f"{mode}-{share:g}", LABELS, replace(settings, init=str(begun)), data)
        else:
            # Half of each batch is labelled: twice the steps show the labels as often.
            both = Mixture([data, self.more], [0.5, 0.5])
            steps = 2 * settings.epochs * data.count("train")
            settings = replace(settings, epochs=round(steps / both.count("train")))
            run = self.fit(f"{mode}-{share:g}", JointConfig(LABELS, MASKED), settings, both)
        return scored(run, self.labelled)

    def fit(self, name: str, objective: ObjectiveConfig, settings: TrainConfig, data: Data) -> Path:
        out = self.folder / f"{self.network}-{self.seed}-{name}"
        train(Config(NETWORKS[self.network], objective, replace(settings, seed=self.seed)), data, out)
        return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("labelled", "unlabelled", "folder"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--networks", nargs="+", default=["mlp", "dense"], choices=NETWORKS)
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    options = parser.parse_args()
    labelled = Dataset(options.labelled)
    more = unlabelled(labelled, Dataset(options.unlabelled))
    for network, seed, mode, share in product(options.networks, options.seeds, options.modes, options.shares):
        mean, each = Curve(labelled, more, options.folder, network, seed).score(mode, share)
        told = " ".join(f"{name} {score:.3f}" for name, score in each.items())
        print(f"{network} seed {seed} {mode} {share:g}: {mean:.4f}  {told}", flush=True)


if __name__ == "__main__":
    main()
