"""A trained model and a spectrum image -> what every pixel is, how sure that is, and its spectrum without noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipelines.errors import CheckpointError, UserError
from data_pipelines.loss_grid import LossGrid
from data_pipelines.readers.images.image import SpectrumImage
from data_pipelines.spectra.rebin import Rebinning, detector_of, rebinning
from spt_jax.eels.correct import REASONS
from spt_jax.eels.denoise import without_noise
from spt_jax.eels.program import PixelPrograms, Said
from spt_jax.eels.refine import MOST_CLASSES, refined
from spt_jax.model.transfer import NUISANCES
from spt_jax.runs.blueprint import Blueprint
from spt_jax.runs.checkpoint import MODEL, load_model
from spt_jax.runs.export import load_exported

# Pixels that one program takes: what it works on stays in the caches.
PIXELS = 2_048
# Bytes of spectra without noise that are kept in memory, with those as measured and as decoded.
KEPT_BYTES = 2_000_000_000
# An image whose electrons make so many more or fewer counts is told of.
USUAL_GAIN = (0.5, 2.0)
# Pixels that end members are taken from, at least.
FEWEST_PIXELS = 32
MAPS = ("exponent", "jump", "noise", "misfit")


@dataclass(frozen=True)
class ImageAnswer:
    """What a model says of each pixel. Maps are (T, H, W, ...); pixels left out have phase -1, and NaN elsewhere.

    energy: (L,) eV of the spectra. phase: int8, the most likely class. probability: (..., C), calibrated. share: (..., C)
    abundances, of sum 1. latent: (..., Z). unlike: above 1 where a pixel is unlike any calculated edge, or has none to be
    seen. signal, denoised: (..., L) counts above the background as measured and without noise, None where not kept. maps: by name; shift and
    broadening in eV, thickness in mean free paths, exponent, jump (edge over background), noise (of a channel, in edge
    heights), misfit. reason: int8, of REASONS. model: its name.
    """

    image: SpectrumImage
    classes: tuple[str, ...]
    energy: np.ndarray
    phase: np.ndarray
    probability: np.ndarray
    share: np.ndarray
    latent: np.ndarray
    unlike: np.ndarray
    denoised: np.ndarray | None
    signal: np.ndarray | None
    maps: dict[str, np.ndarray]
    reason: np.ndarray
    model: str
    notes: tuple[str, ...]


class ImageModel:
    """A trained model, compiled once for each shape and calibration of images."""

    def __init__(self, name: str, blueprint: Blueprint, network: Said, variables: Any = ()):
        """network, variables: as of PixelPrograms."""
        assert isinstance(blueprint.grid, LossGrid)
        self.name, self.grid, self.classes = name, blueprint.grid, blueprint.grid.classes
        self.blueprint, self._network, self._variables = blueprint, network, variables
        self._programs = PixelPrograms(blueprint, network, variables)
        self._rebinnings: dict[bytes, Rebinning] = {}

    def answer(
        self,
        image: SpectrumImage,
        report: Callable[[str, int, int], None] | None = None,
        spectra: bool = True,
        gain: float | None = None,
    ) -> ImageAnswer:
        """Of every pixel. spectra: also those without noise, and end members and misfits by them, in ten times as long or more. gain: counts
        that an electron makes; where not given, as they scatter.

        Raises UserError where the image's energies do not cover the edge, and where no pixel can be used.
        """
        rebin, notes = self._rebinning(image.energy), list(image.notes)
        shape = image.shape
        detector = detector_of(image.sample(), rebin, gain)
        gain = detector.gain
        if not USUAL_GAIN[0] < gain < USUAL_GAIN[1]:
            notes.append(f"counts scatter as if an electron made {gain:.2g} of them, and are divided by that")
        rebin = detector.mended(rebin)
        if dead := int(sum(detector.dead[slice(*at)].sum() for at in (rebin.front, rebin.edge))):
            noun = "channel is" if dead == 1 else "channels are"
            notes.append(f"{dead} {noun} dead in all pixels and left out of the sums")
        points, pixels = self.grid.points, int(np.prod(shape[:3]))
        if spectra and 4 * points * 3 * pixels > KEPT_BYTES:
            spectra = False
            notes.append("spectra without noise would need more memory than is taken; answered without them")
        found: dict[str, np.ndarray] = {}
        program = self._programs.for_image(rebin, gain, spectra)
        for time, start, counts in image.pieces(PIXELS * shape[3]):
            # Wide rows in parts: one program, one shape.
            flat = detector.alive(counts.reshape(-1, shape[3]))
            size = min(PIXELS, pixels)
            place = (time * shape[1] + start) * shape[2]
            for begin in range(0, len(flat), size):
                piece = flat[begin : begin + size]
                count = len(piece)
                if count < size:
                    piece = np.concatenate([piece, np.broadcast_to(piece[-1:], (size - count, shape[3]))])
                for key, values in jax.device_get(program(piece)).items():
                    if key not in found:
                        found[key] = np.empty((pixels, *values.shape[1:]), values.dtype)
                    found[key][place + begin : place + begin + count] = values[:count]
            if report:
                report("answer", time * shape[1] + start + len(counts), shape[0] * shape[1])
        return self._answer(image, found, spectra, gain, notes)

    def answer_frame(
        self, counts: np.ndarray, energy: np.ndarray, gain: float | None = None, spectra: bool = False
    ) -> ImageAnswer:
        """Of one frame in memory, as `answer`; without spectra, what a detector can wait for. counts: (H, W, E); energy: (E,) eV."""
        return self.answer(in_memory(counts, energy), spectra=spectra, gain=gain)

    def network(self, rows: jax.Array, atomic_number: jax.Array) -> dict[str, jax.Array]:
        """(B, N) rows as of `LossGrid` -> what is said of each: what an exported file holds."""
        return self._network(self._variables, rows, atomic_number)

    def lowered(self, energy: np.ndarray, pixels: int) -> tuple[Callable, tuple[Any, ...]]:
        """The program without spectra for so many pixels at once, and its arguments, counts as a shape: for compilers."""
        program, given = self._programs.function(self._rebinning(energy), False)
        return program, (*given, np.float32(1), jax.ShapeDtypeStruct((pixels, len(energy)), np.float32))

    def _rebinning(self, energy: np.ndarray) -> Rebinning:
        key = energy.tobytes()
        if key not in self._rebinnings:
            self._rebinnings[key] = rebinning(energy, self.grid)
        return self._rebinnings[key]

    def _answer(
        self, image: SpectrumImage, found: dict[str, np.ndarray], spectra: bool, gain: float, notes: list[str]
    ) -> ImageAnswer:
        shape, reason = image.shape[:3], found.pop("reason")
        good = reason == 0
        if not good.any():
            counted = ", ".join(f"{np.sum(reason == i):,} {REASONS[i]}" for i in range(1, 4) if (reason == i).any())
            raise UserError(f"no pixel can be used: {counted}")
        if not good.all():
            notes.append(f"left out {np.sum(~good):,} of {good.size:,} pixels")
        if (spikes := int(found.pop("spikes")[good].sum())) > 0:
            notes.append(f"{spikes:,} sums stood out as spikes do and were replaced by their neighbours")
        signal = denoised = None
        if spectra:
            signal, denoised = self._together(found, good, gain, notes)

        def shaped(values: np.ndarray) -> np.ndarray:
            masked = np.where(good.reshape(-1, *(1,) * (values.ndim - 1)), values, np.nan).astype(np.float32)
            return masked.reshape(*shape, *values.shape[1:])

        phase = np.where(good, found["probability"].argmax(axis=1), -1).astype(np.int8).reshape(shape)
        maps = {name: shaped(found["nuisance"][:, i]) for i, name in enumerate(NUISANCES)}
        maps |= {name: shaped(found[name]) for name in MAPS if name in found}
        own = (shaped(found[name]) for name in ("probability", "share", "latent", "unlike"))
        curves = (each if each is None else shaped(each) for each in (denoised, signal))
        return ImageAnswer(
            image,
            self.classes,
            self.grid.relative(),
            phase,
            *own,
            *curves,
            maps,
            reason.reshape(shape).astype(np.int8),
            self.name,
            tuple(notes),
        )

    def _together(
        self, found: dict[str, np.ndarray], good: np.ndarray, gain: float, notes: list[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """(N, L) counts as measured above the background, and without noise; classes and shares by what the pixels have in
        common take the place of those of each pixel by itself."""
        groups = self.grid.groups
        rows, base, fit = (found.pop(name) for name in ("rows", "base", "fit"))
        fit, under = fit * found["scale"][:, None], base[:, groups:]
        freedom = float(self.blueprint.model.latent)
        if good.sum() < FEWEST_PIXELS or len(self.classes) > MOST_CLASSES:
            notes.append(
                "classes are those of each pixel by itself: too few pixels, or too many classes, for end members"
            )
        else:
            members = self._programs.members(np.median(found["nuisance"][good], axis=0))
            own = (array[good] for array in (rows, base))
            said = (found[name][good] for name in ("share", "scale"))
            parts = refined(*own, self.grid.logs(), members, *said, self.grid.step)
            for name, array in (("share", parts.share), ("probability", parts.probability)):
                found[name] = found[name].copy()
                found[name][good] = array
            fit[good], under[good] = parts.fit, parts.under
            # Classes that are there, and the shift.
            freedom = float((np.asarray(parts.share) > 0).sum(axis=1).mean()) + 1
        signal = rows[:, groups:] - under
        expected = under + np.maximum(fit, 0)
        noise = np.sqrt(np.maximum(expected, 0.05 * expected.mean(axis=1, keepdims=True)) + 1e-3)
        denoised = without_noise(signal, fit, noise, good, freedom)
        return gain * signal, gain * denoised


def load_image_model(path: Path) -> ImageModel:
    """The model of a run folder, or of a file of `spt-jax export`. Raises CheckpointError where there is none, and for one
    that does not answer images."""
    if path.is_file():
        exported = load_exported(path, images=True)
        _check_images(exported.blueprint, path)
        return ImageModel(path.stem, exported.blueprint, lambda _, *rows: exported.network(*rows))
    document, read_variables = load_model(path)
    try:
        blueprint = Blueprint.from_json(document)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: checkpoint of another version of spt-jax ({error!r}); train again") from None
    _check_images(blueprint, path)
    from flax import nnx

    graph, params, constants = blueprint.abstract()
    variables = read_variables({"params": params, "constants": constants})
    given = variables["params"], variables["constants"]
    return ImageModel(path.name, blueprint, lambda each, *rows: nnx.merge(graph, *each)(*rows), given)


def answers_images(path: Path) -> bool:
    """Is it the folder of a run that learnt spectrum images?"""
    return any((path / MODEL).glob("*")) and "edge" in load_model(path)[0].get("grid", {})


def _check_images(blueprint: Blueprint, path: Path) -> None:
    if not isinstance(blueprint.grid, LossGrid):
        raise CheckpointError(
            f"{path}: answers spectra of one absorber, not spectrum images; train one with `spt-jax train image`"
        )


def in_memory(counts: np.ndarray, energy: np.ndarray, title: str = "frame") -> SpectrumImage:
    """(H, W, E) counts as an image. Raises UserError where they do not go with the (E,) energies."""
    counts = np.asarray(counts)
    if counts.ndim != 3 or counts.shape[-1] != len(energy):
        raise UserError(f"a frame is rows x columns x {len(energy)} energies, not {' x '.join(map(str, counts.shape))}")
    return SpectrumImage(
        counts[None],
        (0, 1, 2, 3),
        np.asarray(energy, float),
        False,
        1.0,
        0.0,
        None,
        "",
        None,
        np.zeros(1),
        title,
        {},
        (),
    )
