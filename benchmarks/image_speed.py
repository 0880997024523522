"""How long a spectrum image takes from counts in memory to answers for every pixel, and how many spectra a second that is.

    python -m benchmarks.image_speed [--model RUN] [--json results.jsonl]
    python -m benchmarks.image_speed --target v5e H100

Without --model the networks of the presets `live` and `image` untrained: what they answer is nothing, but takes as long. first:
the first call, which compiles. p50, p99: of further frames, each with other counts. spectra: with those without noise, end
members and misfits. Targets: 256 x 256 pixels of 1,024 channels in 1 s on two cores, 30 x 19 in 5 ms, 40,000 spectra a second;
with --target the least time of the whole image's program on chips that are not there (docs/accelerators.md), 5 ms.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks import measure
from data_pipelines.dataset.images import loss_grid
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.dataset.theory import drawn_edges
from data_pipelines.schema import LABELS, Batch
from spt_jax.eels.answer import ImageModel, load_image_model
from spt_jax.presets import ALL_PRESETS
from spt_jax.runs.blueprint import Blueprint
from spt_jax.scoring.phases import PhaseDecisions

PRESETS = ("live", "image")
CLASSES = ("layered", "rock salt", "spinel")
# Rows, columns and channels; and seconds that are aimed at.
FRAMES = {
    "256 x 256": (256, 256, 1024, 1.0),
    "30 x 19": (30, 19, 1024, 0.005),
    "30 x 19, 240 channels": (30, 19, 240, 0.005),
}
SPECTRA_PER_S = 40_000.0
FIRST_EV, LAST_EV = 455.0, 582.0
# Frames that are timed, as many as go into so many seconds.
FEWEST, MOST, SECONDS = 5, 400, 15.0


def energies(channels: int) -> np.ndarray:
    return np.linspace(FIRST_EV, LAST_EV, channels)


def untrained(preset: str, channels: int) -> ImageModel:
    """The network of a preset for an image of so many channels, with random parameters."""
    config = ALL_PRESETS[preset]()
    grid = loss_grid("O K", {"frame": energies(channels)}, CLASSES)
    at = grid.relative()
    curves = np.stack([np.where(at > 530 + i, 1 + np.exp(-(((at - 534 - i) / 1.5) ** 2)), 0.0) for i in range(3)])
    seen = drawn_edges(curves / curves.mean(axis=1, keepdims=True), grid.step)
    none = np.zeros((len(seen), LABELS), np.float32)
    rows = Batch(seen.astype(np.float32), np.zeros(len(seen), np.int32), none, none.astype(bool))
    train = Statistics.of(rows, {grid.edge: len(seen)})
    blueprint = Blueprint.of(config.model, config.execution, grid, (), train, "")
    graph, params, constants = blueprint.build(jax.random.key(0), train.covariance, train.elements)
    z = config.model.latent
    rng = np.random.default_rng(0)
    latent, kind = rng.normal(size=(256, z)), rng.integers(0, 3, 256)
    curve = np.tile(train.mean, (256, 1))
    fitted = PhaseDecisions.fit(rng.normal(size=(256, 3)), latent, np.ones(256), curve, kind, np.eye(3)[kind])
    network = lambda each, *given: nnx.merge(graph, *each)(*given)  # noqa: E731
    return ImageModel(preset, replace(blueprint, phases=fitted), network, (params, constants))


def frames(height: int, width: int, channels: int, count: int) -> list[np.ndarray]:
    """(H, W, E) float32 counts, as a detector hands them over."""
    rng, energy = np.random.default_rng(0), energies(channels)
    mean = 100 * (energy / 532) ** -3.0 + 30 * (energy > 532)
    return [rng.poisson(mean, (height, width, channels)).astype(np.float32) for _ in range(count)]


def timed(call: Callable[[np.ndarray], Any], given: list[np.ndarray], seconds: float) -> dict[str, float]:
    """Seconds of the first call and percentiles in ms of the further ones, each waiting for its answer."""
    began = time.perf_counter()
    call(given[0])
    first, times = time.perf_counter() - began, []
    end = time.perf_counter() + seconds
    while len(times) < FEWEST or (len(times) < MOST and time.perf_counter() < end):
        i = len(times)
        began = time.perf_counter()
        call(given[i % len(given)])
        times.append(1e3 * (time.perf_counter() - began))
    p50, p99 = np.percentile(times, [50, 99])
    return {"first_s": first, "frames": len(times), "p50_ms": float(p50), "p99_ms": float(p99)}


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = measure.parser(__doc__, "live")
    parser.add_argument(
        "--model", type=Path, default=None, metavar="RUN", help="of these energies, instead of untrained ones"
    )
    parser.add_argument("--target", nargs="+", default=[], metavar="CHIP", help="compile for chips that are not there")
    options = parser.parse_args(arguments)
    sizes = {"4 x 4": (4, 4, 240, 1.0)} if options.small else FRAMES
    if options.target:
        return compiled_for(options, sizes)
    lines, seconds = [], 0.0 if options.small else SECONDS
    for name, (height, width, channels, aim) in sizes.items():
        given, energy, pixels = frames(height, width, channels, 2), energies(channels), height * width
        models = (
            [load_image_model(options.model)]
            if options.model
            else [untrained(p, channels) for p in PRESETS[: 1 if options.small else 2]]
        )
        for model in models:
            quick = timed(lambda frame, m=model, e=energy: m.answer_frame(frame, e), given, seconds)
            rate = 1e3 * pixels / quick["p50_ms"]
            found = {**quick, "spectra_per_s": rate, "aim_ms": 1e3 * aim, "met": quick["p50_ms"] <= 1e3 * aim}
            lines.append(_line(options, f"{name}, {model.name}", channels, pixels, **found))
        whole = timed(lambda frame, m=models[0], e=energy: m.answer_frame(frame, e, spectra=True), given, seconds)
        rate = 1e3 * pixels / whole["p50_ms"]
        lines.append(
            _line(options, f"{name}, {models[0].name}, spectra", channels, pixels, **whole, spectra_per_s=rate)
        )
    measure.show(lines, {"first_s": "first s", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "spectra_per_s": "spectra/s"})
    jax.clear_caches()
    return lines


def compiled_for(options: argparse.Namespace, sizes: dict) -> list[dict]:
    """The least time of the largest frame's program on each chip."""
    from benchmarks.compile import table
    from benchmarks.compile.examine import examine

    lines = []
    height, width, channels, aim = next(iter(sizes.values()))
    model = untrained(options.preset, channels)
    program, given = model.lowered(energies(channels), height * width)
    for target in options.target:
        report = examine(program, *given, target=target, dtype=options.dtype)
        fields = report.fields(height * width)
        table.show_report(f"{height} x {width}, {options.preset}, {target}", report, height * width)
        lines.append(
            _line(
                options,
                f"{height} x {width}, {options.preset}, {target}",
                channels,
                height * width,
                **fields,
                aim_ms=1e3 * aim,
            )
        )
    return lines


def _line(options: argparse.Namespace, case: str, length: int, batch: int, **fields: Any) -> dict:
    line = measure.record("image_speed", case, options, length=length, batch=batch, **fields)
    short = {
        name: round(value, 3) if isinstance(value, float) else value
        for name, value in fields.items()
        if not isinstance(value, list | dict)
    }
    print(json.dumps({"case": case, "device": line["device"], **short}), flush=True)
    return line


if __name__ == "__main__":
    main()
