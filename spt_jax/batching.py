"""Any number of rows through a program that is compiled for one number of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def in_pieces(function: Callable[..., Any], rows: int, *arrays: np.ndarray) -> Any:
    """function(*arrays), `rows` rows at a time, the last piece filled up with copies of its last row.

    arrays: (N, ...) each, N > 0. The function takes (rows, ...) of each and returns a pytree of (rows, ...) arrays;
    what it returns for all N comes back as numpy arrays (N, ...).
    """
    count = len(arrays[0])
    filled = [np.pad(each, ((0, -count % rows), *((0, 0),) * (each.ndim - 1)), mode="edge") for each in arrays]
    pieces = [jax.device_get(function(*(each[i : i + rows] for each in filled))) for i in range(0, count, rows)]
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *pieces)
