"""The gradient noise scale: of a larger batch than that most rows, and most chips, bring little."""

from __future__ import annotations


def noise_scale(batch: int, parts: int, part_square: float, square: float, rows: float) -> float | None:
    """tr(Sigma) / |G|^2 in rows, Sigma the covariance of one row's gradient and G the mean (McCandlish et al. 2018, arXiv
    1812.06162, appendix A.1).

    From the mean square of the gradient of a batch and of those of the `parts` that it was computed in, on devices or one
    after the other. rows: of an epoch, in which no row comes twice: so parts have less in common than if each were drawn
    anew, by tr(Sigma) / rows. None where there is one part, or too much noise to tell.

    >>> noise_scale(64, 8, 1 + 100 / 8, 1 + 100 / 64, rows=float("inf"))
    100.0
    """
    if parts == 1:
        return None
    part = batch / parts
    spread = (part_square - square) / (1 / part - 1 / batch)
    common = (batch * square - part * part_square) / (batch - part) + spread / rows
    return spread / common if spread > 0 and common > 0 else None
