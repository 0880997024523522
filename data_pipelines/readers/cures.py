"""What is wrong with the energies of a file and can be put right, with a sentence for each thing that was done."""

from __future__ import annotations

import numpy as np

from data_pipelines.errors import SpectrumError, printable
from data_pipelines.readers.measured import Measured
from data_pipelines.schema import REFERENCE_ENERGY_EV
from data_pipelines.spectra.grid import HIGHEST_EV, LARGEST
from data_pipelines.spectra.spikes import standing_out

# No K edge lies below the 54.7 eV of lithium.
KEV_BELOW = 50.0
# Backgrounds bend below this energy, eV.
SOFT = 2500.0
# How far a point stands alone that is left out on demand, and one that is told of, in heights of the spectrum.
GLITCH, FAR = 0.3, 1.0


def put_right(found: Measured, name: str, shift: float = 0.0, deglitch: bool = False) -> Measured:
    """Ascending energies in eV, each once. shift: eV, added to them. Raises SpectrumError for what cannot be known."""
    energy, mu, notes = np.asarray(found.energy, float), np.asarray(found.mu, float), list(found.notes)
    usable = (np.abs(energy) <= HIGHEST_EV) & (np.abs(mu) <= LARGEST)
    # A scan that was stopped has zeros in the rest of its rows.
    others = energy[usable & (energy != 0)]
    if len(others) and others.min() > 0.3 * others.max():
        usable &= energy != 0
    if not usable.any():
        raise SpectrumError("not finite", f"{name}: no row holds an energy and a mu")
    if not usable.all():
        notes.append(f"left out {(~usable).sum()} of {len(usable)} rows that hold no energy or no mu")
        energy, mu = energy[usable], mu[usable]
    edge = REFERENCE_ENERGY_EV.get((found.element or "", found.edge or "K"))
    low, high = float(energy.min()), float(energy.max())
    if high < 2 * low and (low * 1000 - 20 < edge < high * 1000 if edge else low > 0.04 and high < KEV_BELOW):
        energy = energy * 1000
        notes.append("energies given in keV, read as eV")
    elif np.array_equal(energy, np.arange(len(energy)) + energy[0]) and energy[0] in (0, 1) and len(energy) > 20:
        raise SpectrumError("not energies", f"{name}: the first column counts 0, 1, 2, ...: pixels or points, no eV")
    elif 0 <= low < 4 and 6 < high < 30 and _oscillates(mu):
        raise SpectrumError("chi(k)", f"{name} looks like oscillations over k to {high:g}, not like mu over energy")
    energy, mu, order = _in_order(energy, mu, name)
    notes += order
    if shift:
        energy = energy + shift
        notes.append(f"energies moved by {shift:+g} eV, as asked for")
    if energy[0] < 0:
        raise SpectrumError(
            "relative energies",
            f"{name}: energies run from {energy[0]:g} to {energy[-1]:g}, counted from an edge or a Fermi level; add what "
            "they are counted from (--shift EV)",
        )
    energy, mu, told = _deglitched(energy, mu, deglitch)
    notes += [*told, *_background(energy, mu, edge)]
    return found._replace(energy=energy, mu=mu, shift=found.shift + shift, notes=tuple(map(printable, notes)))


def _oscillates(mu: np.ndarray) -> bool:
    return abs(float(mu.mean())) < 0.3 * float(mu.std()) and int((np.diff(np.sign(mu)) != 0).sum()) >= 6


def _background(energy: np.ndarray, mu: np.ndarray, edge: float | None) -> list[str]:
    """A warning of a background of energy loss: of soft edges it bends within the range of a spectrum."""
    if edge is None or edge > SOFT:
        return []
    below, above = energy < edge - 10, (energy > edge + 10) & (energy < edge + 60)
    if below.sum() < 5 or not above.any() or not (mu[below] > 0).all():
        return []
    slope, level = np.polyfit(energy[below] - edge, mu[below], 1)
    step = float(np.median(mu[above] - (level + slope * (energy[above] - edge))))
    power = -slope * edge / level
    if not (step > 0 and power > 1 and level > 0.5 * step):
        return []
    return [
        f"below the edge mu falls as E^-{power:.1f} from {level / step:.1f} edge steps, as a background of energy loss does, "
        "and only a line is taken off: subtract the background first"
    ]


def _in_order(energy: np.ndarray, mu: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    notes = []
    steps = np.diff(energy)
    if len(steps) and (steps < 0).sum() > (steps > 0).sum():
        energy, mu, steps = energy[::-1], mu[::-1], -steps[::-1]
        notes.append("energies descend in the file: turned round")
    back = steps < 0
    if back.any():
        far = steps < -0.5 * np.ptp(energy)
        if far.sum() == back.sum():
            at = int(np.argmax(far)) + 1
            raise SpectrumError(
                "several scans", f"{name}: energies begin again after point {at}; give each scan a file of its own"
            )
        count, worst = int(back.sum()), float(-steps.min())
        notes.append(f"{count} step{'s' * (count > 1)} back in energy, by {worst:.2g} eV at most: sorted")
        order = np.argsort(energy, kind="stable")
        energy, mu = energy[order], mu[order]
    unique, inverse = np.unique(energy, return_inverse=True)
    if len(unique) < len(energy):
        repeated = len(energy) - len(unique)
        notes.append(f"{repeated} energ{'y' if repeated == 1 else 'ies'} given more than once: mu averaged")
        mu = np.bincount(inverse, mu) / np.bincount(inverse)
        energy = unique
    return energy, mu, notes


def _deglitched(energy: np.ndarray, mu: np.ndarray, wanted: bool) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Without the points that stand alone, if that is wanted; else with a word of those that do so by far."""
    height = float(np.subtract(*np.percentile(mu, [75, 10])))
    if len(mu) < 20 or not height > 0:
        return energy, mu, []
    alone = standing_out(mu, (GLITCH if wanted else FAR) * height)
    count = int(alone.sum())
    where = ", ".join(f"{each:.1f}" for each in energy[alone][:6]) + (", ..." if count > 6 else "")
    told = f"{count} point{'' if count == 1 else 's'} far off the others, at {where} eV"
    if not wanted:
        return energy, mu, [f"{told}; --deglitch leaves them out"] if count else []
    if not count:
        return energy, mu, ["no point stands alone: nothing to deglitch"]
    return energy[~alone], mu[~alone], [f"left out {told}, as asked for"]
