"""Spectral Pattern Translator in JAX: XANES spectra in, local structure descriptors out.

import spt_jax
spt_jax.load("run").predict(energy, mu, element="Cu")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from spt_jax.inference.predict import load


def __getattr__(name: str) -> object:
    # `spt-jax --help` and the data commands should not wait for jax.
    if name == "load":
        from spt_jax.inference.predict import load

        return load
    raise AttributeError(f"module 'spt_jax' has no attribute {name!r}")


__all__ = ["__version__", "load"]
