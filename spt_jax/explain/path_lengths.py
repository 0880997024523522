"""Does the frequency of a band correspond to a path length? On the k axis it should (`band_input` "kspace").

`python -m spt_jax.explain.path_lengths DATASET --out path_lengths.svg` asks the spectra alone; nothing is trained.

A scattering path of half-length R adds A(k) sin(2 k R + phi(k)) to mu above the edge (k in 1/Å, of the photoelectron).
On L even points of k from 0 to K, frequency f of the DFT is the wave exp(2 pi i f k / K') with K' = K L / (L - 1), so

    2 R = 2 pi f / K',    R = pi f / K'.

Neighbouring frequencies are pi / K' apart, and two paths nearer than pi / (2 K) are one peak. The phase shift phi falls
with k: R so found is about 0.4 to 0.5 Å short of a bond. Below k of some 3 1/Å, the range of XANES, it is not straight,
and many paths scatter more than once. So a mean bond length (MBL) can move R, at best by as much, if it is told at all.

Protocol, fixed before it was run: the sites of one absorber in a split that have MBL and the whole grid. The band input
of each kind is made of their mean and standard deviation, as the network's is of the training set. Of each site the
frequency f of the largest magnitude is taken: among 1 to 12, as the network chooses, and between them in steps of 0.05
("between"); on the k axis also within R of 1 to 2.5 Å, where the first shell is looked for ("shell"). Spearman's rank
correlation of f with MBL, with the middle 95 % of a bootstrap over materials, is to be above zero: a longer bond makes
faster waves, in k and, by Natoli's rule, in E too. And the slope of R on MBL is to be 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import matplotlib
import numpy as np
import tyro
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from data_pipelines.dataset.data import Split, take
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import DatasetError
from data_pipelines.pages.style import INK, RC
from data_pipelines.schema import NAMES
from spt_jax.config import BandInput, ModelConfig
from spt_jax.explain.figures import colours
from spt_jax.explain.physics import enough, slope
from spt_jax.model.bands import K2_PER_EV, band_input_map
from spt_jax.scoring.intervals import LEVEL, draws

HIGHEST, FINE = ModelConfig.highest_band, 0.05
SHELL_ANGSTROM = (1.0, 2.5)
# What a bond is longer than the R at which it is found.
PHASE_ANGSTROM = 0.45
RESAMPLES = 1000


@dataclass(frozen=True)
class PathLengths:
    """Compare the strongest frequency of each spectrum with the mean bond length, on the k axis and on that of energy."""

    data: tyro.conf.Positional[Path]
    out: Path
    """SVG to write."""
    element: str = "Cu"
    split: Literal["train", "validation", "test"] = "train"

    def run(self) -> None:
        dataset = Dataset(self.data)
        split, length = whole(dataset.split(self.split), f"{self.element} K")
        if not enough(np.array(split.materials)):
            raise DatasetError(
                f"{self.data}: too few {self.element} sites in {self.split!r} with MBL and the whole grid"
            )
        energy, mu = dataset.grid.relative(), split.batch.spectrum.astype(float)
        angstrom = per_frequency(energy, mu.mean(axis=0))
        print(f"{self.element}, {len(mu)} sites, MBL {length.mean():.2f} ± {length.std():.2f} Å")
        print(
            f"k axis: R = {angstrom:.3f} Å x f; two paths are told apart from {resolution(energy, mu.mean(axis=0)):.2f} Å"
        )
        print("axis          taken    median f  Spearman of f and MBL   R, Å   slope of R on MBL")
        found = {}
        for kind in get_args(BandInput):
            found[kind] = magnitudes(kind, energy, mu)
            bounds = np.array(SHELL_ANGSTROM) / angstrom
            for name, frequency in strongest(found[kind], bounds if kind == "kspace" else None).items():
                told = line(frequency, length, split.materials, angstrom if kind == "kspace" else None)
                print(f"{kind:13s} {name:8s} {told}")
        _draw(found, length, angstrom).savefig(self.out, format="svg", metadata={"Date": None})
        print(self.out)


def whole(split: Split, absorber: str) -> tuple[Split, np.ndarray]:
    """The sites of an absorber that have MBL and every energy, and their (N,) MBL in Å."""
    column, batch = NAMES.index("MBL"), split.batch
    own = np.array([each == absorber for each in split.absorbers])
    rows = np.flatnonzero(own & batch.mask[:, column] & np.isfinite(batch.spectrum).all(axis=1))
    return take(split, rows), batch.labels[rows, column].astype(float)


def k_range(energy: np.ndarray, mean: np.ndarray) -> float:
    """Largest k in 1/Å, with zero where `band_input_map` has it."""
    return float(np.sqrt(K2_PER_EV * (energy[-1] - energy[int(np.argmax(mean > 0.5))])))


def per_frequency(energy: np.ndarray, mean: np.ndarray) -> float:
    """Å of R for one step of frequency on the k axis: pi / K'."""
    return np.pi * (len(energy) - 1) / (len(energy) * k_range(energy, mean))


