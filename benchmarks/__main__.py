"""Every benchmark in turn, each in a process of its own: `python -m benchmarks --json results.jsonl`.

On a CPU the presets as they are; on an accelerator also both precisions, L = 100 and 200, d = 64 and 128, batches of
64 to 65,536. What fails is named at the end, and the rest runs nevertheless.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

EVERYWHERE = (
    ("ops",),
    ("ops", "--preset", "inception", "--length", "100"),
    ("train_step",),
    ("train_step", "--preset", "inception", "--length", "100", "--mode", "fixed"),
    ("latency",),
    ("ensemble",),
    ("scaling",),
    ("input_pipeline",),
)
PEERS = tuple(
    ("torch_peer", "--preset", preset, "--length", length, "--mode", mode)
    for (preset, length), mode in itertools.product((("base", "144"), ("inception", "100")), ("fixed", "per_sample"))
)
# Each batch by itself, so that one that does not fit costs no other.
ACCELERATOR = tuple(
    ("train_step", "--preset", "inception", "--dtype", dtype, "--length", length, "--width", width, "--batch", batch)
    for dtype, length, width, batch in itertools.product(
        ("bfloat16", "float32"), ("100", "200"), ("64", "128"), ("64", "1024", "16384", "65536")
    )
)
BACKEND = "import jax; print(jax.default_backend())"


def commands(backend: str) -> list[tuple[str, ...]]:
    """Names of benchmarks with their options."""
    found = [*EVERYWHERE, *(PEERS if find_spec("torch") else ())]
    if backend == "cpu":
        return found
    precise = [(*command, "--dtype", "bfloat16") for command in found if command[0] != "input_pipeline"]
    return [*found, *precise, *ACCELERATOR]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="append results to this file")
    parser.add_argument("--small", action="store_true", help="tiny shapes: shows that it runs, not how fast")
    parser.add_argument("--only", nargs="+", default=None, metavar="NAME", help="these benchmarks alone")
    options = parser.parse_args(arguments)
    # Asked in another process: this one must not hold the accelerator's memory.
    backend = subprocess.run([sys.executable, "-c", BACKEND], check=True, capture_output=True, text=True).stdout.strip()
    chosen = [command for command in commands(backend) if options.only is None or command[0] in options.only]
    if not chosen:
        known = ", ".join(sorted({command[0] for command in commands(backend)}))
        raise SystemExit(f"no benchmark {' '.join(options.only)}; there are {known}")
    more = [*(["--json", str(options.json)] if options.json else []), *(["--small"] if options.small else [])]
    failed = []
    for number, (name, *rest) in enumerate(chosen, start=1):
        print(f"{number}/{len(chosen)} {name} {' '.join(rest)}", flush=True)
        try:
            code = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *rest, *more]).returncode
        except KeyboardInterrupt:
            raise SystemExit(f"stopped in {name}; results so far are kept") from None
        if code:
            failed.append(" ".join((name, *rest)))
    if failed:
        raise SystemExit("failed: " + "; ".join(failed))


if __name__ == "__main__":
    main()
