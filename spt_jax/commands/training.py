"""From a dataset to a trained model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from data_pipelines.ranges import Range, check
from spt_jax.commands.screen import console
from spt_jax.config import Config, ModelConfig, TrainConfig


@dataclass(frozen=True)
class Quickstart:
    """Train on the embedded library of real FEFF10 spectra, evaluate, predict one spectrum, write a report."""

    out: Path = Path("spt-quickstart")
    """Folder for the run, metrics.json and report.html."""

    def run(self) -> None:
        from spt_jax.quickstart import quickstart

        quickstart(self.out, console)


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
        from data_pipelines.dataset.loading import Dataset
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
    seeds: Annotated[int, Range(least=0)] = 0
    """How many seeds of the joint model; 0 trains one expert per descriptor."""

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        from data_pipelines.dataset.loading import Dataset
        from spt_jax.training.ensemble import train_members
        from spt_jax.training.progress import TrainingLine

        dataset = Dataset(self.data)
        with TrainingLine(console) as line:
            last = train_members(Config(self.model, self.train), dataset, self.out, self.seeds, report=line)
        for name, score in last["validation"].items():
            print(f"{self.out / name}  last validation score {score:.3f}")
        print(f"Next: spt-jax evaluate {self.out / name} --data {self.data} --split test")
