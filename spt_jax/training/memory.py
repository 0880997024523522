"""A batch too large for a device's memory gets one clear line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax

from data_pipelines.errors import RunError
from spt_jax.config import ExecutionConfig


@contextmanager
def fits(batch_size: int, execution: ExecutionConfig) -> Iterator[None]:
    """Turn a device's complaint about its memory into what to do about it."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        remat = "" if execution.remat else ", --execution.remat True"
        raise RunError(
            f"a batch of {batch_size} does not fit into the device's memory; go on with --execution.accumulate "
            f"{2 * execution.accumulate} (the same training in smaller pieces){remat}, or begin anew with "
            f"--train.batch-size {max(batch_size // 2, 1)}"
        ) from None
