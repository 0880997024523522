"""What every method is given: the signal of an image, as the product corrects it, and labelled calculated spectra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmarks.phases.library import PhaseSet
from data_pipelines.readers.images.image import ImageCalibration, SpectrumImage, StoredAxis, StoredImage, arranged
from data_pipelines.spectra.phases import CalculatedEdge, PhaseImage, PhasePlanting, measured_edge, seen_edge
from spt_jax.eels.correct import correct
from spt_jax.eels.settings import ImageConfig


@dataclass(frozen=True)
class Labelled:
    """spectra: (R, E) of mean one in the window, on the energies of the images. labels: (R,) class indices."""

    spectra: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class PhaseTask:
    """One image as a method sees it; P = H W pixels, V energies of the window.

    energy: (V,) eV. signal: (P, V) counts above the background. noise: (P, V) standard deviation of the counts. amount: (P,)
    mean of the signal. normalised: (P, V) signal over amount. references: (R, V), of mean one, and labels: (R,). inside: (E,)
    bool, which channels the window has. image: the counts, as the product opens them. name: of the image, as it is written.
    truth is for the upper bound alone.
    """

    name: str
    image: SpectrumImage
    classes: tuple[str, ...]
    energy: np.ndarray
    signal: np.ndarray
    noise: np.ndarray
    amount: np.ndarray
    normalised: np.ndarray
    references: np.ndarray
    labels: np.ndarray
    inside: np.ndarray
    how: PhasePlanting
    truth: PhaseImage
    seed: int


class PhaseAnswers(NamedTuple):
    """phase: (P,) class index. What a method does not give is None: probability, (P, C) of each class; shares, (P, C) of sum
    one; denoised, (P, V) counts above the background."""

    phase: np.ndarray
    probability: np.ndarray | None = None
    shares: np.ndarray | None = None
    denoised: np.ndarray | None = None


def labelled(
    how: PhasePlanting, theory: dict[str, list[CalculatedEdge]], count: int, rng: np.random.Generator
) -> Labelled:
    """`count` spectra of each class: of so many structures, as calculated; where there are not so many, also views of them
    that are moved, broadened and bent by chance."""
    spectra, labels = [], []
    for number, edges in enumerate(theory.values()):
        first = rng.permutation(len(edges))[:count]
        spectra += [seen_edge(how, edges[i], 0.0, how.resolution) for i in first]
        spectra += [measured_edge(how, edges[i], rng) for i in rng.integers(len(edges), size=count - len(first))]
        labels += [number] * count
    return Labelled(np.stack(spectra), np.array(labels))


def posed(phases: PhaseSet, how: PhasePlanting, made: PhaseImage, known: Labelled, name: str, seed: int) -> PhaseTask:
    """The task of an image: background taken out by the product, energies as they were measured."""
    config = ImageConfig(background=phases.background, area=how.window, align="none", spikes=0)
    calibration = ImageCalibration(offset=how.offset, step=how.step)
    rows, columns, channels = made.counts.shape
    axes = [StoredAxis(*each) for each in (("row", "", 1.0, 0.0, rows), ("column", "", 1.0, 0.0, columns))]
    axes.append(StoredAxis("energy loss", "eV", how.step, how.offset, channels))
    image = arranged(StoredImage(made.counts, tuple(axes)), name, calibration)
    found = correct(image, config)
    inside = window(how)
    signal = found.signal[0].reshape(-1, channels)[:, inside].astype(float)
    counts = made.counts.reshape(-1, channels)[:, inside]
    # Single counts are no measure of their own noise: the shape is that of all pixels.
    shape = counts.mean(axis=0) / max(float(counts.mean()), 1e-9)
    noise = np.sqrt(np.maximum(counts.mean(axis=1, keepdims=True) * shape, 1e-3))
    amount = signal.mean(axis=1)
    # A pixel whose signal is lost in noise still has an answer: its spectrum is not blown up.
    least = 0.1 * max(float(np.median(amount)), 1e-9)
    return PhaseTask(
        name,
        image,
        made.classes,
        how.energy[inside],
        signal,
        noise,
        np.maximum(amount, least),
        signal / np.maximum(amount, least)[:, None],
        known.spectra[:, inside],
        known.labels,
        inside,
        how,
        made,
        seed,
    )


def window(how: PhasePlanting) -> np.ndarray:
    """(E,) bool."""
    return (how.energy >= how.window[0]) & (how.energy <= how.window[1])
