"""Which devices exchange with which, as a compiled program's text says it of an instruction, in one of four ways.

replica_groups={{0,1},{2,3}}                    listed
replica_groups=[4,2]<=[2,4]T(1,0)               numbers of so many devices in this order, in 4 groups of 2
replica_groups=mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'a'}     those of a mesh that differ in axis a alone
source_target_pairs={{0,1},{1,2}}               from one to the other
"""

from __future__ import annotations

import math
import re

import numpy as np

_LISTS = re.compile(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]*\})\}")
_COUNTED = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(
    r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))?,? \{([^{}]*)\}"
)


def members_of(rest: str, devices: int) -> list[list[int]]:
    """Groups of devices by their numbers; all in one where nothing is said. rest: the text behind the operands.

    Raises ValueError for another way to say it.
    """
    if listed := _LISTS.search(rest):
        return [_numbers(group) for group in re.findall(r"\{([\d,]+)\}", listed[1])]
    if counted := _COUNTED.search(rest):
        return _ordered(counted[3], counted[4]).reshape(int(counted[1]), int(counted[2])).tolist()
    if mesh := _MESH.search(rest):
        return _of_mesh(*mesh.groups())
    if "replica_groups=" in rest and "replica_groups={}" not in rest:
        raise ValueError(f"groups of devices that are not understood: {rest[rest.index('replica_groups=') :][:80]}")
    return [list(range(devices))]


def _of_mesh(axes: str, order: str | None, turned: str | None, along: str) -> list[list[int]]:
    names = re.findall(r"'([^']+)'=(\d+)", axes)
    sizes = [int(size) for _, size in names]
    ordered = _ordered(order or str(math.prod(sizes)), turned).reshape(sizes)
    # Of an axis perhaps a part: 'a':(2)4 are 4 of it, behind 2 parts.
    parts = {name: (int(before or 1), int(size or 0)) for name, before, size in re.findall(_PART, along)}
    shape, inside, front = [], [], []
    for name, size in names:
        before, part = parts.get(name, (int(size), 1))
        part = part or int(size) // before
        split = (before, part, int(size) // before // part)
        inside.append(len(shape) + 1)
        front += [len(shape), len(shape) + 2]
        shape += split
    members = math.prod(shape[axis] for axis in inside)
    return ordered.reshape(shape).transpose(front + inside).reshape(-1, members).tolist()


_PART = re.compile(r"'([^']+)'(?::\((\d+)\)(\d+))?")


def _ordered(sizes: str, turned: str | None) -> np.ndarray:
    shape = _numbers(sizes)
    numbers = np.arange(math.prod(shape)).reshape(shape)
    return numbers.transpose(_numbers(turned)) if turned else numbers


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]
