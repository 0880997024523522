"""The epochs of a run: train, judge, keep. The same for one model and for the members of an ensemble."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import jax
import numpy as np

from data_pipelines import faults
from data_pipelines.dataset.data import Split
from data_pipelines.places import Place
from spt_jax.runs.checkpoint import Checkpoints
from spt_jax.runs.folder import append_log, rewind_log
from spt_jax.training.account import Account
from spt_jax.training.assemble import Assembly
from spt_jax.training.heartbeat import Heartbeat, exchanging, stop
from spt_jax.training.judge import Member, judge, mean_score
from spt_jax.training.memory import fits
from spt_jax.training.noise_scale import noise_scale
from spt_jax.training.skipped import Skipped
from spt_jax.training.step import PART_SQUARE, SKIPPED, SQUARE, TrainState
from spt_jax.training.together import Processes, added_up

log = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """Training stopped at the user's word or the system's, after a checkpoint. signal: that said so."""

    def __init__(self, number: int):
        super().__init__()
        self.signal, self.name = number, signal.Signals(number).name


class Epochs(Protocol):
    """Runs the steps of an epoch."""

    whole: bool
    """Whether an epoch can only be run at once."""
    waited: float
    """Seconds of the last call in which the devices had no data."""

    def __call__(
        self, state: TrainState, steps: int, sums: dict[str, Any], doing: Callable[[str], None]
    ) -> tuple[TrainState, dict[str, jax.Array], Any]:
        """So many steps: (state, sums of metrics of the epoch so far) -> (state, sums, (..., steps) 1 where a batch was
        skipped); the state that was given is used up. doing: is told what this process is at."""
        ...

    def position(self) -> dict:
        """Where the next call begins, as JSON."""
        ...

    def seek(self, position: dict) -> None:
        """Begin the next call there."""
        ...

    def ids(self, step: int) -> Sequence[str]:
        """Of the rows of the batch of a step."""
        ...


def run_epochs(
    made: Assembly,
    state: TrainState,
    epoch: Epochs,
    steps: int,
    members: tuple[Member, ...],
    validation: Split,
    out: Place,
    report: Callable[[dict], None],
    within: Callable[[dict], None] = lambda line: None,
) -> dict:
    """Train to the end, or go on where a stopped run left off; returns the last log line. See `loop.train`."""
    settings, execution = made.config.train, made.config.execution
    # In an ensemble the losses by name are of other members each: only their weighted sum is of all.
    alone = len(members) == 1 and members[0].folder == out
    checkpoints = Checkpoints(out, execution.keep, execution.keep_epochs * steps)
    fresh = {"epoch": 0, "done": 0, "sums": {}, "seconds": 0.0, "waited": 0.0}
    progress: dict[str, Any] = {**fresh, "best": [None] * len(members), "since_best": [0] * len(members)}
    if restored := checkpoints.restore(state, made.flat.size):
        state, progress = restored[0], {**fresh, **restored[1]}
        progress["sums"] = {name: np.array(each, np.float32) for name, each in progress["sums"].items()}
        epoch.seek(progress.pop("stream"))
    line, saved = rewind_log(out, progress["epoch"]), time.monotonic()
    with exchanging():
        account = Account(out, progress["epoch"], progress["epoch"] * steps + progress["done"])
    skipped = Skipped(out, execution.skip_batches, epoch.ids)

    def tell(told: str) -> None:
        if jax.process_index() == 0:  # all know the same
            log.warning("%s", told)
        account.told(told)

    processes = Processes(account.hosts, tell)

    def lost(told: str) -> None:
        account.ended(told)
        stop(told)

    def save(state: TrainState, step: int) -> None:
        heart.doing("checkpoint", step)
        with account.at("checkpoint"):
            sums = {name: each.tolist() for name, each in progress["sums"].items()}
            position = {"sums": sums, "stream": epoch.position()}
            checkpoints.save(step, state, made.flat.size, {**progress, **position})
        heart.doing("devices", step)

    # A signal before the last of these ends the process: there is nothing to save.
    with (
        account,
        Heartbeat(out, execution.silence_seconds, lost) as heart,
        exchanging(heart.gone),
        fits(settings.batch_size, execution),
        stop_flag() as asked,
    ):
        while progress["epoch"] < settings.epochs and not _exhausted(progress, settings.patience):
            number, mishaps, stopping, due = progress["epoch"] + 1, faults.counts(), 0, False
            while progress["done"] < steps:
                part = steps if epoch.whole else min(processes.span, steps - progress["done"])
                first, began = progress["epoch"] * steps + progress["done"], time.perf_counter()
                heart.doing("devices", first)
                with account.at("compute"):
                    state, sums, left_out = epoch(state, part, progress["sums"], heart.doing)
                    sums, left_out = jax.device_get((sums, left_out))
                account.waited(epoch.waited)
                seconds = time.perf_counter() - began
                before = float(np.max(progress["sums"].get(SKIPPED, 0)))
                skipped.add(number, first, np.asarray(left_out), before)
                progress["sums"] = {name: np.asarray(each) for name, each in sums.items()}
                progress["done"] += part
                progress["seconds"] += seconds
                progress["waited"] += epoch.waited
                due = time.monotonic() - saved > 60 * execution.save_minutes
                stopping, due = processes.hear(asked(), due, part, seconds, epoch.waited)
                if progress["done"] == steps:
                    break
                if stopping or due:
                    save(state, first + part)
                    saved = time.monotonic()
                account.reached(number, first + part, now=bool(stopping or due))
                if jax.process_index() == 0:
                    within(_so_far(progress, settings.epochs, steps, settings.batch_size))
                if stopping:
                    checkpoints.close()
                    raise Interrupted(stopping)
            line = _line(made, progress, steps, len(members), alone)
            progress |= {**fresh, "epoch": number}
            last = number == settings.epochs
            stopping = 0 if last else stopping
            validating = last or number % settings.validate_every == 0
            if validating:
                heart.doing("validation", line["step"])
                with account.at("validation"):
                    found = judge(
                        made, state, members, validation, progress, line["step"], checkpoints if alone else None
                    )
                line["validation"] = (
                    found[0] if alone else {m.folder.name: mean_score(f) for m, f in zip(members, found, strict=True)}
                )
                line["score"] = mean_score(line["validation"])
            line |= added_up(faults.since(mishaps))
            if jax.process_index() == 0:  # before the checkpoint: a line too many is dropped, one too few is lost
                append_log(out, line)
                report(line)
            if validating or stopping or due:
                save(state, line["step"])
                saved = time.monotonic()
            account.reached(number, line["step"])
            if stopping:
                checkpoints.close()
                raise Interrupted(stopping)
        with account.at("checkpoint"):
            checkpoints.close()
    return line


def _line(made: Assembly, progress: dict, steps: int, members: int, alone: bool) -> dict:
    """What the log says of an epoch that is through: means over the batches that were not skipped."""
    sums = {name: np.atleast_1d(each) for name, each in progress["sums"].items()}
    left_out = sums.pop(SKIPPED)
    metrics = {name: each / np.maximum(steps - left_out, 1) for name, each in sums.items()}
    number, seconds = progress["epoch"] + 1, progress["seconds"]
    line = {"epoch": number, "epochs": made.config.train.epochs, "step": number * steps}
    told = ("loss", *(made.objective.names if alone else ()), "learning_rate", "gradient_norm")
    line |= {name: round(float(metrics[name].mean()), 6) for name in told}
    batch, parts = made.config.train.batch_size, made.layout.devices * made.config.execution.accumulate
    squares = metrics[PART_SQUARE].mean(), metrics[SQUARE].mean()
    if alone and (scale := noise_scale(batch, parts, *squares, rows=steps * batch)):
        line["noise_scale"] = round(float(scale), 1)
    speed = steps * batch * members / seconds
    line |= {"seconds": round(seconds, 3), "spectra_per_s": round(speed, 1)}
    line |= {"input_wait": round(progress["waited"], 3)} | ({} if alone else {"members": members})
    return line | ({SKIPPED: int(left_out.max())} if left_out.any() else {})


def _so_far(progress: dict, epochs: int, steps: int, batch: int) -> dict:
    """Where an epoch stands that is not through."""
    sums, done = progress["sums"], progress["done"]
    loss = float(np.mean(sums["loss"] / np.maximum(done - sums[SKIPPED], 1)))
    line = {"epoch": progress["epoch"] + 1, "epochs": epochs, "share": done / steps, "loss": loss}
    return line | {"spectra_per_s": done * batch / progress["seconds"]}


def _exhausted(progress: dict, patience: int) -> bool:
    return 0 < patience <= min(progress["since_best"])


@contextmanager
def stop_flag() -> Iterator[Callable[[], int]]:
    """Ctrl-C, or SIGTERM from a scheduler, sets a flag that is read between spans of steps; a second one stops at once.

    The flag is the number of the signal, 0 before.
    """
    asked: list[int] = []

    def ask(number: int, _) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    ask.meanwhile = "once the state is saved"  # type: ignore[attr-defined]
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
