"""Staying within a device's memory: a split is scored in pieces, and a batch too large for it gets one clear line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax
import numpy as np

from data_pipelines.errors import RunError
from data_pipelines.schema import Batch

PIECE_ROWS = 1024


def outputs_in_pieces(
    apply: Callable[[np.ndarray, np.ndarray], dict[str, jax.Array]], batch: Batch, rows: int = PIECE_ROWS
) -> dict[str, np.ndarray]:
    """apply(spectrum, atomic_number) over a whole split, `rows` at a time; every piece has one shape."""
    count = len(batch.spectrum)
    size = min(rows, count)
    missing = -count % size
    spectrum = np.pad(batch.spectrum, ((0, missing), (0, 0)), mode="edge")
    number = np.pad(batch.atomic_number, (0, missing), mode="edge")
    pieces = [jax.device_get(apply(spectrum[i : i + size], number[i : i + size])) for i in range(0, count, size)]
    return {name: np.concatenate([piece[name] for piece in pieces])[:count] for name in pieces[0]}


@contextmanager
def fits(batch_size: int, accumulate: int) -> Iterator[None]:
    """Turn a device's complaint about its memory into what to do about it."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise RunError(
            f"a batch of {batch_size} does not fit into the device's memory; try --train.accumulate {2 * accumulate} "
            f"(the same training in smaller pieces), --model.remat True, or --train.batch-size {batch_size // 2}"
        ) from None
