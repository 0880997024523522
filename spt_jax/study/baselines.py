"""Tree models on the inputs and splits of SPT: `python -m spt_jax.study.baselines DATASET [--split test]`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from data_pipelines.dataset.loading import Dataset
from data_pipelines.ranges import Range, check
from spt_jax.inference.evaluate import MOST_LIKELY, as_tables
from spt_jax.peers.trees import TreeSettings, fit_trees
from spt_jax.scoring.metrics import main_score, score_answers
from spt_jax.scoring.names import MAIN_SCORE, MAIN_WORDS


@dataclass(frozen=True)
class Baselines:
    """Fit one model per descriptor on the training split and score it on another."""

    data: tyro.conf.Positional[Path]
    """Dataset folder made by `spt-jax prepare`."""
    model: tyro.conf.OmitArgPrefixes[TreeSettings] = field(default_factory=TreeSettings)
    split: str = "test"
    seeds: Annotated[tuple[int, ...], Range(least=0)] = (0, 1, 2)
    out: Path | None = None
    """File for the metrics of the last seed as JSON."""

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        dataset = Dataset(self.data)
        train, asked = dataset.split("train").batch, dataset.split(self.split).batch
        summary: dict[str, list[float]] = {}
        for seed in self.seeds:
            # Not kept under a name: the forests of two seeds would be in memory at once.
            answers = fit_trees(self.model, train, seed)(asked.spectrum, asked.atomic_number)
            scores = score_answers(answers, asked)
            for name, each in scores.items():
                summary.setdefault(name, []).append(main_score(each))
            block = {"n": len(asked.labels), "descriptors": scores}
            metrics = {
                "split": self.split,
                "main_score": MAIN_SCORE,
                "classes": MOST_LIKELY,
                **block,
                "sites": {"all": block},
            }
        Console().print(as_tables(metrics), highlight=False)
        print(f"{MAIN_WORDS}, over seeds {self.seeds}:")
        for name, values in summary.items():
            print(f"{name:6s} {np.mean(values):.3f} +- {np.std(values):.3f}")
        if self.out:
            self.out.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(Baselines).run()
