"""The elements of a shell as labels: a set of them is WORDS whole numbers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from data_pipelines.schema import SOURCE_COLUMN, SYMBOLS, WORD_BITS, WORDS, Batch, column_of


def words_of(atomic_numbers: Iterable[int]) -> np.ndarray:
    """A set of elements -> (WORDS,) float32. Raises ValueError for one that is not in SYMBOLS.

    >>> members(words_of({8, 29})[None])[0].nonzero()[0].tolist()
    [8, 29]
    """
    words = [0] * WORDS
    for number in set(atomic_numbers):
        if not 0 < number < len(SYMBOLS):
            raise ValueError(f"no element {number}")
        words[number // WORD_BITS] |= 1 << number % WORD_BITS
    return np.array(words, np.float32)


def members(words: np.ndarray) -> np.ndarray:
    """(N, WORDS) words -> (N, Z) bool: is the element of this atomic number in the set?"""
    bits = words.astype(np.int64)[:, :, None] >> np.arange(WORD_BITS) & 1
    return bits.reshape(len(words), WORDS * WORD_BITS)[:, : len(SYMBOLS)].astype(bool)


def shell_labels(rows: Batch, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(N,) which rows have the set of a shell, and (n, Z) `members` of those that have it."""
    column = column_of(name)
    if rows.labels.shape[1] < SOURCE_COLUMN:
        return np.zeros(len(rows.labels), bool), np.zeros((0, len(SYMBOLS)), bool)
    known = np.asarray(rows.mask[:, column])
    return known, members(np.asarray(rows.labels)[known, column : column + WORDS])
