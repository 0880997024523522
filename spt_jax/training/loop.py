"""The trainer: a short program to fork. Data in, epochs, validation, checkpoints; it prints nothing itself."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import RunError
from data_pipelines.files import write_atomic
from spt_jax.config import Config
from spt_jax.objectives.labels import make_tasks
from spt_jax.runs.blueprint import Blueprint
from spt_jax.runs.checkpoint import Checkpoints
from spt_jax.scoring.metrics import main_score, score_outputs
from spt_jax.training.flat import Flat
from spt_jax.training.memory import fits, outputs_in_pieces
from spt_jax.training.sharding import Layout, make_mesh
from spt_jax.training.step import init_state, make_epoch, make_optimiser, make_step

LOG = "train_log.jsonl"
CONFIG = "config.json"


class Interrupted(KeyboardInterrupt):
    """Training stopped at the user's word, after a checkpoint."""


def train(config: Config, dataset: Dataset, out: Path, report: Callable[[dict], None] = lambda line: None) -> dict:
    """Train into the run folder `out`, or go on where a stopped run left off; returns the last log line.

    `report` gets one dict per epoch: epoch, epochs, step, loss of each descriptor, seconds, spectra_per_s, and
    with a validation its scores. Raises Interrupted after Ctrl-C, when the state is safe on disk.
    """
    settings = config.train
    train_split, validation = dataset.split("train"), dataset.split("validation")
    tasks = make_tasks(settings.descriptors, train_split.batch)
    layout = Layout(make_mesh(), settings.share_parameters)
    layout.check_batch(settings.batch_size, settings.accumulate, config.model.whole_batch)
    steps = len(train_split.ids) // settings.batch_size
    if not steps or not tasks:
        raise RunError(f"{len(train_split.ids)} training examples do not fill one batch of {settings.batch_size}")
    claim(out, config, dataset)

    blueprint = Blueprint.of(config.model, dataset, train_split, tasks)
    graph, params, constants = blueprint.build(jax.random.key(settings.seed), train_split.batch.spectrum)
    flat = Flat(params, len(tasks), layout.devices)
    optimiser = make_optimiser(settings, steps * settings.epochs, steps, flat)
    state = layout.place(init_state(params, optimiser, flat, settings.seed), flat.size)
    constants = layout.place_whole(constants)
    step = make_step(graph, constants, optimiser, tasks, settings, dataset.grid.step, flat, layout)
    average = jax.jit(lambda state: jax.tree.map(layout.whole, flat.unravel(layout.whole(state.average))))
    apply = jax.jit(lambda params, *inputs: nnx.merge(graph, params, constants)(*inputs))

    stream = None
    if settings.input == "resident":
        epoch = make_epoch(step, steps, settings.batch_size, settings.seed, layout.cut)
        run_epoch = partial(jax.jit(epoch, donate_argnums=0), data=layout.place_whole(train_split.batch))
    else:
        hosts = jax.process_count()
        rows = settings.batch_size // hosts
        stream = iter(dataset.stream("train", rows, settings.seed, jax.process_index(), hosts))
        batches = (layout.place_rows(batch) for batch in stream)
        run_epoch = partial(_stream_epoch, jax.jit(step, donate_argnums=0), batches, steps)

    checkpoints = Checkpoints(out)
    progress = {"epoch": 0, "best": None, "since_best": 0}
    restored = checkpoints.restore(state)
    if restored:
        state, progress = restored
        if stream:
            stream.set_state(progress["stream"])
    line = rewind_log(out / LOG, progress["epoch"])
    with interrupt_flag() as interrupted:
        while progress["epoch"] < settings.epochs and not _exhausted(progress, config):
            began = time.perf_counter()
            with fits(settings.batch_size, settings.accumulate):
                state, metrics = run_epoch(state)
                jax.block_until_ready(metrics)
            metrics = {name: round(float(value), 6) for name, value in jax.device_get(metrics).items()}
            seconds = time.perf_counter() - began
            if not np.isfinite(metrics["loss"]):
                raise RunError(
                    f"the loss is {metrics['loss']} after epoch {progress['epoch'] + 1}: lower the learning rate"
                )
            progress = {**progress, "epoch": progress["epoch"] + 1}
            line = {"epoch": progress["epoch"], "epochs": settings.epochs, "step": int(state.step), **metrics}
            line |= {"seconds": round(seconds, 3), "spectra_per_s": round(steps * settings.batch_size / seconds, 1)}
            last = progress["epoch"] == settings.epochs
            stopping = interrupted() and not last
            validating = last or progress["epoch"] % settings.validate_every == 0
            if validating:
                params = average(state)
                outputs = outputs_in_pieces(partial(apply, params), validation.batch)
                scores = score_outputs(outputs, validation.batch, tasks)
                line["validation"] = {name: main_score(s) for name, s in scores.items()}
                line["score"] = float(np.mean([s for s in line["validation"].values() if s is not None]))
                better = progress["best"] is None or line["score"] > progress["best"]
                progress["best"] = line["score"] if better else progress["best"]
                progress["since_best"] = 0 if better else progress["since_best"] + 1
                if better:
                    described = replace(blueprint, validation=line["validation"]).to_json()
                    checkpoints.save_model(line["step"], {"params": params, "constants": constants}, described)
            if validating or stopping:
                position = {"stream": stream.get_state()} if stream else {}
                checkpoints.save(line["step"], state, {**progress, **position})
            if jax.process_index() == 0:
                with open(out / LOG, "a", encoding="utf-8") as log:
                    log.write(json.dumps(line) + "\n")
                report(line)
            if stopping:
                checkpoints.close()
                raise Interrupted
    checkpoints.close()
    return line


