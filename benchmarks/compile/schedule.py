"""Cycles of a TPU program, read from the final schedules that libtpu writes of each kernel when it compiles.

A schedule is a list of bundles. The core issues one bundle a cycle, so cycles are bundles, those of a loop times its
rounds. Beside it stands, for each bundle, how many slots of each unit it fills. Waiting (for memory, for a result) is
in no schedule: the count is a lower bound. On a 4096-cube bfloat16 product it gives 0.83 of what the multipliers take.

A loop's rounds are in its exit test, `scmp.ge.s32.totalorder %counter, 38 /* loop exit test */`; where that names a
register instead of a number the loop counts once, and `known` is false. A branch counts as taken.
"""

from __future__ import annotations

import glob
import os
import re
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

_BUNDLE = re.compile(r"^\s*(?:0x[0-9a-f]+|0)\s+(L[BHE]|P[BF]|CT)?\s*:\s*([> ]*)\{", re.MULTILINE)
_BRANCH = re.compile(r"sbr\.rel [^;}]*target = \$region(\d+)")
_EXIT = re.compile(r"scmp\.(ge|gt)\.s32\.totalorder %(\w+), (-?\d+|%\w+) /\* loop exit test")
_DELAY = 4
"""Bundles after a branch that are issued before it is taken."""
_FINAL = re.compile(r"^\d+-(.+)-\d+-final_bundles\.txt$")
WHOLE = "TLP"
"""The program that calls the kernels."""
SPILLS = ("VLOAD:FILL", "VSTORE:SPILL")


class Kernel(NamedTuple):
    """One call of a kernel. filled: slots that its bundles fill, by unit; slots: how many a bundle has."""

    name: str
    cycles: int
    known: bool
    filled: dict[str, int]
    slots: dict[str, int]

    def use(self) -> dict[str, float]:
        """Share of its slots that each unit fills."""
        return {unit: self.filled[unit] / self.cycles / self.slots[unit] for unit in self.slots if self.cycles}


@dataclass
class _Loop:
    """Bundles of a loop itself, by number, and the loops in it. regions: names that its first bundle goes by."""

    regions: frozenset[str] = frozenset()
    rounds: int | None = None
    bundles: list[int] = field(default_factory=list)
    inner: list[_Loop] = field(default_factory=list)
    left: int | None = None
    """Bundles still to come, once the branch back to its start has been seen."""

    def times(self, outer: int = 1) -> Counter[int]:
        """How often each bundle is issued."""
        own = outer * (1 if self.rounds is None else self.rounds)
        found = Counter(dict.fromkeys(self.bundles, own))
        for each in self.inner:
            found.update(each.times(own))
        return found

    def known(self) -> bool:
        return self.rounds is not None and all(each.known() for each in self.inner)


def read_bundles(text: str) -> tuple[Counter[int], bool]:
    """How often each bundle of a schedule is issued, and whether the rounds of all loops are known.

    A loop goes from a bundle marked LB to the branch back to it. Marks of depth (`>`) do not tell where it ends:
    bundles within may carry what was moved there from outside.
    """
    whole = _Loop(rounds=1)
    open_loops = [whole]
    starts = list(_BUNDLE.finditer(text))
    for number, start in enumerate(starts):
        bundle = text[start.start() : starts[number + 1].start() if number + 1 < len(starts) else len(text)]
        if start[1] == "LB":
            del open_loops[max(1, start[2].count(">")) :]
            new = _Loop(frozenset(re.findall(r"Start region (\d+)", bundle)))
            open_loops[-1].inner.append(new)
            open_loops.append(new)
        current = open_loops[-1]
        current.bundles.append(number)
        if test := _EXIT.search(bundle):
            current.rounds = current.rounds or _rounds(text, *test.groups())
        if current.left is not None:
            current.left -= 1
        elif any(target in current.regions for target in _BRANCH.findall(bundle)):
            current.left = _DELAY
        if current.left == 0:
            open_loops.pop()
    for loop in whole.inner:
        loop.rounds = _tiles(text, loop.rounds)
    return whole.times(), whole.known()


