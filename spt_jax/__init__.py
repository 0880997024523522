"""Spectral Pattern Translator in JAX: XANES spectra in, local structure descriptors out.

import spt_jax
model = spt_jax.load("run")                             # a run, an ensemble, or a file of `spt-jax export`
model.predict(energy, mu, element="Cu")                 # one spectrum: Values by descriptor
spt_jax.predict(model, ["a/xmu.dat", "b.txt"])          # files, arrays or a DataFrame: one answer or error each
spt_jax.evaluate(model, "dataset", "test").metrics      # scores on a split

`prepare`, `Dataset` and `train` are what the commands of the same names call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from data_pipelines.dataset.build import prepare
    from data_pipelines.dataset.loading import Dataset
    from spt_jax.inference.evaluate import evaluate
    from spt_jax.inference.predict import Model, load
    from spt_jax.inference.spectra import predict
    from spt_jax.training.loop import train

__all__ = ["Dataset", "Model", "__version__", "evaluate", "load", "predict", "prepare", "train"]


def __getattr__(name: str) -> object:
    # `spt-jax --help` and the data commands should not wait for jax.
    if name == "Dataset":
        from data_pipelines.dataset import loading as home
    elif name == "prepare":
        from data_pipelines.dataset import build as home
    elif name == "train":
        from spt_jax.training import loop as home
    elif name == "evaluate":
        from spt_jax.inference import evaluate as home
    elif name == "predict":
        from spt_jax.inference import spectra as home
    elif name in ("Model", "load"):
        from spt_jax.inference import predict as home
    else:
        raise AttributeError(f"module 'spt_jax' has no attribute {name!r}")
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
