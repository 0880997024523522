"""Examples as the bytes of one block, and back."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

MAGIC = b"SPTB"
VERSION = 1
HEADER = struct.Struct("<4sIIII")  # magic, version, rows, energies, labels


class Rows(NamedTuple):
    """Examples as stored. spectrum: (N, L) float32. atomic_number: (N,) int32. labels: (N, D) float32, NaN: no label."""

    spectrum: np.ndarray
    atomic_number: np.ndarray
    labels: np.ndarray


def pack(rows: Rows) -> bytes:
    """Header, then the three arrays one after the other, little-endian."""
    header = HEADER.pack(MAGIC, VERSION, *rows.spectrum.shape, rows.labels.shape[1])
    arrays = (rows.spectrum.astype("<f4"), rows.atomic_number.astype("<i4"), rows.labels.astype("<f4"))
    return b"".join([header, *(array.tobytes() for array in arrays)])


def unpack(data: bytes) -> Rows:
    """Views of `data`, nothing copied. Raises ValueError for anything that `pack` does not write."""
    if len(data) < HEADER.size:
        raise ValueError(f"{len(data)} bytes are no block")
    magic, version, rows, energies, labels = HEADER.unpack_from(data)
    if (magic, version) != (MAGIC, VERSION):
        raise ValueError(f"block of format {magic!r} {version}, this version reads {MAGIC!r} {VERSION}")
    if len(data) != HEADER.size + 4 * rows * (energies + 1 + labels):
        raise ValueError(f"block of {len(data)} bytes cannot hold {rows} x ({energies} + 1 + {labels}) values")
    spectrum, rest = HEADER.size, HEADER.size + 4 * rows * energies
    return Rows(
        np.frombuffer(data, "<f4", rows * energies, spectrum).reshape(rows, energies),
        np.frombuffer(data, "<i4", rows, rest),
        np.frombuffer(data, "<f4", rows * labels, rest + 4 * rows).reshape(rows, labels),
    )


def join(parts: list[Rows]) -> Rows:
    return Rows(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
