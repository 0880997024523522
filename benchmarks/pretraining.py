"""What spectra without labels are worth: scores at shares of the labelled materials, with and without pretraining.

python -m benchmarks.pretraining LABELLED UNLABELLED FOLDER: datasets of `spt-jax prepare` on one grid. Of the unlabelled
spectra none is used that nearly equals one of a validation or test material. Fits are kept in FOLDER, so the same
command goes on after a stop; each prints its mean score of the validation spectra of six metals.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_pipelines.dataset.data import Data, Split, join, take
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.mixture import Mixture
from data_pipelines.dataset.resplit import Resplit, thinned
from data_pipelines.dataset.splits import SPLITS
from data_pipelines.schema import NAMES, SYMBOLS
from spt_jax.config import PEERS, Config, JointConfig, LabelsConfig, MaskedConfig, ModelConfig, TrainConfig
from spt_jax.inference.predict import load
from spt_jax.scoring.metrics import main_score, score_answers
from spt_jax.training.loop import train

NETWORKS = {"dense": ModelConfig(bands=0, attention="none"), "spt": ModelConfig(), "mlp": PEERS["mlp"]}
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


def fit(config: Config, data: Data, out: Path) -> Path:
    train(config, data, out)
    return out


def scored(run: Path, data: Data) -> tuple[float, dict[str, float]]:
    """Main scores of the validation spectra that count, by the most likely class, and their mean."""
    split = data.split("validation")
    counted = np.isin(split.batch.atomic_number, [SYMBOLS.index(symbol) for symbol in JUDGED])
    batch = take(split, np.flatnonzero(counted)).batch
    scores = score_answers(load(run).answers(batch.spectrum, batch.atomic_number), batch)
    found = {name: main_score(each) for name, each in scores.items()}
    return float(np.mean(list(found.values()))), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("labelled", "unlabelled", "folder"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--networks", nargs="+", default=["dense", "mlp"], choices=NETWORKS)
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    labelled = Dataset(options.labelled)
    more = unlabelled(labelled, Dataset(options.unlabelled))
    for network in options.networks:
        for seed in range(options.seeds):
            run = lambda name, objective, settings, data: fit(  # noqa: E731
                Config(NETWORKS[network], objective, replace(settings, seed=seed)),
                data,
                options.folder / f"{network}-{seed}-{name}",
            )
            for mode in options.modes:
                pre = str(run("masked", MASKED, TRAIN, more)) if mode == "pretrained" else ""
                for share in options.shares:
                    data = labelled if share == 1 else thinned(labelled, share)
                    settings, objective = longer(TRAIN, share), LABELS
                    if mode == "pretrained":
                        settings = replace(settings, init=pre)
                    if mode == "joint":
                        data, objective, settings = (
                            Mixture([data, more], [0.5, 0.5]),
                            JointConfig(LABELS, MASKED),
                            TRAIN,
                        )
                    mean, each = scored(run(f"{mode}-{share:g}", objective, settings, data), labelled)
                    print(
                        network,
                        seed,
                        mode,
                        f"{share:g}",
                        f"{mean:.4f}",
                        {n: round(s, 3) for n, s in each.items()},
                        flush=True,
                    )


if __name__ == "__main__":
    main()
