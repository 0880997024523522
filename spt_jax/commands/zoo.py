"""The models that come with the package, and how one is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from data_pipelines.errors import UserError
from spt_jax.commands.places_named import Named
from spt_jax.commands.screen import Bars


@dataclass(frozen=True)
class Models:
    """The models that come with the package: `predict`, `evaluate` and `--train.init` take them by name.

    With a name, the card of one: what it was trained on, how well it answers for which element, and its licence.
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = ""
    """One of them, or a file of `spt-jax pack`."""

    def run(self) -> None:
        from spt_jax.reports.model_card import as_text
        from spt_jax.runs.packed import read_card
        from spt_jax.zoo.shelf import SUFFIX, Shelf, place_of

        if self.name:
            place = place_of(self.name)
            if place.suffix != SUFFIX:
                raise UserError(f"{place}: only models of the package and files of `spt-jax pack` have a card")
            print(as_text(read_card(place)), end="")
            return
        shelf = Shelf.of()
        for name in shelf.pinned:
            card = read_card(shelf.checked(name))
            default = " (default)" if name == shelf.default else ""
            print(f"{name}{default}: {card['about']}")
            print(f"  {', '.join(card['training_spectra'])}; {shelf.path(name).stat().st_size / 1e6:.1f} MB")
        if not shelf.pinned:
            print("This package has no models.")
        else:
            print(f"Next: spt-jax models {shelf.default or name}")


@dataclass(frozen=True)
class Pack:
    r"""Put trained models into one file of weights that can be shipped, with a card.

    Of several runs of one dataset, whatever their networks, the file answers with their mean. Probabilities, classes and
    intervals of the mean are fitted anew on the validation split, and the card's scores are of the test split. Weights
    are in half precision, nothing in the file is a pickle, and a changed byte is found when it is read.

    With --structures, the file also has the twenty atoms around each absorber of the training set, some 50 bytes a site:
    the page of `spt-jax app` then shows what surrounds it in the materials whose spectra are most like a measured one.

      spt-jax pack run1 run2 --data dataset --out mine.safetensors \
          --about "Fe K of our minerals" --structures calculations.tar.xz
      spt-jax predict mine.safetensors xmu.dat
    """

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN...")]
    """Run folders made by `spt-jax train`, or folders of `spt-jax ensemble`."""
    data: Named
    """Dataset folder that they were trained on."""
    out: Path
    """File to write, NAME.safetensors; NAME is what the card calls it."""
    about: str = ""
    """One sentence on what it is for."""
    licence: str = "not stated"
    """Under which it may be used."""
    attribution: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT...")] = ()
    """Whom its data are owed to, a line each."""
    structures: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="SOURCE...")] = ()
    """Sources that `spt-jax prepare` made the dataset of: their structures go into the file. Those who get it get them."""

    def run(self) -> None:
        from data_pipelines.dataset.loading import Dataset
        from data_pipelines.files import file_sha256
        from spt_jax import __version__
        from spt_jax.reports.model_card import Words
        from spt_jax.reports.packing import pack_runs
        from spt_jax.runs.packed import read_packed
        from spt_jax.zoo.shelf import SUFFIX

        if not self.runs:
            raise UserError("no RUN given; name run folders made by `spt-jax train`")
        if self.out.suffix != SUFFIX:
            raise UserError(f"{self.out}: name a file that ends in {SUFFIX}")
        self.out.parent.mkdir(parents=True, exist_ok=True)
        made_with = f"spt_jax {__version__}"
        words = Words(self.out.stem, self.about, self.licence, self.attribution, made_with)
        with Bars() as report:
            dataset = Dataset(self.data)
            pack_runs(self.runs, dataset, self.out, words, structures=self.structures, report=report)
        if self.structures and (domain := read_packed(self.out).domain) and domain.clusters:
            count = domain.clusters.count
            print(f"with what surrounds {(count > 0).sum():,} of {len(count):,} training sites")
        print(f"{self.out}: {self.out.stat().st_size / 1e6:.1f} MB, sha256={file_sha256(self.out)}")
        print(f"Next: spt-jax models {self.out}")
