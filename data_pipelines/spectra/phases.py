"""Spectrum images of known phases: calculated edges on a power law, as a microscope would count them.

What is measured is never what was calculated: each class of an image is moved, broadened and bent by random amounts, once
for the image. Phases form grains; where two meet, pixels hold parts of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from data_pipelines.errors import UserError
from data_pipelines.ranges import Range, check
from data_pipelines.spectra.curves import interpolated
from data_pipelines.spectra.planted import losses, scattered, shifted

# Full width of a Gaussian in its standard deviations.
FWHM = 2 * np.sqrt(2 * np.log(2))
# Below its first energy a calculated edge fades in so many eV; above its last one it falls as this power of the energy.
FADING, FALL, END = 0.5, 3.0, 10
# eV over which the error of a theory changes.
BEND = 8.0
# Curves are broadened on channels so many times finer.
FINER = 3


class CalculatedEdge(NamedTuple):
    """energy: (N,) eV, ascending. intensity: (N,) absorption or energy loss, of any scale."""

    energy: np.ndarray
    intensity: np.ndarray


@dataclass(frozen=True)
class PhasePlanting:
    """How an image is made. Lengths are eV where nothing else is said."""

    height: Annotated[int, Range(least=1)] = 32
    width: Annotated[int, Range(least=1)] = 32
    channels: Annotated[int, Range(least=64)] = 512
    offset: Annotated[float, Range(above=0)] = 440.0
    step: Annotated[float, Range(above=0)] = 0.3
    onset: Annotated[float, Range(above=0)] = 532.0
    window: Annotated[tuple[float, float], Range(above=0)] = (526.7, 574.5)
    """In which the area of every end member is the same: shares of pixels are shares of this area."""
    dose: Annotated[float, Range(above=0)] = 100.0
    """Mean counts of a channel just in front of the edge."""
    jump: Annotated[float, Range(least=0)] = 0.3
    """Mean height of the edge in `window`, in parts of the background at the onset."""
    grain: Annotated[float, Range(above=0)] = 4.0
    """Size of grains: pixels over which the fields are smoothed that decide on the phase."""
    mixed: Annotated[float, Range(least=0, most=1)] = 0.5
    """Part of the pixels that hold more than one phase."""
    exponents: Annotated[tuple[float, float], Range(above=0)] = (2.5, 3.5)
    """Of the power law: least and largest."""
    drift: Annotated[float, Range(least=0)] = 0.5
    """Largest shift from the mean, along rows and from pixel to pixel."""
    thickness: Annotated[float, Range(least=0)] = 0.4
    """In mean free paths, the largest; half of it at the thinnest place."""
    resolution: Annotated[float, Range(above=0)] = 0.8
    """Full width at half height of what a sharp line is measured as."""
    misplaced: Annotated[float, Range(least=0)] = 0.5
    """Theory error: standard deviation of the energy offset of a class."""
    bent: Annotated[float, Range(least=0, below=1)] = 0.05
    """Theory error: standard deviation of a smooth factor on a class."""
    blurred: Annotated[float, Range(least=0)] = 1.0
    """Theory error: a class is broadened by at most so much more, full width at half height."""

    def __post_init__(self) -> None:
        check(self)
        first, last = self.window
        if not self.offset <= first < last <= self.offset + self.step * (self.channels - 1):
            raise UserError(f"window from {first:g} to {last:g} eV does not lie within the channels")
        if self.exponents[0] > self.exponents[1]:
            raise UserError("exponents go from the least to the largest")

    @property
    def energy(self) -> np.ndarray:
        """(E,) eV."""
        return self.offset + self.step * np.arange(self.channels)


@dataclass(frozen=True)
class PhaseImage:
    """energy: (E,) eV. counts: (H, W, E) float32. classes: C names.

    What is true: phase, (H, W) int, the class with the largest share; shares, (H, W, C), of sum one; end_members, (C, E),
    of mean one in the window, as measured at the resolution without plural scattering and drift; background and signal,
    (H, W, E) mean counts without drift, the signal with plural scattering; shift in eV, by which energies are too high,
    exponent and thickness in mean free paths, (H, W) each. drawn: (C,) which of the structures of its class was measured.
    """

    energy: np.ndarray
    counts: np.ndarray
    classes: tuple[str, ...]
    phase: np.ndarray
    shares: np.ndarray
    end_members: np.ndarray
    background: np.ndarray
    signal: np.ndarray
    shift: np.ndarray
    exponent: np.ndarray
    thickness: np.ndarray
    drawn: np.ndarray


def phase_image(
    how: PhasePlanting, curves: Mapping[str, Sequence[CalculatedEdge]], rng: np.random.Generator
) -> PhaseImage:
    """An image of one structure of each class, drawn from the calculated edges of the class.

    Raises UserError where there are fewer than two classes, or a class without structures.
    """
    if len(curves) < 2 or not all(len(each) for each in curves.values()):
        raise UserError("a phase image is made of two classes or more, each with a calculated edge or more")
    energy, shape = how.energy, (how.height, how.width)
    drawn = np.array([rng.integers(len(each)) for each in curves.values()])
    chosen = [each[number] for each, number in zip(curves.values(), drawn, strict=True)]
    end_members = np.stack([measured_edge(how, edge, rng) for edge in chosen])
    shares = phase_shares(how, len(curves), rng)

    wide = max(how.height, how.width) / 5
    exponent = np.mean(how.exponents) + np.ptp(how.exponents) / 2 * _between(shape, wide, rng)
    thickness = how.thickness * (0.75 + 0.25 * _between(shape, wide, rng))
    gain = 1 + 0.3 * _between(shape, wide, rng)
    amplitude = how.dose * gain / gain.mean()
    edge = how.jump * amplitude * (1 + 0.25 * _between(shape, wide, rng))
    down = np.linspace(-1, 1, how.height)[:, None]
    shift = how.drift * (0.7 * down * rng.choice([-1, 1]) + 0.3 * rng.uniform(-1, 1, shape))
    shift -= shift.mean()

    background = amplitude[..., None] * (energy / how.onset) ** -exponent[..., None]
    signal = plural(how, edge[..., None] * (shares @ end_members), thickness)
    mean = shifted(energy, background + signal, shift)
    counts = rng.poisson(np.maximum(mean, 0)).astype(np.float32)
    return PhaseImage(
        energy,
        counts,
        tuple(curves),
        shares.argmax(axis=-1),
        shares,
        end_members,
        background,
        signal,
        shift,
        exponent,
        thickness,
        drawn,
    )


def measured_edge(how: PhasePlanting, edge: CalculatedEdge, rng: np.random.Generator) -> np.ndarray:
    """(E,) the edge with a theory error drawn, of mean one in the window."""
    width = np.hypot(how.resolution, how.blurred * rng.uniform())
    curve = seen_edge(how, edge, how.misplaced * rng.normal(), float(width))
    smooth = gaussian_filter1d(rng.normal(size=how.channels), BEND / how.step, mode="wrap")
    curve = curve * np.exp(how.bent * smooth / smooth.std())
    return curve / _area(how, curve)


def seen_edge(how: PhasePlanting, edge: CalculatedEdge, shift: float, width: float) -> np.ndarray:
    """(E,) the edge `shift` eV higher than it was calculated, seen with a Gaussian of full width `width`, of mean one in the
    window. Raises UserError where the edge has nothing in the window."""
    step = how.step / FINER
    fine = how.offset + step * np.arange(-FINER * 32, FINER * (how.channels + 32))
    curve = gaussian_filter1d(_continued(edge, fine - shift), width / FWHM / step)
    curve = curve[FINER * 32 : FINER * (how.channels + 32) : FINER]
    area = _area(how, curve)
    if not area > 0:
        raise UserError(f"a calculated edge has no intensity from {how.window[0]:g} to {how.window[1]:g} eV")
    return curve / area


def plural(how: PhasePlanting, signal: np.ndarray, thickness: np.ndarray) -> np.ndarray:
    """(..., E) a signal after the plasmons of (...) mean free paths; the resolution is not changed."""
    length = 1 << (2 * how.channels - 1).bit_length()
    return scattered(signal, losses(thickness, how.step, length, resolution=1e-3 * how.step), length)


def phase_shares(how: PhasePlanting, classes: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W, C) shares of sum one: smooth random fields, projected onto the simplex (sparsemax: Martins and Astudillo 2016,
    arXiv 1602.02068). Their scale is such that `mixed` of the pixels have more than one phase."""
    shape = (how.height, how.width)
    fields = np.stack([_field(shape, how.grain, rng) for _ in range(classes)], axis=-1)
    ranked = -np.sort(-fields, axis=-1)
    scale = max(float(np.quantile(ranked[..., 0] - ranked[..., 1], how.mixed)), 1e-9)
    fields, ranked = fields / scale, ranked / scale
    sums = ranked.cumsum(axis=-1) - 1
    count = np.arange(1, classes + 1)
    kept = (ranked * count > sums).sum(axis=-1, keepdims=True)
    found = np.maximum(fields - np.take_along_axis(sums, kept - 1, axis=-1) / kept, 0)
    return found / found.sum(axis=-1, keepdims=True)


