"""A look at a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from data_pipelines.errors import UserError
from spt_jax.commands.places_named import Named
from spt_jax.commands.screen import Bars


@dataclass(frozen=True)
class DataCard:
    """What a dataset holds and what it lacks: as text, or with --html as a page.

    The page shows the spectra of every element, the labels and where they lack, outliers, near duplicates and whether
    anything leaks from one split into another. It is one file that needs no other.
    """

    dataset: tyro.conf.Positional[Named]
    """Dataset folder made by `spt-jax prepare`."""
    # A tuple, so that the option may stand without a file.
    html: Annotated[tuple[Named, ...] | None, tyro.conf.arg(metavar="[FILE]")] = None
    """Make the page, in this file or else in DATASET/data_card.html."""

    def __post_init__(self) -> None:
        if self.html and len(self.html) > 1:
            raise UserError(f"--html takes one file, got {' '.join(map(str, self.html))}")

    def run(self) -> None:
        from data_pipelines.dataset import card
        from data_pipelines.dataset.loading import Dataset

        dataset = Dataset(self.dataset)
        if self.html is None:
            print(card.as_text(dataset.card), end="")
            return
        from data_pipelines.survey.page import FILE, write_page

        out = self.html[0] if self.html else self.dataset / FILE
        if out.is_dir():
            raise UserError(f"{out} is a folder; name a file, for instance --html {out / FILE}")
        out.parent.mkdir(parents=True, exist_ok=True)
        with Bars() as report:
            write_page(dataset, out, report)
        print(out)
