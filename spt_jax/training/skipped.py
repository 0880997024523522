"""Batches whose loss or gradient was not finite: left out of training, counted, and named by the rows they held."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import jax
import numpy as np

from data_pipelines.errors import RunError
from data_pipelines.files import write_atomic
from data_pipelines.places import Place, RemotePath

FILE = "skipped.jsonl"
NAMED = 4


class Skipped:
    """Of one run. limit: so many of an epoch are left out; one more stops it. ids: of the rows of a step's batch."""

    def __init__(self, out: Place, limit: int, ids: Callable[[int], Sequence[str]]):
        self._path, self._limit, self._ids = out / FILE, limit, ids

    def add(self, epoch: int, first: int, skipped: np.ndarray, before: float) -> None:
        """skipped: (..., n) 1 for each batch that was, of n steps from `first` on; before: so many earlier in this epoch.

        Every one is written into the run folder with its ids. Raises RunError with the ids of the last for too many.
        """
        steps = first + np.flatnonzero(skipped.reshape(-1, skipped.shape[-1]).any(axis=0))
        if not len(steps):
            return
        lines = [{"epoch": epoch, "step": int(step), "ids": list(self._ids(int(step)))} for step in steps[:1000]]
        if jax.process_index() == 0:
            self._append("".join(json.dumps(line) + "\n" for line in lines))
        count = int(before) + len(steps)
        if count > self._limit:
            ids = lines[-1]["ids"]
            some = ", ".join(ids[:NAMED]) + (f" and {len(ids) - NAMED} more" if len(ids) > NAMED else "")
            raise RunError(
                f"the loss or its gradient was not finite in {count} batches of epoch {epoch}, more than --execution.skip-"
                f"batches {self._limit}: the last of step {lines[-1]['step']} with the rows {some} (all in {self._path}); "
                "look at these rows, or lower the learning rate"
            )

    def _append(self, text: str) -> None:
        if isinstance(self._path, RemotePath):
            write_atomic(self._path, (self._path.read_text() if self._path.exists() else "") + text)
            return
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(text)
