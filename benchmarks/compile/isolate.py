"""A compilation in a process of its own, with limits: a compiler that takes all memory or all day takes nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.compile.request import Request

ROOT = Path(__file__).parents[2]
POLL_S = 0.2


class Limits(NamedTuple):
    """Gigabytes of the compiling process, and seconds that it may take."""

    memory_gb: float = 12.0
    time_s: float = 3600.0


def compile_alone(request: Request, limits: Limits, root: Path = ROOT) -> dict[str, Any]:
    """The fields of a result line; {"error": one line} where there are none. root: the checkout whose code it is."""
    with tempfile.TemporaryDirectory(prefix="compile-") as name:
        result, output = Path(name) / "result.json", Path(name) / "output.txt"
        command = [sys.executable, "-m", "benchmarks.compile.worker", json.dumps(request._asdict()), str(result)]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment["TMPDIR"] = name  # what a stopped compiler leaves goes with it
        with open(output, "wb") as file:
            process = subprocess.Popen(command, cwd=root, env=environment, stdout=file, stderr=file)
        try:
            stopped, most = _watch(process, limits)
        finally:
            process.kill()
            process.wait()
        more = {"compiler_memory_bytes": most or None}
        if stopped:
            return {"error": stopped, **more}
        if process.returncode == 0 and result.exists():
            return {"error": None, **json.loads(result.read_text()), **more}
        said = [line.strip() for line in output.read_text(errors="replace").splitlines() if line.strip()]
        return {"error": said[-1] if said else f"the compiler ended with status {process.returncode}", **more}


def _watch(process: subprocess.Popen, limits: Limits) -> tuple[str | None, int]:
    """Wait for a process: why it has to be stopped (None where it ended), and the most memory it was seen to take."""
    began, most = time.monotonic(), 0
    while process.poll() is None:
        most = max(most, resident_bytes(process.pid))
        seconds = time.monotonic() - began
        if most > limits.memory_gb * 1e9:
            return f"stopped at its limit of {limits.memory_gb:g} GB of memory after {seconds:.0f} s (--memory)", most
        if seconds > limits.time_s:
            return f"stopped at its limit of {limits.time_s:g} s (--time)", most
        time.sleep(POLL_S)
    return None, most


def resident_bytes(pid: int) -> int:
    """Memory that a process holds; 0 where the system does not tell."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
