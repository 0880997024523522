"""Bytes that a compiled program moves to and from memory, and the work it does, read from its text.

How it is counted. Each instruction of the entry computation, and of the bodies of while loops times their rounds, is
one pass over memory: it reads its operands and writes its result. What a fusion makes inside stays on the chip. Then:

- a parameter of a fusion that is only sliced or gathered inside counts by what is read of it, and so does the operand
  of a slice, dynamic-slice or gather that stands by itself;
- a dynamic-update-slice, and a scatter, change their array in place: the update is read and written, the rest is not
  touched. An array that must be kept is copied before, and that copy stands in the text;
- arrays in a TPU's own memory (space 1 and others, see `hlo.py`) move nothing; copying one in or out counts once;
- of the branches of a conditional the one that moves most is taken;
- a kernel (custom call) moves operands and results: what it reads twice is counted once;
- tuples, bitcasts, constants and the ends of asynchronous pairs are free.

Bytes are those of whole tiles; `padding` is the part of them that holds no numbers. A loop whose rounds hang on data
counts once and is in `unknown_loops`. FLOPs are those of dot and convolution alone; a kernel's are not known.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from benchmarks.compile.flops import product_flops
from benchmarks.compile.groups import members_of
from benchmarks.compile.hlo import Array, Computation, Instruction, Program, read_program
from benchmarks.compile.loops import trips

FREE = frozenset(
    "parameter constant tuple get-tuple-element bitcast after-all add-dependency partition-id replica-id "
    "opt-barrier domain get-dimension-size".split()
)
# Custom calls that are notes to the compiler and no kernels.
NOTES = frozenset("ConcatBitcast AllocateBuffer AssumeGatherIndicesInBound Sharding SPMDFullToShardShape".split())
SLICES = ("slice", "dynamic-slice", "gather")
UPDATES = {"dynamic-update-slice": 1, "scatter": 2}
"""In place: which operand holds the update."""
COLLECTIVES = "all-reduce all-gather reduce-scatter all-to-all collective-permute".split()
# What a TPU's host exchanges with those of other slices; the program hands it over as a send to the host.
MEGASCALE = "xla_megascale_runtime"
HOST = 5
"""The memory space of the host."""


class Collective(NamedTuple):
    """An exchange: its bytes on each device, and those that each device sends. far: to devices of other slices."""

    kind: str
    bytes: float
    sent: float
    far: bool = False


@dataclass
class Traffic:
    """What one call moves and does, on one device. Counters are by name of the instruction."""

    bytes: float = 0.0
    padding: float = 0.0
    staged: float = 0.0
    """Of the bytes, those of copies that bring arrays into a TPU's own memory ahead of their use, or out of it."""
    flops: float = 0.0
    unknown_loops: int = 0
    opaque_kernels: int = 0
    launches: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    """How many fusions, copies, kernels and collectives stand in the program, each once."""
    collectives: list[Collective] = field(default_factory=list)
    """As often as they run."""

    def add(self, other: Traffic, times: int = 1) -> None:
        for name in ("bytes", "padding", "staged", "flops"):
            setattr(self, name, getattr(self, name) + times * getattr(other, name))
        self.unknown_loops += other.unknown_loops
        self.opaque_kernels += other.opaque_kernels
        self.kinds.update(other.kinds)
        self.collectives += other.collectives * times
        for mine, its in ((self.launches, other.launches), (self.moved, other.moved)):
            for name, count in its.items():
                mine[name] += times * count


def count(text: str, slices: int = 1) -> Traffic:
    """What the program of this text moves. slices: of its devices. Raises ValueError where it is no program."""
    program = read_program(text)
    return _Reader(program, slices).of(program.computations[program.entry])


