"""A validation: scores of every member of a run, and the best of each saved with its decisions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from data_pipelines.dataset.data import Split
from data_pipelines.places import Place
from spt_jax.batching import in_pieces
from spt_jax.runs.checkpoint import Checkpoints
from spt_jax.scoring.phases import PhaseDecisions
from spt_jax.training.assemble import Assembly
from spt_jax.training.step import TrainState

# Spectra that are judged at once.
PIECE_ROWS = 1024


@dataclass(frozen=True)
class Member:
    """One model of a run. folder: that it is saved in. tasks: names of what it learns and is judged by."""

    folder: Place
    seed: int
    tasks: tuple[str, ...]


def judge(
    made: Assembly,
    state: TrainState,
    members: tuple[Member, ...],
    validation: Split,
    progress: dict,
    step: int,
    checkpoints: Checkpoints | None,
) -> list[dict[str, float | None]]:
    """Scores of every member; one that is better than ever is saved, with its decisions. progress: is brought up to date."""
    found, batch = [], validation.batch
    for i, member in enumerate(members):
        params = made.average(state, i)
        rows = min(PIECE_ROWS, len(batch.spectrum))
        outputs = in_pieces(made.network(params), rows, made.objective.shown(batch), batch.atomic_number)
        scores = made.objective.score(outputs, batch)
        scores = {name: scores[name] for name in member.tasks if name in scores}
        found.append(scores)
        score, best = mean_score(scores), progress["best"][i]
        # Where there is nothing to judge by, the newest is kept.
        better = best is None or (score is not None and score > best)
        progress["since_best"][i] = 0 if better else progress["since_best"][i] + 1
        if better:
            progress["best"][i] = score
            decisions = made.objective.decisions(outputs, batch, validation.materials, member.tasks)
            tasks = {task.name for task in made.blueprint.tasks}
            learnt = () if tasks <= set(member.tasks) else member.tasks
            kept = {"phases" if isinstance(decisions, PhaseDecisions) else "decisions": decisions}
            own = replace(made.blueprint, validation=scores, learnt=learnt, **kept)
            folder = checkpoints or Checkpoints(member.folder)
            folder.save_model(step, {"params": params, "constants": made.constants}, own.to_json())
            if not checkpoints:
                folder.close()
    return found


def mean_score(scores: dict[str, float | None]) -> float | None:
    known = [score for score in scores.values() if score is not None]
    return float(np.mean(known)) if known else None
