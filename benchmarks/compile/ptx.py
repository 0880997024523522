"""What a GPU's kernels take of a multiprocessor: registers, spills, shared memory, and so how many fit at once.

XLA writes each kernel's PTX, and a list of launches with grid, threads and shared memory. `ptxas -v`, NVIDIA's
assembler, says the rest. It knows nothing of time: a GPU's cycles are counted by nobody before it runs.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

ARCHITECTURE = "sm_90a"
# Of a Hopper multiprocessor.
REGISTERS, THREADS, BLOCKS, SHARED = 65536, 2048, 32, 233472
WARP, RESERVED = 32, 1024
"""Threads of a warp; bytes of shared memory that each block takes besides its own."""
_LAUNCH = re.compile(
    r"kCustomKernel .*?\] (\S+) grid: \[([\d, ]+)\] threads: \[([\d, ]+)\]\s+shared_memory: (\d+) bytes"
)
_NUMBERED = re.compile(r"^\s*(\d+): kCustomKernel .*?\] (\S+) grid", re.MULTILINE)
_PROPERTIES = re.compile(
    r"Compiling entry function '([^']+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers(.*?)\n",
    re.DOTALL,
)


class GpuKernel(NamedTuple):
    """Bytes of spills are of one thread, shared memory of one block. threads: of a block."""

    name: str
    registers: int
    spill_bytes: int
    shared_bytes: int
    threads: int | None
    blocks: int | None

    def occupancy(self) -> float | None:
        """Share of the threads that a multiprocessor can hold; None where the block's size is not known."""
        if not self.threads:
            return None
        warps = -(-self.threads // WARP)
        registers = warps * WARP * (-(-self.registers // 8) * 8)
        fitting = (REGISTERS // max(registers, 1), SHARED // (self.shared_bytes + RESERVED), THREADS // (warps * WARP))
        return min(*fitting, BLOCKS) * warps * WARP / THREADS


class Launch(NamedTuple):
    blocks: int
    threads: int
    shared_bytes: int


def read_launches(text: str) -> dict[str, Launch]:
    """Of XLA's list of thunks, by kernel."""
    return {
        name: Launch(_product(grid), _product(threads), int(shared))
        for name, grid, threads, shared in _LAUNCH.findall(text)
    }


def read_owners(sequence: str, metadata: str) -> dict[str, str]:
    """Instruction -> kernel: the same ones share a kernel. Of XLA's two lists of thunks, joined by their numbers."""
    kernels = {int(number): name for number, name in _NUMBERED.findall(sequence)}
    named = re.findall(r'profile_annotation: "([^"]+)"\s+thunk_id: (\d+)', metadata)
    return {name: kernels[int(number)] for name, number in named if int(number) in kernels}


def read_ptxas(text: str, launches: dict[str, Launch], ptx: str = "") -> list[GpuKernel]:
    """What `ptxas -v` said of the kernels of one file. ptx: its text, for blocks that no launch is known of."""
    found = []
    for name, _, stores, loads, registers, more in _PROPERTIES.findall(text):
        launch, static = launches.get(name), re.search(r"(\d+) bytes smem", more)
        shared = int(static[1]) if static else 0
        bound = re.search(rf"\.entry {re.escape(name)}\b.*?\.(?:reqntid|maxntid) ([\d, ]+)", ptx, re.DOTALL)
        threads = launch.threads if launch else (_product(bound[1]) if bound else None)
        # The list counts what the file declares and what is asked for at the launch together.
        shared = max(shared, launch.shared_bytes) if launch else shared
        spilled = int(stores) + int(loads)
        found.append(GpuKernel(name, int(registers), spilled, shared, threads, launch and launch.blocks))
    return found


def read_folder(folder: Path, ptxas: Path) -> tuple[list[GpuKernel], dict[str, str]]:
    """Every kernel whose PTX was written there, and which instruction runs which."""
    sequence, metadata = (
        "".join(path.read_text() for path in sorted(folder.glob(f"*thunk_{kind}.txt")))
        for kind in ("sequence", "metadata")
    )
    launches = read_launches(sequence)
    found: list[GpuKernel] = []
    for path in sorted(folder.glob("*.ptx")):
        ptx = path.read_text()
        if ".entry" not in ptx:
            continue
        command = [str(ptxas), "-v", f"-arch={ARCHITECTURE}", str(path), "-o", "/dev/null"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found += read_ptxas(done.stderr + done.stdout, launches, ptx)
    return found, read_owners(sequence, metadata)


def _product(sizes: str) -> int:
    total = 1
    for size in sizes.split(","):
        total *= int(size)
    return total
