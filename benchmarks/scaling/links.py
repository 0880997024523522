"""What an exchange between chips takes: figures of links, each with its source, and the cost model over them.

A gradient of V bytes is added up over n chips of a slice by a pass that leaves each chip an n-th of it (reduce-scatter)
and one that brings it all to each (all-gather), be they one instruction or two. A pass takes

  latency of its hops + V (n - 1) / n / rate

with all of the rate that a chip has to its neighbours. Between s slices goes V / n of each chip. Nothing overlaps with
anything: the gradient is whole only when the backward pass is done. All figures are the darker of those that are known.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from benchmarks.compile.targets import GPUS_OF_A_MACHINE, Target


class Links(NamedTuple):
    """link: bytes/s of a chip in one direction, of a TPU over one link. hop, start: seconds of a step from chip to chip,
    and of an operation whatever its size. far_rate, far_hop: the same between slices, bytes/s of each chip."""

    link: float
    hop: float
    start: float
    far_rate: float
    far_hop: float
    ring: int = 0
    """Of a TPU: sides of a torus of this length are closed to a ring."""


# TPU v5e. Links: 400 GB/s in both directions over four of them (cloud.google.com/tpu/docs/v5e), so 50 each way; an
# all-gather of 34 MB over four chips in a row was measured at 680 us, of 131 kB at 8 us (jax-ml.github.io/scaling-book,
# "Sharding", quiz 2): 37 GB/s and 2.7 us a hop, where the book's model says 1 us. Rings at 16 (the same, "TPUs").
# Network: 6.4 Tb/s a pod of 256 chips. Its latency is not published: 100 us from chip to chip, through two hosts, are
# assumed.
# H100, H200. NVLink: 450 GB/s each way by the data sheet, 370 at best measured over eight (scaling-book, "GPUs"); one
# 400 Gb/s port a GPU. Latencies are those NCCL chooses its algorithms by (src/graph/tuning.cc, 2026): 8.4 us to
# start, 3.4 a hop of a ring over NVLink, 14 a hop of a tree over the network.
_HOPPER = Links(370e9, 3.4e-6, 8.4e-6, 50e9, 14e-6)
LINKS = {"v5e": Links(37e9, 2.7e-6, 0.0, 3.125e9, 100e-6, ring=16), "H100": _HOPPER, "H200": _HOPPER}


def slices_of(target: Target, chips: int) -> int:
    """Pods or machines that so many chips fill, each a slice of the mesh."""
    largest = target.largest if target.platform == "tpu" else GPUS_OF_A_MACHINE
    return -(-chips // largest)


def pass_s(target: Target, chips: int, nbytes: float) -> float:
    """Seconds of a reduce-scatter, or of an all-gather, of so many bytes over the chips of one slice."""
    links, sides = LINKS[target.name], [chips]
    hops, rate = chips - 1, links.link
    if target.platform == "tpu":
        sides = [side for side in target.sides(chips) if side > 1]
        closed = [side % links.ring == 0 for side in sides]
        hops = sum(side // 2 if ring else side - 1 for side, ring in zip(sides, closed, strict=True))
        rate = links.link * sum(2 if ring else 1 for ring in closed)
    return links.start + hops * links.hop + nbytes * (chips - 1) / chips / rate if chips > 1 else 0.0


def between_s(target: Target, slices: int, nbytes: float) -> float:
    """Seconds in which so many bytes of each chip are added up over slices: by a tree, or of TPUs from each to each."""
    if slices == 1:
        return 0.0
    links = LINKS[target.name]
    hops = 2 * (1 if target.platform == "tpu" else math.ceil(math.log2(slices)))
    return links.start + hops * links.far_hop + 2 * nbytes * (slices - 1) / slices / links.far_rate


def exchange_s(target: Target, chips: int, nbytes: float) -> float:
    """Seconds in which a gradient of so many bytes is added up over all chips."""
    slices = slices_of(target, chips)
    inside = chips // slices
    return passes(target, slices) * pass_s(target, inside, nbytes) + between_s(target, slices, nbytes / inside)


def passes(target: Target, slices: int) -> int:
    """Over the chips of a slice. A TPU's compiler makes an all-reduce of the one before other slices are asked."""
    return 3 if target.platform == "tpu" and slices > 1 else 2
