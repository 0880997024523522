"""Scaling: what a compiled step exchanges between devices, and spectra per second predicted for 8, 64 and 256 chips.

The cost model, per step and chip, with B rows a chip, P parameters and n chips:

  step = compute + latency * 2 (n - 1) ^ (1 if n <= 8 else 1/2) + 2 (n - 1) / n * 4 P / link

compute is the measured step of one chip: rows never talk to each other, so it does not change with n. The third term
is a ring all-reduce of the one gradient array (reduce-scatter + all-gather of shared parameters move the same bytes),
not overlapped with compute, so the prediction is a floor of speed. The payload 4 P is checked against the bytes of
the collectives in the program that XLA compiled for 1 to 8 virtual devices.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from typing import Any, NamedTuple

DTYPE_BYTES = {"f32": 4, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "pred": 1, "u8": 1, "s8": 1}
# Bytes/s a chip can send over its links, and seconds a message takes: NVLink 4 inside a machine of eight, one
# 400 Gb/s port a chip between machines (makers' data sheets).
LINKS = {8: (450e9, 5e-6), 64: (50e9, 10e-6), 256: (50e9, 10e-6)}
KINDS = "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all"


class Collective(NamedTuple):
    """One exchange of a compiled program: its kind and the bytes it puts out on each device."""

    kind: str
    bytes: int


def collectives(program: str) -> list[Collective]:
    """All exchanges in the text of a compiled program."""
    found = []
    for shape, kind in re.findall(rf"= (.+?) ({KINDS})(?:-start)?\(", program):
        total = 0
        for dtype, sizes in re.findall(r"([a-z]+\d*)\[([\d,]*)\]", shape):
            count = 1
            for size in filter(None, sizes.split(",")):
                count *= int(size)
            total += DTYPE_BYTES[dtype] * count
        found.append(Collective(kind, total))
    return found


def predicted_step(compute_s: float, parameters: int, chips: int) -> float:
    """Seconds of a step on `chips` chips by the cost model above."""
    if chips == 1:
        return compute_s
    link, latency = LINKS[min(n for n in LINKS if n >= chips)]
    hops = (chips - 1) if chips <= 8 else (chips - 1) ** 0.5
    return compute_s + 2 * latency * hops + 2 * (chips - 1) / chips * 4 * parameters / link


def main(arguments: list[str] | None = None) -> list[dict]:
    from benchmarks import measure

    parser = measure.parser(__doc__)
    parser.add_argument("--batch", type=int, default=64, help="rows of each device")
    parser.add_argument("--length", type=int, default=144, help="energies of a spectrum")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8], help="virtual devices")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.small:
        options.batch, options.repeats, options.length, options.devices = 4, 2, 24, [2]
    if options.inside:
        print(json.dumps(_measure(options)))
        return []
    lines = []
    for devices in options.devices:
        found = _in_subprocess(options, devices)
        compute_s = found["median_ms"] / 1e3
        for kind in ("whole", "shared"):
            lines.append(_record(options, devices, kind, found))
        if devices == 1 or options.small:
            for chips in (8, 64, 256):
                step = predicted_step(compute_s, found["parameters"], chips)
                lines.append(
                    measure.record(
                        "scaling",
                        f"predicted, {chips} chips",
                        options,
                        median_ms=1e3 * step,
                        spectra_per_s=chips * options.batch / step,
                        efficiency=compute_s / step,
                        device=found["device"],
                        length=options.length,
                        batch=options.batch,
                    )
                )
    columns = {"median_ms": "ms", "spectra_per_s": "spectra/s", "efficiency": "efficiency"}
    columns |= {"gradient_bytes": "bytes", "expected_bytes": "expected", "exchanges": "exchanges"}
    measure.show(lines, columns)
    return lines


def _record(options: argparse.Namespace, devices: int, kind: str, found: dict) -> dict:
    from benchmarks import measure

    each = found[kind]
    return measure.record(
        "scaling",
        f"{devices} virtual, {kind}",
        options,
        median_ms=found["median_ms"] if kind == "whole" else None,
        spectra_per_s=devices * options.batch / found["median_ms"] * 1e3 if kind == "whole" else None,
        compile_s=each["compile_s"],
        peak_memory_bytes=each["peak_memory_bytes"],
        gradient_bytes=each["gradient_bytes"],
        expected_bytes=4 * found["parameters"] if devices > 1 else 0,
        exchanges=each["exchanges"],
        parameters=found["parameters"],
        device=found["device"],
        length=options.length,
        batch=options.batch,
    )


def _in_subprocess(options: argparse.Namespace, devices: int) -> dict:
    """The number of virtual devices is fixed when JAX starts, so each has a process of its own."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "-m", "benchmarks.scaling", "--inside", "--batch", str(options.batch)]
    command += ["--preset", options.preset, "--dtype", options.dtype, "--length", str(options.length)]
    command += ["--repeats", str(options.repeats), *(["--small"] if options.small else [])]
    environment = {**os.environ, "XLA_FLAGS": flags, "NPROC": "16", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{devices} virtual devices: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _measure(options: argparse.Namespace) -> dict:
    """What `devices` virtual devices compile and exchange, and the time of a step with whole parameters."""
    import jax

    from benchmarks import measure, workload
    from benchmarks.train_step import Running
    from spt_jax.training.sharding import Layout, make_mesh

    # That of the process which measures: the one that writes the line may see an accelerator.
    result: dict[str, Any] = {"device": measure.stamp()["device"]}
    for kind in ("whole", "shared"):
        config = workload.config_of(options.preset, options.dtype, options.small)
        layout = Layout(make_mesh(0 if kind == "shared" else 1))
        work = workload.make(config, options.batch * layout.devices, options.length, layout=layout)
        running, flat = Running(work.made.step, work.made.state(), layout.place_rows(work.batch)), work.made.flat
        found = collectives(running.program.as_text())
        large = [each.bytes for each in found if each.bytes >= flat.used]
        result[kind] = {
            "gradient_bytes": max(large, default=0),
            "exchanges": len(large),
            "compile_s": running.compile_s,
            "peak_memory_bytes": running.peak_memory_bytes,
        }
        if kind == "whole":
            result["median_ms"] = measure.interleaved({"step": running}, options.repeats)["step"].median_ms
            result["parameters"] = flat.used
    jax.block_until_ready(running())
    return result


if __name__ == "__main__":
    main()
