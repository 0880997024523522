"""From result files to README's table and roofline picture: `python -m benchmarks.report RESULTS... [--readme README.md]`.

Each line of the tables is a target: what it asks, what the newest result of its key says, and at which commit. There
is a table for each device and arithmetic, so that no number stands beside one of another machine; a ratio is of two
times of one result line.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import history, measure
from data_pipelines.files import write_atomic
from data_pipelines.pages.style import BLUE, GREY, INK, ORANGE, RC, as_svg

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


class Target(NamedTuple):
    """One line: what it measures and asks, how a result line says it, and the key of that line but for the machine."""

    name: str
    asked: str
    read: Callable[[dict], str | None]
    benchmark: str
    case: str
    preset: str = "base"
    length: int | None = 144
    batch: int | None = 64

    def key(self, device: str, dtype: str) -> tuple:
        fields = self._asdict() | {"device": device, "dtype": dtype}
        return tuple(fields[name] for name in measure.KEY)


def ratio(peer: str) -> Callable[[dict], str | None]:
    return lambda line: f"{line['vs'][peer]:.2f}x" if line["vs"].get(peer) else None


def speed(line: dict) -> str:
    return f"{line['spectra_per_s']:,.0f} spectra/s"


def memory(line: dict) -> str:
    return f"{line['peak_gib']:.2f} GiB, {line['growth']:.2f}x"


def built(line: dict) -> str:
    memory = f", {line['peak_gib']:.2f} GiB" if line["peak_gib"] else ""
    return f"{line['seconds'] / 60:.1f} min{memory}"


def compiled(field: str, unit: str, scale: float = 1.0, each: bool = False) -> Callable[[dict], str | None]:
    """A number of a program that was compiled for a chip that is not there; `each`: of a spectrum."""

    def read(line: dict) -> str | None:
        value = line.get(field)
        if value is None:
            return None
        value = value * scale / (line["batch"] if each else 1)
        return f"{value:,.0f}{unit}" if value >= 100 else f"{value:.3g}{unit}"

    return read


LARGE, NONE = ("inception", 100), ("base", None, None)
CHIP = {"benchmark": "compile", "case": "step", "batch": 1024}
EAGER, COMPILED, MERGED = map(ratio, measure.PEERS)
TARGETS = (
    Target("train, fixed bands, 11 x 11 kernel / eager PyTorch", "4x", EAGER, "torch_peer", "train fixed L100 B64", *LARGE),
    Target("train, fixed bands, 11 x 11 / merged, pruned PyTorch", "1.5x", MERGED, "torch_peer", "train fixed L100 B64", *LARGE),
    Target("train, per-sample bands, 11 x 11 / eager PyTorch", "2x", EAGER, "torch_peer", "train per_sample L100 B64", *LARGE),
    Target("train, per-sample bands, 11 x 11 / merged, pruned PyTorch, which computes only the chosen", "", MERGED, "torch_peer", "train per_sample L100 B64", *LARGE),
    Target("train, fixed bands, 3 x 3 (base) / eager PyTorch", "4x", EAGER, "torch_peer", "train fixed L144 B64"),
    Target("train, per-sample bands, 3 x 3 (base) / eager PyTorch", "2x", EAGER, "torch_peer", "train per_sample L144 B64"),
    Target("train, fixed bands, 3 x 3 (base) / torch.compile", "3x", COMPILED, "torch_peer", "train fixed L144 B64"),
    Target("train, fixed bands, 3 x 3 (base) / merged, pruned PyTorch", "1.5x", MERGED, "torch_peer", "train fixed L144 B64"),
    Target("inference, batch 64, 11 x 11, fixed / eager PyTorch", "", EAGER, "torch_peer", "inference fixed L100 B64", *LARGE),
    Target("train step, share of measured matrix peak, 11 x 11", "35 %", lambda line: f"{100 * line['share_of_matmul_peak']:.0f} %", "train_step", "fixed B=64", *LARGE),
    Target("train, preset base", "", speed, "train_step", "per_sample B=64 epoch"),
    Target("compile time of the base train step", "15 s", lambda line: f"{line['compile_s']:.0f} s", "train_step", "per_sample B=64"),
    Target("batch-1 latency of the network, p50 (on a CPU of one core)", "2 ms", lambda line: f"{line['median_ms']:.1f} ms", "latency", "jit, batch 1", batch=1),
    Target("streaming from disk, a million spectra", "200,000 spectra/s", speed, "input_pipeline", "1,000,000 spectra, second epoch", batch=1024),
    Target("most memory of training on ten million streamed spectra, and over that on a million", "1.05x", memory, "streaming_memory", "10,000,000 spectra", "tiny", batch=1024),
    Target("seven experts in one program / one after the other", "", lambda line: f"{line['ratio']:.2f}x", "ensemble", "7 experts, in turns, one program"),
    Target("labels of copper oxides, whole time / pymatgen asked anew for each", "5x", lambda line: f"{line['speedup']:.0f}x", "descriptors", "pymatgen, asked anew", *NONE),
    Target("labels of copper oxides, sites per second and core", "", lambda line: f"{line['sites_per_s']:.0f} sites/s", "descriptors", "shared", *NONE),
    Target("base, train step: bytes moved, a spectrum", "2 MB", compiled("moved_bytes", " MB", 1e-6, True), **CHIP),
    Target("base, train step: padding in what is moved", "10 %", compiled("padding_share", " %", 100), **CHIP),
    Target("base, train step: thousand cycles, a spectrum", "6", compiled("cycles", "", 1e-3, True), **CHIP),
    Target("base, train step: bound by cycles, memory and arithmetic", "", compiled("bound_spectra_per_s", " k spectra/s", 1e-3), **CHIP),
    Target("base, train step: compilation", "90 s", compiled("compile_s", " s"), **CHIP),
    Target("base, inference: bound", "", compiled("bound_spectra_per_s", " k spectra/s", 1e-3), **{**CHIP, "case": "inference"}),
    Target("large, train step: bound", "", compiled("bound_spectra_per_s", " k spectra/s", 1e-3), **CHIP, preset="large"),
    Target("a dataset of a million spectra built, two cores", "10 min, 2 GiB", built, "build", "1,000,000 spectra", batch=1024),
)  # fmt: skip


def newest(lines: list[dict], wanted: tuple) -> dict | None:
    """The last line of a key; a field that a line does not have at all is not held against it."""
    for line in reversed(lines):
        if all(line[name] == value for name, value in zip(measure.KEY, wanted, strict=True) if name in line):
            return line
    return None


def machines(lines: list[dict]) -> list[tuple[str, str]]:
    """(device, dtype) of all lines, that with the most lines first."""
    each = [(line["device"], line["dtype"]) for line in lines]
    return sorted(dict.fromkeys(each), key=each.count, reverse=True)


def told(line: dict, target: Target) -> str:
    """The commit of a line, and what must be known of it."""
    unsaid = [name for name in ("length", "batch") if name not in line and getattr(target, name) is not None]
    remarks = [history.age(line), f"{' and '.join(unsaid)} not recorded" if unsaid else ""]
    return ", ".join([f"`{line['commit']}`" if line["commit"] else "none", *filter(None, remarks)])


def tables(lines: list[dict]) -> str:
    """The targets in Markdown, a table for each machine that measured one; below, what none has."""
    texts, met = [], set()
    for device, dtype in machines(lines):
        rows = []
        for target in TARGETS:
            line = newest(lines, target.key(device, dtype))
            value = target.read(line) if line else None
            if value:
                rows.append(f"| {target.name} | {target.asked} | {value} | {told(line, target)} |")
                met.add(target)
        if rows:
            head = ["| | target | measured | at commit |", "|---|---|---|---|"]
            texts.append("\n".join([f"{device}, {dtype}:", "", *head, *rows]))
    missing = [target.name for target in TARGETS if target not in met]
    note = "A ratio is the other's time over ours, in turns on one machine. Old: code that the benchmark imports has\n"
    note += "changed since that commit."
    return "\n\n".join([*texts, note, *([f"Not measured: {'; '.join(missing)}."] if missing else [])])


EDGE = 108  # %; what lies beyond a roof is drawn here, with its value
MARKS = "DPX^v<>ph*"
KINDS = {"folding": ("o", BLUE), "attention": ("s", ORANGE)}


def roofline(lines: list[dict], path: Path) -> None:
    """Shares of the two measured roofs, a point for each newest line of a key, a panel for each machine."""
    steps = [line for line in lines if line["benchmark"] in ("ops", "train_step") and line["share_of_matmul_peak"]]
    # An epoch is its step again.
    points = list({measure.key(line): line for line in steps if not line["case"].endswith("epoch")}.values())
    panels = machines(points)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(6.5 * len(panels), 5.4), layout="constrained")
        for axes, (device, dtype) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            axes.set_title(f"{device}, {dtype}", fontsize=9)
            _panel(axes, [point for point in points if (point["device"], point["dtype"]) == (device, dtype)])
        write_atomic(path, as_svg(figure))


def _panel(axes: Axes, points: list[dict]) -> None:
    """Filled: of the present code."""
    groups = [(*mark, kind, [p for p in points if p.get("kind") == kind]) for kind, mark in KINDS.items()]
    steps = [point for point in points if point["benchmark"] == "train_step"]
    groups += [
        (MARKS[i % len(MARKS)], INK, f"train step, {p['preset']} {p['case']}, L={p['length']}", [p])
        for i, p in enumerate(steps)
    ]
    for marker, colour, name, each in groups:
        ages = [(point["commit"], history.age(point)) for point in each]
        for commit, age in dict.fromkeys(ages):
            drawn = [point for point, its in zip(each, ages, strict=True) if its == (commit, age)]
            x, y = ([100 * p[f"share_of_{roof}"] for p in drawn] for roof in ("memory_roof", "matmul_peak"))
            axes.scatter(
                np.minimum(x, EDGE),
                np.minimum(y, EDGE),
                30 if len(each) > 1 else 60,
                marker=marker,
                label=f"{name}, at {commit}{f' ({age})' if age else ''}",
                edgecolors=colour,
                facecolors="none" if age else colour,
            )
            for at in zip(x, y, strict=True):
                if max(at) > EDGE:
                    place = {"xytext": (-5, 0), "textcoords": "offset points", "ha": "right", "va": "center"}
                    axes.annotate(f"{max(at):.0f} %", np.minimum(at, EDGE), fontsize=8, **place)
    axes.axhline(100, color=GREY, lw=1, zorder=0)
    axes.axvline(100, color=GREY, lw=1, zorder=0)
    axes.set(xlim=(0, EDGE + 2), ylim=(0, EDGE + 2), xlabel="share of the memory roof, % (bytes as if without caches)")
    axes.set_ylabel("share of the matrix-product peak, %")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.13), fontsize=8)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+", help="of lines with one key the last counts")
    parser.add_argument("--readme", type=Path, default=None, help="replace the tables between its markers")
    parser.add_argument("--picture", type=Path, default=None, help="where to draw the roofline")
    options = parser.parse_args(arguments)
    lines = [line for path in options.results for line in measure.read(path)]
    text = tables(lines)
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
