"""Weak scaling on this machine, each device with as many rows as one alone, and what is predicted for many chips."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks import measure
from benchmarks.scaling.measured import MESHES, in_processes, on_devices
from benchmarks.scaling.predict import AIM, AIM_CHIPS, CHIPS, exchanged, predict

COMPILED = Path(__file__).parents[1] / "results" / "pods.jsonl"


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = measure.parser(__doc__)
    parser.add_argument("--batch", type=int, default=64, help="rows of each device, measured")
    parser.add_argument("--length", type=int, default=144, help="energies of a spectrum, measured")
    parser.add_argument("--devices", type=int, nargs="*", default=[1, 2, 4, 8], help="virtual devices of one process")
    parser.add_argument("--meshes", nargs="+", choices=MESHES, default=list(MESHES), help="of virtual devices")
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2, 4], help="of one device each, on loopback")
    parser.add_argument("--predict", action="store_true", help="measure nothing")
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 256, 1024, 4096], help="of each chip, predicted")
    parser.add_argument(
        "--compiled", type=Path, default=COMPILED, metavar="FILE", help="what benchmarks.compile has written by --json"
    )
    options = parser.parse_args(arguments)
    if options.small:
        options.batch, options.repeats, options.length = 4, 2, 24
        options.devices, options.meshes, options.processes = [2], ["shared"], [2]
    lines = [] if options.predict else [*_virtual(options), *_processes(options)]
    if lines:
        columns = {"median_ms": "ms", "exchange_ms": "exchange", "spectra_per_s": "spectra/s", "kept": "kept"}
        columns |= {"inside": "sent inside", "between": "between", "count": "exchanges"}
        measure.show(lines, columns)
    if options.compiled.exists():
        lines += _predicted(options)
    return lines


def _virtual(options: argparse.Namespace) -> list[dict]:
    """kept: of the speed of one device, which has all cores as they have together."""
    lines, alone = [], None
    for devices in options.devices:
        for mesh in options.meshes:
            if mesh == "whole" or devices > MESHES[mesh][1]:
                found = on_devices(options, devices, mesh)
                speed = devices * options.batch / found["median_ms"] * 1e3
                alone = speed if devices == 1 else alone
                kept = speed / alone if alone else None
                lines.append(_record(options, f"{devices} virtual, {mesh}", found, speed, kept))
    return lines


def _processes(options: argparse.Namespace) -> list[dict]:
    """kept: of the speed of one process with one core, times the cores in use."""
    lines, alone = [], None
    for count in options.processes:
        found = in_processes(options, count)
        speed = count * options.batch / found["median_ms"] * 1e3
        alone = speed if count == 1 else alone
        cores = min(count, len(os.sched_getaffinity(0)))
        lines.append(_record(options, f"{count} processes", found, speed, speed / alone / cores if alone else None))
    return lines


def _record(options: argparse.Namespace, case: str, found: dict, speed: float, kept: float | None) -> dict:
    same = {"length": options.length, "batch": options.batch}
    return measure.record("scaling", case, options, **same, **found, spectra_per_s=speed, kept=kept)


def _predicted(options: argparse.Namespace) -> list[dict]:
    print(
        f"\nexchanges of steps compiled for many chips: bytes that each chip sends, as {options.compiled.name} has them"
    )
    columns = {"inside": "inside", "model_inside": "model", "between": "between", "model_between": "model"}
    measure.show(exchanged(measure.read(options.compiled)), columns | {"count": "exchanges"})
    lines = predict(options)
    print("\nstep of one chip, its exchange on 256, and the share of their speed that so many chips keep")
    columns = {"median_ms": "ms", "exchange_ms": "exchange", **{f"at_{chips}": f"{chips} chips" for chips in CHIPS}}
    columns |= {"rows_for_aim": f"rows for {AIM:.0%} on {AIM_CHIPS}"}
    measure.show([line | {"case": line["case"].removeprefix("predicted, ")} for line in lines], columns)
    return lines


if __name__ == "__main__":
    main()