def _continued(edge: CalculatedEdge, at: np.ndarray) -> np.ndarray:
    """The edge at any energies: fading below its first, falling smoothly above its last."""
    energy, intensity = np.asarray(edge.energy, float), np.asarray(edge.intensity, float)
    if energy.ndim != 1 or energy.shape != intensity.shape or len(energy) < END or np.any(np.diff(energy) <= 0):
        raise UserError(f"a calculated edge has {END} energies or more, ascending, and an intensity for each")
    inside = interpolated(energy, intensity, at)
    below = intensity[0] * np.exp(np.minimum(at - energy[0], 0) / FADING)
    above = intensity[-END:].mean() * (np.maximum(at, energy[-1]) / energy[-1]) ** -FALL
    return np.where(at < energy[0], below, np.where(at > energy[-1], above, inside))


def _area(how: PhasePlanting, curve: np.ndarray) -> float:
    inside = (how.energy >= how.window[0]) & (how.energy <= how.window[1])
    return float(curve[inside].mean())


def _field(shape: tuple[int, int], width: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth random field of mean zero and deviation one."""
    field = gaussian_filter(rng.normal(size=shape), width, mode="reflect")
    return (field - field.mean()) / max(float(field.std()), 1e-12)


def _between(shape: tuple[int, int], width: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth random field within -1 and 1."""
    return np.clip(_field(shape, width, rng) / 2, -1, 1)
