"""Which bands each band input chooses, before and after training, and what it is worth.

`python -m spt_jax.explain.chosen_bands DATASET --out DIR` trains one model per band input, prints a histogram of
the chosen frequencies and the validation scores, and draws them to DIR/chosen_bands.svg.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import jax
import matplotlib
import numpy as np
import tyro
from flax import nnx
from matplotlib.figure import Figure
from rich.console import Console

from data_pipelines.dataset.loading import Dataset
from data_pipelines.pages.style import BLUE, GREY, RC
from data_pipelines.schema import Batch
from spt_jax.config import BandInput, Config, LabelsConfig, ModelConfig, TrainConfig
from spt_jax.inference.predict import Model, load
from spt_jax.training.loop import train
from spt_jax.training.progress import TrainingLine


@dataclass(frozen=True)
class ChosenBands:
    """Train one model per band input and compare their bands and scores."""

    data: tyro.conf.Positional[Path]
    out: Path
    """Folder for the runs and the plot; finished runs are not repeated."""
    model: ModelConfig = field(default_factory=lambda: ModelConfig(width=32))
    objective: LabelsConfig = field(default_factory=LabelsConfig)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=20))

    def run(self) -> None:
        dataset, console = Dataset(self.data), Console()
        batch, known = dataset.split("validation").batch, dataset.statistics("train")
        shares, scores, outside = {}, {}, {}
        for kind in get_args(BandInput):
            config = Config(replace(self.model, band_input=kind), self.objective, self.train)
            with TrainingLine(console) as line:
                train(config, dataset, self.out / kind, line)
            trained = load(self.out / kind)
            parts = trained.blueprint.build(jax.random.key(self.train.seed), known.covariance, known.elements)
            fresh = Model(trained.blueprint, nnx.merge(*parts))
            shares[kind] = _shares(fresh, batch), _shares(trained, batch)
            scores[kind] = trained.blueprint.validation
            picks = trained.network.picks_outside(batch.spectrum, batch.atomic_number)
            outside[kind] = float(picks.mean() / self.model.bands)
        for kind, (before, after) in shares.items():
            print(f"\n{kind}: share of spectra that choose each frequency, first block")
            print("frequency " + " ".join(f"{f:5d}" for f in range(1, len(before) + 1)))
            print("before    " + " ".join(f"{s:5.2f}" for s in before))
            print("after     " + " ".join(f"{s:5.2f}" for s in after))
            print(f"picks beyond frequency {len(before)}, left to weaker ones within: {outside[kind]:.1%}")
            print("score     " + "  ".join(f"{name} {s:.3f}" for name, s in scores[kind].items() if s is not None))
            print(f"mean      {np.mean([s for s in scores[kind].values() if s is not None]):.4f}")
        _draw(shares).savefig(self.out / "chosen_bands.svg", metadata={"Date": None})


def _shares(model: Model, batch: Batch) -> np.ndarray:
    """(highest_band,) share of spectra with each frequency among the bands of the first block."""
    bands = model.outputs(batch.spectrum, batch.atomic_number)["bands"][:, 0]
    return np.bincount(bands.ravel(), minlength=model.blueprint.model.highest_band + 1)[1:] / len(bands)


@matplotlib.rc_context(RC)
def _draw(shares: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    figure = Figure(figsize=(10, 2.4), layout="constrained")
    for axes, (kind, (before, after)) in zip(figure.subplots(1, len(shares), sharey=True), shares.items(), strict=True):
        frequencies = np.arange(1, len(before) + 1)
        axes.bar(frequencies - 0.2, before, 0.4, color=GREY, label="before training")
        axes.bar(frequencies + 0.2, after, 0.4, color=BLUE, label="after")
        axes.set(title=kind, xlabel="frequency", xticks=frequencies[::2], ylim=(0, 1.05))
    figure.axes[0].set_ylabel("share of spectra")
    figure.axes[0].legend(frameon=False, fontsize=7)
    return figure


if __name__ == "__main__":
    tyro.cli(ChosenBands).run()
