"""A spectrum image from the electron microscope: read, corrected, and shown with a map of every correction."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from data_pipelines.errors import UserError
from data_pipelines.readers.images.image import ImageCalibration
from spt_jax.commands.screen import Bars, console
from spt_jax.eels.settings import ImageConfig


@dataclass(frozen=True)
class Image:
    """Correct a spectrum image of electron energy losses (EELS): spikes, alignment, background, plural scattering; every
    correction as a map.

    Reads .dm3, .dm4, .hspy, .emd, .nxs, .npy and .npz with a calibration beside them, .msa and columns of text: images,
    lines, single spectra and series of images, also ones that are larger than memory. What was guessed or put right is
    told (docs/eels.md).

      spt-jax image map.dm4 --edge "O K" --html map.html
      spt-jax image core.dm3 --low-loss zero.dm3 --html core.html --out core.npz
      spt-jax image map.npy --offset 440 --step 0.3 --pixel 2 --html map.html
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """The spectrum image."""
    low_loss: Path | None = None
    """The low-loss image of the same pixels, or one low-loss spectrum: where the zero loss lies, and plural scattering."""
    html: Path | None = None
    """Page to write: spectrum with its windows, maps, notes."""
    out: Path | None = None
    """.npz file to write: energies, sum spectra and maps."""
    signal: Path | None = None
    """.npy file to write: the signal of every pixel, times x rows x columns x energies."""
    how: Annotated[ImageConfig, tyro.conf.arg(name="")] = field(default_factory=ImageConfig)
    calibration: Annotated[ImageCalibration, tyro.conf.arg(name="")] = field(default_factory=ImageCalibration)

    def __post_init__(self) -> None:
        for name, suffix in (("html", ".html"), ("out", ".npz"), ("signal", ".npy")):
            path = getattr(self, name)
            if path and (path.suffix != suffix or path.is_dir()):
                raise UserError(f"--{name} writes a file that ends in {suffix}, got {path}")

    def run(self) -> None:
        from data_pipelines.files import replacing, write_atomic
        from data_pipelines.readers.images.open import open_image
        from spt_jax.eels.correct import correct
        from spt_jax.eels.page import as_html, as_npz, lines

        image = open_image(self.file, self.calibration)
        low = open_image(self.low_loss) if self.low_loss else None
        for path in (self.html, self.out, self.signal):
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
        with Bars() as report:
            if self.signal:
                with replacing(self.signal) as partial:
                    found = correct(image, self.how, low, partial, report)
            else:
                found = correct(image, self.how, low, None, report)
        for line in lines(found):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if self.out:
            write_atomic(self.out, as_npz(found))
        if self.html:
            write_atomic(self.html, as_html(found, self.file.name))
        if written := [str(path) for path in (self.html, self.out, self.signal) if path]:
            print(", ".join(written))
