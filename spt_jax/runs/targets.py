"""Chips that a model is compiled for without their being here: the compilers alone are asked, of the extras that bring them."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import jax

from data_pipelines.errors import MissingExtra, UserError

# What XLA asks of a GPU (GpuTargetConfigProto in text form): facts of the Hopper SXM boards.
_HOPPER = """gpu_device_info {{
  threads_per_block_limit: 1024  threads_per_warp: 32  threads_per_core_limit: 2048
  shared_memory_per_block: 49152  shared_memory_per_block_optin: 232448  shared_memory_per_core: 233472
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  core_count: 132  fpus_per_core: 128  clock_rate_ghz: 1.98  l2_cache_size: 52428800
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}  device_memory_size: {memory}
  cuda_compute_capability {{ major: 9 minor: 0 }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 }}
device_description_str: "{kind}"
"""
# libtpu would ask the cloud which machine this is.
ALONE = {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost"}


class Target(NamedTuple):
    """kind: of its device, as JAX names it. topology: name of the smallest one, and what else XLA wants to know."""

    platform: str
    kind: str
    topology: tuple[str, dict[str, str]]


def hopper(kind: str, bandwidth: int, memory: int, topology: str = "1x1x1") -> dict[str, str]:
    """Options of so many of these GPUs. bandwidth: bytes/s. memory: bytes."""
    text = _HOPPER.format(kind=kind, bandwidth=bandwidth, memory=memory)
    return {"topology": topology, "target_config": text}


def _gpu(kind: str, bandwidth: int, memory: int) -> Target:
    return Target("cuda", kind, (kind, hopper(kind, bandwidth, memory)))


TARGETS = {
    "v5e": Target("tpu", "TPU v5 lite", ("v5e:2x2", {})),
    "v5p": Target("tpu", "TPU v5", ("v5p:2x2x1", {})),
    "v6e": Target("tpu", "TPU v6 lite", ("v6e:2x2", {})),
    "h100": _gpu("NVIDIA H100 80GB HBM3", 3_350_000_000_000, 80_000_000_000),
    "h200": _gpu("NVIDIA H200", 4_800_000_000_000, 141_000_000_000),
}


def device_of(name: str) -> jax.Device:
    """A device of this target, to compile for and not to run on. Raises UserError for what is not in TARGETS, and
    MissingExtra where its compiler is not installed."""
    target = TARGETS.get(name.lower())
    if target is None:
        raise UserError(f"unknown target {name!r}; targets: {', '.join(TARGETS)}")
    if target.platform == "tpu":
        if find_spec("libtpu") is None:
            raise MissingExtra("aot-tpu", f"programs for {name}")
    elif find_spec("jax_cuda12_plugin") is None or ptxas() is None:
        raise MissingExtra("aot-gpu", f"programs for {name}")
    prepare(target.platform)
    from jax.experimental import topologies

    called, options = target.topology
    return topologies.get_topology_desc(platform=target.platform, topology_name=called, **options).devices[0]


def prepare(platform: str) -> None:
    """The environment that its compiler, which is installed, wants to find; before it is first loaded."""
    if platform == "tpu":
        for variable, value in ALONE.items():
            os.environ.setdefault(variable, value)
    elif (assembler := ptxas()) and str(assembler.parent) not in os.environ.get("PATH", ""):
        os.environ["PATH"] = f"{assembler.parent}{os.pathsep}{os.environ.get('PATH', '')}"


def ptxas() -> Path | None:
    """NVIDIA's assembler, which XLA looks for on the PATH: that of the extra."""
    spec = find_spec("nvidia.cuda_nvcc") if find_spec("nvidia") else None
    places = spec.submodule_search_locations if spec else None
    return next((path for place in places or () if (path := Path(place) / "bin" / "ptxas").exists()), None)
