"""Which kernels a network is computed with: those of the accelerator at hand, where they take its shapes."""

from __future__ import annotations

import warnings

import jax

from spt_jax.config import ExecutionConfig, ModelConfig
from spt_jax.model.gpu import block as gpu
from spt_jax.model.tpu import block as tpu

PLATFORMS = {"tpu": tpu, "gpu": gpu}


def kernels_for(config: ModelConfig, execution: ExecutionConfig, length: int) -> str | None:
    """ "tpu" or "gpu"; None for the reference. A network that the kernels do not take says so, once."""
    wanted = jax.default_backend() if execution.kernels == "auto" else execution.kernels
    if wanted not in PLATFORMS:
        return None
    if refused := PLATFORMS[wanted].refusal(config, execution, length):
        warnings.warn(
            f"computed without {wanted.upper()} kernels, which do not take this network: {refused}", stacklevel=3
        )
        return None
    return wanted
