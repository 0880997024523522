"""Answers for an image that another program gave: `RUN/NAME.npz` for the image NAME that `--write` wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.phases.task import PhaseAnswers, PhaseTask
from data_pipelines.errors import UserError


def answers_of_model(run: Path, task: PhaseTask) -> PhaseAnswers:
    """What is asked of a model: `task.image` is the image as `open_image` gives it, `task.energy` the energies at which
    denoised counts are wanted, `task.classes` the order of the classes. Nothing else of the task is for it.

    An answer holds `phase`, (P,), or `probability`, (P, C), whose largest is the phase; `shares`, (P, C), and `denoised`,
    (P, V) counts above the background, where there are any. Raises UserError where the answer is missing or has another shape.
    """
    path = run / f"{task.name}.npz"
    if not path.exists():
        raise UserError(f"{path} is not there: write the images with --write, and an answer for each")
    with np.load(path) as file:
        given = {name: file[name] for name in PhaseAnswers._fields if name in file.files}
    if "probability" in given:
        given.setdefault("phase", given["probability"].argmax(axis=1))
    pixels, classes = task.truth.phase.size, len(task.classes)
    shapes = {"phase": (pixels,), "probability": (pixels, classes), "shares": (pixels, classes)}
    shapes["denoised"] = pixels, len(task.energy)
    for name, values in given.items():
        if values.shape != shapes[name]:
            raise UserError(f"{path}: {name} has the shape {values.shape}, not {shapes[name]}")
    if "phase" not in given:
        raise UserError(f"{path} holds neither phase nor probability")
    return PhaseAnswers(**given)
