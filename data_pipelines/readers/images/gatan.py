"""Gatan's tag trees, .dm3 and .dm4 of DigitalMicrograph: the last image of spectra in the file, left on disk.

Layout: header (version, bytes, order of bytes), then groups of named or numbered tags, each a group or a value that says
its own type; in .dm4 counts have 8 bytes and every tag its length. Numbers of the tree itself are big-endian, values are as
the header says.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.readers.images.image import StoredAxis, StoredImage, is_energy

# Types of values as the tree numbers them.
_TYPES = {2: "i2", 3: "i4", 4: "u2", 5: "u4", 6: "f4", 7: "f8", 8: "?", 9: "i1", 10: "u1", 11: "i8", 12: "u8"}
_STRUCT, _STRING, _ARRAY = 15, 18, 20
_GROUP, _VALUE = 20, 21
# Types of images that are numbers, and as what they are stored; others are colours and Fourier transforms.
_IMAGES = {1: "i2", 2: "f4", 6: "u1", 7: "i4", 9: "i1", 10: "u2", 11: "u4", 12: "f8", 14: "u1", 39: "i8", 40: "u8"}
# A file written by the instrument has some thousand tags, a dozen deep.
_MOST_TAGS, _DEEPEST, _LONGEST_NAME = 1_000_000, 64, 4_096
_MOST_AXES = 8


class _Array(NamedTuple):
    """Numbers that were not read: where they begin, their type (None for a compound one) and how many there are."""

    offset: int
    dtype: np.dtype | None
    count: int


def read_gatan(path: Path) -> StoredImage:
    """Raises SpectrumError for a file that is cut, is none of Gatan's, or holds no image of numbers."""
    with open(path, "rb") as file:
        tags = _Tags(file, str(path))
        tree = tags.tree()
        images = list(_children(tree.get("ImageList")))
        thumbnails = {
            int(each["ImageIndex"])
            for each in _children(tree.get("Thumbnails"))
            if isinstance(each, dict) and isinstance(each.get("ImageIndex"), int)
        }
        usable = [
            (number, image["ImageData"])
            for number, image in enumerate(images)
            if number not in thumbnails and isinstance(image, dict) and isinstance(image.get("ImageData"), dict)
        ]
        usable = [(number, data) for number, data in usable if data.get("DataType") in _IMAGES]
        if not usable:
            raise SpectrumError("no image", f"{path}: {len(images)} images in it, none of real numbers")
        found = [tags.image(data, images[number]) for number, data in usable]
        # What was measured stands last; plots and survey images may stand behind it, and have no energies.
        spectra = [one for one in found if any(is_energy(axis) for axis in one.axes)] or found
        if len(found) > 1:
            return replace(spectra[-1], notes=(f"took {spectra[-1].title!r} of {len(found)} images in the file",))
        return found[0]


