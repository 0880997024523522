"""Spectrum images with a known answer: edges on a power law, drift, spikes, plural scattering, Poisson counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from scipy.interpolate import CubicSpline

from data_pipelines.ranges import Range, check

# Of the plasmon that scatters once more, eV.
PLASMON, PLASMON_WIDTH = 23.0, 5.0
# eV of the zero-loss peak, full width at half height.
RESOLUTION = 1.0


@dataclass(frozen=True)
class Planting:
    """How an image is made. Lengths are eV where nothing else is said."""

    height: Annotated[int, Range(least=1)] = 16
    width: Annotated[int, Range(least=1)] = 16
    channels: Annotated[int, Range(least=64)] = 512
    offset: float = 460.0
    step: Annotated[float, Range(above=0)] = 0.3
    onset: float = 532.0
    dose: Annotated[float, Range(above=0)] = 1000.0
    """Mean counts of a channel just in front of the edge."""
    jump: Annotated[float, Range(least=0)] = 0.5
    """Height of the edge, in parts of the background under it."""
    exponents: tuple[float, float] = (2.5, 3.5)
    """Of the power law: least and largest, from left to right."""
    drift: Annotated[float, Range(least=0)] = 1.0
    """Largest shift from the mean, along rows and from pixel to pixel."""
    spikes: Annotated[int, Range(least=0)] = 0
    dead: Annotated[int, Range(least=0)] = 0
    """Pixels without counts."""
    thickness: Annotated[float, Range(least=0)] = 0.0
    """In mean free paths, the largest; half of it at the other end of the image."""


@dataclass(frozen=True)
class Planted:
    """counts: (H, W, E). low_loss: (H, W, F) counts at `low_energy`, of the same drift. What is true: background and signal,
    (H, W, E) mean counts without drift, the signal also without plural scattering; shift in eV, by which energies are too
    high, amplitude at the onset, exponent, thickness and abundance of the second kind of edge, (H, W) each; spikes: (H, W, E)
    bool; dead: (H, W) bool."""

    energy: np.ndarray
    counts: np.ndarray
    low_energy: np.ndarray
    low_loss: np.ndarray
    background: np.ndarray
    signal: np.ndarray
    shift: np.ndarray
    amplitude: np.ndarray
    exponent: np.ndarray
    thickness: np.ndarray
    abundance: np.ndarray
    spikes: np.ndarray
    dead: np.ndarray


def planted_edges(energy: np.ndarray, onset: float) -> np.ndarray:
    """(2, E) two edges of height one that are not like each other: a line at the onset of one, two behind that of the other."""

    def line(at: float, width: float) -> np.ndarray:
        return np.exp(-(((energy - onset - at) / width) ** 2))

    step = 0.5 + 0.5 * np.tanh((energy - onset) / 0.8)
    fall = np.where(energy > onset, (np.maximum(energy, 1) / onset) ** -3.0, 1)
    first = step * fall * (1 + 0.1 * line(35, 9)) + 0.9 * line(1.8, 1.2) + 0.4 * line(10, 3)
    second = step * fall * (1 + 0.12 * line(28, 7)) + 0.5 * line(3.2, 2.2) + 0.6 * line(13, 4)
    return np.stack([first, second])


def planted(how: Planting, rng: np.random.Generator, edges: np.ndarray | None = None) -> Planted:
    """edges: (2, E) of height about one on the energies of `how`, instead of `planted_edges`: calculated ones, for instance."""
    check(how)
    h, w, e = how.height, how.width, how.channels
    # Room at both ends for what the drift brings in, and plasmons from below.
    energy = how.offset + how.step * np.arange(e)
    curves = planted_edges(energy, how.onset) if edges is None else np.asarray(edges, float)
    across, down = np.linspace(0, 1, w), np.linspace(0, 1, h)
    abundance = np.clip(0.5 + 1.2 * (across[None, :] - 0.5) + 0.3 * np.sin(6 * down[:, None]), 0, 1)
    exponent = np.broadcast_to(how.exponents[0] + np.ptp(how.exponents) * across, (h, w))
    gain = 1 + 0.4 * np.sin(5 * down[:, None] + 3 * across)
    thickness = how.thickness * np.broadcast_to(0.5 + 0.5 * down[:, None], (h, w))
    shift = how.drift * (0.6 * (2 * down[:, None] - 1) + 0.4 * rng.uniform(-1, 1, (h, w)))
    shift = shift - shift.mean()
    amplitude = how.dose * gain
    mix = np.stack([1 - abundance, abundance], axis=-1) @ curves
    signal = how.jump * amplitude[..., None] * mix
    background = amplitude[..., None] * (energy / how.onset) ** -exponent[..., None]

    low_energy = how.step * np.arange(-round(15 / how.step), round(75 / how.step))
    length = 1 << (2 * max(e, len(low_energy)) - 1).bit_length()
    many = losses(thickness, how.step, length)
    low = np.fft.irfft(many, length)[..., np.round(low_energy / how.step).astype(int) % length]
    mean = shifted(energy, background + scattered(signal, many, length), shift)
    counts = rng.poisson(np.maximum(mean, 0)).astype(np.float32)
    # Exposures of the zero loss are short: its top has a hundred times the dose.
    low = shifted(low_energy, low * (100 * how.dose / low.max()), shift)
    low_loss = rng.poisson(np.maximum(low, 0)).astype(np.float32)

    spikes = np.zeros((h, w, e), bool)
    spikes.reshape(-1)[rng.choice(h * w * e, how.spikes, replace=False)] = True
    counts[spikes] += rng.uniform(30, 300, how.spikes) * np.sqrt(np.maximum(mean[spikes], 1))
    dead = np.zeros((h, w), bool)
    dead.reshape(-1)[rng.choice(h * w, how.dead, replace=False)] = True
    counts[dead] = 0
    spikes[dead] = False
    return Planted(
        energy,
        counts,
        low_energy,
        low_loss,
        background,
        signal,
        shift,
        amplitude,
        exponent,
        thickness,
        abundance,
        spikes,
        dead,
    )


def losses(thickness: np.ndarray, step: float, length: int, resolution: float = RESOLUTION) -> np.ndarray:
    """(..., length // 2 + 1) Fourier transform of the low loss of sum one: so many plasmons as (...) mean free paths make,
    and the resolution, full width in eV. length: channels of `step` eV; the zero loss is the first, losses below it the last."""
    at = step * np.fft.fftfreq(length, 1 / length)
    narrow = np.exp(-4 * np.log(2) * (at / resolution) ** 2)
    plasmon = np.where(at > 0, at * PLASMON_WIDTH / ((at**2 - PLASMON**2) ** 2 + (at * PLASMON_WIDTH) ** 2), 0)
    zero, once = np.fft.rfft(narrow / narrow.sum()), np.fft.rfft(plasmon / plasmon.sum())
    return zero * np.exp(thickness[..., None] * (once - 1))


def scattered(signal: np.ndarray, many: np.ndarray, length: int) -> np.ndarray:
    """(..., E) the edge as the low loss `many` of `losses` leaves it. length: twice the channels or more."""
    # The end is continued, so that it does not come in at the beginning.
    channels = signal.shape[-1]
    padded = np.concatenate([signal, np.repeat(signal[..., -1:], length - channels, axis=-1)], axis=-1)
    padded[..., -(length // 4) :] = 0
    return np.fft.irfft(np.fft.rfft(padded) * many, length)[..., :channels]


def shifted(energy: np.ndarray, mean: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """(H, W, E) what is measured where each energy is said to be too high by the (H, W) shift."""
    found = np.empty_like(mean)
    for pixel in np.ndindex(shift.shape):
        found[pixel] = CubicSpline(energy, mean[pixel])(energy - shift[pixel])
    return found
