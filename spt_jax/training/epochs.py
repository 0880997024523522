"""The epochs of a run: train, judge, keep. The same for one model and for the members of an ensemble."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import numpy as np

from data_pipelines import faults
from data_pipelines.dataset.data import Split
from data_pipelines.errors import RunError
from data_pipelines.places import Place
from spt_jax.batching import in_pieces
from spt_jax.runs.checkpoint import Checkpoints
from spt_jax.runs.folder import append_log, rewind_log
from spt_jax.scoring.phases import PhaseDecisions
from spt_jax.training.assemble import Assembly
from spt_jax.training.memory import fits
from spt_jax.training.sharding import any_process
from spt_jax.training.step import TrainState

# Spectra that are judged at once.
PIECE_ROWS = 1024


class Interrupted(KeyboardInterrupt):
    """Training stopped at the user's word or the system's, after a checkpoint. signal: that said so."""

    def __init__(self, number: int):
        super().__init__()
        self.signal = number


@dataclass(frozen=True)
class Member:
    """One model of a run. folder: that it is saved in. tasks: names of what it learns and is judged by."""

    folder: Place
    seed: int
    tasks: tuple[str, ...]


class Epochs(Protocol):
    """Runs one epoch: (state) -> (state, mean metrics); the state that was given is used up."""

    waited: float
    """Seconds of the last epoch in which the devices had no data."""

    def __call__(self, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]: ...

    def position(self) -> dict:
        """Where the data stream is, as JSON."""
        ...

    def seek(self, position: dict) -> None: ...


def run_epochs(
    made: Assembly,
    state: TrainState,
    epoch: Epochs,
    steps: int,
    members: tuple[Member, ...],
    validation: Split,
    out: Place,
    report: Callable[[dict], None],
) -> dict:
    """Train to the end, or go on where a stopped run left off; returns the last log line. See `loop.train`."""
    settings = made.config.train
    # In an ensemble the losses by name are of other members each: only their weighted sum is of all.
    alone = len(members) == 1 and members[0].folder == out
    checkpoints = Checkpoints(out)
    progress: dict[str, Any] = {"epoch": 0, "best": [None] * len(members), "since_best": [0] * len(members)}
    if restored := checkpoints.restore(state, made.flat.size):
        state, progress = restored
        epoch.seek(progress.pop("stream"))
    line = rewind_log(out, progress["epoch"])
    with stop_flag() as asked:
        while progress["epoch"] < settings.epochs and not _exhausted(progress, settings.patience):
            began, asked_again = time.perf_counter(), faults.count()
            with fits(settings.batch_size, made.config.execution):
                state, metrics = epoch(state)
                jax.block_until_ready(metrics)
            seconds = time.perf_counter() - began
            metrics = {name: np.atleast_1d(np.asarray(each)) for name, each in jax.device_get(metrics).items()}
            number = progress["epoch"] + 1
            _check(metrics["loss"], members, number)
            line = {"epoch": number, "epochs": settings.epochs, "step": number * steps}
            told = ("loss", *(made.objective.names if alone else ()), "learning_rate", "gradient_norm")
            line |= {name: round(float(metrics[name].mean()), 6) for name in told}
            speed = steps * settings.batch_size * len(members) / seconds
            line |= {"seconds": round(seconds, 3), "spectra_per_s": round(speed, 1)}
            line |= {"input_wait": round(epoch.waited, 3)} | ({} if alone else {"members": len(members)})
            progress["epoch"] = number
            last = number == settings.epochs
            stopping = 0 if last else any_process(asked())
            validating = last or number % settings.validate_every == 0
            if validating:
                found = _judge(made, state, members, validation, progress, line["step"], checkpoints if alone else None)
                line["validation"] = (
                    found[0] if alone else {m.folder.name: _mean(f) for m, f in zip(members, found, strict=True)}
                )
                line["score"] = _mean(line["validation"])
            if validating or stopping:
                checkpoints.save(line["step"], state, made.flat.size, {**progress, "stream": epoch.position()})
            if again := faults.count() - asked_again:
                line["asked_again"] = again
            if jax.process_index() == 0:
                append_log(out, line)
                report(line)
            if stopping:
                checkpoints.close()
                raise Interrupted(stopping)
    checkpoints.close()
    return line


def _judge(
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
        score, best = _mean(scores), progress["best"][i]
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


def _mean(scores: dict[str, float | None]) -> float | None:
    known = [score for score in scores.values() if score is not None]
    return float(np.mean(known)) if known else None


def _check(losses: np.ndarray, members: tuple[Member, ...], number: int) -> None:
    if not np.isfinite(losses).all():
        name = members[int(np.argmin(np.isfinite(losses)))].folder.name
        raise RunError(f"the loss of {name} is not finite after epoch {number}: lower the learning rate")


def _exhausted(progress: dict, patience: int) -> bool:
    return 0 < patience <= min(progress["since_best"])


@contextmanager
def stop_flag() -> Iterator[Callable[[], int]]:
    """Ctrl-C, or SIGTERM from a scheduler, sets a flag that is read between epochs; a second one stops at once.

    The flag is the number of the signal, 0 before.
    """
    asked: list[int] = []

    def ask(number: int, _) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: no signal arrives here anyway
        yield lambda: 0
        return
    try:
        yield lambda: asked[0] if asked else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
