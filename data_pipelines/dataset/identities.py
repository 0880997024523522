"""Who the examples of a split are, some rows at a time.

The ledger lists records as they were found, and the examples lie in another order. So it is gone through once for each
million rows, of which what is asked for is kept: memory does not grow with the set.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipelines.dataset import parts
from data_pipelines.dataset.blocks import REMEDY
from data_pipelines.errors import DatasetError
from data_pipelines.places import Place

COLUMNS = ("id", "material", "element", "edge")
WINDOW_ROWS = 2**20


class Identities:
    """Of one split of a dataset; counts: how many examples of it each part has, in stored order."""

    def __init__(self, dataset: Place, counts: Mapping[str, int], split: str):
        self._dataset, self._counts, self._split = dataset, counts, split
        self._window = lru_cache(1)(self._read_window)

    def read(self, start: int, stop: int) -> pa.Table:
        """(stop - start,) rows of COLUMNS. Raises DatasetError where the ledger does not have each of them once."""
        found, first = [], 0
        for part, count in self._counts.items():
            place, end = max(start - first, 0), min(stop - first, count)
            while place < end:
                window = place // WINDOW_ROWS
                offset = place - window * WINDOW_ROWS
                own = self._window(part, window).slice(offset, end - place)
                found.append(own)
                place += len(own)
            first += count
        return pa.concat_tables(found)

    def _read_window(self, part: str, window: int) -> pa.Table:
        begin = window * WINDOW_ROWS
        end = min(begin + WINDOW_ROWS, self._counts[part])
        row = pc.field("row")
        wanted = (pc.field("split") == self._split) & (row >= begin) & (row < end)
        found = parts.ledger(self._dataset, part, [*COLUMNS, "row"], wanted).sort_by("row")
        if not np.array_equal(found["row"].to_numpy(), np.arange(begin, end)):
            path = parts.paths(self._dataset, part)[parts.LEDGER]
            raise DatasetError(f"{path}: damaged (not every {self._split} example is in it once); {REMEDY}")
        return found.select(COLUMNS).combine_chunks()
