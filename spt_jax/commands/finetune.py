"""A trained model moved to a new system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table

from data_pipelines.errors import UserError
from data_pipelines.ranges import Range, check
from spt_jax.commands.screen import console
from spt_jax.commands.study import JobsLine
from spt_jax.commands.training import DATA, tell
from spt_jax.scoring.names import MAIN_WORDS


@dataclass(frozen=True)
class Finetune:
    """Move a trained model to a new system: its scores there as it is, and after it learnt from 8, 16, ... all labelled
    training spectra of it, all on the same test split.

    Shots are one spectrum of every material, materials in an order by the seed, then a second of each, and so on: fewer
    are part of more. The validation split says when to stop; where it has fewer than 16 spectra or 3 materials, every
    fifth material of the shots is held out besides. Leaves OUT/finetune.json, finetune.svg and a run folder for each
    point; OUT itself is the last of them, for predict, evaluate and export. After a stop the same command goes on.

      spt-jax finetune run --data new --out moved
      spt-jax finetune spt-k --data new --source old --out moved --shots 0 8 16 all
      spt-jax finetune run --data new --out moved --freeze 'embed/*' 'position'
    """

    model: tyro.conf.Positional[str]
    """Run folder of `spt-jax train`, folder of `spt-jax ensemble`, packed file or name of `spt-jax models`. Of several
    networks each is moved, and they answer together."""
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATASET...", help=f"The new system. {DATA}")]
    out: Path
    """Folder for the curve and its runs."""
    source: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATASET...")] = ()
    """What the model comes from: its test split is scored before and after, which shows what is forgotten."""
    shots: Annotated[tuple[str, ...], tyro.conf.arg(metavar="N|all...")] = ("0", "8", "16", "32", "64", "all")
    """Points of the curve: labelled training spectra of the new system; 0 is the model as it came."""
    freeze: tuple[str, ...] = ()
    """Parameters that stay as they are: patterns of their names, as of `spt-jax train --train.freeze`."""
    rank: Annotated[int, Range(least=0)] = 0
    """Learn only a product of this rank beside each matrix (LoRA), and add it in the end; 0 learns all parameters."""
    epochs: Annotated[int, Range(least=1)] = 60
    """At most; the best by validation is kept. An epoch has 8 batches of 32 spectra at least, which a few shots come
    round in again and again."""
    learning_rate: Annotated[float, Range(above=0)] = 1e-3
    patience: Annotated[int, Range(least=0)] = 15
    """Epochs without improvement before training stops; 0 never stops early."""
    seed: Annotated[int, Range(least=0, below=2**31)] = 0
    """Of the shots and of training."""

    def __post_init__(self) -> None:
        check(self)
        if not self.shots:
            raise UserError("shots: give numbers of spectra, or all")
        for each in self.shots:
            if each != "all" and not (each.isascii() and each.isdecimal()):
                raise UserError(f"shots must be numbers of spectra, or all; got {each!r}")

    def run(self) -> None:
        from data_pipelines.dataset.opening import open_spectra
        from data_pipelines.files import write_atomic
        from spt_jax.study.curve import FILE, PICTURE, FineTuning, finetune
        from spt_jax.study.curve_figure import curve

        settings = FineTuning(self.freeze, self.rank, self.epochs, self.learning_rate, self.patience, self.seed)
        shots = tuple("all" if each == "all" else str(int(each)) for each in self.shots)
        source, data = open_spectra(self.source) if self.source else None, open_spectra(self.data)
        if data.grid.signals:
            raise UserError(
                f"{data.name}: rows of several signals; begin with another model by `spt-jax train fusion --train.init`"
            )
        with JobsLine() as line:
            found = finetune(self.model, data, self.out, shots, settings, source, line, tell)
        write_atomic(self.out / PICTURE, curve(found))
        console.print(f"Test split; {MAIN_WORDS}; from: materials that were learnt from", highlight=False)
        for table in tables(found):
            console.print(table)
        print(f"{self.out / FILE}, {self.out / PICTURE}")
        if any(point["shots"] for point in found["points"].values()):
            print(f"Next: spt-jax predict {self.out} xmu.dat")


def tables(document: dict) -> list[Table]:
    """For each kind of site the main scores of each point, then macro-F1 of classes; the source below the new system.

    Without the shells: a terminal has no room for them.
    """
    from data_pipelines.schema import SHELL_NAMES, SITE_KINDS
    from spt_jax.study.curve import NEW, SOURCE, mean_of, scores_of

    found = []
    for kind in SITE_KINDS:
        for score, title in (("main", "main scores"), ("f1_macro", "macro-F1 of classes")):
            rows = [
                (which, point, own[kind])
                for which in (NEW, SOURCE)
                for point in document["points"].values()
                if which in point["scores"] and kind in (own := scores_of(point["scores"][which]))
            ]
            told = dict.fromkeys(n for *_, own in rows for n, each in own.items() if each[score] is not None)
            names = [name for name in told if name not in SHELL_NAMES]
            if not names:
                continue
            table = Table(title=f"{kind} sites, {title}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
            columns = ["", "shots", "from", *(["mean"] if score == "main" else []), *names]
            for column in columns:
                table.add_column(column, justify="right" if column else "left")
            last = NEW
            for which, point, own in rows:
                if which != last:
                    table.add_section()
                last = which
                materials = str(point["learnt_from"]["materials"]) if point["shots"] else ""
                mean = [_told(mean_of(own, kind))] if score == "main" else []
                cells = [_told(own.get(name, {}).get(score)) for name in names]
                table.add_row(which, str(point["shots"]), materials, *mean, *cells)
            found.append(table)
    return found


def _told(score: float | None) -> str:
    return "-" if score is None else f"{score:.2f}"
