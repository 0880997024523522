"""Which kernels a network is computed with: those of the accelerator at hand, where they take its shapes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import jax
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from spt_jax.config import ExecutionConfig, ModelConfig
from spt_jax.model.gpu import block as gpu
from spt_jax.model.tpu import block as tpu

PLATFORMS = {"tpu": tpu, "gpu": gpu}
_meant: list[str] = []


@contextmanager
def meant_for(platform: str, kind: str = "") -> Iterator[None]:
    """What is traced within is for this platform ("cpu", "gpu", "cuda", "tpu"), whatever the process runs on.

    kind: of its device, as JAX names it; from jax 0.11 on a GPU that is not here has to be told to Pallas.
    """
    _meant.append({"cuda": "gpu"}.get(platform, platform))
    told = _meant[-1] == "gpu" and kind
    try:
        with use_abstract_mesh(_of(kind)) if told else nullcontext():
            yield
    finally:
        _meant.pop()


def _of(kind: str) -> AbstractMesh:
    return AbstractMesh((), (), abstract_device=AbstractDevice(kind, None, "gpu"))


def platform() -> str:
    """What a program that is traced now is for: "cpu", "gpu" or "tpu"."""
    return _meant[-1] if _meant else jax.default_backend()


def kernels_for(config: ModelConfig, execution: ExecutionConfig, length: int, batch: object) -> str | None:
    """ "tpu" or "gpu"; None for the reference. A network that the kernels do not take says so, once.

    A program for a batch of any size, as an exported file holds it, is the reference's; so is a network without bands
    and graph, of which kernels compute nothing.
    """
    wanted = platform() if execution.kernels == "auto" else execution.kernels
    empty = not config.bands and config.attention == "none"
    if wanted not in PLATFORMS or not isinstance(batch, int) or empty:
        return None
    if refused := PLATFORMS[wanted].refusal(config, execution, length):
        warnings.warn(
            f"computed without {wanted.upper()} kernels, which do not take this network: {refused}", stacklevel=2
        )
        return None
    return wanted
