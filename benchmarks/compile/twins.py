"""Kernels that libtpu compiles once and calls from several places: their schedule stands under one name of many.

Two instructions have one kernel where they are the same but for names: operation, shapes and layouts of operands and
results, and all that is computed inside.
"""

from __future__ import annotations

import re
from hashlib import sha256

from benchmarks.compile.hlo import Computation, Instruction, Program, read_program

_SAID = "metadata|frontend_attributes|sharding|control-predecessors"
_END = r")=\{.*?\}(?=, [a-z_\-]+=|$)"
_REMARKS = {False: re.compile(f", (?:{_SAID}|backend_config{_END}"), True: re.compile(f", (?:{_SAID}{_END}")}
"""What changes no kernel; of custom calls the configuration does."""


def owners(text: str, called: list[str], compiled: set[str]) -> dict[str, str]:
    """Instruction -> the compiled kernel that it runs; instructions whose kernel is not to be found are not there.

    text: of the program. called: instructions that it calls as kernels. compiled: those of which there is a schedule.
    """
    program = read_program(text)
    places = {name: computation for computation in program.computations.values() for name in computation}
    signatures = _Signatures(program)
    known = {name: signatures.of(places[name][name], places[name]) for name in {*called, *compiled} & places.keys()}
    first = {known[name]: name for name in sorted(compiled & known.keys())}
    found = {name: first.get(signature) for name, signature in known.items()}
    return {name: name if name in compiled else owner for name, owner in found.items() if owner}


class _Signatures:
    """Hashes of instructions; those inside a computation hang on nothing outside it."""

    def __init__(self, program: Program):
        self._program = program

    def of(self, each: Instruction, around: Computation) -> str:
        """Of an instruction that is called as a kernel: its operands by their shapes alone."""
        operands = [repr(around[name].arrays) for name in each.operands if name in around]
        return self._hash(each, operands)

    def _inner(self, computation: Computation) -> str:
        known: dict[str, str] = {}
        for each in computation.values():  # in order: operands come first
            if each.opcode == "parameter":
                known[each.name] = f"parameter {each.inside} {each.arrays}"
            else:
                known[each.name] = self._hash(each, [known.get(name, name) for name in each.operands])
        return known[computation.root.name]

    def _hash(self, each: Instruction, operands: list[str]) -> str:
        rest = _REMARKS[each.opcode == "custom-call"].sub("", each.rest)
        parts = [each.opcode, repr(each.arrays), *operands]
        if each.opcode == "constant":
            parts.append(each.inside)
        for name in re.findall(r"%([\w.\-]+)", rest):
            if name in self._program.computations:
                parts.append(self._inner(self._program.computations[name]))
        parts.append(re.sub(r"%[\w.\-]+", "%", rest))
        return sha256("\n".join(parts).encode()).hexdigest()
