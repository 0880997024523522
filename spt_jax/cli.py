"""spt-jax: the command line. Each command is one class; errors that the user can mend are one line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from data_pipelines.errors import SpectrumError, UserError
from data_pipelines.schema import EnergyGrid
from spt_jax.config import PRESETS, Config, ModelConfig, TrainConfig

OVERVIEW = """\
spt-jax: from X-ray absorption spectra to local structure.

  spt-jax quickstart [--out DIR]                    train on the embedded library
  spt-jax prepare SOURCE... --out DATASET           FEFF runs -> labelled dataset
  spt-jax train PRESET --data DATASET --out RUN     train a model
  spt-jax ensemble PRESET --data DATASET --out DIR  experts, or several seeds, at once
  spt-jax evaluate RUN --data DATASET --split test  scores per descriptor
  spt-jax predict RUN FILE...                       descriptors of spectra
  spt-jax export RUN --out FILE                     the model in one file

Each explains itself with --help. Presets of train and ensemble:
"""

console = Console()
errors = Console(stderr=True)


@dataclass(frozen=True)
class Quickstart:
    """Train on the embedded library of real FEFF10 spectra, evaluate, predict one spectrum, write a report."""

    out: Path = Path("spt-quickstart")
    """Folder for the run, metrics.json and report.html."""

    def run(self) -> None:
        from spt_jax.quickstart import quickstart

        quickstart(self.out, console)


@dataclass(frozen=True)
class Prepare:
    """Read FEFF spectra with their structures, check and label them, and build a dataset.

    A source is a folder tree or .tar archive of FEFF runs (MATERIAL/POSCAR beside MATERIAL/FEFF-XANES/NNN_El), a
    single FEFF run folder, or a .parquet library. After a stop the same command goes on where it was.
    """

    sources: tyro.conf.Positional[tuple[Path, ...]]
    """Folders, archives or Parquet files."""
    out: Path
    """Dataset folder to make; data_card.txt in it tells what went into it and what did not."""
    grid: EnergyGrid = field(default_factory=EnergyGrid)
    workers: int = 0
    """Processes; 0 means one per core."""
    overwrite: bool = False
    """Replace a dataset of other sources in `out`, or a damaged one."""

    def run(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from data_pipelines import card
        from data_pipelines.ingest import prepare

        if not self.sources:
            raise UserError("no SOURCE given; name folders, .tar archives or .parquet files")
        columns = (TextColumn("{task.description:9s}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        progress, bars = Progress(*columns, console=errors), {}
        with contextlib.ExitStack() as live:

            def report(stage: str, done: int, total: int) -> None:
                if not bars:
                    live.enter_context(progress)
                if stage not in bars:
                    bars[stage] = progress.add_task(stage, total=total)
                progress.update(bars[stage], completed=done, total=total)

            workers = self.workers or os.cpu_count() or 1
            document = prepare(list(self.sources), self.out, self.grid, workers, self.overwrite, report)
        print(card.as_text(document))
        print(f"Next: spt-jax train base --data {self.out} --out run")


@dataclass(frozen=True)
class Train:
    """Train a model into a run folder. After a stop the same command goes on at the last checkpoint."""

    data: Path
    """Dataset folder made by `spt-jax prepare`."""
    out: Path
    """Run folder: checkpoints, the best model, config.json and train_log.jsonl."""
    model: ModelConfig
    train: TrainConfig
    distributed: bool = False
    """This is one of several processes that train one model together, one for each host of a pod or cluster.
    Every one runs the same command; where the launcher does not tell JAX who is who, JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID do."""

    def run(self) -> None:
        from data_pipelines.loading import Dataset
        from spt_jax.training.loop import train
        from spt_jax.training.progress import TrainingLine
        from spt_jax.training.sharding import join_processes

        if self.distributed:
            join_processes()
        dataset = Dataset(self.data)
        with TrainingLine(console) as line:
            last = train(Config(self.model, self.train), dataset, self.out, line)
        print(f"Done after {last['epoch']} epochs; the best model is in {self.out}/model.")
        print(f"Next: spt-jax evaluate {self.out} --data {self.data} --split test")


@dataclass(frozen=True)
class Ensemble:
    """Train several models at once: an expert for each descriptor, or the joint model from several seeds.

    Each becomes a run folder OUT/NAME for evaluate, predict and export. After a stop the same command goes on.
    """

    data: Path
    """Dataset folder made by `spt-jax prepare`."""
    out: Path
    """Folder of the run folders."""
    model: ModelConfig
    train: TrainConfig
    seeds: int = 0
    """How many seeds of the joint model; 0 trains one expert per descriptor."""

    def run(self) -> None:
        from data_pipelines.loading import Dataset
        from spt_jax.training.ensemble import train_members
        from spt_jax.training.progress import TrainingLine

        dataset = Dataset(self.data)
        with TrainingLine(console) as line:
            last = train_members(Config(self.model, self.train), dataset, self.out, self.seeds, report=line)
        for name, score in last["validation"].items():
            print(f"{self.out / name}  last validation score {score:.3f}")
        print(f"Next: spt-jax evaluate {self.out / name} --data {self.data} --split test")


@dataclass(frozen=True)
class Evaluate:
    """Score a trained model on a split: a table on the screen, and RUN/metrics.json."""

    model: tyro.conf.Positional[Path]
    """Run folder made by `spt-jax train`."""
    data: Path
    """Dataset folder."""
    split: Literal["train", "validation", "test"] = "test"
    """Which split of it."""

    def run(self) -> None:
        from data_pipelines.files import write_atomic
        from data_pipelines.loading import Dataset
        from spt_jax.analysis.evaluate import as_table, evaluate
        from spt_jax.inference.run import load_run

        metrics = evaluate(load_run(self.model), Dataset(self.data), self.split).metrics
        write_atomic(self.model / "metrics.json", json.dumps(metrics, indent=1) + "\n")
        console.print(as_table(metrics))


@dataclass(frozen=True)
class Predict:
    """Descriptors of spectra: FEFF's xmu.dat, text of two columns (energy in eV, mu in any scale), XDI or Athena files."""

    model: tyro.conf.Positional[Path]
    """Run folder made by `spt-jax train`, or file made by `spt-jax export`."""
    files: tyro.conf.Positional[tuple[Path, ...]]
    """Spectrum files."""
    element: str | None = None
    """Absorbing element where the file does not name it; not needed for a model of one element."""
    edge: str = "K"
    """Absorption edge where the file does not name it."""
    format: Literal["table", "json", "csv"] = "table"
    """How to print the result."""

    def run(self) -> None:
        from data_pipelines.experiment import read_spectrum
        from spt_jax.inference.output import as_csv, as_json, as_table
        from spt_jax.inference.predict import load

        if not self.files:
            raise UserError("no FILE given; name xmu.dat or two-column text files")
        model = load(self.model)
        spectra = []
        for file in self.files:
            found = read_spectrum(file)
            if self.element and found.element and self.element != found.element:
                raise SpectrumError(
                    "wrong element or edge", f"{file} is a {found.element} spectrum, not {self.element}"
                )
            with _named(file):
                absorber = model.absorber(found.element or self.element, found.edge or self.edge)
                spectra.append((model.to_grid(found.energy, found.mu, absorber), absorber))
        names = [str(file) for file in self.files]
        results = list(zip(names, [a for _, a in spectra], model.predict_on_grid(spectra), strict=True))
        if self.format == "table":
            console.print(*(as_table(*result) for result in results), sep="\n")
        else:
            sys.stdout.write(as_json(results) if self.format == "json" else as_csv(results))


