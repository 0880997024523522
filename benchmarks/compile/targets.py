"""Chips that programs are compiled for without being there: their names, how many, and what has to be installed."""

from __future__ import annotations

import math
import os
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

from benchmarks.compile import schedule
from benchmarks.peaks import DATA_SHEETS, Chip
from benchmarks.scaling import LINKS
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

    def title(self, chips: int) -> str:
        """What a result line names as its device."""
        return f"{self.label} x{chips} (compiled)"

    def link(self, chips: int) -> float | None:
        """Bytes/s that each device can send to the others."""
        if self.platform == "cuda" and chips > GPUS_OF_A_MACHINE:
            return LINKS[max(LINKS)][0]
        return self.chip.link * 1e9 if self.chip and self.chip.link else None

    def topology(self, chips: int) -> tuple[str, dict[str, Any]]:
        """Name and options of the smallest topology with so many devices."""
        if self.platform == "cuda":
            hosts = -(-chips // GPUS_OF_A_MACHINE)
            chip = self.chip
            topology = f"1x{hosts}x{min(chips, GPUS_OF_A_MACHINE)}"
            return self.name, hopper(self.kind, int(chip.bandwidth * 1e9), int(chip.memory * 1e9), topology)
        sides = list(self.smallest)
        while math.prod(sides) * self.devices < chips:
            shortest = max(axis for axis, side in enumerate(sides) if side == min(sides))
            sides[shortest] *= 2
        return f"{self.name}:{'x'.join(map(str, sides))}", {}


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


def find(name: str, chips: int = 1) -> Target:
    """Raises UserError for what is not in the table, or a number that no such machine has."""
    target = TARGETS.get(name.lower())
    if target is None:
        known = ", ".join(each.name for each in TARGETS.values())
        raise UserError(f"unknown target {name!r}; targets: {known}")
    if not 1 <= chips <= target.largest or chips & (chips - 1):
        raise UserError(f"{chips} chips of {target.name}: give a power of two up to {target.largest}")
    return target


def require(target: Target) -> None:
    """Raises MissingExtra where the target's compiler is not installed."""
    tpu = target.platform == "tpu"
    if find_spec("libtpu" if tpu else "jax_cuda12_plugin") is None or not (tpu or ptxas()):
        raise MissingExtra(target.extra, f"compiling for {target.name}")


@cache
def devices(target: Target, chips: int) -> list[Any]:
    """The devices of a target that is not there. Raises MissingExtra where its compiler is not installed."""
    require(target)
    if target.platform == "tpu":
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no chip is held: others may compile meanwhile
        schedule.dump_folder()  # schedules have to be asked for before libtpu is loaded
    prepare(target.platform)
    from jax.experimental import topologies

    name, options = target.topology(chips)
    return topologies.get_topology_desc(platform=target.platform, topology_name=name, **options).devices[:chips]
