"""Examples read some rows at a time are those of the whole split, whoever holds them and however the ledger is read."""

import numpy as np
import pytest

from data_pipelines.dataset import identities
from data_pipelines.dataset.foreign import TfdsFolder
from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import LIBRARY


@pytest.mark.parametrize("kind", ["dataset of several parts", "folder of TFDS"])
def test_rows_are_those_of_the_split(kind, rng, monkeypatch):
    monkeypatch.setattr(identities, "WINDOW_ROWS", int(rng.integers(7, 200)))
    folder = LIBRARY if kind.startswith("dataset") else sorted((LIBRARY / "spt_xas").glob("*/1.0.0"))[0]
    data = Dataset(LIBRARY) if kind.startswith("dataset") else TfdsFolder(folder)
    split, read = data.split("train"), data.reader("train")
    ends = np.unique(rng.integers(0, len(split.ids) + 1, (6, 2)), axis=0)
    for start, stop in [(0, len(split.ids)), *(np.sort(pair).tolist() for pair in ends)]:
        if start == stop:
            continue
        rows, texts = read(start, stop)
        np.testing.assert_array_equal(rows.spectrum, split.batch.spectrum[start:stop])
        np.testing.assert_array_equal(rows.atomic_number, split.batch.atomic_number[start:stop])
        assert tuple(texts["id"].to_pylist()) == split.ids[start:stop]
        assert tuple(texts["material"].to_pylist()) == split.materials[start:stop]
        absorbers = zip(texts["element"].to_pylist(), texts["edge"].to_pylist(), strict=True)
        assert tuple(map(" ".join, absorbers)) == split.absorbers[start:stop]
