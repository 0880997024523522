"""Calculated edges and measured spectrum images -> a dataset that a model of images is trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from data_pipelines.errors import UserError
from data_pipelines.ranges import Range, check
from data_pipelines.readers.images.image import ImageCalibration
from spt_jax.commands.screen import Bars


@dataclass(frozen=True)
class PrepareImages:
    """Make a dataset of calculated edges and of measured spectrum images, for `spt-jax train image`.

    THEORY holds a folder for each class with calculated edges in it: xmu.dat of FEFF, or two columns of energy (eV, absolute)
    and intensity in .txt, .csv or .msa. One edge a class is enough, more make it sure. Images need no labels; a few pixels
    whose class is known may be named in a .csv with the columns image,row,column,class (docs/eels.md).

      spt-jax image-data --theory theory --images a.dm4 --edge "O K" --out data
      spt-jax train image --data data --out run
      spt-jax image run c.dm4 --html c.html
    """

    theory: Path
    """Folder of calculated edges, one folder a class."""
    edge: str
    """The edge: "O K", "Mn L", or its onset in eV."""
    out: Path
    """Folder of the dataset."""
    images: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE...")] = ()
    """Spectrum images to learn from, without labels; without any, calculated edges are learnt alone."""
    labels: Path | None = None
    """.csv of pixels whose class is known: image (name of the file without its ending), row, column, class."""
    pixels: Annotated[int, Range(least=1)] = 20_000
    """Pixels of each image that are used, spread evenly over it."""
    points: Annotated[int, Range(least=32, most=1024)] = 192
    """Channels of the edge at most: those of the first image, or sums of so many of them as are needed."""
    calibration: Annotated[ImageCalibration, tyro.conf.arg(name="")] = field(default_factory=ImageCalibration)

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        from data_pipelines.dataset.images import CARD, LOCK, is_own, prepare_images
        from data_pipelines.files import locked
        from data_pipelines.readers.images.open import open_image

        # What a stopped run of this command left behind is its own.
        if self.out.is_dir() and not (self.out / CARD).exists() and not all(map(is_own, self.out.iterdir())):
            raise UserError(f"{self.out} holds something else than a dataset of images; choose another --out")
        images = [(path.stem, open_image(path, self.calibration)) for path in self.images]
        given = self.theory, images, self.out, self.edge, self.labels, self.pixels, self.points
        with Bars() as report, locked(self.out / LOCK, f"{self.out}"):
            card = prepare_images(*given, report=report)
        counted = {name: sum(each["class"] == name for each in card["theory"]) for name in card["grid"]["classes"]}
        print("calculated edges: " + ", ".join(f"{count} {name}" for name, count in counted.items()))
        for each in card["images"]:
            left = "".join(f", {count:,} left out ({why})" for why, count in each["left_out"].items())
            more = f", {each['labelled']:,} labelled" if each["labelled"] else ""
            more += f", {each['dead']:,} dead channels" if each["dead"] else ""
            gain = f", {each['gain']:.2g} counts an electron" if not 0.5 < each["gain"] < 2 else ""
            print(f"{each['name']}: {each['used']:,} of {each['pixels']:,} pixels{more}{left}{gain}")
        grid = card["grid"]
        last = grid["start"] + grid["step"] * (grid["points"] - 1)
        print(f"{self.out}: {grid['points']} channels from {grid['start']:.1f} to {last:.1f} eV")
        print(f"Next: spt-jax train image --data {self.out} --out RUN")
