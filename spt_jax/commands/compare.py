"""Which of several trained models is better, and is it more than chance."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table

from data_pipelines.errors import UserError
from spt_jax.commands.screen import console
from spt_jax.scoring.names import MAIN_WORDS

if TYPE_CHECKING:
    from data_pipelines.dataset.data import Data
    from spt_jax.study.compare import Compared
    from spt_jax.tasks import Predictor


MOST_COLUMNS = 10


@dataclass(frozen=True)
class Compare:
    """Trained models side by side on a split: mean main scores, by descriptor and element, and how far each is ahead of
    the first, with the middle 95 % of a bootstrap over materials.

    A competitor is NAME=MODEL, or NAME=MODEL,MODEL,... of several seeds. Trees are fitted on the spot: a MODEL may be
    decision_tree, random_forest, extra_trees or xgboost (extra `study`).

      spt-jax compare old=run0,run1 new=run2,run3 shipped=spt-k --data dataset
    """

    competitors: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAME=MODEL,...")]
    """Run folders, folders of `spt-jax ensemble`, exported or packed files, or names of `spt-jax models`."""
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATASET...")]
    """Dataset folders, as of `spt-jax train`."""
    split: Annotated[Literal["train", "validation", "test"], tyro.conf.arg(metavar="SPLIT")] = "validation"
    """train, validation or test. Whoever chooses by the test split has nothing left to judge the choice by."""
    elements: tuple[str, ...] = ()
    """Spectra of these absorbers alone; all where not given."""
    json: Path | None = None
    """File for all numbers."""

    def __post_init__(self) -> None:
        names = [each.partition("=")[0] for each in self.competitors]
        for each, name in zip(self.competitors, names, strict=True):
            if not name or not all(each.partition("=")[2].split(",")):
                raise UserError(f"{each}: name it and its models, as spt=runs/spt0,runs/spt1")
        if len(set(names)) < len(names) or len(names) < 2:
            raise UserError("give two competitors or more, each with a name of its own: NAME=MODEL,...")

    def run(self) -> None:
        from data_pipelines.dataset.opening import open_spectra
        from data_pipelines.dataset.resplit import take
        from data_pipelines.files import write_atomic
        from spt_jax.inference.predict import symbol_of
        from spt_jax.study.compare import compare

        dataset = open_spectra(self.data)
        split = dataset.split(self.split)
        if self.elements:
            wanted = {symbol_of(element) for element in self.elements}
            split = take(split, np.flatnonzero([a.split()[0] in wanted for a in split.absorbers]))
            if not len(split.ids):
                raise UserError(f"{dataset.name}: no spectrum of {' '.join(self.elements)} in split {self.split!r}")
        answers = {}
        for each in self.competitors:
            name, _, places = each.partition("=")
            each_of = zip(places.split(","), itertools.count())
            predictors = [_predictor(place, seed, dataset, split.absorbers) for place, seed in each_of]
            answers[name] = [predict(split.batch.spectrum, split.batch.atomic_number) for predict in predictors]
        found = compare(answers, split)
        console.print(f"{self.split} split, {len(split.ids)} spectra; {MAIN_WORDS}", highlight=False)
        console.print(_ahead(found))
        for title, which in (("By descriptor", "descriptors"), ("By element, mean over descriptors", "elements")):
            scores = {name: getattr(own, which) for name, own in found.items()}
            if any(scores.values()):
                console.print(_scores(title, scores))
        if self.json:
            document = {name: {**asdict(own), "score": own.score} for name, own in found.items()}
            write_atomic(self.json, json.dumps(document, indent=1) + "\n")


def _predictor(place: str, seed: int, dataset: Data, absorbers: Sequence[str]) -> Predictor:
    """A trained model that knows all absorbers, or trees fitted to the training split with this seed."""
    from spt_jax.inference.predict import load
    from spt_jax.peers.trees import TREES, fit_trees

    if place in TREES and not Path(place).exists():
        return fit_trees(TREES[place], dataset.split("train").batch, seed)
    model = load(place)
    model.check_grid(dataset.name, dataset.grid)
    model.check_absorbers(absorbers)
    return model.answers


def _ahead(found: dict[str, Compared]) -> Table:
    first = next(iter(found))
    table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for column in ("", "models", "mean", "spread", "together", f"ahead of {first}"):
        table.add_column(column, justify="left" if not column else "right")
    for name, own in found.items():
        ahead = f"{own.ahead.score:+.3f} ({own.ahead.low:+.3f} to {own.ahead.high:+.3f})" if own.ahead else ""
        several = len(own.seeds) > 1
        spread, together = (f"{each:.3f}" if several else "" for each in (own.spread, own.together))
        table.add_row(name, str(len(own.seeds)), f"{own.score:.3f}", spread, together, ahead)
    return table


def _scores(title: str, found: dict[str, dict[str, float]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    names = list(dict.fromkeys(name for own in found.values() for name in own))
    cells = {(row, name): f"{own[name]:.3f}" if name in own else "" for row, own in found.items() for name in names}
    # A structure has more descriptors than a terminal has room for side by side.
    turned = len(names) > MOST_COLUMNS
    rows, columns = (names, list(found)) if turned else (list(found), names)
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row, *(cells[(column, row) if turned else (row, column)] for column in columns))
    return table
