"""What a trained model of this project says of an image."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.phases.task import PhaseAnswers, PhaseTask
from data_pipelines.errors import UserError
from spt_jax.eels.answer import ImageModel, load_image_model


@cache
def _loaded(run: Path) -> ImageModel:
    return load_image_model(run)


def answers_of_model(run: Path, task: PhaseTask) -> PhaseAnswers:
    """Of the image and nothing else of the task. run: a run folder. Raises UserError where its classes are other ones."""
    model = _loaded(run)
    if set(model.classes) != set(task.classes):
        raise UserError(f"{run} knows {', '.join(model.classes)}, the task has {', '.join(task.classes)}")
    found = model.answer(task.image)
    order = [model.classes.index(name) for name in task.classes]
    flat = {name: getattr(found, name).reshape(-1, len(order))[:, order] for name in ("probability", "share")}
    curves = found.denoised.reshape(-1, len(found.energy)) * (task.how.step / model.grid.step)
    denoised = np.stack([np.interp(task.energy, found.energy, np.nan_to_num(curve)) for curve in curves])
    probability = np.where(np.isfinite(flat["probability"]), flat["probability"], 1 / len(order))
    return PhaseAnswers(
        probability.argmax(axis=1), probability, np.nan_to_num(flat["share"], nan=1 / len(order)), denoised
    )