class _Reader:
    def __init__(self, program: Program, slices: int):
        self._program, self._slices = program, slices

    def of(self, computation: Computation) -> Traffic:
        total = Traffic()
        for each in computation.values():
            if each.opcode not in FREE and not each.opcode.endswith("-done"):
                total.add(*self._one(each, computation))
        return total

    def _one(self, each: Instruction, around: Computation) -> tuple[Traffic, int]:
        """One instruction, and how often it runs."""
        if each.opcode == "while":
            rounds = trips(self._program, each, around)
            inner = self.of(self._called(each, "body"))
            inner.unknown_loops += rounds is None
            return inner, 1 if rounds is None else rounds
        if each.opcode == "conditional":
            names = each.attribute("branch_computations") or " ".join(
                filter(None, (each.attribute(f"{way}_computation") for way in ("true", "false")))
            )
            branches = [self.of(self._program.computations[name]) for name in re.findall(r"[\w.\-]+", names)]
            return max(branches, key=lambda branch: branch.bytes), 1
        if each.opcode in ("call", "async-start"):
            return self.of(self._called(each, "to_apply") or self._called(each, "calls")), 1
        return self._pass(each, around), 1

    def _pass(self, each: Instruction, around: Computation) -> Traffic:
        """One pass over memory."""
        total = Traffic()
        if each.opcode == "custom-call":
            if each.attribute("custom_call_target") in NOTES:
                return total
            total.opaque_kernels += 1
        for array, share in self._touched(each, around):
            if self._in_memory(array):
                total.bytes += share * array.padded
                total.padding += share * (array.padded - array.bytes)
        total.staged = total.bytes if each.opcode in ("copy-start", "slice-start") else 0.0
        fused = self._called(each, "calls") if each.opcode == "fusion" else None
        total.flops = self._flops(each, around)
        total.collectives = self._collective(each, around)
        for found in (fused or {}).values():
            if self._begins(found):
                total.collectives += self._collective(found, fused)
        kind = each.opcode.removesuffix("-start")
        kind = {"custom-call": "kernels", "fusion": "fusions", "copy": "copies"}.get(kind, "others")
        total.kinds["collectives" if total.collectives else kind] += 1
        total.launches[each.name] += 1
        total.moved[each.name] += total.bytes
        return total

    def _touched(self, each: Instruction, around: Computation) -> Iterator[tuple[Array, float]]:
        """Arrays that an instruction reads or writes, with the share of each."""
        operands = [around[name] for name in each.operands if name in around]
        if each.opcode == "copy-start":
            # What nobody waits for is fetched for the next call, which has the same copy at its start.
            if any(done.root or around.users(done.name) for done in around.users(each.name)):
                yield from ((array, 1.0) for array in each.arrays[:2])
        elif each.opcode.removesuffix("-start") in SLICES:
            result = each.arrays[-2] if each.opcode.endswith("-start") else each.arrays[0]
            yield result, 1.0
            yield operands[0].arrays[0], _share(result, operands[0].arrays[0])
            yield from ((array, 1.0) for other in operands[1:] for array in other.arrays if len(array.dims))
        elif each.opcode in UPDATES:
            update = operands[UPDATES[each.opcode]].arrays[0]
            yield update, 1.0
            yield each.arrays[0], _share(update, each.arrays[0])
        elif each.opcode == "fusion":
            inner = self._called(each, "calls")
            for number, operand in enumerate(operands):
                parameter = inner.parameters[number]
                yield from ((array, self._read(inner, parameter)) for array in operand.arrays)
            roots = [inner[name] for name in inner.root.operands] if inner.root.opcode == "tuple" else [inner.root]
            if len(roots) != len(each.arrays):
                roots = [inner.root] * len(each.arrays)
            yield from ((array, self._written(inner, root)) for array, root in zip(each.arrays, roots, strict=True))
        else:
            started = each.opcode.endswith("-start")
            yield from ((array, 1.0) for operand in operands for array in operand.arrays)
            # What starts an exchange names its operands among its results.
            results = each.arrays[len(operands) :] or each.arrays if started else each.arrays
            yield from ((array, 1.0) for array in results)

    def _read(self, inner: Computation, parameter: Instruction) -> float:
        """The share of an array that a fused computation reads of it, as its parameter."""
        whole = sum(array.padded for array in parameter.arrays) or 1.0
        share = 0.0
        for computation, user, name in self._uses(inner, parameter, ()):
            first = user is not None and user.operands[0] == name and user.operands.count(name) == 1
            if first and user.opcode in SLICES:
                share += user.arrays[0].padded / whole
            elif first and user.opcode == "scatter":  # adds to what it finds
                share += computation[user.operands[UPDATES["scatter"]]].arrays[0].padded / whole
            elif not (first and user.opcode in UPDATES):
                return 1.0
        return min(share, 1.0)

    def _uses(
        self, inner: Computation, source: Instruction, outer: tuple[tuple[Computation, Instruction], ...]
    ) -> Iterator[tuple[Computation, Instruction | None, str]]:
        """Instructions that compute with a value, be it under other names: through bitcasts, into fusions in fusions
        and out of them again. None: the value is itself what the outermost fusion puts out."""
        if source.root:
            if outer:
                yield from self._uses(*outer[-1], outer[:-1])
            else:
                yield inner, None, source.name
        for user in inner.users(source.name):
            if user.opcode == "bitcast":
                yield from self._uses(inner, user, outer)
            elif user.opcode == "fusion":
                called = self._called(user, "calls")
                for number, name in enumerate(user.operands):
                    if name == source.name:
                        yield from self._uses(called, called.parameters[number], (*outer, (inner, user)))
            else:
                yield inner, user, source.name

    def _written(self, computation: Computation, root: Instruction) -> float:
        """The share of a fusion's result that is written: the update, where the array is changed in place."""
        while root.opcode in ("bitcast", "fusion"):
            if root.opcode == "fusion":
                computation = self._called(root, "calls")
                root = computation.root
            else:
                root = computation[root.operands[0]]
        if root.opcode not in UPDATES:
            return 1.0
        return _share(computation[root.operands[UPDATES[root.opcode]]].arrays[0], root.arrays[0])

    def _flops(self, each: Instruction, around: Computation) -> float:
        if each.opcode == "fusion":
            inner = self._called(each, "calls")
            return sum(self._flops(other, inner) for other in inner.values())
        return product_flops(each, around)

    def _collective(self, each: Instruction, around: Computation) -> list[Collective]:
        kind = each.opcode.removesuffix("-start")
        size = sum(array.bytes for name in each.operands if name in around for array in around[name].arrays)
        if kind == "send" and MEGASCALE in each.rest:
            way = re.search(r'megascale_transfer_type="(\w+)"', each.rest)
            kind = way[1].lower().replace("_", "-") if way else kind
            others = (self._slices - 1) / self._slices
            return [Collective(kind, size, size * (2 * others if kind == "all-reduce" else 1.0), far=True)]
        if kind not in COLLECTIVES:
            return []
        groups = members_of(each.rest, self._program.devices)
        members = len(groups[0])
        others = (members - 1) / members if members else 0.0
        if kind == "all-gather":
            size *= members
        sent = {"all-reduce": 2 * others, "collective-permute": 1.0}.get(kind, others)
        # A TPU's program is that of one slice, and its groups never leave it.
        inside = max(self._program.devices // (1 if self._program.tiled else self._slices), 1)
        far = any(one // inside != group[0] // inside for group in groups for one in group)
        return [Collective(kind, size, sent * size, far)]

    def _begins(self, each: Instruction) -> bool:
        """Whether it stands for its exchange: a TPU's may go on in several fusions, beside what else they compute."""
        channel = each.attribute("channel_id")
        return channel is None or self._first.get((each.opcode, channel)) == each.name

    @cached_property
    def _first(self) -> dict[tuple[str, str | None], str]:
        found: dict[tuple[str, str | None], str] = {}
        for computation in self._program.computations.values():
            for each in computation.values():
                if each.opcode.removesuffix("-start") in COLLECTIVES:
                    found.setdefault((each.opcode, each.attribute("channel_id")), each.name)
        return found

    def _called(self, each: Instruction, attribute: str) -> Computation | None:
        return self._program.computations.get(each.attribute(attribute) or "")

    @cached_property
    def _own_spaces(self) -> frozenset[int]:
        """Memory spaces that are no part of the device's main memory. A GPU's others are."""
        return frozenset(range(1, 16)) if self._program.tiled else frozenset({HOST})

    def _in_memory(self, array: Array) -> bool:
        return array.space not in self._own_spaces


def _share(part: Array, whole: Array) -> float:
    return min(1.0, part.padded / whole.padded) if whole.padded else 1.0
