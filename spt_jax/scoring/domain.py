"""Whether a spectrum is of the kind that a model learnt from, and which of the spectra it learnt from are nearest.

Small networks learnt to tell training spectra, as measurements change them, from spectra that are none (`spt_jax/training/
domain.py`). Their mean output less what 95 % of the validation spectra stay below is the strangeness: above 0, the spectrum
is unlike what was learnt. What they were never shown they may still know as strange; how often: docs/measured.md.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.structures.cluster import Clusters
from spt_jax.scoring.open_end import OpenEnd

# How its arrays lie in a file. A coefficient in half precision is off by less than 0.002 edge steps.
STORED: dict[str, type] = {
    "mean": np.float32,
    "std": np.float32,
    "elements": np.uint8,
    "components": np.float32,
    "coefficients": np.float16,
    "atomic_number": np.uint8,
}
OPEN_END = ("mean", "components", "widths")
# Of validation spectra, the share that is called strange.
FALSE_ALARMS = 0.05


class Neighbour(NamedTuple):
    """A spectrum of the training set. distance: root mean square of the difference, in edge steps. row: its place in the
    `Domain`."""

    material: str
    distance: float
    row: int = -1


@dataclass(frozen=True)
class Domain:
    """mean, std: (P,) of the training spectra at the energies that every spectrum has. elements: (E,) atomic numbers.

    nets: of each, its layers as (in, out) weights and (out,) biases. thresholds: of the mean output, where the element is
    told and where it is not. components: (K, P) orthonormal, and coefficients: (N, K) of the training spectra less their
    mean; materials, for people, and (N,) atomic_number of these. clusters: what surrounds their absorbers; None where it was
    packed without. open_end: what may be expected beyond the end of a spectrum; None where none may end early.
    """

    mean: np.ndarray
    std: np.ndarray
    elements: np.ndarray
    nets: tuple[tuple[tuple[np.ndarray, np.ndarray], ...], ...]
    thresholds: tuple[float, float]
    components: np.ndarray
    coefficients: np.ndarray
    atomic_number: np.ndarray
    materials: tuple[str, ...]
    clusters: Clusters | None = None
    open_end: OpenEnd | None = None

    def parts(self) -> tuple[dict, dict[str, np.ndarray]]:
        """As JSON, and as arrays by name, for a file."""
        arrays = {name: getattr(self, name).astype(dtype) for name, dtype in STORED.items()}
        for i, net in enumerate(self.nets):
            for k, (weights, bias) in enumerate(net):
                arrays[f"net/{i}/{k}/weights"] = weights.astype(np.float16)
                arrays[f"net/{i}/{k}/bias"] = bias.astype(np.float32)
        text = zlib.compress("\n".join(self.materials).encode(), 9)
        arrays["materials"] = np.frombuffer(text, np.uint8)
        document: dict[str, Any] = {"thresholds": self.thresholds, "layers": [len(net) for net in self.nets]}
        if self.clusters:
            document["cluster_step"], arrays["clusters"] = self.clusters.step, self.clusters.compressed()
        if self.open_end:
            document["residual"] = self.open_end.residual
            for name in OPEN_END:
                arrays[f"open_end/{name}"] = getattr(self.open_end, name).astype(np.float32)
        return document, arrays

    @classmethod
    def of_parts(cls, document: dict, arrays: Mapping[str, np.ndarray]) -> Domain:
        """Of what `parts` gave. Raises KeyError where something is missing. Files from before there were clusters and open
        ends have none."""

        def layer(i: int, k: int) -> tuple[np.ndarray, np.ndarray]:
            return arrays[f"net/{i}/{k}/weights"].astype(np.float32), arrays[f"net/{i}/{k}/bias"]

        nets = tuple(tuple(layer(i, k) for k in range(count)) for i, count in enumerate(document["layers"]))
        own: dict[str, Any] = {
            name: arrays[name].astype(np.float32 if STORED[name] is np.float16 else STORED[name]) for name in STORED
        }
        materials = zlib.decompress(arrays["materials"].tobytes()).decode().split("\n")
        own |= {"nets": nets, "thresholds": tuple(document["thresholds"]), "materials": tuple(materials)}
        if "clusters" in arrays:
            step = document["cluster_step"]
            own["clusters"] = Clusters.of_compressed(arrays["clusters"], len(materials), step)
        if "residual" in document:
            known = {name: arrays[f"open_end/{name}"] for name in OPEN_END}
            own["open_end"] = OpenEnd(residual=document["residual"], elements=own["elements"], **known)
        return cls(**own)

    def strangeness(self, spectrum: Any, atomic_number: Any, measured: bool = False) -> Any:
        """(N, L) spectra on the grid and (N,) atomic numbers -> (N,), above 0 where it is unlike what was learnt. Arrays
        of numpy or jax.

        measured: the networks are not told of the element. Of what few training spectra of an element show, a measured
        spectrum of it may differ in what is the measurement's.
        """
        is_element = (atomic_number[:, None] == self.elements) & (not measured)
        given = inputs(spectrum[:, : len(self.mean)], is_element, self.mean, self.std)
        return sum(_output(net, given) for net in self.nets) / len(self.nets) - self.thresholds[measured]

    def with_false_alarms(self, spectrum: np.ndarray, atomic_number: np.ndarray, share: float = FALSE_ALARMS) -> Domain:
        """The same with the thresholds above which this share of held-out spectra lies."""
        raw = replace(self, thresholds=(0.0, 0.0))
        each = [
            np.quantile(raw.strangeness(spectrum, atomic_number, measured), 1 - share) for measured in (False, True)
        ]
        return replace(self, thresholds=(float(each[0]), float(each[1])))

    def nearest(self, spectrum: np.ndarray, atomic_number: int, count: int = 3) -> tuple[Neighbour, ...]:
        """(L,) spectrum on the grid -> the nearest training spectra of its element, of as many materials."""
        off = spectrum[: len(self.mean)] - self.mean
        own = self.components @ off
        rows = np.flatnonzero(self.atomic_number == atomic_number)
        # What the components leave of the spectrum is away from every training spectrum.
        square = ((self.coefficients[rows] - own) ** 2).sum(axis=1) + max(off @ off - own @ own, 0.0)
        found: dict[str, Neighbour] = {}
        for i in np.argsort(square, kind="stable"):
            row = rows[i]
            if self.materials[row] not in found:
                distance = float(np.sqrt(square[i] / len(self.mean)))
                found[self.materials[row]] = Neighbour(self.materials[row], distance, int(row))
            if len(found) == count:
                break
        return tuple(found.values())

    def spectrum(self, row: int) -> np.ndarray:
        """(P,) mu of a training spectrum, as far as the components hold it."""
        return self.mean + self.coefficients[row] @ self.components


def inputs(spectrum: Any, is_element: Any, mean: np.ndarray, std: np.ndarray) -> Any:
    """(N, P) spectra, (N, E) bool whose they are, none where it is not told -> (N, 2 P + E + 1) of a net: standardised,
    their slopes, and the element. Arrays of numpy or jax."""
    xp = spectrum.__array_namespace__()
    slope = xp.gradient(spectrum, axis=1) / std.mean()
    whose = xp.concatenate([is_element, ~is_element.any(axis=1, keepdims=True)], axis=1)
    return xp.concatenate([(spectrum - mean) / std, slope, whose], axis=1)


def _output(net: Sequence[tuple[np.ndarray, np.ndarray]], given: Any) -> Any:
    """(N, F) -> (N,)."""
    for weights, bias in net[:-1]:
        given = given @ weights + bias
        given = given * (given > 0)
    weights, bias = net[-1]
    return (given @ weights + bias)[:, 0]
