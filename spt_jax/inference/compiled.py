"""A network compiled for batches of one size, on one device or cut over several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from spt_jax.runs.ahead import Program, side_by_side
from spt_jax.runs.blueprint import Network


class Devices(Protocol):
    """What is asked of `spt_jax.training.sharding.Layout`, which knows of devices."""

    devices: int

    def by_rows(self, function: Callable) -> Callable:
        """Of a function of rows that gives rows: each device has its own."""
        ...

    def place_rows(self, batch: Any) -> Any:
        """A pytree of arrays, cut by rows over the devices."""
        ...


class Compiled:
    """The program of a network for batches of `size` spectra of `length` points.

    devices: that the rows are cut over; the first one where not given. ready: the program, where it was compiled ahead
    of time for that one.
    """

    def __init__(
        self,
        network: Network,
        size: int,
        length: int,
        devices: Devices | None = None,
        ready: Program | None = None,
    ):
        self.size, self._devices = size, devices
        shapes = jax.ShapeDtypeStruct((size, length), jnp.float32), jax.ShapeDtypeStruct((size,), jnp.int32)
        self._like = jax.eval_shape(jax.jit(network), *shapes)
        program = side_by_side(network)
        if ready:
            self._call = ready
        elif devices:
            like = devices.place_rows(tuple(np.zeros(shape.shape, shape.dtype) for shape in shapes))
            self._call = jax.jit(devices.by_rows(program)).lower(*like).compile()
        else:
            self._call = jax.jit(program).lower(*shapes).compile()

    def __call__(self, spectrum: np.ndarray, atomic_number: np.ndarray) -> dict[str, np.ndarray]:
        """(size, L) float32 and (size,) int32 -> (size, ...) outputs."""
        return self.read(self.dispatch(spectrum, atomic_number))

    def dispatch(self, spectrum: np.ndarray, atomic_number: np.ndarray) -> jax.Array:
        """The same begun, not waited for: (size, all outputs) for `read`."""
        if self._devices:
            spectrum, atomic_number = self._devices.place_rows((spectrum, atomic_number))
        return self._call(spectrum, atomic_number)

    def read(self, outputs: jax.Array) -> dict[str, np.ndarray]:
        """Waits for what `dispatch` began; any thread may."""
        flat, found, start = np.asarray(outputs), {}, 0
        for name, like in self._like.items():
            stop = start + like.size // like.shape[0]
            found[name] = flat[:, start:stop].reshape(like.shape).astype(like.dtype, copy=False)
            start = stop
        return found
