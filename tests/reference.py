"""Slow float64 numpy versions of the fast paths: loops that a reader can check against the paper. They are the spec."""

import math

import numpy as np


def band_strength(h: np.ndarray, highest: int) -> np.ndarray:
    """(B, L, d) -> (B, F): mean over channels of |rfft| along energy, frequencies 1..highest."""
    return np.abs(np.fft.rfft(h, axis=1)).mean(axis=-1)[:, 1 : highest + 1]


def without_noise(spectrum: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, float]:
    """(L,) -> the mean of clean Gaussian spectra given this noisy one, and sigma^2 from the half that varies least.

    The variance of a direction is the training set's, or this spectrum's own where that is above noise of 4 sigma.
    """
    variance, directions = np.linalg.eigh(covariance)
    quiet = range(len(mean) // 2)
    squares = sorted((directions[:, i] @ (spectrum - mean)) ** 2 for i in quiet)
    sigma_squared = max(np.median(squares) / 0.4549 - np.median([variance[i] for i in quiet]), 0.0)
    own = [(v @ (spectrum - mean)) ** 2 - 16 * sigma_squared for v in directions.T]
    clean = directions @ np.diag(np.maximum(variance, own)) @ directions.T
    return mean + clean @ np.linalg.solve(clean + sigma_squared * np.eye(len(mean)), spectrum - mean), sigma_squared


def top_k(strength: np.ndarray, k: int) -> np.ndarray:
    """(F,) -> the k strongest frequencies, strongest first, the lower one first among equals."""
    return np.argsort(-strength, kind="stable")[:k] + 1


def folded_convolution(h: np.ndarray, weights: np.ndarray, period: int) -> np.ndarray:
    """(L, d), (K, K, d, e) -> (L, e): fold to rows of one period, 2-D convolution with zero padding, unfold."""
    length, width = h.shape
    rows = math.ceil(length / period)
    grid = np.zeros((rows, period, width))
    grid.reshape(-1, width)[:length] = h
    size, out = weights.shape[0], weights.shape[-1]
    result = np.zeros((rows, period, out))
    for row in range(rows):
        for column in range(period):
            for r in range(size):
                for c in range(size):
                    y, x = row + r - size // 2, column + c - size // 2
                    if 0 <= y < rows and 0 <= x < period:
                        result[row, column] += grid[y, x] @ weights[r, c]
    return result.reshape(-1, out)[:length]


def attention(
    h: np.ndarray,
    target: np.ndarray,
    source: np.ndarray,
    source_bias: np.ndarray,
    value: np.ndarray,
    value_bias: np.ndarray,
    direction: np.ndarray | None,
    reach: int,
    heads: int,
) -> np.ndarray:
    """(L, d) -> (L, d): graph attention on the edges |i - j| <= reach, edge by edge, before the output layer.

    With a direction (heads, c): a . leaky(W_i h_i + W_j h_j), GATv2. Without: leaky(s_i + t_j), GATv1.
    """

    def leaky(x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x, 0.2 * x)

    length = len(h)
    left, right = (h @ target).reshape(length, heads, -1), (h @ source + source_bias).reshape(length, heads, -1)
    values = (h @ value + value_bias).reshape(length, heads, -1)
    result = np.zeros_like(values)
    for i in range(length):
        near = range(max(0, i - reach), min(length, i + reach + 1))
        for head in range(heads):
            scores = [leaky(left[i, head] + right[j, head]) for j in near]
            scores = [float(s @ direction[head]) if direction is not None else float(s[0]) for s in scores]
            weights = np.exp(np.array(scores) - max(scores))
            weights /= weights.sum()
            result[i, head] = sum(w * values[j, head] for w, j in zip(weights, near, strict=True))
    return result.reshape(length, -1)


def linear_combination(mu: np.ndarray, references: np.ndarray) -> np.ndarray:
    """(N,), (R, N) -> (R,): fractions that are not negative with the least squares, by trying every set of references."""
    best, found = np.inf, np.zeros(len(references))
    for chosen in range(2 ** len(references)):
        own = [r for r in range(len(references)) if chosen >> r & 1]
        fractions = np.zeros(len(references))
        if own:
            columns = np.array([references[r] for r in own], np.float64).T
            fractions[own] = np.linalg.solve(columns.T @ columns, columns.T @ mu)
        square = sum(
            (m - sum(f * row[i] for f, row in zip(fractions, references, strict=True))) ** 2 for i, m in enumerate(mu)
        )
        if (fractions >= 0).all() and square < best:
            best, found = square, fractions
    return found


def pair_distribution(structure, grid, element=None):
    """`data_pipelines.labels.pdf`, pair by pair, Qmax by a convolution with what it cuts out of a sine transform."""
    from data_pipelines.labels.pdf import scattering_lengths

    length, symbols = scattering_lengths(structure, grid.radiation), [site.specie.symbol for site in structure]
    end = grid.stop + 20
    r = np.arange(0.005, end, 0.005)
    found, sigma = np.zeros_like(r), np.sqrt(2 * grid.displacement)
    atoms = list(zip(length, symbols, strict=True))
    share = np.mean([a * b * (element in (None, s, t)) for a, s in atoms for b, t in atoms])
    for i, site in enumerate(structure):
        for other in structure.get_neighbors(site, end):
            if element in (None, symbols[i], symbols[other.index]):
                close = np.abs(r - other.nn_distance) < 8 * sigma
                x = (r[close] - other.nn_distance) / sigma
                found[close] += length[i] * length[other.index] * np.exp(-(x**2) / 2) / (sigma * np.sqrt(2 * np.pi))
    mean = length.mean() ** 2
    found = found / (r * len(structure) * mean) - 4 * np.pi * r * len(structure) / structure.volume * share / mean
    if grid.qmax:
        found *= np.cos(np.pi / 2 * np.clip((r - grid.stop - 5) / 15, 0, 1)) ** 2
        away, sum_ = r - grid.r[:, None], r + grid.r[:, None]
        cut = grid.qmax / np.pi * np.sinc(grid.qmax * away / np.pi) - np.sin(grid.qmax * sum_) / (np.pi * sum_)
        found = cut @ found * 0.005
    else:
        found = np.interp(grid.r, r, found)
    return found * np.exp(-0.5 * (grid.qdamp * grid.r) ** 2)


def power_law(counts: np.ndarray, energy: np.ndarray, start: int, stop: int) -> tuple[float, float]:
    """(E,) -> amplitude at the geometric mean of the window and exponent of the most likely power law of Poisson counts: lines
    through the logarithms, then through what the line before makes of them, until nothing changes."""
    n, x = counts[start:stop].astype(float), np.log(energy[start:stop])
    x = x - x.mean()
    some = n > 0
    line = np.polyfit(x[some], np.log(n[some]), 1, w=np.sqrt(n[some]))
    for _ in range(100):
        mu = np.exp(np.polyval(line, x))
        line = np.polyfit(x, np.log(mu) + (n - mu) / mu, 1, w=np.sqrt(mu))
    return float(np.exp(line[1])), float(-line[0])


def moved(spectrum: np.ndarray, shift: float) -> np.ndarray:
    """(E,) -> what it is `shift` channels further up, by the cubic through the four points about each place."""
    found = np.empty(len(spectrum))
    for i in range(len(spectrum)):
        first = math.floor(i + shift) - 1
        points = [spectrum[min(max(first + k, 0), len(spectrum) - 1)] for k in range(4)]
        found[i] = np.polyval(np.polyfit(np.arange(4), points, 3), i + shift - first)
    return found
