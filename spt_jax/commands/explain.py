"""What a trained model looks at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from data_pipelines.errors import UserError
from data_pipelines.ranges import Range, check
from spt_jax.commands.places_named import Named
from spt_jax.commands.screen import Bars

if TYPE_CHECKING:
    from data_pipelines.dataset.loading import Dataset
    from spt_jax.inference.predict import Model


@dataclass(frozen=True)
class Explain:
    """Show which energies and bands a trained model reads its descriptors from, and whether physics agrees.

    Asks every element: does the pre-edge tell CN 4 from 6, does the edge rise with OS, the white line with OCN, in the
    training data, and in the model's answers? Then writes a page about one element, and the numbers behind it as JSON
    beside it: integrated gradients over energy, attention and chosen bands for each class of each descriptor, and the
    score lost without each frequency and each 3 eV of the spectrum. A few minutes on two cores.

      spt-jax explain run --data dataset
      spt-jax explain run --data dataset --element Co --out co.html

    Of a run of several signals (`--grid.signals`) the page says instead what each signal is worth: scores with every one,
    every two and all of them, exact Shapley values, how much of a defect is detected, and which stretches matter.
    """

    model: tyro.conf.Positional[Named]
    """Run folder made by `spt-jax train`, or any other model; only a run of SPT has inner parts to show."""
    data: Named
    """Dataset folder."""
    split: Literal["train", "validation", "test"] = "test"
    """Which split of it."""
    element: str | None = None
    """Absorbing element of the page; the most frequent of the split where not given, and all where there are several signals."""
    sites: Annotated[int, Range(least=1)] = 12
    """How many sites of each class get integrated gradients; the rest of the page is about all. Not of several signals."""
    out: Named | None = None
    """Page to write, else RUN/explain.html; the numbers go to the same name with .json."""

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        import json

        from data_pipelines.dataset.loading import Dataset
        from data_pipelines.files import write_atomic
        from spt_jax.explain.explanation import explain, physics, select
        from spt_jax.explain.page import as_html
        from spt_jax.explain.physics import table
        from spt_jax.inference.predict import load

        model, dataset = load(self.model), Dataset(self.data)
        if not self.out and not self.model.is_dir():
            raise UserError(
                f"{self.model} is no folder that a page could go to; name it, for instance --out explain.html"
            )
        out = self.out or self.model / "explain.html"
        if out.is_dir():
            raise UserError(f"{out} is a folder; name a file, for instance --out {out / 'explain.html'}")
        if out.suffix == ".json":
            raise UserError(f"{out}: the numbers go to a .json file; name the page, for instance explain.html")
        if model.blueprint.grid.signals:
            self._signals(model, dataset, out)
            return
        split, absorber = select(model, dataset, self.split, self.element)
        out.parent.mkdir(parents=True, exist_ok=True)
        with Bars() as report:
            asked = physics(model, dataset, self.split, report)
            found = explain(model, split, self.sites, report)
            document = {"run": str(self.model), "split": self.split, "absorber": absorber, "physics": asked, **found}
            write_atomic(out.with_suffix(".json"), json.dumps(document, allow_nan=False) + "\n")
            write_atomic(out, as_html(document, report))
        for line in table(asked["findings"], asked["data_split"], self.split):
            print(line)
        print(out)

    def _signals(self, model: Model, dataset: Dataset, out: Path) -> None:
        import json

        from data_pipelines.files import write_atomic
        from spt_jax.explain.signals_explained import explain_model, table
        from spt_jax.explain.signals_page import as_html

        with Bars() as report:
            document = {"run": str(self.model), "split": self.split}
            document |= explain_model(model, dataset, self.split, self.element, report)
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(out.with_suffix(".json"), json.dumps(document, allow_nan=False) + "\n")
            write_atomic(out, as_html(document, report))
        for line in table(document):
            print(line)
        print(out)
