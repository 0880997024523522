"""Does a model look where physics says that the answer is? Two questions with numbers, and a plain verdict.

(a) Coordination: an ion without inversion centre (CN 4, tetrahedral) mixes p into its empty d states and has the
stronger 1s -> 3d pre-edge (Yamamoto, X-Ray Spectrometry 37, 572 (2008)); so CN 4 and 6 should differ there.
(b) Oxidation: a higher charge binds the 1s electron more tightly and moves the edge up (Kunzl's law).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_pipelines.dataset.loading import Split
from data_pipelines.schema import NAMES, descriptor
from spt_jax.explain.ablation import without_window
from spt_jax.explain.edges import PRE_EDGE_GAP_EV, edge, far_windows, near_edge, pre_edge
from spt_jax.tasks import Predictor

FEW, MANY = 4, 6
LARGEST_SHIFT_EV = 1.0
# Ends of the pre-edge, eV below the edge, that are tried beside the one of the verdict.
GAPS_EV = (3.0, 4.0, 5.0, 6.0, 7.0)
# A difference is seen where it exceeds this many of its standard errors.
ERRORS = 2.0
D_ELECTRONS = (
    "A strong pre-edge needs empty 3d states (Ti, V, Cr, Mn, Fe in high charges). Cu2+ is 3d9 with one hole, mostly "
    "square planar or Jahn-Teller distorted (1s -> 4p_z gives such sites a shoulder on the rising edge), and Cu+ and "
    "Zn2+ are 3d10 without any: there the pre-edge is weak or absent, and spectra that differ elsewhere need not be "
    "told by it. FEFF computes dipole transitions, so that only p character is seen; and below its first energy the "
    "grid is filled with its first value."
)


@dataclass(frozen=True)
class Coordination:
    """Pre-edge against the rest, for sites of CN 4 or 6.

    share: of |attribution| of log p(4) / p(6) in the pre-edge; even: what an even attribution would have there.
    loss: of CN accuracy where the pre-edge becomes the training mean; far, farthest: mean and largest of the same over
    windows as long, 20 eV above the edge and higher. error: standard error of loss - far, by materials.
    by_gap: how far below the edge the pre-edge ends -> loss - far, for the verdict hangs on it.
    """

    sites: int
    start_ev: float
    stop_ev: float
    points: int
    share: float
    even: float
    accuracy: float
    loss: float
    far: float
    farthest: float
    error: float
    by_gap: dict[float, float]

    @property
    def confirmed(self) -> bool:
        return self.share > self.even and self.loss - self.far > ERRORS * self.error

    def line(self) -> str:
        return (
            f"CN {FEW} against {MANY}, {self.sites} sites: the pre-edge ({self.start_ev:.1f} to {self.stop_ev:.1f} eV, "
            f"{self.points} points) holds {self.share:.1%} of |attribution|, {self.even:.1%} if even; without it "
            f"accuracy {self.accuracy:.3f} loses {self.loss:.3f}, without as much far above the edge {self.far:.3f} (at "
            f"most {self.farthest:.3f}): {self.loss - self.far:.3f} ± {self.error:.3f} more. "
            f"{self._reason()}{verdict(self.confirmed)}"
        )

    def _reason(self) -> str:
        missing = [] if self.share > self.even else ["no more attribution there than elsewhere"]
        if not self.loss - self.far > ERRORS * self.error:
            missing.append(f"the loss is not {ERRORS:g} standard errors above that far away")
        return f"{'; '.join(missing).capitalize()}. " if missing else ""


@dataclass(frozen=True)
class Oxidation:
    """Mean predicted oxidation state (expectation over the class probabilities) of spectra moved along the energy axis.

    slope, error: of the prediction per eV, with its standard error by materials; slopes: of the sites of each
    oxidation state. label_slope: of the labels on the edges of their own spectra, what the best straight-line reader of
    the edge would have. edges: eV of the mean spectrum of each oxidation state. share: of |attribution| within 3 eV of
    the edge; even: what an even attribution would have there.
    """

    sites: int
    shifts_ev: list[float]
    predicted: list[float]
    slope: float
    error: float
    slopes: dict[int, float]
    label_slope: float
    edges: dict[int, float]
    share: float
    even: float

    @property
    def confirmed(self) -> bool:
        return self.slope > ERRORS * self.error and self.share > self.even

    def line(self) -> str:
        edges = ", ".join(f"{state:+d} {at:.1f}" for state, at in self.edges.items())
        slopes = ", ".join(f"{state:+d} {slope:+.3f}" for state, slope in self.slopes.items())
        return (
            f"OS, {self.sites} sites: moving spectra from {self.shifts_ev[0]:+g} to {self.shifts_ev[-1]:+g} eV changes "
            f"the mean prediction by {self.slope:+.3f} ± {self.error:.3f} per eV ({slopes}; labels on their edges "
            f"{self.label_slope:+.3f}; edges in eV: {edges}); {self.share:.1%} of |attribution| lies within 3 eV of the "
            f"edge, {self.even:.1%} if even. "
            f"{self._reason()}{verdict(self.confirmed)}"
        )

    def _reason(self) -> str:
        missing = [] if self.slope > ERRORS * self.error else ["a higher edge does not raise the prediction"]
        if not self.share > self.even:
            missing.append("no more attribution at the edge than elsewhere")
        return f"{'; '.join(missing).capitalize()}. " if missing else ""


def share_inside(values: np.ndarray, region: np.ndarray) -> float:
    """Mean over (N, L) attributions of the share of |attribution| inside, region: (L,) or (N, L) bool."""
    size = np.abs(values)
    return float(((size * region).sum(axis=1) / size.sum(axis=1)).mean())


def coordination(
    answer: Predictor, split: Split, energy: np.ndarray, mean: np.ndarray, values: np.ndarray
) -> Coordination:
    """`split`: its sites of CN 4 or 6, both. mean: (L,) of the training set. values: (n, L) attributions of some."""
    batch = split.batch
    label = np.array(descriptor("CN").classes)[batch.labels[:, NAMES.index("CN")].astype(int)]
    below = min(edge(energy, batch.spectrum[label == number].mean(axis=0)) for number in (FEW, MANY))

    def right(spectrum: np.ndarray) -> np.ndarray:
        probabilities = answer(spectrum.astype(np.float32), batch.atomic_number)["CN"]
        return (np.array(descriptor("CN").classes)[probabilities.argmax(axis=1)] == label).astype(float)

    whole = right(batch.spectrum)

    def lost(gap: float) -> tuple[np.ndarray, np.ndarray]:
        """What each site loses without the pre-edge, (N,), and without each window far away, (W, N)."""
        points = int(pre_edge(energy, below, gap).sum())
        cuts = [slice(0, points), *far_windows(energy, below, points)]
        near, *far = (whole - right(without_window(batch.spectrum, cut, mean)) for cut in cuts)
        return near, np.stack(far)

    region = pre_edge(energy, below)
    points = int(region.sum())
    without, far = lost(PRE_EDGE_GAP_EV)
    excess = without - far.mean(axis=0)
    return Coordination(
        sites=len(label),
        start_ev=float(energy[0]),
        stop_ev=float(energy[points - 1]),
        points=points,
        share=share_inside(values, region),
        even=points / len(energy),
        accuracy=float(whole.mean()),
        loss=float(without.mean()),
        far=float(far.mean()),
        farthest=float(far.mean(axis=1).max()),
        error=standard_error(excess, split.materials),
        by_gap={gap: float(near.mean() - far.mean()) for gap in GAPS_EV for near, far in [lost(gap)]},
    )


def oxidation(
    answer: Predictor, split: Split, energy: np.ndarray, values: np.ndarray, explained: np.ndarray
) -> Oxidation:
    """`split`: its sites with a label of OS. values: (n, L) attributions of the rows `explained`."""
    batch, classes = split.batch, np.array(descriptor("OS").classes)
    label = classes[batch.labels[:, NAMES.index("OS")].astype(int)]
    edges = {int(state): edge(energy, batch.spectrum[label == state].mean(axis=0)) for state in np.unique(label)}
    step = energy[1] - energy[0]
    reach = max(round(LARGEST_SHIFT_EV / step), 1)
    # By whole points, so that nothing is interpolated.
    moves = range(-reach, reach + 1)
    predicted = np.stack([answer(moved(batch.spectrum, move), batch.atomic_number)["OS"] @ classes for move in moves])
    shifts = [float(move * step) for move in moves]
    slopes = np.polyfit(shifts, predicted, 1)[0]
    regions = np.stack([near_edge(energy, edges[int(state)]) for state in label[explained]])
    return Oxidation(
        sites=len(label),
        shifts_ev=shifts,
        predicted=predicted.mean(axis=1).tolist(),
        slope=float(slopes.mean()),
        error=standard_error(slopes, split.materials),
        slopes={state: float(slopes[label == state].mean()) for state in edges},
        label_slope=float(np.polyfit([edge(energy, mu) for mu in batch.spectrum], label, 1)[0]),
        edges=edges,
        share=share_inside(values, regions),
        even=float(regions.mean()),
    )


def standard_error(values: np.ndarray, materials: tuple[str, ...]) -> float:
    """Of the mean of (N,) values. Sites of one material are alike: their deviations are added before they are squared."""
    _, material = np.unique(materials, return_inverse=True)
    return float(np.sqrt((np.bincount(material, values - values.mean()) ** 2).sum()) / len(values))


def moved(spectrum: np.ndarray, points: int) -> np.ndarray:
    """(N, L) spectra a number of points up in energy; what comes in from beyond the grid has the value at its end."""
    source = np.clip(np.arange(spectrum.shape[1]) - points, 0, spectrum.shape[1] - 1)
    return np.asarray(spectrum, np.float32)[:, source]


def verdict(confirmed: bool) -> str:
    return "Physics confirmed." if confirmed else "Physics NOT confirmed."
