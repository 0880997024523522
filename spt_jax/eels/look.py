"""The first look at a spectrum image: a sample of its pixels says what spectra usually look like, how far they lie apart and
how many counts an electron makes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.readers.images.image import SpectrumImage
from data_pipelines.spectra.losses import likely_edge, onset_of, windows_of
from spt_jax.eels.align import Pattern, moved, pattern_of, shift_from_mean
from spt_jax.eels.background import FEWEST_CHANNELS, fit_power_law, reference_energy
from spt_jax.eels.low import LowLoss
from spt_jax.eels.settings import ImageConfig
from spt_jax.eels.spikes import dead_channels, mended, usual_spectrum

# Pixels of the sample.
SAMPLE = 2_048
# A pixel with no more than this part of the usual counts is dead.
DEAD = 0.02
# Below, a likeness to the mean is chance.
LIKE = 5.0


class ImagePlan(NamedTuple):
    """What the program is compiled for. Windows are channels, reach is channels."""

    background: tuple[int, int]
    area: tuple[int, int]
    align: str
    reach: int
    spikes: float
    before: int
    half: int
    deconvolve: bool
    normalise: bool


class Outlook(NamedTuple):
    """What the sample told. prior: mean and deviation of shifts, channels."""

    energy: Any
    reference: float
    usual: Any
    dead: Any
    gain: float
    pattern: Pattern | None
    prior: tuple[float, float]
    step: float


def sampled(image: SpectrumImage, low: LowLoss | None) -> tuple[np.ndarray, np.ndarray | None]:
    """(S, E) counts of rows spread over the image and its times, (S, F) low losses of the same."""
    times, height, width, _ = image.shape
    count = min(times * height, max(1, SAMPLE // width))
    chosen = np.unique(np.linspace(0, times * height - 1, count).astype(int))
    taken = [(number // height, number % height) for number in chosen]
    spectra = np.concatenate([image.rows(t, row, row + 1)[0] for t, row in taken])
    lows = np.concatenate([low.rows(t, row, row + 1)[0] for t, row in taken]) if low else None
    return spectra, lows


def look(
    image: SpectrumImage,
    how: ImageConfig,
    sample: np.ndarray,
    low: LowLoss | None,
    low_sample: np.ndarray | None,
    notes: list[str],
) -> tuple[ImagePlan, Outlook, np.ndarray, str]:
    energy = image.energy
    usual = usual_spectrum(sample)
    if not usual.sum() > 0:
        raise UserError("no pixel of the image holds counts")
    dead = dead_channels(usual)
    if dead.any():
        filled = ", ".join(f"{each:.1f}" for each in energy[dead][:5])
        notes.append(
            f"{dead.sum()} channels are dead in all pixels and were filled ({filled} eV{', ...' if dead.sum() > 5 else ''})"
        )
    steps = np.diff(energy)
    step, even = float(np.median(steps)), bool(np.allclose(steps, np.median(steps), rtol=0.02))
    half, before, middle = (1, 0, 0.0) if low is None else low.peak(low_sample)
    align = _alignment(how, low, even, notes)
    deconvolve = how.deconvolve and low is not None and even
    # The zero loss says where zero is: what all have in common moves the scale, the rest the spectra.
    if align == "zero-loss":
        zero = float(low.energy[before] + middle * step)
        energy = energy - zero
        if abs(zero) > 0.1 * step:
            notes.append(f"the zero loss lies at {zero:+.2f} eV in the middle of the image; energies moved by that")
    edge, windows = _windows(how, energy, np.where(dead, np.nan, usual), notes)
    background, area = (_channels(energy, name, window) for name, window in windows.items())
    reach = max(1, round(how.reach / step))
    reach = min(reach, (len(energy) - 32) // 4) if align == "features" else reach
    plan = ImagePlan(background, area, align, reach, how.spikes, before, half, deconvolve, how.normalise)
    device_energy = jnp.asarray(energy, jnp.float32)
    filled = np.where(np.isfinite(sample), sample, usual).astype(np.float32)
    alive = filled[filled.sum(axis=1) > DEAD * usual.sum()]
    fit = fit_power_law(jnp.asarray(alive), device_energy, jnp.zeros(len(alive)), *background)
    gain = float(np.clip(np.median(fit.misfit), 1e-6, 1e6))
    if not 0.5 < gain < 2:
        notes.append(f"counts scatter as if an electron made {gain:.2g} of them")
    pattern, prior = None, (middle, 0.0)
    if align == "features":
        whole = mended(jnp.asarray(alive), jnp.asarray(usual, jnp.float32), jnp.asarray(dead), gain, how.spikes)[0]
        pattern, prior = _pattern(whole, usual, reach, step, notes)
    known = Outlook(
        device_energy,
        reference_energy(energy, *background),
        jnp.asarray(usual, jnp.float32),
        jnp.asarray(dead),
        gain,
        pattern,
        prior,
        step,
    )
    return plan, known, energy, edge


def _pattern(
    whole: Any, usual: np.ndarray, reach: int, step: float, notes: list[str]
) -> tuple[Pattern, tuple[float, float]]:
    """The mean of aligned spectra, found in three rounds, and the mean and spread of their shifts."""
    mean, prior = usual, (0.0, float(reach))
    for _ in range(3):
        pattern = pattern_of(np.maximum(mean, 0), reach)
        shift, error, like = (np.asarray(each) for each in shift_from_mean(whole, pattern, reach))
        sure = like > LIKE
        if sure.sum() < 2:
            break
        middle = float(np.median(shift[sure]))
        spread = float(np.sqrt(max(np.var(shift[sure]) - np.median(error[sure]) ** 2, 0.0)))
        prior = (0.0, spread)
        drawn = np.asarray(trusted(shift - middle, error, like, prior)[0])
        mean = np.asarray(moved(whole, jnp.asarray(drawn), reach)).mean(axis=0)
    if len(whole) > 1 and sure.mean() < 0.5:
        notes.append(
            f"{100 * (1 - sure.mean()):.0f} % of the pixels are too noisy to be aligned by themselves; they were left where they are"
        )
    return pattern_of(np.maximum(mean, 0), reach), (prior[0], prior[1] if sure.sum() > 1 else 0.0)


def _alignment(how: ImageConfig, low: LowLoss | None, even: bool, notes: list[str]) -> str:
    if how.align == "zero-loss" and (low is None or low.single):
        raise UserError("align zero-loss asks for a low-loss image with a spectrum for each pixel")
    align = how.align
    if align == "auto":
        align = "zero-loss" if low is not None and not low.single else "none"
    if align != "none" and not even:
        notes.append("energies are not evenly spaced: not aligned")
        return "none"
    return align


def _windows(
    how: ImageConfig, energy: np.ndarray, usual: np.ndarray, notes: list[str]
) -> tuple[str, dict[str, tuple[float, float]]]:
    edge, own = how.edge, None
    if how.edge:
        own = windows_of(onset_of(how.edge), energy)
    elif how.background is None or how.area is None:
        found = likely_edge(energy, np.nan_to_num(usual))
        if found is None:
            raise UserError("no edge is seen in the mean spectrum; name one with --edge, or --background and --area")
        edge, own = found[0], windows_of(found[1], energy)
        notes.append(f"took {edge} for the edge, the first that rises; --edge overrules it")
    return edge, {"background": how.background or own[0], "area": how.area or own[1]}


def _channels(energy: np.ndarray, name: str, window: tuple[float, float]) -> tuple[int, int]:
    """First channel of a window and the one behind its last."""
    start, stop = np.searchsorted(energy, [window[0], window[1]])
    fewest = FEWEST_CHANNELS if name == "background" else 1
    if window[0] < energy[0] - 1e-6 or window[1] > energy[-1] + 1e-6:
        raise UserError(
            f"{name} from {window[0]:g} to {window[1]:g} eV lies outside of the energies, {energy[0]:.1f} to {energy[-1]:.1f} eV"
        )
    if stop - start < fewest:
        raise UserError(
            f"{name} from {window[0]:g} to {window[1]:g} eV holds {stop - start} channels, {fewest} are needed"
        )
    return int(start), int(stop)


def trusted(shift: Any, error: Any, like: Any, prior: tuple[Any, Any]) -> tuple[Any, Any]:
    """Shifts drawn to the mean of all as far as they are uncertain; to it, where the likeness is chance."""
    middle, spread = prior
    doubt = jnp.where(like > LIKE, error**2, jnp.inf)
    weight = spread**2 / (spread**2 + jnp.maximum(doubt, 1e-12))
    weight = jnp.where(jnp.isfinite(doubt), weight, 0)
    return middle + weight * (shift - middle), jnp.sqrt(jnp.where(jnp.isfinite(doubt), weight * doubt, spread**2))
