"""What is known of one compiled program: what it moves, does, takes and how fast it can be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from benchmarks.compile.bound import Bound, bound
from benchmarks.compile.ptx import GpuKernel
from benchmarks.compile.schedule import SPILLS, Kernel
from benchmarks.compile.targets import Target
from benchmarks.compile.traffic import Collective, Traffic


@dataclass(frozen=True)
class Report:
    """One compiled program, on each of its devices. cycles: of a TPU, None elsewhere; kernels: one call of each."""

    target: Target
    chips: int
    dtype: str
    compile_s: float
    memory: dict[str, int]
    compiler_flops: float | None
    counted_flops: float | None
    traffic: Traffic
    kernels: list[Kernel] | list[GpuKernel]
    owners: dict[str, str]
    """Instruction -> the kernel that runs it."""
    slices: int = 1
    unscheduled: int = 0
    """Kernels that a TPU's program calls and whose schedule was not found: their cycles are missing."""

    @property
    def peak_bytes(self) -> int:
        """Memory that arguments, results and temporary arrays take together."""
        sizes = self.memory
        return sizes["arguments"] + sizes["results"] - sizes["aliased"] + sizes["temporary"]

    def by_kernel(self, counted: Counter[str]) -> Counter[str]:
        """What is counted by instruction (launches, bytes), by the kernel that runs it."""
        found: Counter[str] = Counter()
        for name, count in counted.items():
            found[self.owners.get(name, name)] += count
        return found

    @property
    def calls(self) -> Counter[str]:
        """How often each kernel runs. What no instruction runs, the program itself and its ends, counts once."""
        launches, owned = self.by_kernel(self.traffic.launches), set(self.owners.values())
        return Counter({each.name: launches[each.name] if each.name in owned else 1 for each in self.kernels})

    @property
    def cycles(self) -> int | None:
        if self.target.platform != "tpu" or not self.kernels:
            return None
        calls = self.calls
        return sum(calls[kernel.name] * kernel.cycles for kernel in self.kernels)

    @property
    def bound(self) -> Bound:
        return bound(
            self.target.chip,
            self.dtype,
            moved=self.traffic.bytes,
            flops=max(self.counted_flops or 0.0, self.traffic.flops),
            cycles=self.cycles,
            sent=sum(each.sent for each in self.traffic.collectives if not each.far),
            link=self.target.link(self.chips, self.slices),
            far=sum(each.sent for each in self.traffic.collectives if each.far),
            network=self.target.network,
        )

    def collectives(self) -> dict[str, Collective]:
        """Added up by kind; apart those between slices."""
        found: dict[str, Collective] = {}
        for each in self.traffic.collectives:
            name = f"{each.kind} between slices" if each.far else each.kind
            before = found.get(name, each._replace(bytes=0.0, sent=0.0))
            found[name] = before._replace(bytes=before.bytes + each.bytes, sent=before.sent + each.sent)
        return found

    def fields(self, batch: int | None = None) -> dict[str, Any]:
        """Of a result line."""
        limits, traffic = self.bound, self.traffic
        rows = self.kernel_rows()
        return {
            "compile_s": self.compile_s,
            "peak_memory_bytes": self.peak_bytes,
            "memory_bytes": self.memory,
            "chip_memory_bytes": self.target.chip and self.target.chip.memory * 1e9,
            "counted_flops": self.counted_flops,
            "compiler_flops": self.compiler_flops,
            "product_flops": traffic.flops,
            "moved_bytes": traffic.bytes,
            "staged_bytes": traffic.staged,
            "padding_share": traffic.padding / traffic.bytes if traffic.bytes else 0.0,
            "instructions": dict(traffic.kinds),
            "launches": traffic.launches.total(),
            "unknown_loops": traffic.unknown_loops + sum(not getattr(each, "known", True) for each in self.kernels),
            "unscheduled_kernels": self.unscheduled,
            "opaque_kernels": traffic.opaque_kernels,
            "collectives": {kind: [each.bytes, each.sent] for kind, each in self.collectives().items()},
            "collective_count": len(traffic.collectives),
            "cycles": self.cycles,
            "bound_seconds": limits.seconds,
            "bound_by": limits.binds,
            "bound_spectra_per_s": limits.per_second(batch),
            "kernels": rows,
        }

    def kernel_rows(self, most: int = 40) -> list[dict[str, Any]]:
        """The kernels that take most: cycles on a TPU, bytes on a GPU."""
        calls, moved = self.calls, self.by_kernel(self.traffic.moved)
        rows = []
        for each in self.kernels:
            row = {"name": each.name, "times": calls[each.name], "bytes": moved.get(each.name, 0.0)}
            if isinstance(each, Kernel):
                use = {unit: round(share, 3) for unit, share in each.use().items()}
                row |= {"cycles": row["times"] * each.cycles, "known": each.known, "use": use}
                row["spills"] = row["times"] * sum(each.filled.get(unit, 0) for unit in SPILLS)
            else:
                row |= each._asdict() | {"occupancy": each.occupancy()}
            rows.append(row)
        rows.sort(key=lambda row: (row.get("cycles", 0), row["bytes"]), reverse=True)
        return rows[:most]
