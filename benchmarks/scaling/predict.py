"""Efficiency on many chips: compute as the compiler of one chip bounds it, and the exchange by the model of `links`.

  efficiency = compute / (compute + exchange)

A bound is the least that compute takes, so of what the model knows the efficiency is the least too. Compute is linear
in the rows of a chip, through two batches that were compiled; beyond them the line is drawn on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import numpy as np

from benchmarks import measure, workload
from benchmarks.compile.targets import TARGETS, Target
from benchmarks.scaling.links import LINKS, exchange_s, passes, slices_of

CHIPS = (64, 256, 1024)
AIM, AIM_CHIPS = 0.95, 256


class Compute(NamedTuple):
    """Seconds of a step on one chip: fixed + rows * each."""

    fixed: float
    each: float

    def seconds(self, rows: float) -> float:
        return self.fixed + rows * self.each

    def rows(self, seconds: float) -> int:
        """Of a step that takes so long at least."""
        return max(int(np.ceil((seconds - self.fixed) / self.each)), 1)


def compute_of(points: dict[int, float]) -> Compute | None:
    """Through the seconds of the smallest and the largest batch; None where there is only one."""
    if len(points) < 2:
        return None
    few, many = min(points), max(points)
    each = (points[many] - points[few]) / (many - few)
    return Compute(points[few] - few * each, each)


def efficiency(target: Target, compute_s: float, chips: int, nbytes: float) -> float:
    return compute_s / (compute_s + exchange_s(target, chips, nbytes))


def bounds(lines: Iterable[dict]) -> dict[tuple[str, str, str, int], dict[int, float]]:
    """Of the compiled steps on one chip: (target, preset, dtype, length) -> batch -> seconds, the newest of each."""
    found: dict[tuple[str, str, str, int], dict[int, float]] = {}
    for line in lines:
        target = _target(line)
        if target and line["chips"] == 1 and line["bound_seconds"]:
            key = target.name, line["preset"], line["dtype"], line["length"]
            found.setdefault(key, {})[line["batch"]] = max(line["bound_seconds"].values())
    return found


def predict(options: argparse.Namespace) -> list[dict]:
    """A result line for each target, preset, batch and number of chips. Raises SystemExit where nothing was compiled."""
    compiled = measure.read(options.compiled)
    lines = []
    for (name, preset, dtype, length), points in sorted(bounds(compiled).items()):
        compute, target = compute_of(points), TARGETS[name.lower()]
        if compute is None:
            print(f"{preset} for {name}: compiled at one batch alone, nothing predicted")
            continue
        nbytes = vector_bytes(preset, dtype, length)
        given = argparse.Namespace(**{**vars(options), "preset": preset, "dtype": dtype})
        aim = compute.rows(exchange_s(target, AIM_CHIPS, nbytes) * AIM / (1 - AIM))
        for batch in options.rows:
            alone = compute.seconds(batch)
            shares = {f"at_{chips}": efficiency(target, alone, chips, nbytes) for chips in CHIPS}
            fields = {"exchange_ms": 1e3 * exchange_s(target, AIM_CHIPS, nbytes), "gradient_bytes": nbytes}
            fields |= {**shares, "rows_for_aim": aim, "compiled": sorted(points)}
            fields["spectra_per_s"] = AIM_CHIPS * batch / alone * shares[f"at_{AIM_CHIPS}"]
            case = f"predicted, {preset}, {name}, {batch}"
            more = {"median_ms": 1e3 * alone, "device": target.title(AIM_CHIPS), "length": length, "batch": batch}
            lines.append(measure.record("scaling", case, given, **more, **fields))
    if not lines:
        raise SystemExit(
            f"{options.compiled}: no steps compiled for one chip of {', '.join(LINKS)} at two batches each"
        )
    return lines


def exchanged(compiled: Iterable[dict]) -> list[dict]:
    """Of the steps compiled for several chips: bytes of their exchanges inside slices and between, sent by each chip,
    and what the model counts."""
    found = []
    for line in compiled:
        target = _target(line)
        if target and line["chips"] > 1 and not line["error"]:
            chips = line["chips"]
            nbytes = vector_bytes(line["preset"], line["dtype"], line["length"])
            inside = chips // slices_of(target, chips)
            sent = {kind: each[1] for kind, each in line["collectives"].items()}
            far = sum(size for kind, size in sent.items() if kind.endswith("slices"))
            slices = chips // inside
            there = passes(target, slices) * nbytes * (inside - 1) / inside
            modelled = there, 2 * nbytes / inside * (slices - 1) / slices
            case = f"{line['preset']}, {line['device'].removesuffix(' (compiled)')}"
            found.append(
                {"case": case, "inside": sum(sent.values()) - far, "between": far, "count": line["collective_count"]}
            )
            found[-1] |= {"model_inside": modelled[0], "model_between": modelled[1]}
    return found


@cache
def vector_bytes(preset: str, dtype: str, length: int) -> int:
    """Of the gradient that crosses: all parameters, the losses, and what fills the vector up."""
    return 4 * workload.make(workload.config_of(preset, dtype), 256, length).made.flat.size


def _target(line: dict) -> Target | None:
    """Of a compiled step, where the links of its chip are known."""
    if line["benchmark"] != "compile" or line["case"] != "step" or line.get("error"):
        return None
    return next(
        (each for each in TARGETS.values() if line["device"].startswith(f"{each.label} x") and each.name in LINKS), None
    )
