"""The one file that knows Orbax: training checkpoints that survive a kill, and the model that inference loads.

RUN/checkpoints/<step>  state, progress and position in the data stream, the last few kept
RUN/model/<step>        averaged parameters, input map and everything `predict` needs, of the best validation and the
                        one before
Orbax writes under a temporary name and renames, so a folder that exists was whole once. A training checkpoint is read
back when it is written, in the background, and holds a digest of its arrays: one that is not what was saved, or is
damaged since, is named and put aside, and the one before serves. In an object store steps are put by staged.py.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from data_pipelines.errors import CheckpointError, PlaceError, RunError, line_of
from data_pipelines.files import scratch
from data_pipelines.places import Place, RemotePath
from spt_jax.runs.digest import digest, digest_on_device
from spt_jax.runs.formats import CHECKPOINT, checkpoint_of_today
from spt_jax.runs.staged import StagedSteps

TRAINING, MODEL, DAMAGED = "checkpoints", "model", "damaged"
KEPT = 2
log = logging.getLogger(__name__)


class Checkpoints:
    """Training checkpoints and best model of one run folder.

    kept: of the newest training checkpoints. kept_period: those whose step it divides are kept for good; 0: none.
    """

    def __init__(self, run: Place, kept: int = KEPT, kept_period: int = 0):
        self._run = run
        self._remote: dict[str, StagedSteps] = {}
        self._behind, self._pending = ThreadPoolExecutor(1), Future[None]()
        self._pending.set_result(None)
        self._here = run
        if isinstance(run, RemotePath):
            self._here = here = Path(mkdtemp(dir=scratch()))
            self._remote = {
                TRAINING: StagedSteps(run / TRAINING, here / TRAINING, kept, kept_period),
                MODEL: StagedSteps(run / MODEL, here / MODEL, KEPT),
            }
        self._training = _manager(self._here, TRAINING, bool(self._remote), kept, kept_period)
        self._model = _manager(self._here, MODEL, bool(self._remote))

    def save(self, step: int, state: Any, vector: int, progress: dict) -> None:
        """`progress` is JSON: epoch, early stopping, and the position of the data stream. vector: as of `restore`.

        Returns when the state may be used up; it is written, and read back, in the background. What went wrong with the
        one before is raised here.
        """
        expected = [int(_whole(each)) for each in digest_on_device(state)]
        described = ocp.args.JsonSave({**progress, "vector": vector, "digest": expected})
        if self._remote:
            state = jax.tree.map(_whole, state)
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), progress=described)
        like = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), state) if jax.process_index() == 0 else None
        written = partial(self._written, step, like, expected)
        self.wait()
        if _save(self._training, step, args, self._remote.get(TRAINING), written) and not self._remote:
            self._pending = self._behind.submit(written)

    def _written(self, step: int, like: Any, expected: list[int]) -> None:
        """Returns when a step is on the disk, as it was saved; the first process reads it for all."""
        self._training.wait_until_finished()
        if like is None:
            return
        own = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="read")
        handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=own)
        arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like)
        args = ocp.args.PyTreeRestore(item=like, restore_args=arrays)
        folder = self._here.absolute() / TRAINING / str(step)
        try:
            with ocp.Checkpointer(handler, multiprocessing_options=own) as reader:
                found = digest(reader.restore(folder / "state", args=args))
            wrong = "" if found == expected else "other values than were saved"
        except Exception as error:  # whatever a damaged file makes Orbax raise
            wrong = line_of(error)
        if wrong:
            aside = _aside(self._run if not self._remote else self._here, step)
            raise CheckpointError(f"{folder}: read back, it holds {wrong}; moved to {aside}: check the disk") from None

    def save_model(self, step: int, variables: Any, blueprint: dict) -> None:
        """The best model so far: pytrees of arrays, and the blueprint as JSON."""
        described = ocp.args.JsonSave({"format": CHECKPOINT, **blueprint})
        if self._remote:
            variables = jax.tree.map(_whole, variables)
        args = ocp.args.Composite(variables=ocp.args.StandardSave(variables), blueprint=described)
        _save(self._model, step, args, self._remote.get(MODEL))

    def restore(self, state: Any, vector: int) -> tuple[Any, dict] | None:
        """The newest checkpoint that is whole, in the shapes and sharding of `state`, or None where there is none.

        vector: length of the parameter vectors in it; those of a run on another number of devices have other zeros at
        their end. A damaged checkpoint is named and put aside, so that the run writes it again.
        """
        remote = self._remote.get(TRAINING)
        found = self._newest(remote, state, vector)
        if remote and jax.process_count() > 1:
            steps = multihost_utils.process_allgather(np.int32(found[0] if found else -1))
            if len(set(steps.tolist())) > 1:
                raise RunError(f"{self._run}: the processes see different checkpoints, of steps {steps.tolist()}")
        return found[1:] if found else None

    def _newest(self, remote: StagedSteps | None, state: Any, vector: int) -> tuple[int, Any, dict] | None:
        """As `restore`, after the step that it is of."""
        for step in remote.steps() if remote else sorted(self._training.all_steps(), reverse=True):
            try:
                if remote:
                    remote.fetch(step)
                    self._training.reload()
                return step, *self._read(step, state, vector)
            except PlaceError:
                raise
            except Exception as error:  # whatever a damaged file makes Orbax raise
                if remote:
                    told = f"{self._run / TRAINING / str(step)}: damaged checkpoint ({line_of(error)}), passed over"
                    log.warning("%s", told)
                    if jax.process_index() == 0:
                        remote.disown(step)
                    continue
                damaged, why = self._run / TRAINING / str(step), type(error).__name__
                why = str(error) if isinstance(error, CheckpointError) else why
                log.warning("%s: damaged checkpoint (%s), moved to %s", damaged, why, self._run / DAMAGED)
                if jax.process_index() == 0:
                    _aside(self._run, step)
                if jax.process_count() > 1:
                    multihost_utils.sync_global_devices(f"aside {step}")
                self._training.reload()
        return None

    def _read(self, step: int, state: Any, vector: int) -> tuple[Any, dict]:
        progress = self._training.restore(step, args=ocp.args.Composite(progress=ocp.args.JsonRestore()))["progress"]
        saved, expected = progress.pop("vector"), progress.pop("digest", None)

        def like(x: jax.Array) -> jax.ShapeDtypeStruct:
            if self._remote:
                return _here((*x.shape[:-1], saved) if x.shape[-1:] == (vector,) else x.shape, x.dtype)
            if saved == vector or x.shape[-1:] != (vector,):
                return _abstract(x)
            whole = jax.sharding.NamedSharding(x.sharding.mesh, jax.sharding.PartitionSpec())
            return jax.ShapeDtypeStruct((*x.shape[:-1], saved), x.dtype, sharding=whole)

        def fitted(was: jax.Array, x: jax.Array) -> jax.Array:
            if was.shape == x.shape and not self._remote:
                return was
            values = np.asarray(was)
            if was.shape != x.shape:
                values = np.zeros(x.shape, x.dtype)
                both = min(saved, vector)
                values[..., :both] = np.asarray(was)[..., :both]
            if self._remote:  # every process has all of it
                return jax.make_array_from_callback(x.shape, x.sharding, lambda index: values[index])
            return jax.device_put(values, x.sharding)

        args = ocp.args.Composite(state=ocp.args.StandardRestore(jax.tree.map(like, state)))
        found = self._training.restore(step, args=args)["state"]
        if expected and [int(_whole(each)) for each in digest_on_device(found)] != expected:
            raise CheckpointError("other values than were saved")
        return jax.tree.map(fitted, found, state), progress

    @property
    def written(self) -> bool:
        """Whether all that was saved is on the disk, or has failed."""
        return self._pending.done()

    def wait(self) -> None:
        """Returns when it is. Raises what went wrong."""
        self._pending.result()

    def close(self) -> None:
        """Returns when all that was saved is on the disk."""
        self._behind.shutdown()
        self.wait()
        self._training.close()
        self._model.close()
        for remote in self._remote.values():
            remote.close()


def load_model(run: Place) -> tuple[dict, Callable[[Any], Any]]:
    """The blueprint of a run's best model, and a function from abstract variables to their values.

    Raises CheckpointError where there is none, where none is whole, or of a format that is not known.
    """
    folder = run.absolute() / MODEL
    if not folder.is_dir():
        raise CheckpointError(f"{run}: not a run folder with a trained model; make one with `spt-jax train`")
    damaged = []
    if isinstance(folder, RemotePath):
        folder, damaged = _fetched(folder)
    manager = ocp.CheckpointManager(folder)
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            # Onto one device: it may have been saved from more than there are here.
            described = ocp.StandardCheckpointHandler().metadata(folder / str(step) / "variables").tree
            like = jax.tree.map(lambda x: _abstract(jax.ShapeDtypeStruct(x.shape, x.dtype)), described)
            variables = ocp.args.StandardRestore(like)
            composite = ocp.args.Composite(blueprint=ocp.args.JsonRestore(), variables=variables)
            # Read whole: half a file of weights must not be found out when it is too late for the one before.
            document = manager.restore(step, args=composite)["blueprint"]
            break
        except Exception as error:  # whatever a damaged file makes Orbax raise
            damaged.append(f"{folder / str(step)}: damaged checkpoint ({type(error).__name__})")
    else:
        raise CheckpointError(damaged[0] if damaged else f"{run}: training has not saved a model yet")
    for line in damaged:
        log.warning("%s; using the one before, of step %d", line, step)
    try:
        document = checkpoint_of_today(document)
    except ValueError as error:
        raise CheckpointError(f"{run}: checkpoint of {error}") from None
    return document, lambda like: _variables(manager, step, like, folder)


def _fetched(there: RemotePath) -> tuple[Path, list[str]]:
    """A folder of this machine with the newest step of a remote one that is what was put, and what is wrong with others."""
    here, damaged = Path(mkdtemp(dir=scratch())), []
    remote = StagedSteps(there, here, KEPT)
    for step in remote.steps():
        try:
            remote.fetch(step)
            break
        except CheckpointError as error:
            damaged.append(f"{there / str(step)}: damaged checkpoint ({error})")
    remote.close()
    return here, damaged


def _variables(manager: ocp.CheckpointManager, step: int, like: Any, folder: Path) -> Any:
    args = ocp.args.Composite(variables=ocp.args.StandardRestore(jax.tree.map(_abstract, like)))
    try:
        return manager.restore(step, args=args)["variables"]
    except Exception as error:
        raise CheckpointError(f"{folder / str(step)}: holds another network than it says ({error})") from None


def _aside(run: Path, step: int) -> Path:
    """Put a training checkpoint where no restart finds it, and those who look for the cause do."""
    aside = run / DAMAGED / f"{TRAINING}-{step}"
    aside.parent.mkdir(exist_ok=True)
    shutil.rmtree(aside, ignore_errors=True)
    (run / TRAINING / str(step)).rename(aside)
    return aside


def _manager(run: Path, name: str, alone: bool, kept: int = KEPT, kept_period: int = 0) -> ocp.CheckpointManager:
    """alone: of this process, whatever others there are."""
    keep = {"max_to_keep": kept, "keep_period": kept_period or None}
    # Both save the same step in the background: without a name of their own their barriers between processes collide.
    folder = run.absolute() / name
    if not (alone and jax.process_count() > 1):
        apart = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=name)
        options = ocp.CheckpointManagerOptions(**keep, multiprocessing_options=apart)
        return ocp.CheckpointManager(folder, options=options)
    own = jax.process_index()
    apart = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"{name}{own}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    options = ocp.CheckpointManagerOptions(**keep, multiprocessing_options=apart, create=False)
    return ocp.CheckpointManager(folder, options=options)


def _save(
    manager: ocp.CheckpointManager,
    step: int,
    args: ocp.args.Composite,
    remote: StagedSteps | None,
    written: Callable[[], None] | None = None,
) -> bool:
    """Whether it begins to save: a step that a killed process already saved is not saved again, as the run that repeats
    it is the same. written: returns when it is."""
    if remote:
        remote.wait()
        if jax.process_index() > 0:
            return False
    if step in manager.all_steps():
        return False
    manager.save(step, args=args, force=True)
    if remote:
        remote.put_behind(step, written or manager.wait_until_finished)
    return True


def _whole(x: jax.Array) -> np.ndarray:
    """All of an array, on the host; every process calls it."""
    if jax.process_count() == 1 or x.is_fully_replicated:
        return np.asarray(x.addressable_data(0) if jax.process_count() > 1 else x)
    return multihost_utils.process_allgather(x, tiled=True)


def _here(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=jax.sharding.SingleDeviceSharding(jax.local_devices()[0]))


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None) or here)
