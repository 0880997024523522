"""SPT against its competitors on a dataset, as one page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import tyro
from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from data_pipelines.errors import MissingExtra, UserError
from data_pipelines.ranges import Range, check
from spt_jax.commands.places_named import Named
from spt_jax.commands.screen import console, errors
from spt_jax.presets import PRESETS
from spt_jax.scoring.names import MAIN_WORDS
from spt_jax.training.progress import Live


@dataclass(frozen=True)
class Study:
    """Train SPT, one expert per descriptor, and eight other models on a dataset, and compare them.

    Decision Tree, Random Forest, Extra Trees, XGBoost, MLP, CNN, FT-Transformer and AMFormer see the same spectra,
    splits, seeds and number of settings to choose from (extra `study`). Leaves OUT/report.html, study.json, scores.csv
    and robustness.csv. Every finished fit is kept: after a stop the same command goes on.
    """

    data: tyro.conf.Positional[Named]
    """Dataset folder made by `spt-jax prepare`."""
    out: Path
    """Folder for the fits and the report."""
    preset: str = "base"
    """Preset of SPT, and the training schedule of all networks."""
    quick: bool = False
    """One setting, one seed, a thousand spectra, little training: ten minutes on two cores, and no proof of anything."""
    seeds: Annotated[int, Range(least=1)] = 3
    """How often each model is fitted in the setting that was chosen."""
    settings: Annotated[int, Range(least=1, most=3)] = 3
    """How many settings each model may choose from, on the validation split."""
    experts: bool = True
    """Also train one SPT per descriptor: about as many times the work of the joint model."""

    def __post_init__(self) -> None:
        check(self)
        if self.preset not in PRESETS:
            raise UserError(f"unknown preset {self.preset!r}; presets: {', '.join(PRESETS)}")

    def run(self) -> None:
        from data_pipelines.dataset.loading import Dataset
        from spt_jax.study.plan import full, quick
        from spt_jax.study.run import study

        if find_spec("xgboost") is None:
            raise MissingExtra("study", "a study")
        preset = PRESETS[self.preset]()
        plan = quick(preset) if self.quick else full(preset, self.settings, self.seeds)
        plan = replace(plan, experts=self.experts)
        with JobsLine() as line:
            result = study(Dataset(self.data), self.out, plan, line)
        for kind, of_kind in result["sites"].items():
            console.print(_table(kind, of_kind, result["models"]))
        console.print(_price(result["price"]))
        print(f"Report: {self.out}/report.html")


class JobsLine(Live):
    """report(fit, done, total, line of the training log): which fit, how many are done, and its epoch."""

    def __init__(self) -> None:
        columns = (BarColumn(bar_width=16), TextColumn("{task.description}"), TimeElapsedColumn())
        super().__init__(errors, "reading the data", *columns)
        self._told_of: tuple[str, int] | None = None

    def __call__(self, title: str, done: int, total: int, line: dict | None) -> None:
        epoch = f", epoch {line['epoch']}/{line['epochs']}, loss {line['loss']:.3f}" if line else ""
        self.tell(f"{done}/{total} {title}{epoch}", done, total, aloud=(title, done) != self._told_of)
        self._told_of = title, done


def _price(price: dict) -> Table:
    """What each model takes."""
    from spt_jax.study.tables import PRICE

    table = Table(title="Price, mean over seeds", title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.add_column("")
    for words in PRICE.values():
        table.add_column(words, justify="right")
    for model, each in price.items():
        table.add_row(model, *("" if each[name] is None else f"{each[name]:,.0f}" for name in PRICE))
    return table


def _table(kind: str, of_kind: dict, models: list[str]) -> Table:
    """Mean score over seeds, a model to a row."""
    title = f"{kind} sites, {of_kind['n']} test spectra: {MAIN_WORDS}, mean over seeds"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    names = list(dict.fromkeys(name for scores in of_kind["scores"].values() for name in scores))
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    for model in models:
        scores = of_kind["scores"][model]
        table.add_row(model, *(f"{scores[name]['mean']:.3f}" if name in scores else "" for name in names))
    return table
