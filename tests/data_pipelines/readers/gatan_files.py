"""Writes Gatan's tag trees, .dm3 and .dm4, for tests of the reader."""

import struct
from pathlib import Path

import numpy as np

KINDS = {"int16": (2, 1), "float32": (6, 2), "int32": (3, 7), "uint8": (10, 6), "uint16": (4, 10), "uint32": (5, 11)}
KINDS |= {"float64": (7, 12), "int64": (11, 39)}


class Words(str):
    """A text, which is an array of 16 bits."""


def write_gatan(
    path: Path, counts: np.ndarray, axes, version=3, order="<", brightness=(0.0, 1.0), tags=None, sparse=False
):
    """counts: as stored, the last axis the fastest. axes: (name, unit, scale, offset) in the same order. sparse: the values
    are a hole in the file."""
    calibrations = [
        {"Label": Words(name), "Units": Words(unit), "Scale": float(scale), "Origin": -offset / scale}
        for name, unit, scale, offset in reversed(axes)
    ]
    data = {
        "Calibrations": {
            "Brightness": {"Origin": brightness[0], "Scale": brightness[1], "Units": Words("")},
            "Dimension": calibrations,
        },
        "Data": counts,
        "DataType": KINDS[counts.dtype.name][1],
        "Dimensions": list(counts.shape[::-1]),
    }
    small = np.zeros((2, 2), "u4")
    thumbnail = {"ImageData": {"Data": small, "DataType": 23, "Dimensions": [2, 2]}}
    image = {"ImageData": data, "ImageTags": tags or {}, "Name": Words("map")}
    tree = {"ImageList": [thumbnail, image], "Thumbnails": [{"ImageIndex": 0}], "A point": (1, 2)}
    body = Body(version, order, sparse).group(tree)
    size = sum(len(part) if isinstance(part, bytes) else part for part in body) + 8
    head = struct.pack(">I", version) + struct.pack(">Q" if version == 4 else ">I", size - 8 + 4 - 4)
    with open(path, "wb") as file:
        file.write(head + struct.pack(">I", int(order == "<")))
        for part in body:
            if isinstance(part, bytes):
                file.write(part)
            else:
                file.truncate(file.tell() + part)
                file.seek(part, 1)
        file.write(bytes(8))
    return path


class Body:
    """The parts of a tree; a number stands for as many zeros that are not written."""

    def __init__(self, version, order, sparse):
        self.word, self.order, self.sparse, self.long = ">Q" if version == 4 else ">I", order, sparse, version == 4

    def count(self, number):
        return struct.pack(self.word, number)

    def group(self, children):
        named = children.items() if isinstance(children, dict) else (("", child) for child in children)
        parts = [b"\1\0" + self.count(len(children))]
        for name, child in named:
            is_group = isinstance(child, dict | list)
            own = self.group(child) if is_group else self.value(child)
            size = sum(len(part) if isinstance(part, bytes) else part for part in own)
            label = name.encode("latin-1")
            parts.append(struct.pack(">BH", 20 if is_group else 21, len(label)) + label)
            parts += [struct.pack(">Q", size)] * self.long + own
        return parts

    def value(self, value):
        if isinstance(value, Words):
            encoding = "utf-16-le" if self.order == "<" else "utf-16-be"
            return self.array(4, len(value), value.encode(encoding))
        if isinstance(value, np.ndarray):
            kind = KINDS[value.dtype.name][0]
            raw = value.nbytes if self.sparse else value.astype(value.dtype.newbyteorder(self.order)).tobytes()
            return self.array(kind, value.size, raw)
        if isinstance(value, tuple):
            types = [15, 0, len(value), *(part for _ in value for part in (0, 3))]
            raw = struct.pack(f"{self.order}{len(value)}i", *value)
            return [b"%%%%" + self.count(len(types)) + b"".join(map(self.count, types)) + raw]
        kind, code = (3, "i") if isinstance(value, int) else (7, "d")
        return [b"%%%%" + self.count(1) + self.count(kind) + struct.pack(self.order + code, value)]

    def array(self, kind, count, raw):
        head = b"%%%%" + self.count(3) + self.count(20) + self.count(kind) + self.count(count)
        return [head, raw]
