"""The same network and training step in PyTorch, as one would ordinarily write them, timed against ours.

`eager` holds TimesNet's Inception block where the kernel exceeds 3. `merged` holds its mean as one kernel, cut to the
taps that reach the folded grid: the honest control. `compile` is `eager` under torch.compile.
Choices made for PyTorch's benefit, each the fastest of its kind on CPU: channels-last grids without a copy, attention
over a stacked window (an L x L mask is 1.3 times slower), index_select, fused AdamW, no learning-rate schedule.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

try:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn
except ModuleNotFoundError:
    raise SystemExit("benchmarks.torch_peer needs PyTorch: pip install torch") from None

from benchmarks import measure
from benchmarks.torch_network import TorchSPT
from benchmarks.workload import Workload, config_of, make
from spt_jax.config import LabelsConfig
from spt_jax.model.heads import head_specs
from spt_jax.objectives.labels import Task
from spt_jax.runs.torch_weights import to_torch

VARIANTS = ("eager", "merged", "compile")
THREADS = torch.get_num_threads()


def build(workload: Workload, variant: str) -> TorchSPT:
    """The peer with the weights of `workload.params`."""
    config = workload.config.model
    model = TorchSPT(config, head_specs(workload.tasks), workload.grid.points, variant)
    state = to_torch(workload.params)
    if variant != "merged" and config.kernel > 3:
        state = split_kernels(state, config.kernel)
    model.load_state_dict({name: torch.tensor(array, dtype=torch.float32) for name, array in state.items()})
    constants = {**workload.constants, **workload.constants.get("noise_filter", {})}
    for name in ("input_linear", "input_offset", *(("mean", "directions", "variance") if config.denoise else ())):
        getattr(model, name).copy_(torch.tensor(np.asarray(constants[name][...])))
    if variant == "compile":
        model.compile()
    return model.to(device())


def device() -> str:
    """Where both frameworks can run."""
    return "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"


def split_kernels(state: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Each `conv` as kernels 1, 3, .. size with the same mean: the small ones random, the largest what is left."""
    rng, count, result = np.random.default_rng(0), (size + 1) // 2, {}
    for name, array in state.items():
        if ".conv." not in name:
            result[name] = array
            continue
        left = count * array.astype(np.float64)
        for j in range(count):
            middle = tuple(slice((n - 2 * j - 1) // 2, (n + 2 * j + 1) // 2) for n in array.shape[2:])
            part = left[..., *middle]
            kernel = part.copy() if j == count - 1 else rng.normal(scale=array.std(), size=part.shape)
            part -= kernel
            result[name.replace("conv.", f"conv.kernels.{j}.")] = kernel
    return result


def joint_loss(
    outputs: dict[str, Tensor],
    labelled: tuple[tuple[Tensor, Tensor, Tensor], ...],
    tasks: tuple[Task, ...],
    smooth: float,
) -> Tensor:
    """Mean of `spt_jax.objectives.labels.task_losses`; `labelled` holds (B, D) labels, (B, D) mask and (B,) weights."""
    losses = []
    for task in tasks:
        total = 0.0
        for labels, mask, weight in labelled:
            output, label = outputs[task.name], labels[:, task.column]
            if task.classes:
                each = F.cross_entropy(output, label.long(), reduction="none", label_smoothing=smooth)
            else:
                each = (output - (label - task.mean) / task.std) ** 2
            total = total + (weight * each * mask[:, task.column]).sum()
        losses.append(total / (len(label) * task.coverage * task.trivial))
    return torch.stack(losses).mean()


def augmented(spectrum: Tensor, config: LabelsConfig, step_ev: float) -> Tensor:
    """`spt_jax.objectives.augment.augment`."""
    column = torch.empty(len(spectrum), 1, device=spectrum.device)
    shift = config.energy_shift * nn.init.trunc_normal_(column.clone(), a=-2, b=2)
    scale = 1 + config.amplitude * torch.randn_like(column)
    sigma = config.noise * torch.rand_like(column)
    slope = torch.gradient(spectrum, dim=1)[0] / step_ev
    return (spectrum - shift * slope) * scale + sigma * torch.randn_like(spectrum)


def train_step(model: TorchSPT, workload: Workload) -> Callable[[], None]:
    """One step of `spt_jax.training.step` on the workload's batch per call, at a constant learning rate."""
    config, objective = workload.config.train, workload.config.objective
    spectrum, numbers, labels, mask = tensors(workload.batch)
    other_numbers, other_labels, other_mask = (x.roll(1, 0) for x in (numbers, labels, mask))
    parameters = list(model.parameters())
    decayed = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    average = [p.detach().clone() for p in parameters]
    beta = torch.distributions.Beta(*torch.tensor([objective.mixup] * 2, device=device())) if objective.mixup else None
    count = 0
    model.train()

    def step() -> None:
        nonlocal count
        share = torch.ones(len(spectrum), device=device())
        if beta:
            drawn = beta.sample((len(spectrum),))
            share = torch.where(numbers == other_numbers, torch.maximum(drawn, 1 - drawn), share)
        inputs = augmented(spectrum, objective, workload.grid.step)
        inputs = share[:, None] * inputs + (1 - share[:, None]) * inputs.roll(1, 0)
        with autocast(workload):
            outputs = model(inputs, numbers)
        labelled = ((labels, mask, share), (other_labels, other_mask, 1 - share))
        loss = joint_loss(outputs, labelled, workload.tasks, objective.label_smoothing)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1 - min(config.ema, (1 + count) / (10 + count)))
        count += 1
        wait()

    return step


def inference(model: TorchSPT, workload: Workload) -> Callable[[], dict[str, Tensor]]:
    """The network's outputs on the workload's batch."""
    spectrum, numbers = tensors(workload.batch[:2])
    model.eval()

    def infer() -> dict[str, Tensor]:
        with torch.inference_mode(), autocast(workload):
            outputs = model(spectrum, numbers)
        wait()
        return outputs

    return infer


def tensors(arrays: Iterable[np.ndarray]) -> list[Tensor]:
    return [torch.tensor(np.asarray(array), device=device()) for array in arrays]


def autocast(workload: Workload) -> torch.autocast:
    return torch.autocast(device(), torch.bfloat16, enabled=workload.config.execution.dtype == "bfloat16")


def wait() -> None:
    if device() == "cuda":
        torch.cuda.synchronize()


def difference(ours: dict[str, jax.Array], peer: dict[str, Tensor]) -> float:
    return max(float(np.abs(np.asarray(ours[name]) - peer[name].float().cpu().numpy()).max()) for name in ours)


def set_threads(call: Callable[[], Any]) -> int:
    """One thread or one per core, the quicker: on a busy machine a parallel loop waits for its slowest thread."""
    seconds = {}
    for threads in {1, THREADS}:
        torch.set_num_threads(threads)
        call()
        began = time.perf_counter()
        for _ in range(3):
            call()
        seconds[threads] = time.perf_counter() - began
    torch.set_num_threads(min(seconds, key=seconds.get))
    return torch.get_num_threads()


def compare(
    case: str,
    ours: Callable[[], Any],
    peer: Callable[[TorchSPT, Workload], Callable[[], Any]],
    workload: Workload,
    options: argparse.Namespace,
    **fields: Any,
) -> dict[str, Any]:
    """The recorded line of our case and all variants, timed in turns."""
    fields["torch_threads"] = set_threads(peer(build(workload, "eager"), workload))
    cases, warm, missing = {"ours": ours}, {}, {}
    for variant in options.variants:
        call, began = peer(build(workload, variant), workload), time.perf_counter()
        try:
            call()
        except Exception as error:
            # Without a C++ compiler torch.compile fails, with many kinds of error; the others still run.
            if variant != "compile":
                raise
            missing[variant] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            print(f"{case}: torch_{variant} not run: {missing[variant]}")
            continue
        cases[f"torch_{variant}"], warm[f"torch_{variant}"] = call, time.perf_counter() - began
    peers = measure.interleaved(cases, options.repeats, options.trace)
    own = peers.pop("ours")
    size, length = workload.batch.spectrum.shape
    fields |= own._asdict() | {"spectra_per_s": 1e3 * size / own.median_ms, "torch_warmup_s": warm, "not_run": missing}
    fields |= {"peers": {name: timing._asdict() for name, timing in peers.items()}}
    fields |= {"vs": dict.fromkeys(measure.PEERS) | {k: t.median_ms / own.median_ms for k, t in peers.items()}}
    return measure.record("torch_peer", f"{case} {options.mode} L{length} B{size}", options, **fields)


def compare_inference(workload: Workload, options: argparse.Namespace) -> dict[str, Any]:
    inputs = jax.device_put((workload.params, *workload.batch[:2]))
    program, seconds, memory = measure.compiled(workload.apply, *inputs)
    fields = {"compile_s": seconds, "peak_memory_bytes": memory}
    fields["max_error"] = difference(program(*inputs), inference(build(workload, "eager"), workload)())
    return compare("inference", lambda: program(*inputs), inference, workload, options, **fields)


def main(arguments: list[str] | None = None) -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=100, help="energy points")
    parser.add_argument("--mode", choices=("fixed", "per_sample"), default="per_sample", help="band selection")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=None, help="by default all; --small: no compile"
    )
    options = parser.parse_args(arguments)
    options.variants = options.variants or [v for v in VARIANTS if not (options.small and v == "compile")]
    if options.small:
        options.batch, options.repeats = min(options.batch, 8), min(options.repeats, 3)
    from benchmarks.train_step import our_step

    torch.backends.cudnn.allow_tf32 = False  # our float32 is not rounded either
    fields = {"bands": 2, "highest_band": 4} if options.small else {}  # each candidate costs compilation
    config = config_of(options.preset, options.dtype, options.small, band_mode=options.mode, **fields)
    workload = make(config, options.batch, options.length)
    single = replace(workload, batch=jax.tree.map(lambda x: x[:1], workload.batch))
    lines = [compare_inference(each, options) for each in (workload, single)]
    step = our_step(workload)
    fields = {"compile_s": step.compile_s, "peak_memory_bytes": step.peak_memory_bytes}
    fields["max_error"] = lines[0]["max_error"]
    lines.insert(0, compare("train", step, train_step, workload, options, **fields))
    columns = {"median_ms": "ms", **{name: f"{name}/ours" for name in measure.PEERS}, "max_error": "error"}
    measure.show([line | line["vs"] for line in lines], columns)


if __name__ == "__main__":
    main()
