"""Chips that programs are compiled for without being there: their names, how many, and what has to be installed."""

from __future__ import annotations

import math
import os
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

from benchmarks.compile import schedule
from benchmarks.peaks import DATA_SHEETS, Chip
from data_pipelines.errors import MissingExtra, UserError
from spt_jax.runs.targets import hopper, prepare, ptxas

GPUS_OF_A_MACHINE = 8


class Target(NamedTuple):
    """kind: its device as JAX and `peaks.DATA_SHEETS` name it. smallest: topology, in chips. devices: of a chip."""

    name: str
    label: str
    platform: str
    kind: str
    smallest: tuple[int, ...] = ()
    devices: int = 1
    largest: int = 256

    @property
    def chip(self) -> Chip | None:
        return DATA_SHEETS.get(self.kind)

    @property
    def extra(self) -> str:
        return "aot-tpu" if self.platform == "tpu" else "aot-gpu"

    def title(self, chips: int, slices: int = 1) -> str:
        """What a result line names as its device."""
        return f"{self.label} x{chips}{f' in {slices} slices' if slices > 1 else ''} (compiled)"

    @property
    def network(self) -> float | None:
        """Bytes/s that each device can send to other slices or machines."""
        return self.chip.network * 1e9 if self.chip and self.chip.network else None

    def link(self, chips: int, slices: int = 1) -> float | None:
        """Bytes/s that each device can send to the others of its slice."""
        if self.platform == "cuda" and chips // slices > GPUS_OF_A_MACHINE:
            return self.network
        return self.chip.link * 1e9 if self.chip and self.chip.link else None

    def topology(self, chips: int, slices: int = 1) -> tuple[str, dict[str, Any]]:
        """Name and options of the smallest topology with so many devices."""
        if self.platform == "cuda":
            inside = min(chips // slices, GPUS_OF_A_MACHINE)
            chip, topology = self.chip, f"1x{-(-chips // inside)}x{inside}"
            return self.name, hopper(self.kind, int(chip.bandwidth * 1e9), int(chip.memory * 1e9), topology)
        sides = self.sides(chips // slices)
        return f"{self.name}:{'x'.join(map(str, sides))}", {"num_slices": slices} if slices > 1 else {}

    def sides(self, chips: int) -> tuple[int, ...]:
        """Of the smallest torus with so many devices."""
        sides = list(self.smallest)
        while math.prod(sides) * self.devices < chips:
            shortest = max(axis for axis, side in enumerate(sides) if side == min(sides))
            sides[shortest] *= 2
        return tuple(sides)


TARGETS = {
    target.name.lower(): target
    for target in (
        Target("v5e", "TPU v5e", "tpu", "TPU v5 lite", (2, 2)),
        Target("v5p", "TPU v5p", "tpu", "TPU v5", (2, 2, 1), largest=4096),
        Target("v6e", "TPU v6e", "tpu", "TPU v6 lite", (2, 2)),
        Target("tpu7x", "TPU7x core", "tpu", "TPU7x", (2, 2, 1), devices=2, largest=4096),
        Target("H100", "NVIDIA H100", "cuda", "NVIDIA H100 80GB HBM3"),
        Target("H200", "NVIDIA H200", "cuda", "NVIDIA H200"),
    )
}


def find(name: str, chips: int = 1, slices: int = 1) -> Target:
    """Raises UserError for what is not in the table, or a number that no such machine has."""
    target = TARGETS.get(name.lower())
    if target is None:
        known = ", ".join(each.name for each in TARGETS.values())
        raise UserError(f"unknown target {name!r}; targets: {known}")
    if slices < 1 or chips % slices:
        raise UserError(f"{chips} chips of {target.name} do not make {slices} slices of one size")
    inside = chips // slices
    if not 1 <= inside <= target.largest or inside & (inside - 1):
        each = " a slice" if slices > 1 else ""
        raise UserError(f"{inside} chips of {target.name}{each}: give a power of two up to {target.largest}")
    if target.platform == "tpu" and slices > 1 and inside < math.prod(target.smallest) * target.devices:
        raise UserError(f"a slice of {target.name} has {math.prod(target.smallest) * target.devices} devices at least")
    return target


def require(target: Target) -> None:
    """Raises MissingExtra where the target's compiler is not installed."""
    tpu = target.platform == "tpu"
    if find_spec("libtpu" if tpu else "jax_cuda12_plugin") is None or not (tpu or ptxas()):
        raise MissingExtra(target.extra, f"compiling for {target.name}")


@cache
def devices(target: Target, chips: int, slices: int = 1) -> list[Any]:
    """The devices of a target that is not there. Raises MissingExtra where its compiler is not installed."""
    require(target)
    if target.platform == "tpu":
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no chip is held: others may compile meanwhile
        schedule.dump_folder()  # schedules have to be asked for before libtpu is loaded
    prepare(target.platform)
    from jax.experimental import topologies

    name, options = target.topology(chips, slices)
    return topologies.get_topology_desc(platform=target.platform, topology_name=name, **options).devices[:chips]
