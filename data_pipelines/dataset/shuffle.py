"""The order of a stream: which rows of which blocks one host reads in one epoch. Pure functions of the seed.

Two levels: the blocks are shuffled over the whole split, then rows within a window of consecutive blocks. Reading
stays in whole blocks, and rows that are neighbours on disk part as far as the window reaches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Share(NamedTuple):
    """What one host reads in one epoch, before rows are shuffled: rows start to stop of each block, one after the other.

    All (pieces,) integers.
    """

    block: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def share(sizes: np.ndarray, seed: int, epoch: int, shard: int, shards: int) -> Share:
    """Host `shard`'s part of the epoch, for blocks of `sizes` (blocks,) rows.

    The blocks in the order of this epoch make one sequence of rows, cut into `shards` equal runs. So every host
    has the same number of rows, hosts never share a row, and fewer than `shards` rows are left out; only a block
    at a cut is read by two hosts.
    """
    order = np.random.default_rng((seed, 0, epoch)).permutation(len(sizes))
    sizes = sizes[order]
    rows = sizes.sum() // shards
    begin = np.cumsum(sizes) - sizes
    start = np.clip(shard * rows - begin, 0, sizes)
    stop = np.clip((shard + 1) * rows - begin, 0, sizes)
    read = start < stop
    return Share(order[read], start[read], stop[read])


def window_edges(own: Share, pieces: int) -> np.ndarray:
    """(windows + 1,) places in the host's sequence of rows where a window of so many pieces begins; last, its end."""
    ends = np.concatenate([[0], np.cumsum(own.stop - own.start)])
    return np.append(ends[:-1:pieces], ends[-1])


def row_order(rows: int, seed: int, epoch: int, shard: int, window: int) -> np.ndarray:
    """(rows,) the permutation of a window's rows."""
    return np.random.default_rng((seed, 1, epoch, shard, window)).permutation(rows)
