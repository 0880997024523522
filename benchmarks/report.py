"""From result files to README's table and roofline picture: `python -m benchmarks.report RESULTS... [--readme README.md]`.

Each line of the table is a target: what it asks, what the newest result says, and the command that measured it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from data_pipelines.files import write_atomic

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


class Target(NamedTuple):
    """One line: its name, what is asked, where the number comes from, and how it is read from a result line."""

    name: str
    asked: str
    matches: dict[str, object]
    case: str
    read: Callable[[dict], str | None]


def ratio(peer: str) -> Callable[[dict], str | None]:
    return lambda line: f"{line['vs'][peer]:.2f}x" if line["vs"].get(peer) else None


def speed(line: dict) -> str:
    return f"{line['spectra_per_s']:,.0f} spectra/s"


def share(line: dict) -> str:
    return f"{line['share_of_matmul_peak']:.0%}"


PEER, STEP, LATENCY, INPUT = ({"benchmark": name} for name in ("torch_peer", "train_step", "latency", "input_pipeline"))
LABELS = {"benchmark": "descriptors"}
LARGE, SMALL = {"preset": "inception"}, {"preset": "base"}
TARGETS = (
    Target("train, fixed bands, 11 x 11 kernel / eager PyTorch", "4x", PEER | LARGE, "train fixed", ratio("torch_eager")),
    Target("the same / merged, pruned PyTorch", "1.5x", PEER | LARGE, "train fixed", ratio("torch_merged")),
    Target("train, per-sample bands, 11 x 11 / eager PyTorch", "2x", PEER | LARGE, "train per_sample", ratio("torch_eager")),
    Target("the same / merged, pruned PyTorch, which computes only the chosen", "", PEER | LARGE, "train per_sample", ratio("torch_merged")),
    Target("train, fixed bands, 3 x 3 (base) / eager PyTorch", "4x", PEER | SMALL, "train fixed", ratio("torch_eager")),
    Target("train, per-sample bands, 3 x 3 (base) / eager PyTorch", "2x", PEER | SMALL, "train per_sample", ratio("torch_eager")),
    Target("train, fixed bands, 3 x 3 (base) / torch.compile", "3x", PEER | SMALL, "train fixed", ratio("torch_compile")),
    Target("the same / merged, pruned PyTorch", "1.5x", PEER | SMALL, "train fixed", ratio("torch_merged")),
    Target("inference, batch 64, 11 x 11, fixed / eager PyTorch", "", PEER | LARGE, "inference fixed L100 B64", ratio("torch_eager")),
    Target("train step, share of measured matrix peak, 11 x 11", "35 %", STEP | LARGE, "fixed B=64", share),
    Target("train, preset base", "", STEP | SMALL, "per_sample B=64 epoch", speed),
    Target("compile time of the base train step", "15 s", STEP | SMALL, "per_sample B=64", lambda line: f"{line['compile_s']:.0f} s"),
    Target("batch-1 latency of the network, one core, p50", "2 ms", LATENCY | SMALL, "jit, batch 1", lambda line: f"{line['median_ms']:.1f} ms"),
    Target("streaming from disk, a million spectra", "200,000 spectra/s", INPUT, "stream, second epoch", speed),
    Target("seven experts in one program / one after the other, CPU", "", {"benchmark": "ensemble"}, "7 experts, in turns, one program", lambda line: f"{line['ratio']:.2f}x"),
    Target("labels of copper oxides, whole time / pymatgen asked anew for each", "5x", LABELS, "pymatgen, asked anew", lambda line: f"{line['speedup']:.0f}x"),
    Target("the same, sites per second and core", "", LABELS, "shared", lambda line: f"{line['sites_per_s']:.0f} sites/s"),
    Target("a dataset of a million spectra built, two cores", "10 min, 2 GiB", {"benchmark": "build"}, "1,000,000 spectra", lambda line: f"{line['seconds'] / 60:.1f} min, {line['peak_gib']:.2f} GiB"),
)  # fmt: skip


def read(paths: list[Path]) -> list[dict]:
    """All result lines that are not from a tiny run, oldest first."""
    lines = [json.loads(text) for path in paths for text in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if not line["small"]]


def newest(lines: list[dict], matches: dict[str, object], case: str) -> dict | None:
    found = [
        line
        for line in lines
        if f"{line['case']} ".startswith(f"{case} ") and all(line.get(name) == value for name, value in matches.items())
    ]
    exact = [line for line in found if line["case"] == case]
    return (exact or found or [None])[-1]


def table(lines: list[dict]) -> str:
    """The targets as a Markdown table; a dash where nothing was measured."""
    rows = ["| | target | measured |", "|---|---|---|"]
    for target in TARGETS:
        line = newest(lines, target.matches, target.case)
        rows.append(f"| {target.name} | {target.asked} | {(target.read(line) if line else None) or '-'} |")
    devices = sorted({line["device"] for line in lines})
    return "\n".join([*rows, "", f"Measured on {', '.join(devices)}."])


EDGE = 118


def roofline(lines: list[dict], path: Path) -> None:
    """Work per byte against rate, one point a case, under the measured roofs."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.fonttype"] = "none"
    points = [line for line in lines if line["benchmark"] in ("ops", "train_step") and line["share_of_matmul_peak"]]
    points = [line for line in points if not line["case"].endswith("epoch")]
    points = list({(line["benchmark"], line["preset"], line["case"]): line for line in points}.values())
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.subplots()
    steps = [line for line in points if line.get("kind") is None]
    groups = [("o", "folded convolution", "folding"), ("s", "attention", "attention")]
    chosen = [(marker, label, [p for p in points if p.get("kind") == kind]) for marker, label, kind in groups]
    chosen += [
        (marker, f"train step, {line['preset']} {line['case']}", [line])
        for marker, line in zip("DPX*^v", steps, strict=False)
    ]
    for marker, label, lines_of in chosen:
        # Bytes are counted as if nothing stayed in a cache; what then lies beyond the roof is drawn at the edge.
        x = [min(100 * line["share_of_memory_roof"], EDGE) for line in lines_of]
        size = 24 if len(lines_of) > 1 else 64
        axes.scatter(x, [100 * line["share_of_matmul_peak"] for line in lines_of], size, marker=marker, label=label)
    axes.axhline(100, color="0.5", lw=1)
    axes.axvline(100, color="0.5", lw=1)
    axes.set(xlim=(0, EDGE + 2), ylim=(0, 140), xlabel="share of the memory roof, % (bytes counted without caches)")
    axes.set_ylabel("share of the matrix-product peak, %")
    axes.legend(frameon=False, loc="upper left", fontsize=8)
    figure.savefig(path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--readme", type=Path, default=None, help="replace the table between its markers")
    parser.add_argument("--picture", type=Path, default=None, help="where to draw the roofline")
    options = parser.parse_args(arguments)
    lines = read(options.results)
    text = table(lines)
    print(text)
    if options.readme:
        readme = options.readme.read_text(encoding="utf-8")
        if BEGIN not in readme or END not in readme:
            raise SystemExit(f"{options.readme}: no lines {BEGIN} and {END}")
        head, rest = readme.split(BEGIN, 1)
        write_atomic(options.readme, f"{head}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}")
    if options.picture:
        roofline(lines, options.picture)


if __name__ == "__main__":
    main()
