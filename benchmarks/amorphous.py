"""What does a trained model say of molten and quenched oxides, before and after it learnt from some of them?

python -m benchmarks.amorphous DATASET MODEL FOLDER, the dataset prepared from amorphous.parquet on the model's grid. Of
every system one trajectory is the test of a fold, another says when to stop, the others give the shots (`spt-jax finetune`);
each is the test once. Printed: scores of the answers of all folds together, O and other sites apart. Runs are kept in FOLDER.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import measure
from data_pipelines.dataset.data import join, take
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.resplit import Resplit
from data_pipelines.dataset.splits import SPLITS
from data_pipelines.schema import DESCRIPTORS, SITE_KINDS, site_kind
from spt_jax.inference.evaluate import Evaluation, evaluate
from spt_jax.inference.load import load_folder
from spt_jax.inference.predict import load
from spt_jax.scoring.metrics import score_classes, score_values
from spt_jax.study.curve import ALL, FineTuning, finetune


def trajectory_folds(dataset: Dataset) -> list[Resplit]:
    """One for each trajectory of the systems, in the order of their names: SYSTEM_t0, SYSTEM_t1, ..."""
    whole = join([dataset.split(name) for name in SPLITS])
    names = sorted(set(whole.materials))
    systems = [[name for name in names if name.startswith(f"{system}_")] for system in {n.split("_")[0] for n in names}]
    count = min(map(len, systems))
    place = {name: number % count for own in systems for number, name in enumerate(own)}
    number, found = np.array([place[name] for name in whole.materials]), []
    for k in range(count):
        test, validation = number == k, number == (k + 1) % count
        rows = {"train": ~test & ~validation, "validation": validation, "test": test}
        splits = {name: take(whole, np.flatnonzero(own)) for name, own in rows.items()}
        found.append(Resplit(dataset, splits, f"trajectories {k + 1} of {count}"))
    return found


def scored(found: Sequence[Evaluation]) -> dict[str, dict[str, dict]]:
    """By kind of site and descriptor, of the answers of all folds."""
    whole = join([each.split for each in found])
    kinds = np.array([site_kind(absorber.split()[0]) for absorber in whole.absorbers])
    scores: dict[str, dict[str, dict]] = {kind: {} for kind in SITE_KINDS}
    for column, d in enumerate(DESCRIPTORS):
        if d.name not in found[0].decided:
            continue
        decided = np.concatenate([each.decided[d.name] for each in found])
        answers = np.concatenate([each.answers[d.name] for each in found])
        for kind in SITE_KINDS:
            known = (kinds == kind) & whole.batch.mask[:, column]
            if known.any():
                truth = whole.batch.labels[known, column]
                own = decided[known]
                scores[kind][d.name] = (
                    score_classes(truth, own, answers[known]) if d.kind == "class" else score_values(truth, own)
                )
    return scores


def main(argv: Sequence[str] | None = None) -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shots", nargs="+", default=["8", "16", "32", "64", ALL])
    parser.add_argument("--learning-rate", type=float, default=FineTuning.learning_rate)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--freeze", nargs="*", default=[])
    options = parser.parse_args(argv)
    settings = FineTuning(tuple(options.freeze), options.rank, learning_rate=options.learning_rate)
    folds = trajectory_folds(Dataset(options.dataset))
    model = load(options.model)
    points = {"0": [evaluate(model, fold) for fold in folds]}
    for k, fold in enumerate(folds):
        out = options.folder / f"fold{k}"
        done = finetune(options.model, fold, out, tuple(options.shots), settings)
        for name, point in done["points"].items():
            points.setdefault(name, []).append(evaluate(load_folder(out / f"shots-{name}"), fold))
            print(f"fold {k + 1}: {name}, {point['learnt_from']}", flush=True)
    for name, found in points.items():
        for kind, own in scored(found).items():
            told = {n: (s["f1_macro"], s["f1_weighted"]) if "f1_macro" in s else (s["r2"],) for n, s in own.items()}
            words = "  ".join(f"{n} {'/'.join('-' if v is None else f'{v:.2f}' for v in s)}" for n, s in told.items())
            print(f"{name:>4} {kind:6}{words}")
            measure.record("amorphous", f"{options.model} {name} {kind}", options, length=None, batch=None, scores=told)
    print("classes: macro-F1/weighted F1; values: R2")


if __name__ == "__main__":
    main()
