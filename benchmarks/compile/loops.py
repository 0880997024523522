"""How often a while loop of a compiled program runs, where its text tells."""

from __future__ import annotations

import re

from benchmarks.compile.hlo import Computation, Instruction, Program

_SAME = ("copy", "bitcast", "convert", "reshape", "copy-done", "copy-start")


def trips(program: Program, loop: Instruction, around: Computation) -> int | None:
    """Rounds of `loop`, an instruction of the computation `around`; None where they hang on data.

    A GPU's compiler writes the number down. A TPU's does not: there the condition has to be `counter < constant`, and
    the body to add a constant to the counter, as those of scan and of fori_loop with fixed bounds do.
    """
    if found := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest):
        return int(found[1])
    condition = program.computations.get(loop.attribute("condition") or "")
    body = program.computations.get(loop.attribute("body") or "")
    start = around.get(loop.operands[0]) if loop.operands else None
    if condition is None or body is None or start is None or start.opcode != "tuple":
        return None

    def value(computation: Computation, name: str) -> int | str | None:
        """A constant, or "#n" for number n of what the loop carries."""
        each = computation.get(name)
        while each is not None and each.opcode in _SAME and each.operands:
            each = computation.get(each.operands[0])
        if each is None:
            return None
        if each.opcode == "constant" and re.fullmatch(r"-?\d+", each.inside):
            return int(each.inside)
        if each.opcode == "get-tuple-element" and computation[each.operands[0]].opcode == "parameter":
            return f"#{each.numbers('index')[0]}"
        return None

    def initial(carried: int | str | None) -> int | None:
        """What a carried value is before the first round."""
        if not isinstance(carried, str):
            return carried
        found = value(around, start.operands[int(carried[1:])])
        return found if isinstance(found, int) else None

    compared = _outer(program, condition, "compare")
    if compared is None or compared[0].attribute("direction") not in ("LT", "LE"):
        return None
    counter, limit = (value(*place) for place in compared[1])
    if not isinstance(counter, str):
        return None
    added = body.root.opcode == "tuple" and _outer(program, body, "add", body.root.operands[int(counter[1:])])
    steps = [step for place in added[1] if (step := value(*place)) != counter] if added else []
    first, last = initial(counter), initial(limit)
    step = initial(steps[0]) if len(steps) == 1 else None
    if first is None or last is None or not step:
        return None
    last += compared[0].attribute("direction") == "LE"
    return max(0, -(-(last - first) // step))


Places = tuple[tuple[Computation, str], ...]


def _outer(
    program: Program, computation: Computation, opcode: str, name: str | None = None
) -> tuple[Instruction, Places] | None:
    """The instruction `opcode` that makes a value (the root's without name), be it in a fusion, and its operands."""
    each = computation.get(name) if name else computation.root
    if each is not None and each.opcode == opcode:
        return each, tuple((computation, operand) for operand in each.operands)
    if each is None or each.opcode != "fusion":
        return None
    inner = program.computations[each.attribute("calls")]
    if inner.root.opcode != opcode:
        return None
    outside = {parameter.name: each.operands[number] for number, parameter in inner.parameters.items()}
    places = ((computation, outside[name]) if name in outside else (inner, name) for name in inner.root.operands)
    return inner.root, tuple(places)
