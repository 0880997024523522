"""The service of `spt-jax serve` under load, and how long a file takes from its bytes to its answer.

`python -m benchmarks.serve`. The service is a process of its own; the clients, one of which waits for each answer before
it asks again, are in this one, and take part of the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks import measure
from data_pipelines.library import EXAMPLE
from data_pipelines.readers.spectrum import read_spectrum
from spt_jax.app.desk import Desk, pieces
from spt_jax.app.given import Told, read_upload

COLUMNS = {"median_ms": "p50 ms", "p99_ms": "p99 ms", "spectra_per_s": "requests/s", "cpu_ms": "CPU ms"}
CONNECTIONS = (1, 64)


def main(argv: list[str] | None = None) -> None:
    options = measure.parser(__doc__, preset="spt-k")
    options.add_argument("--files", type=Path, default=None, help="folder of spectrum files; else one of FEFF's")
    options.add_argument("--seconds", type=float, default=5.0, help="of each case")
    options.add_argument("--processes", type=int, default=1, help="of the service")
    options = options.parse_args(argv)
    seconds = 0.5 if options.small else options.seconds
    lines = served(options, seconds) + from_files(options, seconds)
    measure.show(lines, COLUMNS)


def served(options: argparse.Namespace, seconds: float) -> list[dict]:
    """Result lines of the service: what was calculated and what was measured, by one client and by many."""
    own, lines = read_spectrum(EXAMPLE), []
    given = {"element": own.element, "energy": own.energy.tolist(), "mu": own.mu.tolist()}
    line = [sys.executable, "-m", "spt_jax.launch", "serve", options.preset, "--port", "0"]
    line += ["--processes", str(options.processes)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        try:
            place = process.stdout.readline().split()[0].rpartition("/")[2].split(":")
            for kind in ("theory", "measured"):
                body = json.dumps({"spectra": [given], "as": kind}).encode()
                for count in CONNECTIONS:
                    asyncio.run(_clients(place, body, count, seconds / 5))
                    began, before = time.perf_counter(), _cpu_ms(process.pid)
                    times = asyncio.run(_clients(place, body, count, seconds))
                    passed, cpu = time.perf_counter() - began, _cpu_ms(process.pid) - before
                    case = f"{kind}, {count} client{'s' if count > 1 else ''}"
                    case += f", {options.processes} processes" if options.processes > 1 else ""
                    lines.append(_line(options, case, times, len(times) / passed, len(own.energy), cpu / len(times)))
        finally:
            process.terminate()
    return lines


def _cpu_ms(pid: int) -> float:
    """Of a process and those that it began, so far; NaN where the system does not say it so."""
    place = Path(f"/proc/{pid}/stat")
    if not place.exists():
        return math.nan
    fields = place.read_text().rpartition(")")[2].split()
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return 1e3 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(
        _cpu_ms(int(each)) for each in below
    )


async def _clients(place: list[str], body: bytes, count: int, seconds: float) -> list[float]:
    """ms of each answer."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    head = (
        f"POST /predict HTTP/1.1\r\nHost: {place[0]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )

    async def client() -> None:
        reader, writer = await asyncio.open_connection(*place)
        while time.perf_counter() < until:
            began = time.perf_counter()
            writer.write(f"{head}\r\n\r\n".encode() + body)
            said = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            answer = await reader.readexactly(int(said.partition("content-length: ")[2].split()[0]))
            if " 200 " not in said.splitlines()[0] or b'"error"' in answer:
                raise SystemExit(f"no answer: {said.splitlines()[0]} {answer[:200]!r}")
            times.append(1e3 * (time.perf_counter() - began))
        writer.close()

    await asyncio.gather(*(client() for _ in range(count)))
    return times


def from_files(options: argparse.Namespace, seconds: float) -> list[dict]:
    """Result lines of files, read in this process: one at a time, and all together."""
    paths = sorted(path for path in options.files.rglob("*") if path.is_file()) if options.files else [EXAMPLE]
    files = [(path.name, path.read_bytes()) for path in paths]
    desk, times, lines = Desk(options.preset), [], []
    answered = [file for file in files if not any(each.error for each in _ask(desk, read_upload(desk, *file, Told())))]
    until, before = time.perf_counter() + seconds, time.process_time()
    while time.perf_counter() < until or len(times) < len(answered):
        began = time.perf_counter()
        _ask(desk, read_upload(desk, *answered[len(times) % len(answered)], Told()))
        times.append(1e3 * (time.perf_counter() - began))
    name = "measured files" if options.files else "FEFF's file"
    cpu = 1e3 * (time.process_time() - before) / len(times)
    lines.append(_line(options, f"{name}, one at a time", times, 1e3 / statistics.mean(times), None, cpu))
    many = (answered * (1 + 200 // len(answered)))[: 20 if options.small else 200]
    began, before = time.perf_counter(), time.process_time()
    _ask(desk, [spectrum for file in many for spectrum in read_upload(desk, *file, Told())])
    passed = time.perf_counter() - began
    cpu = 1e3 * (time.process_time() - before) / len(many)
    lines.append(_line(options, f"{name}, together", [1e3 * passed / len(many)], len(many) / passed, None, cpu))
    desk.close()
    return lines


def _ask(desk: Desk, spectra: list) -> list:
    return [said for asked in [desk.ask(piece) for piece in pieces(spectra)] for said in asked.result()]


def _line(
    options: argparse.Namespace, case: str, times: list[float], speed: float, length: int | None, cpu: float
) -> dict:
    """cpu: ms of all cores together that an answer takes; on a machine that others use too, the number to go by."""
    spread = {"median_ms": statistics.median(times), "p99_ms": float(np.percentile(times, 99))}
    return measure.record(
        "serve", case, options, length=length, batch=1, calls=len(times), spectra_per_s=speed, cpu_ms=cpu, **spread
    )


if __name__ == "__main__":
    main()
