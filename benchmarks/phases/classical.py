"""Methods that microscopists use: principal components, non-negative factors, non-negative least squares, clusters."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.optimize import linear_sum_assignment, nnls
from sklearn.cluster import KMeans
from sklearn.decomposition import NMF, PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.phases.task import PhaseAnswers, PhaseTask
from data_pipelines.spectra.phases import plural
from data_pipelines.spectra.planted import shifted

NEIGHBOURS = 5
# A reference that is of no use to any pixel is not asked for.
MOST_COMPONENTS = 20


def pca_knn(task: PhaseTask) -> PhaseAnswers:
    """Nearest references among the principal components of the pixels.

    Channels are scaled to equal noise (Keenan and Kotula 2004, Surf. Interface Anal. 36, 203), and as many components kept
    as stand out of it (Gavish and Donoho 2014, IEEE Trans. Inf. Theory 60, 5040), at least one less than there are classes.
    """
    scale = task.noise.mean(axis=0) / task.noise.mean()
    scaled = task.normalised / scale
    found = PCA(min(MOST_COMPONENTS, *scaled.shape), svd_solver="full").fit(scaled)
    all_values = np.linalg.svd(scaled - found.mean_, compute_uv=False)
    beta = min(scaled.shape) / max(scaled.shape)
    limit = (0.56 * beta**3 - 0.95 * beta**2 + 1.82 * beta + 1.43) * np.median(all_values)
    kept = int(np.clip((found.singular_values_ > limit).sum(), len(task.classes) - 1, len(found.components_)))
    basis = found.components_[:kept]
    pixels, known = (scaled - found.mean_) @ basis.T, (task.references / scale - found.mean_) @ basis.T
    denoised = (pixels @ basis + found.mean_) * scale * task.amount[:, None]
    return PhaseAnswers(*nearest(pixels, known, task, NEIGHBOURS), None, denoised)


def nearest(
    pixels: np.ndarray, known: np.ndarray, task: PhaseTask, neighbours: int, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(P,) classes and (P, C) probabilities: votes of the nearest labelled points, no more than a class has."""
    labels = task.labels if labels is None else labels
    count = min(neighbours, int(np.bincount(labels).min()))
    votes = KNeighborsClassifier(count, weights="distance").fit(known, labels).predict_proba(pixels)
    return votes.argmax(axis=1), votes


def nmf(task: PhaseTask) -> PhaseAnswers:
    """As many non-negative factors as there are classes, each given to the class whose references are most like it."""
    given = np.maximum(task.normalised, 0)
    model = NMF(len(task.classes), init="nndsvda", random_state=task.seed, max_iter=400)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        weights = model.fit_transform(given)
    factors = model.components_
    heights = np.maximum(factors.mean(axis=1), 1e-12)
    like = _likeness(factors / heights[:, None], task)
    _, of_class = linear_sum_assignment(-like.T)
    shares = _shares((weights * heights)[:, of_class])
    return PhaseAnswers(shares.argmax(axis=1), None, shares, weights @ factors * task.amount[:, None])


def kmeans(task: PhaseTask) -> PhaseAnswers:
    """Twice as many clusters as there are classes, each of the class of the reference that is most like its mean."""
    found = KMeans(min(2 * len(task.classes), len(task.signal)), n_init=4, random_state=task.seed).fit(task.normalised)
    of_cluster = _likeness(found.cluster_centers_, task).argmax(axis=1)
    denoised = found.cluster_centers_[found.labels_] * task.amount[:, None]
    return PhaseAnswers(of_cluster[found.labels_], None, None, denoised)


def nnls_references(task: PhaseTask) -> PhaseAnswers:
    """Non-negative least squares of the signal by the references, weighted by the noise."""
    parts = np.stack(
        [nnls((task.references / noise).T, own / noise)[0] for own, noise in zip(task.signal, task.noise, strict=True)]
    )
    sums = np.stack([parts[:, task.labels == number].sum(axis=1) for number in range(len(task.classes))], axis=1)
    shares = _shares(sums)
    return PhaseAnswers(shares.argmax(axis=1), None, shares, parts @ task.references)


def nnls_truth(task: PhaseTask) -> PhaseAnswers:
    """The upper bound: counts fitted by what the image was really made of, in each pixel the true end members and the shape
    of the background, at the true shift and thickness, weighted by the true noise."""
    truth, energy = task.truth, task.how.energy
    pixels, classes = truth.phase.size, len(task.classes)
    used = energy <= task.how.window[1]
    members = plural(task.how, np.broadcast_to(truth.end_members, (pixels, *truth.end_members.shape)),
                     np.broadcast_to(truth.thickness.reshape(-1, 1), (pixels, classes)))  # fmt: skip
    curves = np.concatenate([members, truth.background.reshape(pixels, 1, -1)], axis=1)
    moved = shifted(energy, curves, np.repeat(truth.shift.reshape(-1, 1), classes + 1, axis=1))
    mean = shifted(energy, truth.background + truth.signal, truth.shift).reshape(pixels, -1)
    counts = truth.counts.reshape(pixels, -1)
    parts = np.zeros((pixels, classes + 1))
    for pixel in range(pixels):
        noise = np.sqrt(np.maximum(mean[pixel, used], 1e-9))
        parts[pixel] = nnls((moved[pixel][:, used] / noise).T, counts[pixel, used] / noise)[0]
    shares = _shares(parts[:, :classes])
    denoised = np.einsum("pc,pce->pe", parts[:, :classes], members[..., task.inside])
    return PhaseAnswers(shares.argmax(axis=1), None, shares, denoised)


def _likeness(spectra: np.ndarray, task: PhaseTask) -> np.ndarray:
    """(N, C) correlation with the reference of each class that is most like it."""
    correlation = np.corrcoef(spectra, task.references)[: len(spectra), len(spectra) :]
    correlation = np.nan_to_num(correlation, nan=-1.0)
    return np.stack([correlation[:, task.labels == number].max(axis=1) for number in range(len(task.classes))], axis=1)


def _shares(parts: np.ndarray) -> np.ndarray:
    """Parts of sum one; equal ones where there is nothing."""
    total = parts.sum(axis=1, keepdims=True)
    return np.where(total > 0, parts / np.where(total > 0, total, 1), 1 / parts.shape[1])
