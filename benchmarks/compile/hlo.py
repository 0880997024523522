"""A compiled program's text, read: computations, their instructions, and arrays as they lie in memory.

The text is XLA's own (`compiled.as_text()`), scheduled and with layouts. `bf16[64,48]{1,0:T(8,128)(2,1)S(1)}` is an
array of 64 x 48 numbers, the last axis the innermost; in tiles of 8 x 128 numbers, so both axes are filled up to
multiples of these; and in memory space 1, which on a TPU is the core's own VMEM. Without S it is HBM.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

BITS = {"pred": 8, "token": 0, "opaque": 0, "c64": 64, "c128": 128}
_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([\d,<=]*)\](?:\{([^{}]*)\})?")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_NAME = re.compile(r"^\s*(ROOT )?%?([^\s=]+) = ")


class Array(NamedTuple):
    """One array. order: its axes, the innermost first. tile: sizes of the innermost axes that a tile spans."""

    dtype: str
    dims: tuple[int, ...]
    order: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    space: int = 0

    @property
    def bits(self) -> int:
        known = BITS.get(self.dtype)
        if known is not None:
            return known
        digits = re.search(r"\d+", self.dtype)
        return int(digits[0]) if digits else 0

    @property
    def bytes(self) -> float:
        """Of the numbers alone."""
        return math.prod(self.dims) * self.bits / 8

    @property
    def padded(self) -> float:
        """Of the whole tiles that hold them."""
        dims = [self.dims[axis] for axis in self.order] if len(self.order) == len(self.dims) else list(self.dims[::-1])
        if dims and self.tile:
            dims += [1] * (len(self.tile) - len(dims))
            for axis, size in enumerate(reversed(self.tile)):
                dims[axis] = -(-dims[axis] // size) * size
        return math.prod(dims) * self.bits / 8


class Instruction(NamedTuple):
    """One line. arrays: of its result, the leaves of a tuple in order. rest: what stands after the operands."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    inside: str
    rest: str
    root: bool

    def attribute(self, name: str) -> str | None:
        """The value of `name=...`: a name, or what braces or quotes hold."""
        found = re.search(rf"[ ,]{name}=(?:\{{([^{{}}]*)\}}|\"([^\"]*)\"|%?([^,\s{{}}\"]+))", self.rest)
        return found and next(value for value in found.groups() if value is not None)

    def numbers(self, name: str) -> tuple[int, ...]:
        """The whole numbers of an attribute."""
        return tuple(map(int, re.findall(r"-?\d+", self.attribute(name) or "")))


class Computation(dict[str, Instruction]):
    """Instructions by name, in their order."""

    @property
    def root(self) -> Instruction:
        return next(each for each in reversed(self.values()) if each.root)

    @property
    def parameters(self) -> dict[int, Instruction]:
        """By their number."""
        return {int(each.inside): each for each in self.values() if each.opcode == "parameter"}

    def users(self, name: str) -> list[Instruction]:
        return [each for each in self.values() if name in each.operands]


class Program(NamedTuple):
    """devices: that it runs on together. tiled: the compiler is a TPU's."""

    computations: dict[str, Computation]
    entry: str
    devices: int
    tiled: bool


def read_program(text: str) -> Program:
    """Raises ValueError where the text has no entry computation."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if current is None:
            if header := _HEADER.match(line):
                current = computations.setdefault(header[2], Computation())
                entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif instruction := read_instruction(line):
            current[instruction.name] = instruction
    if not entry:
        raise ValueError("no ENTRY computation in the program's text")
    header = text[: text.find("\n")]
    sizes = [int(size) for size in re.findall(r"(?:num_partitions|replica_count)=(\d+)", header)]
    return Program(computations, entry, math.prod(sizes), ":T(" in text)


def read_instruction(line: str) -> Instruction | None:
    name = _NAME.match(line)
    if name is None:
        return None
    text = re.sub(r"/\*.*?\*/", "", line[name.end() :])
    shape_end = _closing(text, 0) if text.startswith("(") else text.find(" ")
    opening = text.find("(", shape_end)
    if shape_end < 0 or opening < 0:
        return None
    opcode = text[shape_end:opening].strip()
    closing = _closing(text, opening)
    inside = text[opening + 1 : closing - 1]
    operands = () if opcode in ("constant", "parameter") else tuple(re.findall(r"%([^\s,()]+)", inside))
    return Instruction(name[2], opcode, read_arrays(text[:shape_end]), operands, inside, text[closing:], bool(name[1]))


def read_arrays(text: str) -> tuple[Array, ...]:
    """All arrays that a shape names."""
    return tuple(_array(*found.groups()) for found in _ARRAY.finditer(text))


def _array(dtype: str, dims: str, layout: str | None) -> Array:
    sizes = tuple(int(size.lstrip("<=")) for size in dims.split(",") if size)
    order, _, more = (layout or "").partition(":")
    tile = re.match(r"T\(([\d,]+)\)", more)
    space = re.search(r"S\((\d+)\)", more)
    return Array(
        dtype,
        sizes,
        tuple(int(axis) for axis in order.split(",") if axis.strip().isdigit()),
        tuple(map(int, tile[1].split(","))) if tile else (),
        int(space[1]) if space else 0,
    )


def _closing(text: str, opening: int) -> int:
    """Where the parenthesis that opens at `opening` has closed."""
    depth = 0
    for found in re.compile(r"[()]").finditer(text, opening):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return found.end()
    return len(text)