class _Tags:
    """The tree of an open file."""

    def __init__(self, file: BinaryIO, name: str):
        self._file, self._name = file, name
        self._size = os.fstat(file.fileno()).st_size
        self._left = _MOST_TAGS
        head = file.read(4)
        version = int.from_bytes(head, "big")
        if len(head) < 4 or version not in (3, 4):
            raise SpectrumError("unreadable", f"{name} is no .dm3 or .dm4 file of DigitalMicrograph")
        self._long, self._word = version == 4, ">Q" if version == 4 else ">I"
        stated = self._count()
        self._order = "<" if self._number(">I") else ">"
        # Of the root group: the file behind its header, which ends with 8 zero bytes.
        self._whole = stated + (24 if self._long else 20)

    def tree(self) -> dict[str, Any]:
        try:
            return self._group(0)
        except IndexError:
            raise self._strange("a type of fewer words than it needs") from None

    def image(self, data: dict[str, Any], image: dict[str, Any]) -> StoredImage:
        name, dtype = self._name, np.dtype(_IMAGES[data["DataType"]]).newbyteorder(self._order)
        sizes = [int(size) for size in _children(data.get("Dimensions")) if isinstance(size, int)]
        stored = data.get("Data")
        if not isinstance(stored, _Array) or not 0 < len(sizes) <= _MOST_AXES or min(sizes) < 1:
            raise SpectrumError("unreadable", f"{name}: an image without data or dimensions")
        count = int(np.prod(sizes, dtype=object))
        if stored.dtype is None or stored.dtype.itemsize != dtype.itemsize or stored.count != count:
            raise SpectrumError(
                "unreadable", f"{name}: {stored.count:,} values do not fill {' x '.join(map(str, sizes))}"
            )
        calibrations = data.get("Calibrations") or {}
        stated = list(_children(calibrations.get("Dimension")))
        axes = []
        for size, one in zip(sizes, [*stated, *[{}] * len(sizes)], strict=False):
            one = one if isinstance(one, dict) else {}
            scale, origin = _float(one.get("Scale"), 1.0), _float(one.get("Origin"), 0.0)
            axes.append(
                StoredAxis(self._text(one.get("Label")), self._text(one.get("Units")), scale, -origin * scale, size)
            )
        brightness = calibrations.get("Brightness") or {}
        counts = np.memmap(name, dtype, "r", stored.offset, tuple(sizes[::-1]))
        if is_energy(axes[-1]) and hasattr(mmap, "MADV_RANDOM"):
            # A row of such an image lies all over the file: to read ahead at each of its channels is to read all of it.
            counts._mmap.madvise(mmap.MADV_RANDOM)
        return StoredImage(
            counts,
            tuple(axes[::-1]),
            _float(brightness.get("Scale"), 1.0) or 1.0,
            _float(brightness.get("Origin"), 0.0),
            *self._facts(image.get("ImageTags") or {}),
            title=self._text(image.get("Name")),
        )

    def _facts(self, tags: dict[str, Any]) -> tuple[float | None, dict[str, str]]:
        """Seconds of one pixel, and what is said of the instrument."""
        eels, seconds = tags.get("EELS") or {}, None
        acquisition = eels.get("Acquisition") or {}
        si = (tags.get("SI") or {}).get("Acquisition") or {}
        for where, word in (
            (si, "Pixel time (s)"),
            (acquisition, "Integration time (s)"),
            (acquisition, "Exposure (s)"),
        ):
            if seconds is None and _float(where.get(word), 0.0) > 0:
                seconds = _float(where[word], 0.0)
                frames = where.get("Number of frames")
                if word.startswith("Exposure") and isinstance(frames, int) and frames > 1:
                    seconds *= frames
        microscope = tags.get("Microscope Info") or {}
        facts = {}
        for key, where, word, scale, unit in (
            ("beam energy", microscope, "Voltage", 1e-3, "keV"),
            ("convergence semi-angle", eels, "Convergence semi-angle (mrad)", 1.0, "mrad"),
            ("collection semi-angle", eels, "Collection semi-angle (mrad)", 1.0, "mrad"),
        ):
            if (value := _float(where.get(word), 0.0)) > 0:
                facts[key] = f"{value * scale:g} {unit}"
        return seconds, facts

    def _group(self, depth: int) -> dict[str, Any]:
        self._read(2)  # sorted, open
        found: dict[str, Any] = {}
        for number in range(self._count()):
            self._left -= 1
            if self._left < 0 or depth > _DEEPEST:
                raise self._strange("more tags than a tree has")
            kind, length = self._number(">B"), self._number(">H")
            if kind not in (_GROUP, _VALUE) or length > _LONGEST_NAME:
                raise self._strange(f"a tag of kind {kind}")
            name = self._read(length).decode("latin-1") or str(number)
            if self._long:
                self._number(">Q")
            found[name] = self._group(depth + 1) if kind == _GROUP else self._value()
        return found

    def _value(self) -> Any:
        if self._read(4) != b"%%%%":
            raise self._strange("no mark before a value")
        words = self._count()
        if not 0 < words < 10_000:
            raise self._strange(f"a type of {words} words")
        types = [self._count() for _ in range(words)]
        if types[0] in _TYPES:
            [value] = np.frombuffer(self._read(self._dtype(types[0]).itemsize), self._dtype(types[0]))
            return value.item()
        if types[0] == _STRUCT:
            fields = self._fields(types)
            return tuple(np.frombuffer(self._read(f.itemsize), f)[0].item() for f in fields)
        if types[0] == _STRING:
            return self._skip(self._dtype(4), types[-1])
        if types[0] == _ARRAY and types[1] in _TYPES:
            return self._skip(self._dtype(types[1]), types[-1])
        if types[0] == _ARRAY and types[1] == _STRUCT:
            sizes = sum(f.itemsize for f in self._fields(types[1:-1]))
            found = self._skip(np.dtype("u1"), types[-1] * sizes)
            return found._replace(dtype=None, count=types[-1])
        raise self._strange(f"a value of type {types[0]}")

    def _fields(self, types: list[int]) -> list[np.dtype]:
        return [self._dtype(kind) for kind in types[4::2]]

    def _dtype(self, kind: int) -> np.dtype:
        if kind not in _TYPES:
            raise self._strange(f"a value of type {kind}")
        return np.dtype(_TYPES[kind]).newbyteorder(self._order)

    def _skip(self, dtype: np.dtype, count: int) -> _Array:
        here = self._file.tell()
        if here + count * dtype.itemsize > self._size:
            raise self._cut()
        self._file.seek(count * dtype.itemsize, os.SEEK_CUR)
        return _Array(here, dtype, count)

    def _text(self, value: Any) -> str:
        """Texts are arrays of 16 bits."""
        if not isinstance(value, _Array) or value.dtype is None or value.dtype.itemsize != 2:
            return value if isinstance(value, str) else ""
        self._file.seek(value.offset)
        encoding = "utf-16-le" if self._order == "<" else "utf-16-be"
        return self._read(2 * min(value.count, _LONGEST_NAME)).decode(encoding, "replace").strip("\0 ")

    def _count(self) -> int:
        return self._number(self._word)

    def _number(self, kind: str) -> int:
        return struct.unpack(kind, self._read(struct.calcsize(kind)))[0]

    def _read(self, length: int) -> bytes:
        found = self._file.read(length)
        if len(found) < length:
            raise self._cut()
        return found

    def _cut(self) -> SpectrumError:
        detail = f"{self._name} is cut: it has {self._size:,} of {self._whole:,} bytes; copy it again"
        return (
            SpectrumError("truncated", detail) if self._whole > self._size else self._strange("values beyond its end")
        )

    def _strange(self, what: str) -> SpectrumError:
        return SpectrumError("unreadable", f"{self._name}: damaged, {what} at byte {self._file.tell():,}")


def _children(group: Any) -> Iterator[Any]:
    yield from group.values() if isinstance(group, dict) else ()


def _float(value: Any, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else otherwise