def resolution(energy: np.ndarray, mean: np.ndarray) -> float:
    """Å between paths that are two peaks: pi / (2 K)."""
    return np.pi / (2 * k_range(energy, mean))


def frequencies() -> np.ndarray:
    """(M,) 1 to 12, in steps of 0.05."""
    return 1 + FINE * np.arange(round((HIGHEST - 1) / FINE) + 1)


def magnitudes(kind: str, energy: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """(N, L) spectra -> (N, M) magnitude of the band input at `frequencies`."""
    linear, offset = band_input_map(kind, energy, mu.mean(axis=0), mu.std(axis=0))
    waves = np.exp(-2j * np.pi * np.outer(np.arange(len(energy)), frequencies()) / len(energy))
    return np.abs((mu @ linear + offset) @ waves)


def strongest(magnitude: np.ndarray, bounds: np.ndarray | None) -> dict[str, np.ndarray]:
    """(N, M) magnitudes -> (N,) frequency of the largest: of whole numbers, of all, and of those within the bounds."""
    at = frequencies()
    kept = {"band": np.isclose(at, at.round()), "between": np.ones(len(at), bool)}
    if bounds is not None:
        kept["shell"] = (at >= bounds[0]) & (at <= bounds[1])
    return {name: at[own][magnitude[:, own].argmax(axis=1)] for name, own in kept.items()}


def line(frequency: np.ndarray, length: np.ndarray, materials: tuple[str, ...], angstrom: float | None) -> str:
    """Numbers of one row. angstrom: R of one step of frequency, on the k axis."""
    names = np.array(materials)
    low, high = interval(frequency, length, names)
    text = f"{np.median(frequency):8.2f}  {rank_correlation(frequency, length):+.3f} ({low:+.3f} to {high:+.3f})"
    if angstrom is None:
        return text
    value, error = slope(length, angstrom * frequency, names)
    return f"{text}  {angstrom * np.median(frequency):5.2f}   {value:+.2f} ± {error:.2f}"


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's; 0 where one of them never changes, for then it tells nothing of the other."""
    return float(spearmanr(x, y).statistic) if np.ptp(x) > 0 and np.ptp(y) > 0 else 0.0


def interval(x: np.ndarray, y: np.ndarray, materials: np.ndarray) -> tuple[float, float]:
    """Middle 95 % of the rank correlation, materials drawn anew."""
    _, material = np.unique(materials, return_inverse=True)
    drawn = draws(materials, RESAMPLES)
    rows = (np.repeat(np.arange(len(x)), each[material]) for each in drawn)
    found = [rank_correlation(x[own], y[own]) for own in rows]
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@matplotlib.rc_context(RC)
def _draw(found: dict[str, np.ndarray], length: np.ndarray, angstrom: float) -> Figure:
    """Mean magnitude of the thirds of MBL: on the k axis over R, dotted where their bonds should be, and of energy over f."""
    figure, at = Figure(figsize=(7.4, 2.9), layout="constrained"), frequencies()
    thirds = np.array_split(np.argsort(length, kind="stable"), 3)
    for axes, kind, scale in zip(figure.subplots(1, 2), ("kspace", "standardised"), (angstrom, 1.0), strict=True):
        whole_numbers = np.isclose(at, at.round())
        for third, colour in zip(thirds, colours(3), strict=True):
            mean = found[kind][third].mean(axis=0)
            label = f"MBL {length[third].min():.2f} to {length[third].max():.2f} Å"
            axes.plot(at * scale, mean, color=colour, linewidth=1.2, label=label)
            axes.plot(at[whole_numbers] * scale, mean[whole_numbers], "o", color=colour, markersize=3)
            if kind == "kspace":
                axes.axvline(length[third].mean() - PHASE_ANGSTROM, color=colour, linewidth=0.8, linestyle=":")
        axes.set(title=f"band input {kind}", ylim=(0, None))
    left, right = figure.axes
    left.set(xlabel="R = π f / K', Å; dots: the bands f = 1 to 12", ylabel="mean |band input at f|")
    right.set(xlabel="frequency f on the energy axis", xticks=range(1, HIGHEST + 1))
    shift = f"dotted: mean MBL\nless {PHASE_ANGSTROM} Å of phase"
    left.text(0.98, 0.62, shift, transform=left.transAxes, ha="right", va="top", fontsize=7.5, color=INK)
    right.legend(frameon=False, fontsize=7.5)
    return figure


if __name__ == "__main__":
    tyro.cli(PathLengths).run()
