"""Programs that leave this machine do not say where its files lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax


@contextmanager
def without_sources() -> Iterator[None]:
    """What is lowered meanwhile names no source files; by default jax writes paths and lines into each operation."""
    before = jax.config.jax_traceback_in_locations_limit
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", before)


class Sourceless:
    """A function of which jax does not learn the file: a compiled program would keep that."""

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)