def _stream_epoch(step: Callable, batches: Iterator, steps: int, state):
    """Steps are dispatched ahead of the device; only the epoch's mean metrics are read."""
    metrics = []
    for _ in range(steps):
        state, each = step(state, next(batches))
        metrics.append(each)
    return state, jax.tree.map(lambda *values: jnp.stack(values).mean(), *metrics)


def _exhausted(progress: dict, config: Config) -> bool:
    return 0 < config.train.patience <= progress["since_best"]


def claim(out: Path, config: Config, dataset: Dataset, more: dict[str, dict] | None = None) -> None:
    """A run folder belongs to one configuration (and `more` of it, by part and name) and one dataset."""
    wanted = {
        "model": asdict(config.model),
        "train": asdict(config.train),
        "dataset": {"fingerprint": dataset.fingerprint},
        **(more or {}),
    }
    path = out / CONFIG
    if jax.process_index() > 0:
        return
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(wanted, indent=1) + "\n")
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    wanted = json.loads(json.dumps(wanted))
    changed = [
        f"{part}.{name}"
        for part in wanted.keys() | found.keys()
        for name in wanted.get(part, {}).keys() | found.get(part, {}).keys()
        if wanted.get(part, {}).get(name) != found.get(part, {}).get(name)
    ]
    if changed:
        raise RunError(f"{out} holds a run with another {', '.join(sorted(changed))}; choose another --out")


def rewind_log(path: Path, epoch: int) -> dict:
    """Drop log lines past the restored epoch, as they will be written again; returns the last one kept."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = []
    for text in lines:
        try:
            line = json.loads(text)
        except ValueError:
            break  # a kill in mid-write
        if line["epoch"] <= epoch:
            kept.append(line)
    if jax.process_index() == 0:
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept))
    return kept[-1] if kept else {}


@contextmanager
def interrupt_flag() -> Iterator[Callable[[], bool]]:
    """Ctrl-C sets a flag that is read between epochs; a second one stops at once."""
    asked = []

    def ask(*_):
        if asked:
            raise KeyboardInterrupt
        asked.append(True)

    try:
        previous = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not in the main thread: Ctrl-C does not arrive here anyway
        yield lambda: False
        return
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, previous)
