"""What a preset's programs take of a chip that is not there: `python -m benchmarks.compile base --target v5e`.

Each program (training step, epoch, inference) is compiled in a process of its own. See docs/accelerators.md.
"""

from __future__ import annotations

import argparse
import itertools
import os
from pathlib import Path

# The compilers are asked for by name; a chip that is here is not touched.
os.environ |= {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}

from benchmarks import measure
from benchmarks.compile import table, targets
from benchmarks.compile.isolate import ROOT, Limits, compile_alone
from benchmarks.compile.request import PROGRAMS, Request
from benchmarks.compile.revision import checkout
from data_pipelines.errors import UserError
from spt_jax.presets import PRESETS

SMALL = {"batch": 8, "length": 24}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compile",
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    known = ", ".join(target.name for target in targets.TARGETS.values())
    parser.add_argument("preset", nargs="?", default="base", help="a preset of spt_jax.config")
    parser.add_argument("--target", nargs="+", default=["v5e"], help=f"chips to compile for: {known}")
    parser.add_argument("--chips", type=int, default=1, help="how many of them, a power of two")
    parser.add_argument("--slices", type=int, default=1, help="that the chips are in, with the slower network between")
    parser.add_argument("--fsdp", type=int, default=1, help="chips of a slice that share parameters out; 0: all of it")
    parser.add_argument("--batch", type=int, default=1024, help="spectra of each chip")
    parser.add_argument("--length", type=int, default=144, help="energies of a spectrum")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="bfloat16", help="arithmetic of the network"
    )
    parser.add_argument("--kernels", choices=("auto", "off"), default="auto", help="off: blocks as XLA programs alone")
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS), help="what is compiled")
    parser.add_argument("--memory", type=float, default=Limits().memory_gb, metavar="GB", help="limit of a compilation")
    parser.add_argument("--time", type=float, default=Limits().time_s, metavar="S", help="limit of a compilation")
    parser.add_argument("--compare", default=None, metavar="REV", help="compile this commit as well, side by side")
    parser.add_argument("--top", type=int, default=8, help="kernels shown of each program")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="append results to this file")
    parser.add_argument("--small", action="store_true", help="tiny shapes: shows that it runs, not how fast")
    options = parser.parse_args(arguments)
    if options.small:
        vars(options).update(SMALL)
    return options


def check(options: argparse.Namespace) -> None:
    """Before anything is compiled. Raises UserError."""
    if options.preset not in PRESETS:
        raise UserError(f"unknown preset {options.preset!r}; presets: {', '.join(PRESETS)}")
    for name in options.target:
        targets.require(targets.find(name, options.chips, options.slices))
    if min(options.batch, options.length) < 1:
        raise UserError("--batch and --length must be at least 1")


def run(options: argparse.Namespace, root: Path = ROOT, **fields: str) -> list[dict]:
    """Every program for every target, told and recorded. root: the checkout whose code is compiled."""
    lines = []
    for name, program in itertools.product(options.target, options.programs):
        target = targets.find(name, options.chips, options.slices)
        same = {"batch": options.batch, "length": options.length}
        given = Request(program, options.preset, target.name, options.chips, **same, dtype=options.dtype)
        given = given._replace(small=options.small, kernels=options.kernels, slices=options.slices, fsdp=options.fsdp)
        found = compile_alone(given, Limits(options.memory, options.time), root)
        device = target.title(options.chips, options.slices)
        case = program if options.kernels == "auto" else f"{program}, kernels off"
        case += "" if options.fsdp == 1 else f", fsdp {options.fsdp}"
        line = measure.record("compile", case, options, device=device, chips=options.chips, **same, **fields, **found)
        table.show_program(line, options.top)
        lines.append(line)
    return lines


def main(arguments: list[str] | None = None) -> list[dict]:
    options = parse(arguments)
    try:
        check(options)
        if options.compare is None:
            lines = run(options)
        else:
            with checkout(options.compare) as (tree, commit):
                print(f"commit {commit}:")
                before = run(options, tree, commit=commit)
            print("\nthis checkout:")
            lines = run(options)
    except UserError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit("stopped; results so far are kept") from None
    table.show_lines(lines)
    if options.compare is not None:
        table.show_comparison(before, lines)
    return lines


if __name__ == "__main__":
    main()
