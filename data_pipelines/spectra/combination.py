"""Linear combination fit: which shares of measured references make up a spectrum, as the field does it.

The spectrum is normalised, so are the references, all on the same energies, and fractions that are not negative are
fitted by least squares (Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23). They are not forced to a
sum of 1: how far the sum is off tells of a missing reference or a poor normalisation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from data_pipelines.errors import SpectrumError

# Condition number of the references, each scaled to length 1, from which on they are told to be collinear (Belsley, Kuh
# and Welsch, Regression Diagnostics, 1980: moderate to strong from 30 on).
COLLINEAR = 30.0
# Residuals that go on alike from point to point count as so many fewer; no correlation above this is believed, eV apart.
MOST_ALIKE = 0.95
# An energy scale that is told to be off: by so many eV, where moving it takes away this share of the squared residual.
OFF_EV, OFF_SHARE = 0.1, 0.5


class Combination(NamedTuple):
    """(R,) `fractions` of R references, and one standard `errors` of each; total: their sum, with total_error.

    r_factor: squared residual over squared mu. residual: its root mean square, edge steps. condition: number of the
    references, each scaled to length 1. shift: eV by which the spectrum seems to lie above the references, to first
    order; shift_gain: the share of the squared residual that it would take away. fit: (N,).
    """

    fractions: np.ndarray
    errors: np.ndarray
    total: float
    total_error: float
    r_factor: float
    residual: float
    condition: float
    shift: float
    shift_gain: float
    fit: np.ndarray

    @property
    def doubts(self) -> dict[str, str]:
        """What makes the fractions doubtful: a short name, and a sentence."""
        told = {}
        if self.condition > COLLINEAR:
            told["references are collinear"] = (
                f"references are collinear (condition number {self.condition:.0f}): fractions may be exchanged among them"
            )
        if abs(self.shift) > OFF_EV and self.shift_gain > OFF_SHARE:
            told["energies seem to be off those of the references"] = (
                f"seems to lie {self.shift:+.2f} eV off the references, which would explain {100 * self.shift_gain:.0f} % of "
                "what the fit leaves: is it one energy scale?"
            )
        return told


def combination(
    energy: np.ndarray,
    mu: np.ndarray,
    references: np.ndarray,
    doubt: float = 0.0,
    reference_doubt: np.ndarray | float = 0.0,
) -> Combination:
    """(N,) energy in eV, (N,) normalised mu and (R, N) normalised references on the same energies -> Combination.

    doubt, reference_doubt: standard errors of the edge steps of mu and of the (R,) references, as shares of them.

    Errors are of the least squares: s^2 (A^T A)^-1 over the references that take part, s^2 the squared residual over the
    degrees of freedom, times (1 + r) / (1 - r) for residuals whose neighbours are correlated by r. That of a fraction of
    0 is what it would be if the reference took part. A wrong edge step scales fractions: its doubt times the fraction is
    added in squares. Errors know nothing of missing references and wrong energies, and of a normalisation only its step:
    noise bends its lines before and after the edge too, by which small shares stray further than their errors say.
    Raises SpectrumError where there are fewer energies than twice the references.
    """
    columns = references.T
    count, several = columns.shape
    if count < 2 * several + 2:
        raise SpectrumError("too few points", f"{count} energies for a fit of {several} references")
    fractions, _ = nnls(columns, mu)
    fit = columns @ fractions
    left = mu - fit
    taking = fractions > 0
    variance = left @ left / (count - max(taking.sum(), 1)) * _inflation(left)
    errors = np.zeros(several)
    for each in range(several):
        own = taking | (np.arange(several) == each)
        covariance = variance * np.linalg.pinv(columns[:, own].T @ columns[:, own])
        errors[each] = np.sqrt(covariance[np.flatnonzero(own) == each, np.flatnonzero(own) == each][0])
    together = variance * np.linalg.pinv(columns[:, taking].T @ columns[:, taking])
    of_steps = (fractions * reference_doubt) ** 2
    total = fractions.sum()
    scaled = columns / np.linalg.norm(columns, axis=0)
    shift, gain = _shift(energy, columns[:, taking], fit, left)
    return Combination(
        fractions,
        np.sqrt(errors**2 + of_steps + (fractions * doubt) ** 2),
        float(total),
        float(np.sqrt(together.sum() + of_steps.sum() + (total * doubt) ** 2)),
        float(left @ left / (mu @ mu)),
        float(np.sqrt(left @ left / count)),
        float(np.linalg.cond(scaled)),
        shift,
        gain,
        fit,
    )


def _inflation(left: np.ndarray) -> float:
    """What the variance of a mean of numbers is multiplied by where neighbours are alike: as of an AR(1) process."""
    square = left @ left
    alike = np.clip(left[1:] @ left[:-1] / square, 0, MOST_ALIKE) if square > 0 else 0.0
    return float((1 + alike) / (1 - alike))


def _shift(energy: np.ndarray, columns: np.ndarray, fit: np.ndarray, left: np.ndarray) -> tuple[float, float]:
    """mu(E) = fit(E - shift) to first order: the derivative of the fit as one more term, which may be negative."""
    square = left @ left
    if not columns.shape[1] or not square > 0:
        return 0.0, 0.0
    terms = np.column_stack([columns, -np.gradient(fit, energy)])
    found, *_ = np.linalg.lstsq(terms, left, rcond=None)
    rest = left - terms @ found
    return float(found[-1]), float(1 - rest @ rest / square)
