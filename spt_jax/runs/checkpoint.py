"""The one file that knows Orbax: training checkpoints that survive a kill, and the model that inference loads.

RUN/checkpoints/<step>  state, progress and position in the data stream, the last two kept
RUN/model/<step>        averaged parameters, input map and everything `predict` needs, of the best validation
Orbax writes under a temporary name and renames, so a folder that exists is whole.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from data_pipelines.errors import CheckpointError

FORMAT = 3


class Checkpoints:
    """Training checkpoints and best model of one run folder."""

    def __init__(self, run: Path):
        self._training = _manager(run, "checkpoints", keep=2)
        self._model = _manager(run, "model", keep=1)

    def save(self, step: int, state: Any, progress: dict) -> None:
        """`progress` is JSON: epoch, early stopping, and the position of the data stream."""
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress))
        _save(self._training, step, args)

    def save_model(self, step: int, variables: Any, blueprint: dict) -> None:
        """The best model so far: pytrees of arrays, and the blueprint as JSON."""
        described = ocp.args.JsonSave({"format": FORMAT, **blueprint})
        _save(self._model, step, ocp.args.Composite(variables=ocp.args.StandardSave(variables), blueprint=described))

    def restore(self, state: Any) -> tuple[Any, dict] | None:
        """The newest checkpoint in the shape and sharding of `state`, or None."""
        step = self._training.latest_step()
        if step is None:
            return None
        args = ocp.args.Composite(state=ocp.args.StandardRestore(_abstract(state)), progress=ocp.args.JsonRestore())
        restored = self._training.restore(step, args=args)
        return restored["state"], restored["progress"]

    def close(self) -> None:
        self._training.close()
        self._model.close()


def _manager(run: Path, name: str, keep: int) -> ocp.CheckpointManager:
    # Both save the same step in the background: without a name of their own their barriers between processes collide.
    apart = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=name)
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, multiprocessing_options=apart)
    return ocp.CheckpointManager(run.absolute() / name, options=options)


def load_model(run: Path) -> tuple[dict, Callable[[Any], Any]]:
    """The blueprint of a run's best model, and a function from abstract variables to their values.

    Raises CheckpointError where there is none, where it is damaged, or of another format.
    """
    folder = run.absolute() / "model"
    if not folder.is_dir():
        raise CheckpointError(f"{run}: not a run folder with a trained model; make one with `spt-jax train`")
    manager = ocp.CheckpointManager(folder)
    step = manager.latest_step()
    if step is None:
        raise CheckpointError(f"{run}: training has not saved a model yet")

    def read(name: str, args: Any) -> Any:
        try:
            return manager.restore(step, args=ocp.args.Composite(**{name: args}))[name]
        except Exception as error:  # whatever a damaged file makes Orbax raise
            raise CheckpointError(f"{folder / str(step)}: damaged checkpoint ({type(error).__name__})") from None

    document = read("blueprint", ocp.args.JsonRestore())
    if document.get("format") != FORMAT:
        raise CheckpointError(
            f"{run}: checkpoint of format {document.get('format')}, this version reads {FORMAT}; train again"
        )
    return document, lambda like: read("variables", ocp.args.StandardRestore(_abstract(like)))


def _save(manager: ocp.CheckpointManager, step: int, args: ocp.args.Composite) -> None:
    """A step that a killed process already saved is not saved again: the run that repeats it is the same."""
    if step not in manager.all_steps():
        manager.save(step, args=args, force=True)


def _abstract(tree: Any) -> Any:
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None) or sharding), tree
    )
