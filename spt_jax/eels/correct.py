"""A spectrum image as it was measured -> the signal of one edge, and a map of everything that was done to it.

The file is read in pieces of rows, each padded to one size, so that one compiled program does them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.readers.images.image import SpectrumImage
from spt_jax.eels.align import moved, shift_from_mean, zero_loss
from spt_jax.eels.background import FEWEST_COUNTS, fit_power_law, power_law
from spt_jax.eels.look import DEAD, ImagePlan, Outlook, look, sampled, trusted
from spt_jax.eels.low import LowLoss
from spt_jax.eels.plural import single_scattering
from spt_jax.eels.settings import ImageConfig
from spt_jax.eels.spikes import mended

# Counts in a piece, and bytes of a signal that is kept in memory.
PIECE, KEPT_BYTES = 2_000_000, 2_000_000_000
# Why a pixel is left out, by the number in the map `reason`.
REASONS = ("good", "not finite", "no counts", "few counts in the window")
# Part of the channels that may be NaN.
MOST_MISSING = 0.1


@dataclass(frozen=True)
class CorrectedImage:
    """energy: (E,) eV, aligned. signal: (T, H, W, E) float32 counts above the background, 0 at pixels left out; None where
    it was too large to be kept. maps: by name (T, H, W). sums: (E,) counts of all good pixels: measured, aligned, background
    and signal. windows: eV, of the background and the area. known: channels that every shifted spectrum reaches."""

    image: SpectrumImage
    energy: np.ndarray
    signal: np.ndarray | None
    maps: dict[str, np.ndarray]
    sums: dict[str, np.ndarray]
    windows: dict[str, tuple[float, float]]
    edge: str
    known: tuple[int, int]
    notes: tuple[str, ...]
    units: dict[str, str] = field(default_factory=lambda: dict(UNITS))


UNITS = {
    "area": "counts", "shift": "eV", "shift error": "eV", "exponent": "", "exponent error": "", "amplitude": "counts",
    "misfit": "", "spikes": "channels", "filled": "channels", "negative": "channels", "thickness": "mean free paths",
    "reason": "",
}  # fmt: skip


def correct(
    image: SpectrumImage,
    how: ImageConfig | None = None,
    low_loss: SpectrumImage | None = None,
    out: Path | None = None,
    report: Callable[[str, int, int], None] | None = None,
) -> CorrectedImage:
    """All corrections that `how` asks for. out: an .npy file for the signal, which then does not stay in memory.

    report(stage, done, total) is told of every piece. Raises UserError where a window or an edge lies outside of the
    energies, where no pixel holds counts, and where the low-loss image does not belong to this one.
    """
    how = how or ImageConfig()
    low = LowLoss.of(low_loss, image) if low_loss else None
    sample, low_sample = sampled(image, low)
    notes = list(image.notes)
    plan, known, energy, edge = look(image, how, sample, low, low_sample, notes)
    shape = image.shape
    maps: dict[str, np.ndarray] = {}
    sums = dict.fromkeys(("measured", "aligned", "background", "signal"), np.zeros(shape[3]))
    signal = _room(shape, out, notes)
    rows = min(shape[1], max(1, PIECE // (shape[2] * shape[3])))
    for time, start, counts in image.pieces(PIECE):
        here = slice(start, start + len(counts))
        given = _padded(counts, rows)
        lows = None if low is None else _padded(low.rows(time, start, here.stop), rows)
        found, own, totals = jax.device_get(
            _correct(given, lows, known, np.arange(len(given)) < counts[..., 0].size, plan)
        )
        for name, values in found.items():
            if name not in maps:
                maps[name] = np.zeros(shape[:3], values.dtype)
            maps[name][time, here] = values[: counts[..., 0].size].reshape(counts.shape[:2])
        sums = {name: total + totals[name] for name, total in sums.items()}
        if signal is not None:
            signal[time, here] = own[: counts[..., 0].size].reshape(counts.shape)
        if report:
            report("correct", time * shape[1] + here.stop, shape[0] * shape[1])
    good = maps["reason"] == 0
    if not good.any():
        raise UserError(f"no pixel can be used: {_counted(maps['reason'])}")
    if isinstance(signal, np.memmap):
        signal.flush()
    _tell(maps, plan, notes)
    known_to = _reached(maps, good, known.step, shape[3], plan)
    windows = {"background": energy[list(_ends(plan.background))], "area": energy[list(_ends(plan.area))]}
    return CorrectedImage(
        image,
        energy,
        signal,
        maps,
        sums,
        {name: (float(ends[0]), float(ends[1])) for name, ends in windows.items()},
        edge,
        known_to,
        tuple(notes),
    )


@partial(jax.jit, static_argnames="plan")
def _correct(counts: Any, low: Any, known: Outlook, real: Any, plan: ImagePlan) -> tuple[dict, Any, dict]:
    """One piece: maps (P,), signal (P, E), sums (E,). counts: (P, E). real: (P,) bool, not padding."""
    missing = (~jnp.isfinite(counts)).mean(axis=1)
    whole, spikes, filled = mended(counts, known.usual, known.dead, known.gain, plan.spikes)
    total = whole.sum(axis=1)
    maps = {"spikes": spikes.sum(axis=1), "filled": filled, "negative": (counts < 0).sum(axis=1)}
    shift, error = jnp.zeros(len(counts)), jnp.zeros(len(counts))
    if plan.align == "features":
        shift, error = trusted(*shift_from_mean(whole, known.pattern, plan.reach), known.prior)
    elif plan.align == "zero-loss":
        top, error = zero_loss(low, plan.half)
        shift = jnp.clip(top - plan.before - known.prior[0], -plan.reach, plan.reach)
    aligned = moved(whole, shift, plan.reach) if plan.align != "none" else whole
    fit = fit_power_law(whole, known.energy, shift * known.step, *plan.background)
    under = power_law(fit, known.energy, known.reference)
    signal = aligned - under
    thickness = None
    if plan.deconvolve:
        at = jnp.clip(zero_loss(low, plan.half)[0] - plan.before, -plan.reach - plan.half, plan.reach + plan.half)
        centred = moved(low, at, plan.reach + plan.half)
        # In front of the edge there is no signal, but the noise of a background, which is not for the ratio.
        signal, thickness = single_scattering(signal, centred, plan.before, 2 * plan.half)
    area = signal[:, plan.area[0] : plan.area[1]].sum(axis=1)
    reason = jnp.select(
        [missing > MOST_MISSING, total <= DEAD * known.usual.sum(), fit.total < FEWEST_COUNTS * known.gain],
        [1, 2, 3],
        0,
    ).astype(jnp.int8)
    good = (reason == 0) & real
    if plan.normalise:
        mean = area / (plan.area[1] - plan.area[0])
        signal = signal / jnp.where(mean > 0, mean, jnp.inf)[:, None]
    maps |= {"area": area, "shift": shift * known.step, "shift error": error * known.step}
    maps |= {"exponent": fit.exponent, "exponent error": fit.error, "amplitude": fit.amplitude, "misfit": fit.misfit}
    if thickness is not None:
        maps["thickness"] = thickness
    maps = {name: jnp.where(reason == 0, values, jnp.nan).astype(jnp.float32) for name, values in maps.items()}
    maps["reason"] = reason
    kept = good[:, None]
    curves = {"measured": counts, "aligned": aligned, "background": under, "signal": signal}
    totals = {name: jnp.where(kept & jnp.isfinite(curve), curve, 0).sum(axis=0) for name, curve in curves.items()}
    return maps, jnp.where((reason == 0)[:, None], signal, 0), totals


def _room(shape: tuple[int, ...], out: Path | None, notes: list[str]) -> np.ndarray | None:
    if out is not None:
        return np.lib.format.open_memmap(out, "w+", np.float32, shape)
    if 4 * np.prod(shape, dtype=object) > KEPT_BYTES:
        notes.append("the signal is larger than what is kept in memory; say where to write it")
        return None
    return np.zeros(shape, np.float32)


def _padded(counts: np.ndarray, rows: int) -> np.ndarray:
    """(rows W, E) with copies of the last row behind."""
    filled = np.pad(counts, ((0, rows - len(counts)), (0, 0), (0, 0)), mode="edge") if len(counts) < rows else counts
    return filled.reshape(-1, counts.shape[-1])


def _ends(window: tuple[int, int]) -> tuple[int, int]:
    return window[0], window[1] - 1


def _reached(maps: dict, good: np.ndarray, step: float, channels: int, plan: ImagePlan) -> tuple[int, int]:
    shift = maps["shift"][good] / step
    if plan.align == "none":
        return 0, channels
    return int(np.ceil(max(0.0, -shift.min()))), channels - int(np.ceil(max(0.0, shift.max())))


def _counted(reason: np.ndarray) -> str:
    return ", ".join(f"{np.sum(reason == i):,} {name}" for i, name in enumerate(REASONS) if i and (reason == i).any())


def _tell(maps: dict[str, np.ndarray], plan: ImagePlan, notes: list[str]) -> None:
    reason, good = maps["reason"], maps["reason"] == 0
    if not good.all():
        notes.append(f"left out {np.sum(~good):,} of {good.size:,} pixels: {_counted(reason)}")
    for name, what in (
        ("spikes", "spikes were replaced by what is expected there"),
        ("filled", "channels that are no numbers or dead were filled"),
        ("negative", "counts are negative, and were used as they are"),
    ):
        if (total := int(np.nansum(maps[name]))) > 0:
            notes.append(f"{total:,} {what}, in {np.sum(maps[name] > 0):,} pixels")
    if plan.align != "none":
        spread, noise = np.std(maps["shift"][good]), np.median(maps["shift error"][good])
        notes.append(f"aligned by {plan.align}: shifts scatter by {spread:.2f} eV, each is known to {noise:.2f} eV")
        if plan.align == "features":
            notes.append(
                "a chemical shift of the edge is taken for a shift of energies here; a low-loss image tells them apart"
            )
    if (below := np.sum(maps["area"][good] < 0)) > 0.1 * good.sum():
        notes.append(
            f"the area is negative in {below:,} pixels: too few counts, or another edge begins in the background window"
        )
    if (steep := np.sum(np.abs(maps["exponent"][good]) > 8)) > 0:
        notes.append(
            f"{steep:,} pixels have a background steeper than E^-8 or rising: noise, or another edge in the window"
        )
