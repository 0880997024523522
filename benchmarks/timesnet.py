"""TimesNet as its authors wrote it, in turns with our network of the same width, depth and number of bands.

    git clone https://github.com/thuml/Time-Series-Library
    python -m benchmarks.timesnet --source Time-Series-Library

Nothing of it lies here: `models/TimesNet.py` is imported from the checkout, with that checkout's own layers. It reads a
spectrum as a series of one channel (its task `classification`), its outputs are as many as our heads', and its training
step is that of `torch_peer`: the same views, losses, clipping, AdamW and average. Not alike is what makes either what it
is. It chooses bands for the batch (`--mode batch` does so in ours), of all frequencies, and each of its blocks has two
Inception blocks; ours has one kernel in each, and the noise filter, graph attention and dense layers besides.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax

try:
    import torch
    from torch import Tensor, nn
except ModuleNotFoundError:
    line = "pip install -c constraints.txt '.[torch]'"
    raise SystemExit(f"benchmarks.timesnet needs PyTorch, the extra `torch`: in the clone, {line}") from None

from benchmarks import measure
from benchmarks.torch_peer import device, inference, set_threads, train_step
from benchmarks.train_step import our_step
from benchmarks.workload import Workload, config_of, make
from data_pipelines.files import file_sha256
from spt_jax.tasks import Task

MODEL, LAYERS = Path("models") / "TimesNet.py", Path("layers") / "Conv_Blocks.py"
# Packages of the checkout with names that anyone might use.
NAMES = ("models", "layers", "utils")


class Peer(nn.Module):
    """TimesNet with our heads' outputs: (B, L) spectra, atomic numbers that it has no place for -> (B, ...) by name."""

    def __init__(self, network: nn.Module, tasks: tuple[Task, ...], length: int):
        super().__init__()
        self.network, self._names = network, [task.name for task in tasks]
        self._widths = [max(task.classes, 1) for task in tasks]
        self.register_buffer("_shown", torch.ones(1, length), persistent=False)

    def forward(self, spectrum: Tensor, numbers: Tensor) -> dict[str, Tensor]:
        flat = self.network(spectrum[:, :, None], self._shown.expand(len(spectrum), -1), None, None)
        parts = flat.split(self._widths, dim=1)
        return {name: part if part.shape[1] > 1 else part[:, 0] for name, part in zip(self._names, parts, strict=True)}


def network_of(source: Path) -> type[nn.Module]:
    """TimesNet of a checkout of thuml/Time-Series-Library. Exits with a line where the folder is none."""
    for name in (MODEL, LAYERS):
        if not (source / name).is_file():
            raise SystemExit(f"{source}: no {name} here; give a checkout of github.com/thuml/Time-Series-Library")
    with _first_on_path(source):
        try:
            from models.TimesNet import Model
        except ImportError as error:
            raise SystemExit(f"{source / MODEL} cannot be imported: {error}") from None
    return Model


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    """Imports find the folder first, and leave no trace of its packages."""

    def taken() -> dict[str, Any]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in NAMES}

    before, entry = taken(), str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)
        taken()
        sys.modules.update(before)


def build(network: type[nn.Module], workload: Workload, kernels: int) -> Peer:
    """TimesNet of the workload's width, depth and bands, with so many kernels, 1, 3, .. in each Inception block."""
    config = workload.config.model
    settings = SimpleNamespace(
        task_name="classification",
        seq_len=workload.grid.points,
        label_len=0,
        pred_len=0,
        top_k=config.bands,
        d_model=config.width,
        d_ff=config.width,
        num_kernels=kernels,
        e_layers=config.blocks,
        enc_in=1,
        c_out=1,
        embed="timeF",
        freq="h",
        dropout=config.dropout,
        num_class=sum(max(task.classes, 1) for task in workload.tasks),
    )
    torch.manual_seed(0)
    return Peer(network(settings), workload.tasks, workload.grid.points).to(device())


def compare(
    case: str, ours: Any, peer: Any, workload: Workload, options: argparse.Namespace, **fields: Any
) -> dict[str, Any]:
    """The recorded line of our case and theirs, timed in turns. vs: their time over ours."""
    threads = set_threads(peer)
    timings = measure.interleaved({"ours": ours, "timesnet": peer}, options.repeats, options.trace)
    own, theirs = timings["ours"], timings["timesnet"]
    size, length = workload.batch.spectrum.shape
    fields |= own._asdict() | {"spectra_per_s": 1e3 * size / own.median_ms, "torch_threads": threads}
    fields |= {"peers": {"timesnet": theirs._asdict()}, "timesnet_ms": theirs.median_ms}
    fields |= {"vs": dict.fromkeys(measure.PEERS) | {"timesnet": theirs.median_ms / own.median_ms}}
    name = f"{case} {options.mode} kernels {options.kernels} L{length} B{size}"
    return measure.record("timesnet", name, options, length=length, batch=size, **fields)


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = measure.parser(__doc__)
    parser.add_argument("--source", type=Path, required=True, metavar="FOLDER", help="Time-Series-Library's checkout")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=144, help="energy points")
    modes = ("batch", "per_sample", "fixed")
    parser.add_argument("--mode", choices=modes, default="batch", help="our band selection; theirs is of the batch")
    parser.add_argument(
        "--kernels", type=int, default=None, help="of an Inception block; to our kernel's size if not given"
    )
    options = parser.parse_args(arguments)
    network = network_of(options.source)
    if options.small:
        options.batch, options.repeats = min(options.batch, 8), min(options.repeats, 3)
    torch.backends.cudnn.allow_tf32 = False  # our float32 is not rounded either
    fields = {"bands": 1, "highest_band": 2, "attention": "none"} if options.small else {}  # compiles fastest
    config = config_of(options.preset, options.dtype, options.small, band_mode=options.mode, **fields)
    options.kernels = options.kernels or (config.model.kernel + 1) // 2
    workload = make(config, options.batch, options.length)
    single = replace(workload, batch=jax.tree.map(lambda x: x[:1], workload.batch))
    step, peer = our_step(workload), build(network, workload, options.kernels)
    about = {
        "source": file_sha256(options.source / MODEL)[:16],
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(workload.params)),
        "timesnet_parameters": sum(each.numel() for each in peer.parameters()),
    }
    measured = {"compile_s": step.compile_s, "peak_memory_bytes": step.peak_memory_bytes}
    lines = [compare("train", step, train_step(peer, workload), workload, options, **about, **measured)]
    for work in (workload, single):
        inputs = jax.device_put((work.params, *work.batch[:2]))
        program, seconds, memory = measure.compiled(work.apply, *inputs)
        measured = {"compile_s": seconds, "peak_memory_bytes": memory}
        call = inference(build(network, work, options.kernels), work)
        ours = lambda program=program, inputs=inputs: program(*inputs)  # noqa: E731
        lines.append(compare("inference", ours, call, work, options, **about, **measured))
    columns = {"median_ms": "ms", "timesnet_ms": "TimesNet ms", "timesnet": "TimesNet/ours"}
    measure.show([line | line["vs"] for line in lines], columns)
    print(f"parameters: {about['parameters']:,} ours, {about['timesnet_parameters']:,} TimesNet's")
    return lines


if __name__ == "__main__":
    main()
