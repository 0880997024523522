"""A spectrum image from the electron microscope: corrected, or answered by a model, once or as its frames come."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from data_pipelines.errors import UserError
from data_pipelines.ranges import Range, check
from data_pipelines.readers.images.image import ImageCalibration
from spt_jax.commands.screen import Bars, console, errors
from spt_jax.eels.settings import ImageConfig

if TYPE_CHECKING:
    from spt_jax.eels.answer import ImageAnswer, ImageModel

# Seconds from one look at a folder to the next.
INTERVAL = 0.1


@dataclass(frozen=True)
class Image:
    """Spectrum images of electron energy losses (EELS). Without a MODEL one image is corrected: spikes, alignment,
    background, plural scattering, every correction as a map. A MODEL says of every pixel which phase it is, how sure that
    is, and what its spectrum is without noise.

    Reads .dm3, .dm4, .hspy, .emd, .nxs, .npy and .npz with a calibration beside them, .msa and columns of text: images,
    lines, single spectra and series of images, also ones that are larger than memory. What was guessed or put right is
    told (docs/eels.md).

      spt-jax image map.dm4 --edge "O K" --html map.html
      spt-jax image core.dm3 --low-loss zero.dm3 --html core.html --out core.npz
      spt-jax image map.npy --offset 440 --step 0.3 --pixel 2 --html map.html

    A model is a run folder of `spt-jax train image`. Several files are frames of one series, in the order given, all of one size;
    the page shows what changed where and when.

      spt-jax image runs/eels map.dm4 --html map.html --out map.npz
      spt-jax image runs/eels heating_*.dm4 --html heating.html

    With --live the frames of a folder are answered as they come, a line for each, until Ctrl-C. A file counts as whole when
    it has not changed for --interval; one that cannot be read is told and skipped. A frame of a new shape is compiled for,
    which is told.

      spt-jax image runs/eels /data/today --live --html live.html --out live.jsonl
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = ""
    """A run folder of `spt-jax train image`; where left out, the image is corrected and not more."""
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE...")] = ()
    """The spectrum image; with a MODEL one or more, or with --live the folder that fills."""
    low_loss: Path | None = None
    """The low-loss image of the same pixels, or one low-loss spectrum: where the zero loss lies, and plural scattering.
    Without a MODEL."""
    html: Path | None = None
    """Page to write: spectrum with its windows, maps, notes; of a MODEL classes, abundances, spectra, changes over time. With
    --live it is written anew every other second, and a browser reads it again by itself."""
    out: Path | None = None
    """.npz file to write: energies, sum spectra and maps; of a MODEL all that it says but the spectra. With --live a .jsonl
    file that grows by a line for each frame; what stands in it is not answered again."""
    signal: Path | None = None
    """.npy file to write: the signal of every pixel, times x rows x columns x energies."""
    denoised: Path | None = None
    """.npy file to write: the signal of every pixel without noise, as the MODEL sees it; the energies are in --out."""
    live: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Answer the frames of a folder as they come."""
    interval: Annotated[float | None, Range(least=0.01, most=60)] = None
    """With --live, seconds from one look at the folder to the next, for which a whole file has not changed; 0.1 where not given."""
    how: Annotated[ImageConfig, tyro.conf.arg(name="")] = field(default_factory=ImageConfig)
    calibration: Annotated[ImageCalibration, tyro.conf.arg(name="")] = field(default_factory=ImageCalibration)

    def __post_init__(self) -> None:
        check(self)
        suffixes = {"html": ".html", "out": ".jsonl" if self.live else ".npz", "signal": ".npy", "denoised": ".npy"}
        for name, suffix in suffixes.items():
            path = getattr(self, name)
            if path and (path.suffix != suffix or path.is_dir()):
                with_live = " with --live" if suffix == ".jsonl" else ""
                raise UserError(f"--{name} writes a file that ends in {suffix}{with_live}, got {path}")
        if self.interval is not None and not self.live:
            raise UserError("--interval is from one look at a folder to the next; say --live, too")

    def run(self) -> None:
        model, files = self._given()
        for path in (self.html, self.out, self.signal, self.denoised):
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
        if not model:
            self._correct(files[0])
            return
        from spt_jax.eels.answer import load_image_model
        from spt_jax.zoo.shelf import place_of

        loaded = load_image_model(place_of(model))
        if self.live:
            self._watch(loaded, files[0])
        else:
            self._answer(loaded, files)

    def _given(self) -> tuple[str, list[Path]]:
        """The model, "" for none, and the files. Raises UserError for options that mean nothing beside them."""
        files = [Path(self.model), *self.files] if self.model else []
        model = ""
        if self.model and is_image_model(self.model):
            model, files = self.model, list(self.files)
        if not files:
            raise UserError("no FILE given; name a spectrum image, before it a MODEL or none")
        if not model:
            if not files[0].exists():
                raise UserError(f"{files[0]}: no such file, nor a model")
            if files[0].is_dir():
                raise UserError(
                    f"{files[0]}: a folder, and no model (it has no config.json); name a FILE, or MODEL and FILE"
                )
            if len(files) > 1:
                raise UserError("several files are answered by a MODEL, named before them; without one, name one FILE")
            for name in ("live", "denoised"):
                if getattr(self, name):
                    raise UserError(f"--{name} is of a MODEL; name one before the FILE")
            return "", files
        own = [each.name for each in fields(ImageConfig) if getattr(self.how, each.name) != each.default]
        own += ["low-loss"] * (self.low_loss is not None)
        if own:
            raise UserError(f"--{own[0]} is of corrections without a MODEL; {model} has settings of its own")
        if self.live:
            if len(files) > 1 or not files[0].is_dir():
                raise UserError("--live watches one folder; name it behind the MODEL")
            if self.signal or self.denoised:
                raise UserError("--signal and --denoised are of files that are there, not of --live")
        elif folder := next((path for path in files if path.is_dir()), None):
            raise UserError(f"{folder}: a folder; --live answers its frames as they come, or name its files")
        return model, files

    def _correct(self, file: Path) -> None:
        from data_pipelines.files import replacing, write_atomic
        from data_pipelines.readers.images.open import open_image
        from spt_jax.eels.correct import correct
        from spt_jax.eels.page import as_html, as_npz, lines

        image = open_image(file, self.calibration)
        low = open_image(self.low_loss, low_loss=True) if self.low_loss else None
        with Bars() as report:
            if self.signal:
                with replacing(self.signal) as partial:
                    found = correct(image, self.how, low, partial, report)
            else:
                found = correct(image, self.how, low, None, report)
        _say(lines(found))
        if self.out:
            write_atomic(self.out, as_npz(found))
        if self.html:
            write_atomic(self.html, as_html(found, file.name))
        self._written()

    def _answer(self, model: ImageModel, files: list[Path]) -> None:
        from data_pipelines.files import write_atomic
        from data_pipelines.readers.images.open import open_image
        from spt_jax.eels import series_page
        from spt_jax.eels.answer_page import as_html, as_npz, lines
        from spt_jax.eels.series import follow_phases, together

        with Bars() as report:
            found = [model.answer(open_image(file, self.calibration), report) for file in files]
        names = [
            f"{file.name}, frame {i + 1}" if len(each.phase) > 1 else file.name
            for file, each in zip(files, found, strict=True)
            for i in range(len(each.phase))
        ]
        title = f"{files[0].name} to {files[-1].name}" if len(files) > 1 else files[0].name
        answer = together(found, title) if len(files) > 1 else found[0]
        series = follow_phases(answer, names if len(files) > 1 else ()) if len(answer.phase) > 1 else None
        _say(lines(answer) + (series_page.lines(series) if series else []))
        for path, name in ((self.signal, "signal"), (self.denoised, "denoised")):
            if path:
                _save(path, answer, name)
        if self.out:
            write_atomic(self.out, as_npz(answer, series))
        if self.html:
            write_atomic(self.html, as_html(answer, title, series))
        self._written()

    def _watch(self, model: ImageModel, folder: Path) -> None:
        from spt_jax.eels.live import FrameLog, LiveRun, follow_folder
        from spt_jax.eels.live_page import LivePage

        run, log = LiveRun(), FrameLog(self.out) if self.out else None
        page = LivePage(self.html, folder.resolve().name) if self.html else None
        if log and log.known:
            _say([f"{len(log.known):,} frames stand in {log.path}, and are not answered again"])
        print(f"watching {folder}; Ctrl-C ends", flush=True)
        try:
            follow_folder(
                folder,
                model,
                run,
                lambda line: _say([line]),
                self.interval or INTERVAL,
                self.calibration,
                log,
                page.show if page else None,
            )
        except KeyboardInterrupt:
            # It is how a measurement ends.
            pass
        finally:
            if page:
                page.close(run)
        print(run.summary())
        if page and page.trouble:
            errors.print(page.trouble, style="yellow", markup=False, highlight=False, soft_wrap=True)
        self._written()

    def _written(self) -> None:
        if written := [
            str(path) for path in (self.html, self.out, self.signal, self.denoised) if path and path.exists()
        ]:
            print(", ".join(written))


def is_image_model(given: str) -> bool:
    """Whether this names a model rather than an image; an .npz, which is a zip file as older packed models are, is an image."""
    from spt_jax.zoo.shelf import is_model

    return Path(given).suffix.lower() != ".npz" and is_model(given)


def _say(lines: list[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _save(path: Path, answer: ImageAnswer, name: str) -> None:
    """(T, H, W, L) as .npy."""
    import numpy as np

    from data_pipelines.files import replacing

    if getattr(answer, name) is None:
        raise UserError(f"--{name}: the spectra are too many to be kept in memory; take fewer files or pixels")
    with replacing(path) as partial, open(partial, "wb") as file:
        np.save(file, getattr(answer, name))
