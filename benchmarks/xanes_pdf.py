"""XANES with pair distribution functions, per metal: python -m benchmarks.xanes_pdf DATASET... [--networks ANSWERS].

Datasets of rows with XANES, PDF and dPDF of the row's own absorber, by site or by structure (`spt-jax prepare --grid.signals
XANES PDF dPDF --grid.each site`). Oxidation state, coordination number and mean bond length by random forests on the
concatenated signals, as arXiv 2410.17467 has them, and by the fusion network. Folds never part what `prepare` would not part;
intervals are over materials. A PDF is of a whole structure: of a site among several of its metal it answers another
question, so both levels are judged, and materials whose metal has one coordination number alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks import concatenated, measure, signal_networks
from benchmarks import signal_folds as over
from benchmarks.fusion import named
from data_pipelines.dataset.data import Split
from data_pipelines.dataset.loading import Dataset
from data_pipelines.schema import column_of, descriptor
from spt_jax.tasks import Answers

TARGETS = ("OS", "CN", "MBL")
ORDER = ("XANES", "dPDF", "PDF")
ALONE = ", trained on it alone"
CASES = (("XANES",), ("PDF",), ("dPDF",), ("XANES", "PDF"), ("XANES", "dPDF"), ("XANES", "PDF", "dPDF"))
PAIRS = (
    *pairwise(ORDER),
    *((f"{a}{ALONE}", f"{b}{ALONE}") for a, b in pairwise(ORDER)),
    *((fused, "XANES") for fused in ("XANES + PDF", "XANES + dPDF", "all")),
    ("all", f"XANES{ALONE}"),
)
Scores = dict[tuple[str, str], over.Judged]


def lone(everything: Split) -> np.ndarray:
    """(N,) have all sites of the row's metal in its material one coordination number, and a known one?

    A row of a structure has the label only where that is so.
    """
    labels, mask, column = everything.batch.labels, everything.batch.mask, column_of("CN")
    pairs = np.array([f"{m} {a}" for m, a in zip(everything.materials, everything.absorbers, strict=True)])
    numbers = np.where(mask[:, column], labels[:, column], -1)
    names, index = np.unique(pairs, return_inverse=True)
    least, most = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    np.minimum.at(least, index, numbers)
    np.maximum.at(most, index, numbers)
    return ((least == most) & (least >= 0))[index]


def told(
    options: argparse.Namespace, title: str, case: str, everything: Split, where: np.ndarray, found: dict
) -> Scores:
    """Prints and records the scores of one case, and returns them."""
    scores: Scores = {}
    for target, answers in found.items():
        own = scores[case, target] = over.judge(target, answers, everything, where, r2=True)
        fields = {"split": title, "target": target, "measure": own.measure.name, **own.interval._asdict()}
        counted = {"rows": own.rows, "materials": own.materials}
        measure.record("xanes_pdf", case, options, length=None, batch=None, **fields, **counted)
    words = "  ".join(f"{target} {own.measure.name} {own.said}" for (_, target), own in scores.items())
    print(f"  {case:34s} {words}", flush=True)
    return scores


def verdicts(
    options: argparse.Namespace, title: str, scores: Scores, prefix: str, pairs: Sequence[tuple[str, str]]
) -> None:
    """How far one case is ahead of another, of every target."""
    for one, other in pairs:
        for target in TARGETS:
            keys = [(f"{prefix}{case}", target) for case in (one, other)]
            if all(key in scores and np.isfinite(scores[key].interval.score) for key in keys):
                gain = over.ahead(*(scores[key] for key in keys))
                print(f"    {target}: {prefix}{one} - {other} {gain.score:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})")
                fields = {"split": title, "target": target, "other": f"{prefix}{other}", **gain._asdict()}
                measure.record("xanes_pdf", f"{prefix}{one} - {other}", options, length=None, batch=None, **fields)


def forests(dataset: Dataset, everything: Split, parts: list[over.Fold], trees: int) -> dict[str, dict]:
    """case -> target -> answers, and "importance" -> target -> (S,) score that the forest of all signals loses without
    each, on the first fold."""
    names = dataset.grid.signals
    made = concatenated.features(everything.batch.spectrum, dataset.grid, ("spectra",))
    setting = concatenated.Setting(("spectra",), 0, (("n_estimators", trees), ("max_features", "sqrt")))
    found: dict[str, dict] = {"importance": {}}
    for case in CASES:
        signals = tuple(names.index(signal) for signal in case if signal in names)
        if len(signals) == len(case):
            found[named(signals, names)] = {
                t: over.recipe("random forest", [setting], descriptor(t), {"": made}, signals, everything, parts)[""]
                for t in TARGETS
            }
    every = tuple(range(len(names)))
    x, owner = made.columns(every, ("spectra",)), made.signal
    fold = parts[0]
    for target in TARGETS:
        d, column = descriptor(target), column_of(target)
        known, labels = everything.batch.mask[:, column], everything.batch.labels[:, column]
        own, held = fold.learnt[known[fold.learnt]], fold.held[known[fold.held]]
        fitted = concatenated.fit("random forest", setting, d, x[own], labels[own], 0)
        found["importance"][target] = concatenated.importance(fitted, d, x[held], owner, labels[held], 0, repeats=3)
    return found


def networks(options: argparse.Namespace, dataset: Dataset, everything: Split) -> dict[str, dict]:
    """case -> target -> answers: networks of all signals and metals asked with each choice, and those of one signal alone."""
    names, parts = dataset.grid.signals, signal_networks.folds_of(dataset, everything, options.folds, leave="none")

    def asked(signals: tuple[int, ...], case: str) -> Answers:
        return signal_networks.gathered(dataset, everything, parts, signals, case, TARGETS, options)

    by_choice, found = asked(tuple(range(len(names))), "subsets"), {}
    for case in CASES:
        signals = tuple(names.index(signal) for signal in case if signal in names)
        if len(signals) == len(case):
            number = sum(1 << s for s in signals)
            found[named(signals, names)] = {t: own[number] for t, own in by_choice.items()}
    for name in options.trained:
        found[f"{name}{ALONE}"] = asked((names.index(name),), "held")
    return found


def main() -> None:
    parser = measure.parser(__doc__, preset="fusion")
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--networks", type=Path, default=None, help="judge networks too; where their answers are kept")
    parser.add_argument("--steps", type=int, default=signal_networks.STEPS, help="of a network's training, about")
    parser.add_argument("--seeds", type=int, default=1, help="networks whose mean answers")
    parser.add_argument("--trained", nargs="*", default=list(ORDER), help="signals that networks learn from alone")
    parser.add_argument("--trees", type=int, default=200, help="of a forest; 0: no forests")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--metals", nargs="*", default=[], help="all of the dataset where not given")
    options = parser.parse_args()
    for path in options.datasets:
        dataset = Dataset(path)
        everything = over.whole(dataset)
        family, single = over.families_of(dataset, everything), lone(everything)
        metal = np.array([absorber.split()[0] for absorber in everything.absorbers])
        trained = networks(options, dataset, everything) if options.networks else {}
        for element in options.metals or sorted(set(metal)):
            own = metal == element
            parts = over.folds(family, options.folds, 0, own)
            found = forests(dataset, everything, parts, options.trees) if options.trees else {"importance": {}}
            for where, kind in ((own, "all"), (own & single, "one coordination number")):
                title = f"{element} by {dataset.grid.each}, {kind}"
                print(f"\n{path.name}: {title}, {where.sum()} rows", flush=True)
                scores: Scores = {}
                for prefix, group in (("forest: ", found), ("network: ", trained)):
                    for case, answers in group.items():
                        if case != "importance":
                            scores |= told(options, title, f"{prefix}{case}", everything, where, answers)
                    verdicts(options, title, scores, prefix, PAIRS)
            for target, lost in found["importance"].items():
                words = "  ".join(f"{name} {own:.3f}" for name, own in zip(dataset.grid.signals, lost, strict=True))
                print(f"  importance for {target} in the forest of all, score lost: {words}", flush=True)


if __name__ == "__main__":
    main()