@dataclass(frozen=True)
class Export:
    """Put a trained model into one file, for use on another machine, at a beamline or in another program.

    It holds the network with its weights as StableHLO (jax.export; CPU, CUDA and TPU, any batch size) and all that
    `spt-jax predict FILE xmu.dat` and `spt_jax.load("FILE")` need: they then work without flax, orbax and the run.
    """

    model: tyro.conf.Positional[Path]
    """Run folder made by `spt-jax train`."""
    out: Path
    """File to write, for instance model.spt."""

    def run(self) -> None:
        from spt_jax.inference.export import export
        from spt_jax.inference.run import load_run

        if self.out.is_dir():
            raise UserError(f"{self.out} is a folder; name a file, for instance --out {self.out / 'model.spt'}")
        self.out.parent.mkdir(parents=True, exist_ok=True)
        export(load_run(self.model), self.out)
        print(f"{self.out}: {self.out.stat().st_size / 1e6:.1f} MB")
        print(f"Next: spt-jax predict {self.out} xmu.dat")


COMMANDS = {
    "quickstart": Quickstart,
    "prepare": Prepare,
    "train": Train,
    "ensemble": Ensemble,
    "evaluate": Evaluate,
    "predict": Predict,
    "export": Export,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point. Exit status: 0 done, 1 an error the user can mend, 2 wrong usage, 130 Ctrl-C."""
    try:
        command = _parse(list(sys.argv[1:] if argv is None else argv))
        if command is not None:
            command.run()
    except UserError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("stopped; run the same command again to go on where it was", 130)
    except BrokenPipeError:
        os._exit(1)
    except OSError as error:
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
    except Exception as error:
        # Orbax and TFDS wrap a full disk in errors of their own.
        if "No space left on device" not in str(error):
            raise
        _fail("No space left on device; free some and run the same command again", 1)


def _parse(argv: list[str]) -> Any:
    """The command with its arguments; None where help was asked for and given."""
    presets = "".join(f"  {name:6s} {make.__doc__}\n" for name, make in PRESETS.items())
    if not argv or argv[0] in ("-h", "--help"):
        print(OVERVIEW + presets, end="")
        return None
    if argv[0] == "--version":
        from spt_jax import __version__

        print(f"spt-jax {__version__}")
        return None
    name, *rest = argv
    if name not in COMMANDS:
        raise UserError(f"unknown command {name!r}; commands: {', '.join(COMMANDS)}")
    prog, default = f"spt-jax {name}", {}
    if name in ("train", "ensemble"):
        if not rest or rest[0] in ("-h", "--help"):
            print(f"{prog} PRESET --data DATASET --out RUN [--model.FIELD ...] [--train.FIELD ...]\n\n{presets}")
            print(f"All fields with their defaults: {prog} PRESET --help")
            return None
        preset, *rest = rest
        if preset not in PRESETS:
            raise UserError(f"unknown preset {preset!r}; presets: {', '.join(PRESETS)}")
        config = PRESETS[preset]()
        prog, default = (
            f"{prog} {preset}",
            {"default": COMMANDS[name](tyro.MISSING, tyro.MISSING, config.model, config.train)},
        )
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(COMMANDS[name], prog=prog, args=rest, **default)
    except SystemExit as stop:
        if not stop.code:
            raise
        # tyro frames its complaint under a title; one plain line is easier to read in a log.
        text = re.sub(r"╭─.*?─╮|[─│╰╯]+", " ", complaint.getvalue())
        _fail(" ".join(text.split()), 2)


@contextlib.contextmanager
def _named(file: Path):
    """Put the file's name into what is wrong with its spectrum."""
    try:
        yield
    except SpectrumError as error:
        raise SpectrumError(error.reason, f"{file}: {error.detail}") from None


def _fail(message: str, status: int) -> None:
    errors.print(f"spt-jax: error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(status)
