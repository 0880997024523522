"""How what a model of spectrum images says becomes answers: fitted on calculated edges as they may be measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from spt_jax.scoring.calibration import fit_temperature

# Calculated edges lie within the limits with this probability.
WITHIN = 0.995
# A row that is at least so much of one class is one of it.
PURE = 0.999
# Directions of the latent space that nothing varies along must not count for everything.
LEAST = 1e-2


@dataclass(frozen=True)
class PhaseDecisions:
    """temperature divides the logits of classes. centres: (C, Z) of pure edges of each class. precision: (Z, Z), inverse
    covariance of these about their centres. farthest: distance from the nearest centre that WITHIN of all calculated edges,
    mixtures too, do not exceed. worst: the same of the misfit of the decoded edge."""

    temperature: float
    centres: tuple[tuple[float, ...], ...]
    precision: tuple[tuple[float, ...], ...]
    farthest: float
    worst: float

    @classmethod
    def fit(
        cls, logits: np.ndarray, latent: np.ndarray, misfit: np.ndarray, kind: np.ndarray, share: np.ndarray
    ) -> PhaseDecisions:
        """logits (N, C), latent (N, Z), misfit (N,), kind (N,) and share (N, C) of calculated rows that were not trained on
        as they are."""
        temperature = fit_temperature(_softmax(logits), kind)
        pure = share.max(axis=1) >= PURE
        centres = np.zeros((logits.shape[1], latent.shape[1]))
        away = []
        for i in range(len(centres)):
            own = latent[pure & (kind == i)]
            own = own if len(own) else latent[kind == i]
            centres[i] = own.mean(axis=0) if len(own) else latent.mean(axis=0)
            away.append(own - centres[i])
        spread = np.cov(np.concatenate(away).T) if len(latent) > 2 else np.eye(latent.shape[1])
        precision = np.linalg.inv(spread + LEAST * np.eye(len(spread)))
        found = cls(float(temperature), _nested(centres), _nested(precision), 1.0, 1.0)
        farthest, worst = (max(float(np.quantile(each, WITHIN)), LEAST) for each in (found.distance(latent), misfit))
        return cls(found.temperature, found.centres, found.precision, farthest, worst)

    def probability(self, logits: np.ndarray) -> np.ndarray:
        """(..., C) calibrated."""
        return _softmax(logits / self.temperature)

    def distance(self, latent: np.ndarray) -> np.ndarray:
        """(...,) from the nearest centre, in standard deviations."""
        away = latent[..., None, :] - np.array(self.centres)
        square = np.einsum("...cz,zy,...cy->...c", away, np.array(self.precision), away)
        return np.sqrt(square.min(axis=-1))

    def unlike(self, latent: np.ndarray, misfit: np.ndarray | None = None) -> np.ndarray:
        """(...,) above 1 where a row is further from, or fits worse than, what is calculated ever does."""
        far = self.distance(latent) / self.farthest
        return far if misfit is None else np.maximum(far, misfit / self.worst)

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict) -> PhaseDecisions:
        rows = {name: _nested(np.array(document[name])) for name in ("centres", "precision")}
        return cls(**{**document, **rows})


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _nested(array: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in array.tolist())
