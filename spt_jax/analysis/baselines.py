"""Tree models on the inputs and splits of SPT: `python -m spt_jax.analysis.baselines DATASET [--split test]`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rich.console import Console
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

from data_pipelines.errors import UserError
from data_pipelines.loading import Dataset
from data_pipelines.schema import DESCRIPTORS
from spt_jax.analysis.evaluate import as_table
from spt_jax.analysis.metrics import score


@dataclass(frozen=True)
class Baselines:
    """Fit one model per descriptor on the training split and score it on another."""

    data: tyro.conf.Positional[Path]
    """Dataset folder made by `spt-jax prepare`."""
    split: str = "test"
    model: Literal["extra-trees", "xgboost"] = "extra-trees"
    """XGBoost needs the extra `baselines`."""
    trees: int = 500
    max_features: float | None = None
    """Share of energies tried at each node; scikit-learn's default where not given."""
    seeds: tuple[int, ...] = (0, 1, 2)
    out: Path | None = None
    """File for the metrics of the last seed as JSON."""

    def run(self) -> None:
        dataset = Dataset(self.data)
        train, test = dataset.split("train").batch, dataset.split(self.split).batch
        summary: dict[str, list[float]] = {}
        for seed in self.seeds:
            scores = {}
            for column, d in enumerate(DESCRIPTORS):
                known, asked = train.mask[:, column], test.mask[:, column]
                if not (known.any() and asked.any()):
                    continue
                model, labels = self.make(d.kind == "class", seed), train.labels[known, column]
                # XGBoost wants classes counted from 0 without gaps.
                present, labels = np.unique(labels, return_inverse=True) if d.kind == "class" else (None, labels)
                model.fit(train.spectrum[known], labels)
                found = model.predict(test.spectrum[asked])
                found = found if present is None else present[found]
                scores[d.name] = score(d, test.labels[asked, column], found)
                summary.setdefault(d.name, []).append(scores[d.name]["f1_macro" if d.kind == "class" else "r2"])
            block = {"n": len(test.labels), "descriptors": scores}
            metrics = {"split": self.split, **block, "sites": {"all": block}}
        Console().print(as_table(metrics))
        for name, values in summary.items():
            print(f"{name:6s} {np.mean(values):.3f} +- {np.std(values):.3f}   over seeds {self.seeds}")
        if self.out:
            self.out.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")

    def make(self, classify: bool, seed: int) -> Any:
        """A fresh scikit-learn style estimator."""
        if self.model == "xgboost":
            try:
                from xgboost import XGBClassifier, XGBRegressor
            except ModuleNotFoundError:
                raise UserError("XGBoost needs the extra `baselines`: pip install 'spt-jax[baselines]'") from None
            kind, options = (XGBClassifier if classify else XGBRegressor), {"tree_method": "hist"}
            options |= {} if self.max_features is None else {"colsample_bynode": self.max_features}
        else:
            kind, options = (ExtraTreesClassifier if classify else ExtraTreesRegressor), {}
            options |= {} if self.max_features is None else {"max_features": self.max_features}
        return kind(n_estimators=self.trees, n_jobs=-1, random_state=seed, **options)


if __name__ == "__main__":
    tyro.cli(Baselines).run()
