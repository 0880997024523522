"""Correction of planted spectrum images: fits per second, and how far background, shift and signal are from the truth.

    python -m benchmarks.eels [--edges crystalline.parquet] [--json results.jsonl]

Every line is printed as JSON. Errors are root mean squares over the pixels of an image of 24 x 32 pixels and 512 channels of
0.3 eV, at every dose, which is the mean counts of a channel in front of the edge. background: its mean under the edge, as a
part of the truth. shift, in eV: by the zero loss, and by the mean where all pixels have one kind of edge, and two. signal:
its counts in the area window, of planted ones. Target: 10,000 fits a second.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure
from data_pipelines.readers.images.image import ImageCalibration, SpectrumImage
from data_pipelines.readers.images.open import open_image
from data_pipelines.spectra.planted import Planting, planted, planted_edges
from spt_jax.eels.background import fit_power_law, reference_energy
from spt_jax.eels.correct import correct
from spt_jax.eels.settings import ImageConfig

DOSES = (1, 10, 100, 1000, 10_000)
FITS_PER_S = 10_000.0
# Gaussian width of the instrument that calculated edges are seen with, eV.
WIDTH = 0.4


def calculated_edges(path: Path, energy: np.ndarray, onset: float) -> np.ndarray:
    """(2, E) O K spectra of the two prototypes of a FEFF10 library that are least alike, half of the rise at the onset."""
    import pyarrow.parquet as pq

    rows = pq.read_table(path, columns=["absorber", "prototype", "omega", "mu"]).to_pylist()
    curves = {}
    for row in rows:
        if row["absorber"] == "O" and row["prototype"] not in curves:
            omega, mu = np.array(row["omega"]), np.array(row["mu"])
            mu = mu / mu[-20:].mean()
            start = np.interp(0.5, np.maximum.accumulate(mu), omega)
            at = energy - onset + start
            known = np.interp(at, omega, mu, left=0.0)
            curves[row["prototype"]] = np.where(at > omega[-1], np.mean(mu[-20:]), known) * (energy / onset) ** -3.0
    found = np.stack(list(curves.values()))
    step = energy[1] - energy[0]
    kernel = np.exp(-0.5 * (np.arange(-15, 16) * step / WIDTH) ** 2)
    found = np.stack([np.convolve(curve, kernel / kernel.sum(), "same") for curve in found])
    apart = np.linalg.norm(found[:, None] - found[None], axis=2)
    return found[list(np.unravel_index(np.argmax(apart), apart.shape))]


def on_disk(folder: Path, name: str, counts: np.ndarray, energy: np.ndarray) -> SpectrumImage:
    np.save(folder / f"{name}.npy", counts)
    return open_image(folder / f"{name}.npy", ImageCalibration(offset=energy[0], step=energy[1] - energy[0]))


def accuracy(how: Planting, edges: np.ndarray, folder: Path, align: str, seed: int) -> dict[str, float]:
    """Errors of one corrected image."""
    made = planted(how, np.random.default_rng(seed), edges)
    image = on_disk(folder, "core", made.counts, made.energy)
    low = on_disk(folder, "low", made.low_loss, made.low_energy) if align == "zero-loss" else None
    found = correct(image, ImageConfig(edge=str(how.onset), align=align), low)
    good = found.maps["reason"][0] == 0
    start, stop = np.searchsorted(made.energy, found.windows["area"])
    begin, end = np.searchsorted(made.energy, found.windows["background"])
    law = (made.energy[start:stop] / reference_energy(found.energy, begin, end + 1)) ** -found.maps["exponent"][0][
        ..., None
    ]
    under = (found.maps["amplitude"][0][..., None] * law).mean(axis=2)
    background = under / made.background[..., start:stop].mean(axis=2) - 1
    signal = found.maps["area"][0] / made.signal[..., start : stop + 1].sum(axis=2) - 1
    # What all have in common moved the energies.
    shift = found.maps["shift"][0] + (made.energy[0] - found.energy[0]) - made.shift
    # By the mean of all, energies are known but for a constant.
    shift = shift - np.median(shift[good]) if align == "features" else shift
    rms = {"background": background, "signal": signal, "shift_ev": shift}
    return {
        **{f"{name}_rms": float(np.sqrt(np.mean(each[good] ** 2))) for name, each in rms.items()},
        "background_bias": float(background[good].mean()),
        "shift_said_ev": float(np.median(found.maps["shift error"][0][good])),
        "shift_planted_ev": float(made.shift.std()),
        "left_out": int((~good).sum()),
    }


def rates(options: argparse.Namespace, folder: Path) -> list[dict]:
    """Fits alone, and whole images with all corrections."""
    pixels, channels, window = (64, 256, (10, 60)) if options.small else (4096, 1024, (50, 200))
    rng = np.random.default_rng(0)
    energy = 460 + 0.3 * np.arange(channels)
    counts = jnp.asarray(rng.poisson(100 * (energy / 532) ** -3.0, (pixels, channels)), jnp.float32)
    arguments = counts, jnp.asarray(energy, jnp.float32), jnp.zeros(pixels)
    case = f"fit, window of {window[1] - window[0]} channels"
    timing = measure.interleaved({case: lambda: fit_power_law(*arguments, *window)}, options.repeats)[case]
    fits = 1e3 * pixels / timing.median_ms
    lines = [
        _line(
            options,
            case,
            channels,
            pixels,
            fits_per_s=fits,
            target=FITS_PER_S,
            met=fits >= FITS_PER_S,
            median_ms=timing.median_ms,
        )
    ]
    how = Planting(16 if options.small else 128, 16 if options.small else 64, channels, dose=100, thickness=0.5)
    made = planted(how, rng)
    image, low = (
        on_disk(folder, "core", made.counts, made.energy),
        on_disk(folder, "low", made.low_loss, made.low_energy),
    )
    cases = {
        "image: spikes and background": (ImageConfig(edge="O K"), None),
        "image: and aligned by the mean": (ImageConfig(edge="O K", align="features"), None),
        "image: and aligned by the zero loss, plural scattering": (ImageConfig(edge="O K"), low),
    }
    for case, (config, loss) in cases.items():
        correct(image, config, loss)
        began = time.perf_counter()
        correct(image, config, loss)
        seconds = time.perf_counter() - began
        lines.append(
            _line(options, case, channels, how.height * how.width, spectra_per_s=how.height * how.width / seconds)
        )
    return lines


def _line(options: argparse.Namespace, case: str, length: int, batch: int, **fields: Any) -> dict:
    line = measure.record("eels", case, options, length=length, batch=batch, **fields)
    short = {name: round(value, 5) if isinstance(value, float) else value for name, value in fields.items()}
    print(json.dumps({"case": case, "length": length, "batch": batch, "device": line["device"], **short}), flush=True)
    return line


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = measure.parser(__doc__)
    parser.add_argument("--edges", type=Path, default=None, metavar="PARQUET", help="O K edges of a FEFF10 library")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    size = {"height": 4, "width": 6, "channels": 256} if options.small else {"height": 24, "width": 32, "channels": 512}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = rates(options, folder)
        energy = 460 + 0.3 * np.arange(size["channels"])
        edges = calculated_edges(options.edges, energy, 532) if options.edges else planted_edges(energy, 532)
        kind = "calculated" if options.edges else "planted"
        one = {"features, one kind of edge": edges[[0, 0]], "features, two kinds": edges, "zero-loss, two kinds": edges}
        for dose in DOSES[2:3] if options.small else DOSES:
            how = Planting(**size, onset=532, dose=dose, drift=1.0, thickness=0.5)
            for words, curves in one.items():
                # Without a low loss plural scattering stays in the signal: planted without.
                own = how if words.startswith("zero") else Planting(**{**vars(how), "thickness": 0.0})
                found = accuracy(own, curves, folder, words.partition(",")[0], options.seed)
                case = f"dose {dose}, {words}, {kind}"
                lines.append(_line(options, case, how.channels, how.height * how.width, **found))
    jax.clear_caches()
    return lines


if __name__ == "__main__":
    main()
