"""From a dataset to a trained model."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from data_pipelines.errors import UserError
from data_pipelines.places import RemotePath
from data_pipelines.ranges import Range, check
from spt_jax.commands.places_named import Named
from spt_jax.commands.screen import console, errors
from spt_jax.config import (
    Config,
    ExecutionConfig,
    ImagesConfig,
    MaskedConfig,
    NetworkConfig,
    ObjectiveConfig,
    TrainConfig,
)


@dataclass(frozen=True)
class Quickstart:
    """Train on the embedded library of real FEFF10 spectra, evaluate, predict one spectrum, write a report."""

    out: Path = Path("spt-quickstart")
    """Folder for the run, metrics.json and report.html."""

    def run(self) -> None:
        from spt_jax.quickstart import quickstart

        quickstart(self.out, console)


DATA = """Dataset folders made by `spt-jax prepare`, or folders of a TFDS set with the same features. Several are mixed by
size, or by weights: --data A:0.7 B:0.3."""


@dataclass(frozen=True)
class Train:
    """Train a model into a run folder. After a stop the same command goes on at the last checkpoint.

    What is learnt (--objective), by which network (--model) and how long (--train) belong to the run; how it is
    computed (--execution) may change whenever it goes on, and a finished run goes on when asked for more epochs.

    --objective NAME says what is learnt: labels where not given, masked (what is hidden of spectra without labels, to
    begin with), or joint (both at once). Its own settings follow with --help, as for all.

      spt-jax train base --objective masked --data unlabelled --out pre
      spt-jax train base --data labelled --out run --train.init pre
    """

    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATASET...", help=DATA)]
    out: Named
    """Run folder: checkpoints, the best model, config.json and train_log.jsonl."""
    model: Annotated[NetworkConfig, tyro.conf.AvoidSubcommands]
    objective: Annotated[ObjectiveConfig, tyro.conf.AvoidSubcommands]
    train: TrainConfig
    execution: ExecutionConfig
    tensorboard: bool = False
    """Also write the log for TensorBoard, into RUN/tensorboard (extra `tensorboard`)."""
    profile: Annotated[int, Range(least=0)] = 0
    """Write a trace of so many steps into RUN/profile before training."""
    distributed: bool = False
    """This is one of several processes that train one model together, one for each host of a pod or cluster.
    Every one runs the same command; where the launcher does not tell JAX who is who, JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID do."""

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        from data_pipelines.dataset.opening import open_data
        from spt_jax.training.loop import train
        from spt_jax.training.progress import TrainingLine
        from spt_jax.training.sharding import join_processes
        from spt_jax.training.tensorboard import Board

        if self.tensorboard and isinstance(self.out, RemotePath):
            raise UserError(f"{self.out}: --tensorboard writes into a folder of this machine; leave it out")
        if self.distributed:
            join_processes(self.execution.silence_seconds)
        dataset = open_data(self.data)
        config = Config(self.model, self.objective, self.train, self.execution)
        with TrainingLine(console) as line, Board(self.out) if self.tensorboard else nullcontext() as board:

            def report(epoch: dict) -> None:
                line(epoch)
                if board:
                    board(epoch)

            last = train(config, dataset, self.out, report, tell, self.profile, line.within)
        print(f"Done after {last['epoch']} epochs; the best model is in {self.out}/model.")
        if isinstance(self.objective, MaskedConfig):
            print(f"Next: spt-jax train base --data LABELLED --out RUN --train.init {self.out}")
        elif isinstance(self.objective, ImagesConfig):
            print(f"Next: spt-jax image {self.out} FILE --html image.html")
        else:
            print(f"Next: spt-jax evaluate {self.out} --data {' '.join(self.data)} --split test")


@dataclass(frozen=True)
class Ensemble:
    """Train several models at once: an expert for each descriptor, or the joint model from several seeds.

    Each becomes a run folder OUT/NAME for evaluate, predict and export, and so does OUT for all of them together.
    After a stop the same command goes on.
    """

    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATASET...", help=DATA)]
    out: Named
    """Folder of the run folders."""
    model: Annotated[NetworkConfig, tyro.conf.AvoidSubcommands]
    objective: Annotated[ObjectiveConfig, tyro.conf.AvoidSubcommands]
    train: TrainConfig
    execution: ExecutionConfig
    seeds: Annotated[int, Range(least=0)] = 0
    """How many seeds of the joint model; 0 trains one expert per descriptor."""

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        from data_pipelines.dataset.opening import open_data
        from spt_jax.training.ensemble import train_members
        from spt_jax.training.progress import TrainingLine

        config = Config(self.model, self.objective, self.train, self.execution)
        dataset = open_data(self.data)
        with TrainingLine(console) as line:
            last = train_members(config, dataset, self.out, self.seeds, report=line, tell=tell)
        for name, score in last["validation"].items():
            print(f"{self.out / name}  last validation score {score:.3f}")
        if isinstance(self.objective, MaskedConfig):
            print(f"Next: spt-jax train base --data LABELLED --out RUN --train.init {self.out / name}")
        elif isinstance(self.objective, ImagesConfig):
            print(f"Next: spt-jax image {self.out / name} FILE --html image.html; each answers by itself")
        else:
            print(f"Next: spt-jax evaluate {self.out} --data {' '.join(self.data)} --split test")


def tell(text: str) -> None:
    """What a user should know of how a run begins."""
    errors.print(f"spt-jax: {text}", markup=False, highlight=False, soft_wrap=True)
