"""Compilers for chips that are not here."""

from collections.abc import Callable

import pytest

from benchmarks.compile import targets
from data_pipelines.errors import MissingExtra


@pytest.fixture
def compiler() -> Callable[[str], None]:
    """compiler("v5e") skips where that chip's compiler is not installed."""

    def require(name: str) -> None:
        try:
            targets.require(targets.find(name))
        except MissingExtra as error:
            pytest.skip(str(error))

    return require