def _tiles(text: str, rounds: int | None) -> int | None:
    """Rounds of an outer loop in which it computes: a kernel over a grid runs two more, for copies ahead and behind.

    Its body is guarded by `round >= 1` and `round < rounds - 1`.
    """
    if rounds is None or rounds < 3:
        return rounds
    guards = (r"scmp\.ge\.s32\.totalorder %\w+, 1 ", rf"scmp\.lt\.s32\.totalorder %\w+, {rounds - 1} ")
    return rounds - 2 if all(re.search(guard, text) for guard in guards) else rounds


def _rounds(text: str, comparison: str, counter: str, limit: str) -> int | None:
    """Rounds of a loop that ends when its counter has reached a number."""
    if not limit.lstrip("-").isdigit():
        return None
    step = re.search(rf"%{counter} = sadd\.s32 (\d+), %(\w+)", text)
    if step is None:
        return int(limit)
    first = 0
    # The counter is one register for the first round, which a move sets, and another for the rest.
    if phi := re.search(rf"%{step[2]} = sphi %(\w+), ", text):
        start = re.search(rf"%{phi[1]} = smov (\d+) ", text)
        first = int(start[1]) if start else 0
    last = int(limit) + (comparison == "gt")
    return max(1, -(-(last - first) // int(step[1])))


def read_slots(text: str) -> tuple[dict[str, int], list[list[int]]]:
    """Slots of each unit in a bundle, and for each bundle how many are filled."""
    head, _, body = text.partition("== UTILIZATION")
    names, counts = head.strip().splitlines()[-2:]
    slots = dict(zip(re.split(r",\s*", names.strip()), map(int, counts.split()), strict=True))
    rows = [[int(value) for value in line.split()] for line in body.splitlines()[1:] if line.strip()]
    return slots, rows


def read_kernel(name: str, bundles: str, utilisation: str | None) -> Kernel:
    times, known = read_bundles(bundles)
    if name == WHOLE:
        # Its loops are those of the program, and copies of donated arrays that were not given up: not taken.
        times, known = Counter(dict.fromkeys(times, 1)), True
    if utilisation is None:
        return Kernel(name, times.total(), known, {}, {})
    slots, rows = read_slots(utilisation)
    filled = dict.fromkeys(slots, 0)
    for number, row in enumerate(rows):
        for unit, count in zip(slots, row, strict=True):
            filled[unit] += times[number] * count
    return Kernel(name, times.total(), known, filled, slots)


def read_folder(folder: Path) -> list[Kernel]:
    """Every kernel that was written there, and the program that calls them."""
    found = []
    for path in sorted(folder.glob("*-final_bundles.txt")):
        name = _FINAL.match(path.name)
        if name is None or "schedule-analysis" in path.name:
            continue
        stamp = path.name[: name.end(1)]
        own = next(folder.glob(f"{glob.escape(stamp)}-[0-9]*-final_hlo-static-per-bundle-utilization.txt"), None)
        text = path.read_text(errors="replace")
        found.append(read_kernel(name[1], text, own and own.read_text(errors="replace")))
    return found


def read_calls(folder: Path) -> list[str]:
    """Instructions that the program calls as kernels: those that are the same have one kernel, under one of the names."""
    texts = [path.read_text(errors="replace") for path in folder.glob(f"*-{WHOLE}-*-final_bundles.txt")]
    return [name for text in texts for name in re.findall(r"inlined_call [^/\n]*/\* %(\S+) = ", text)]


@cache
def dump_folder() -> Path:
    """Where libtpu writes schedules, one folder for the whole process: it has to be told before it is loaded."""
    kept = tempfile.TemporaryDirectory(prefix="schedules-")
    folder = Path(kept.name)
    _KEPT.append(kept)
    flags = f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true --xla_jf_dump_llo_pass_label_regex=final_.*"
    os.environ["LIBTPU_INIT_ARGS"] = f"{os.environ.get('LIBTPU_INIT_ARGS', '')} {flags}".strip()
    return folder


_KEPT: list[tempfile.TemporaryDirectory] = []
