"""Spectral Pattern Translator in JAX: XANES spectra in, local structure descriptors out.

import spt_jax
model = spt_jax.load("run")                             # a run, an ensemble, or a file of `spt-jax export`
model.predict(energy, mu, element="Cu")                 # one spectrum: Values by descriptor
spt_jax.predict(model, ["a/xmu.dat", "b.txt"])          # files, arrays or a DataFrame: one answer or error each
spt_jax.predict_signals(fused, {"Ni K": (energy, mu)})  # several signals of one sample, by a model of such
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
    from spt_jax.inference.samples import predict_signals
    from spt_jax.inference.spectra import predict
    from spt_jax.training.loop import train

__all__ = ["Dataset", "Model", "__version__", "evaluate", "load", "predict", "predict_signals", "prepare", "train"]


def __getattr__(name: str) -> object:
    # `spt-jax --help` and the data commands should not wait for jax.
    if name == "Dataset":
        from data_pipelines.dataset.loading import Dataset

        return Dataset
    if name == "prepare":
        from data_pipelines.dataset.build import prepare

        return prepare
    if name == "train":
        from spt_jax.training.loop import train

        return train
    if name == "evaluate":
        from spt_jax.inference.evaluate import evaluate

        return evaluate
    if name == "predict":
        from spt_jax.inference.spectra import predict

        return predict
    if name == "predict_signals":
        from spt_jax.inference.samples import predict_signals

        return predict_signals
    if name in ("Model", "load"):
        from spt_jax.inference.predict import Model, load

        return Model if name == "Model" else load
    raise AttributeError(f"module 'spt_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
