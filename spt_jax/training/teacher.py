"""The model that a run learns from, by its name: loaded once, before anything is compiled."""

from __future__ import annotations

from data_pipelines.errors import RunError
from spt_jax.config import Config, JointConfig, LabelsConfig
from spt_jax.inference.predict import load
from spt_jax.objectives.distil import Teacher
from spt_jax.runs.fingerprint import model_fingerprint
from spt_jax.zoo.shelf import SUFFIX, place_of


def teacher_of(config: Config) -> Teacher | None:
    """The teacher that a configuration names, None where it names none.

    Raises CheckpointError where there is no model, and RunError for an exported file.
    """
    objective = config.objective.labels if isinstance(config.objective, JointConfig) else config.objective
    name = objective.teacher if isinstance(objective, LabelsConfig) else ""
    if not name:
        return None
    place = place_of(name)
    if place.is_file() and place.suffix != SUFFIX:
        raise RunError(
            f"teacher {name} is an exported file, which cannot be compiled into a step; give its run or a packed file"
        )
    model = load(place)
    own = model.blueprint
    return Teacher(
        name=name,
        fingerprint=model_fingerprint(place),
        network=model.network,
        tasks=own.learnt_tasks,
        grid=own.grid,
        absorbers=own.absorbers,
        dataset=own.dataset,
        temperature={task.name: model.decisions.temperatures(task.name) for task in own.learnt_tasks if task.classes},
    )


def told_of(teacher: Teacher | None, dataset: str, names: tuple[str, ...]) -> list[str]:
    """What a user should know of a teacher, in words. dataset: fingerprint of the training set; names: what is learnt."""
    if not teacher:
        return []
    answered = {task.name for task in teacher.tasks}
    told = [f"learns from {teacher.name} (fingerprint {teacher.fingerprint})"]
    if alone := [name for name in names if name not in answered]:
        told.append(f"which does not answer {', '.join(alone)}: learnt from labels alone")
    if teacher.dataset != dataset:
        told.append(
            "the teacher was trained on another dataset; scores on spectra that it has seen, and on those like them, are "
            "better than on new ones"
        )
    return told
