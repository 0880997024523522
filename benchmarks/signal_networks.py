"""What fusion networks answer to rows that they did not see, for each choice of signals that they learn from; kept in files.

python -m benchmarks.signal_networks DATASET... --folder ANSWERS [--part N M]

makes them, or one part of so many, for `benchmarks.fusion` and `benchmarks.xanes_pdf` to judge.
"""

from __future__ import annotations

import argparse
import io
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks import signal_folds as over
from data_pipelines.dataset.data import Data, Split
from data_pipelines.dataset.loading import Dataset
from data_pipelines.files import write_atomic
from data_pipelines.schema import STRUCTURE_NAMES
from spt_jax.explain.signals import answers_by_subset
from spt_jax.inference.predict import Model, load
from spt_jax.presets import fusion
from spt_jax.reports.trivial import trivial_answers
from spt_jax.tasks import Answers
from spt_jax.training.ensemble import train_members

# Of a network's training, about, however few rows there are.
STEPS = 1500
SEEDS = 4
NOISE = (0.01, 0.02, 0.05)
# Descriptors whose answers are kept.
KEPT = ("OS", "CN", "MBL", "NNRS", *STRUCTURE_NAMES)


def choices(count: int) -> list[tuple[int, ...]]:
    """What networks are trained on: all signals, each alone, all but one; of three every pair is that."""
    every = range(count)
    found = [tuple(every), *((s,) for s in every), *(combinations(every, count - 1) if count > 2 else ())]
    return list(dict.fromkeys(found))


def fitted(data: Data, steps: int, seeds: int) -> Model:
    """The mean of `seeds` networks of the preset `fusion`, each the best of its run by the validation rows."""
    config, rows = fusion(), data.count("train")
    size = min(config.train.batch_size, max(rows // 2, 1))
    epochs = max(round(steps * size / rows), 10)
    schedule = replace(config.train, patience=0, batch_size=size, epochs=epochs, warmup_epochs=epochs / 20)
    schedule = replace(schedule, validate_every=max(epochs // 20, 1))
    objective = config.objective if len(data.grid.signals) > 1 else replace(config.objective, signal_drop=0.0)
    with TemporaryDirectory() as folder:
        train_members(replace(config, objective=objective, train=schedule), data, Path(folder) / "run", seeds)
        return load(Path(folder) / "run")


def answers(
    dataset: Dataset,
    everything: Split,
    fold: over.Fold,
    signals: tuple[int, ...],
    folder: Path,
    steps: int = STEPS,
    seeds: int = SEEDS,
) -> dict[str, Answers]:
    """ "held": (N, ...) answers to the held rows of a fold. Of a network of all signals also "subsets", (2^S, N, ...), and
    "noise 0.05" and the like. Made once, then read from `folder`."""
    chosen = "".join(map(str, signals))
    path = folder / f"{dataset.fingerprint[:8]}-{fold.name}-{chosen}-{steps}-{seeds}.npz".replace(" ", "_")
    if not path.exists():
        count = len(dataset.grid.signals)
        data = over.dealt(dataset, everything, fold, signals)
        model, held = fitted(data, steps, seeds), data.split("test").batch
        found = {"held": model.answers(held.spectrum, held.atomic_number)}
        if len(signals) == count:  # of all
            nothing = trivial_answers(data.split("train").batch, held)
            nothing = {name: nothing[name] for name in found["held"]}
            found["subsets"] = answers_by_subset(model, held.spectrum, held.atomic_number, count, nothing)
            for sigma in NOISE:
                found[f"noise {sigma:g}"] = model.answers(noisy(everything, sigma)[fold.held], held.atomic_number)
        arrays = {
            f"{case}/{name}": np.asarray(array, np.float32)
            for case, own in found.items()
            for name, array in own.items()
            if name in KEPT
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue())
    result: dict[str, Answers] = {}
    with np.load(path) as file:
        for key in file.files:
            case, name = key.split("/")
            result.setdefault(case, {})[name] = file[key]
    return result


def gathered(
    dataset: Dataset,
    everything: Split,
    parts: list[over.Fold],
    signals: tuple[int, ...],
    case: str,
    names: tuple[str, ...],
    options: argparse.Namespace,
) -> Answers:
    """One case of `answers`, of the named descriptors, to the held rows of all folds."""

    def ask(fold: over.Fold) -> Answers:
        own = answers(dataset, everything, fold, signals, options.networks, options.steps, options.seeds)[case]
        return {name: own[name] for name in names}

    return over.gather(parts, len(everything.ids), ask, axis=1 if case == "subsets" else 0)


def noisy(everything: Split, sigma: float) -> np.ndarray:
    """The same noise whoever asks."""
    noise = np.random.default_rng(0).standard_normal(everything.batch.spectrum.shape)
    return (everything.batch.spectrum + sigma * noise).astype(np.float32)


def folds_of(dataset: Dataset, everything: Split, count: int, leave: str, seed: int = 0) -> list[over.Fold]:
    """Over what must not be parted, and with a composition left out where materials begin with its name."""
    away = np.array([name.startswith(f"{leave}_") for name in everything.materials])
    parts = over.folds(over.families_of(dataset, everything), count, seed)
    return [*parts, *([over.left_out(np.array(everything.materials), away, seed)] if away.any() else [])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="where answers are kept")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--leave", default="NMC622", help="composition to leave out, as materials begin with")
    parser.add_argument("--steps", type=int, default=STEPS, help="of a training, about")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--alone", action="store_true", help="no networks of all signals but one")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), help="this one of so many parts of the work")
    options = parser.parse_args()
    part, parts = options.part
    number = 0
    for path in options.datasets:
        dataset = Dataset(path)
        everything = over.whole(dataset)
        count = len(dataset.grid.signals)
        chosen = [each for each in choices(count) if not options.alone or len(each) != count - 1 or count < 3]
        for signals in chosen:
            for fold in folds_of(dataset, everything, options.folds, options.leave):
                number += 1
                if number % parts == part:
                    answers(dataset, everything, fold, signals, options.folder, options.steps, options.seeds)
                    print(f"{path.name} {fold.name} {signals}", flush=True)


if __name__ == "__main__":
    main()
