"""Several edges of one cell: contents and defects by every choice of signals, by the recipe and by the fusion network.

python -m benchmarks.fusion DATASET... [--networks ANSWERS] [--json FILE]

Datasets of rows with several signals (`spt-jax prepare --grid.signals ...`), for instance with heights `step` and `share`.
Folds hold whole parent cells; beside them one composition is left out. Spectra are K edges of FEFF, not the soft L edges of
the paper. Intervals are over parent cells.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmarks import concatenated, measure, signal_networks
from benchmarks import signal_folds as over
from data_pipelines.dataset.data import Split
from data_pipelines.dataset.loading import Dataset
from data_pipelines.schema import column_of, descriptor
from spt_jax.scoring.detection import detection
from spt_jax.tasks import Answers

TARGETS = ("x_Li", "x_Ni", "x_Mn", "x_Co", "vacancy", "antisite")
METALS = ("x_Ni", "x_Mn", "x_Co")
NOISE = signal_networks.NOISE
SHARES = (0.25, 0.5, 0.75)


class Table:
    """Cases by targets of one dataset and one way to split; a line of JSON for each."""

    def __init__(self, options: argparse.Namespace, everything: Split, title: str):
        self.options, self.everything, self.title = options, everything, title
        self.found: dict[tuple[str, str], over.Judged] = {}
        print(f"\n{title}", flush=True)

    def add(self, case: str, answers: dict[str, np.ndarray], where: np.ndarray | None = None) -> None:
        said = []
        for target, own in answers.items():
            judged = self.found[case, target] = over.judge(target, own, self.everything, where)
            said.append(f"{target} {judged.measure.name} {judged.said}")
            fields = {
                "split": self.title,
                "target": target,
                "measure": judged.measure.name,
                **judged.interval._asdict(),
            }
            counted = {"rows": judged.rows, "materials": judged.materials}
            measure.record("fusion", case, self.options, length=None, batch=None, **fields, **counted)
        print(f"  {case:34s} {'  '.join(said)}", flush=True)

    def compare(self, case: str, other: str, target: str) -> None:
        pair = [self.found.get((each, target)) for each in (case, other)]
        if all(each and np.isfinite(each.interval.score) for each in pair):
            gain = over.ahead(self.found[case, target], self.found[other, target])
            words = f"{target}: {case} ahead of {other} by {gain.score:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
            print(f"  {words}", flush=True)
            fields = {"split": self.title, "target": target, "other": other, **gain._asdict()}
            measure.record("fusion", f"{case} - {other}", self.options, length=None, batch=None, **fields)


def named(signals: tuple[int, ...], names: tuple[str, ...]) -> str:
    return "all" if len(signals) == len(names) else " + ".join(names[s] for s in signals)


def choices(count: int) -> list[tuple[int, ...]]:
    """Every one, every pair, all."""
    found = [each for size in (1, 2) for each in combinations(range(count), size)]
    return [*found, tuple(range(count))] if count > 2 else found


def recipes(table: Table, dataset: Dataset, parts: list[over.Fold], targets: tuple[str, ...]) -> None:
    """Majority, composition, every model of the recipe on all signals, Extra Trees on every choice of them and in noise."""
    options, everything, names = table.options, table.everything, dataset.grid.signals
    batch, all_signals = everything.batch, tuple(range(len(dataset.grid.signals)))
    table.add("majority", {t: over.majority(descriptor(t), everything, parts) for t in targets})
    known = batch.labels[:, [column_of(x) for x in ("x_Li", *METALS)]]
    asked = {"vacancy": known, "antisite": known, "x_Li": known[:, 1:]}
    table.add(
        "composition alone",
        {t: over.by_columns(x, descriptor(t), everything, parts) for t, x in asked.items() if t in targets},
    )
    made = concatenated.features(batch.spectrum, dataset.grid, concatenated.KINDS, options.folder / "gaussians")
    for model in options.models:
        settings = concatenated.draw(model, options.budget, seed=0)
        found = {
            t: over.recipe(model, settings, descriptor(t), {"": made}, all_signals, everything, parts)[""]
            for t in targets
        }
        table.add(f"recipe: {model}, all", found)
    # Gaussians of noisy spectra would be fitted anew.
    kinds = concatenated.KINDS[:-1]
    cases = {"": batch.spectrum, **{f", noise {sigma:g}": signal_networks.noisy(everything, sigma) for sigma in NOISE}}
    plain = {case: concatenated.features(rows, dataset.grid, kinds) for case, rows in cases.items()}
    settings = concatenated.draw("extra trees", options.budget, seed=0, kinds=kinds)
    for signals in choices(len(names)):
        asked_of = plain if signals == all_signals else {"": plain[""]}
        found = {
            t: over.recipe("extra trees", settings, descriptor(t), asked_of, signals, everything, parts)
            for t in targets
        }
        for case in asked_of:
            table.add(f"extra trees: {named(signals, names)}{case}", {t: own[case] for t, own in found.items()})
    for target in targets:
        best = best_single(table, "extra trees: {}", names, target)
        table.compare("extra trees: all", best, target)


def best_single(table: Table, case: str, names: tuple[str, ...], target: str) -> str:
    """The case of the single signal with the best score: chosen by what it is judged by, so it flatters that signal."""
    found = {case.format(name): table.found[case.format(name), target] for name in names}
    return max(found, key=lambda name: found[name].measure.better * found[name].interval.score)


def curve(table: Table, dataset: Dataset, parts: list[over.Fold], targets: tuple[str, ...]) -> None:
    """Extra Trees on all signals of a share of the parent cells that are learnt from."""
    everything, groups = table.everything, np.array(table.everything.materials)
    kinds = concatenated.KINDS[:-1]
    made = concatenated.features(everything.batch.spectrum, dataset.grid, kinds)
    settings = concatenated.draw("extra trees", table.options.budget, seed=0, kinds=kinds)
    signals = tuple(range(len(dataset.grid.signals)))
    for share in SHARES:
        thin = [over.thinned(fold, groups, share, seed=0) for fold in parts]
        cells = round(np.mean([len(np.unique(groups[fold.learnt])) for fold in thin]))
        found = {
            t: over.recipe("extra trees", settings, descriptor(t), {"": made}, signals, everything, thin)[""]
            for t in targets
        }
        table.add(f"extra trees: all, of {cells} cells", found)


def networks(table: Table, dataset: Dataset, parts: list[over.Fold], targets: tuple[str, ...]) -> None:
    """Networks of all signals, asked with every choice and in noise; others that never had a signal, or had one alone."""
    options, everything, names = table.options, table.everything, dataset.grid.signals
    every = tuple(range(len(names)))

    def told(signals: tuple[int, ...], case: str) -> Answers:
        return signal_networks.gathered(dataset, everything, parts, signals, case, targets, options)

    found = told(every, "subsets")
    for signals in [*choices(len(names)), *(combinations(every, len(names) - 1) if len(names) > 3 else ())]:
        number = sum(1 << s for s in signals)
        table.add(f"network: {named(signals, names)}", {t: own[number] for t, own in found.items()})
    for sigma in NOISE:
        table.add(f"network: all, noise {sigma:g}", told(every, f"noise {sigma:g}"))
    fewer = list(combinations(every, len(names) - 1)) if len(names) > 2 else []
    alone = [(s,) for s in every]
    for signals in [*(alone if "alone" in options.trained else ()), *(fewer if "fewer" in options.trained else ())]:
        table.add(f"network trained on {named(signals, names)}", told(signals, "held"))
    for target in targets:
        for case in ("network: {}", *(["network trained on {}"] if "alone" in options.trained else [])):
            table.compare("network: all", best_single(table, case, names, target), target)
        for model in options.models:
            table.compare("network: all", f"recipe: {model}, all", target)
        for signals in fewer:
            own = named(signals, names)
            table.compare(f"network: {own}", f"network trained on {own}", target)
    for defect, amount in (("vacancy", "vacancies"), ("antisite", "antisites")):
        if defect in found:
            amounts = everything.batch.labels[:, column_of(amount)]
            held = np.isfinite(found[defect][-1, :, 1])
            for r in detection(amounts[held], found[defect][-1, held, 1], np.array(everything.materials)[held]):
                auroc = r.auroc and f"{r.auroc.score:.3f} ({r.auroc.low:.3f}-{r.auroc.high:.3f})"
                print(f"  {amount} {r.least:.3f} to {r.most:.3f}: AUROC {auroc} of {r.rows} rows", flush=True)


def main() -> None:
    parser = measure.parser(__doc__, preset="fusion")
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("fusion-fits"), help="where decompositions are kept")
    parser.add_argument("--networks", type=Path, default=None, help="judge networks too; where their answers are kept")
    parser.add_argument(
        "--trained",
        nargs="*",
        choices=("alone", "fewer"),
        default=["alone", "fewer"],
        help="networks that were trained on each signal alone, and on all but one, beside those of all",
    )
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--models", nargs="*", default=list(concatenated.SPACES), help="of the recipe; none: no recipe")
    parser.add_argument("--budget", type=int, default=6, help="settings that each model of the recipe is searched over")
    parser.add_argument("--folds", type=int, default=5, help="over parent cells")
    parser.add_argument("--leave", default="NMC622", help="composition to leave out, as materials begin with")
    parser.add_argument("--steps", type=int, default=signal_networks.STEPS, help="of a network's training, about")
    parser.add_argument("--seeds", type=int, default=signal_networks.SEEDS, help="networks whose mean answers")
    options = parser.parse_args()
    if unknown := set(options.models) - set(concatenated.SPACES):
        parser.error(f"--models {', '.join(sorted(unknown))}: known are {', '.join(concatenated.SPACES)}")
    for path in options.datasets:
        dataset = Dataset(path)
        everything = over.whole(dataset)
        groups, targets = np.array(everything.materials), tuple(options.targets)
        heights = dataset.grid.heights
        told = f"{path.name}, heights {heights}, {len(groups)} cells of {len(set(groups))} parents"
        found = signal_networks.folds_of(dataset, everything, options.folds, options.leave)
        splits = {f"{told}: folds over parents": found[: options.folds]}
        if found[options.folds :]:
            splits[f"{told}: {options.leave} left out"] = found[options.folds :]
        for title, parts in splits.items():
            table = Table(options, everything, title)
            if options.models:
                recipes(table, dataset, parts, targets)
                if len(parts) > 1:
                    curve(table, dataset, parts, targets)
            if options.networks:
                networks(table, dataset, parts, targets)


if __name__ == "__main__":
    main()
