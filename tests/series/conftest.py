"""A model that costs no training, for all who follow a series."""

from tests.inference.conftest import file, model  # noqa: F401
