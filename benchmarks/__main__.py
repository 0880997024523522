"""Every benchmark in turn, each in a process of its own: `python -m benchmarks --json results.jsonl --folder SETS`.

On a CPU the presets as they are; on an accelerator also both precisions, L = 100 and 200, d = 64 and 128, batches of
64 to 65,536. What fails is named at the end, and the rest runs nevertheless. `descriptors` asks for a library of
structures, `compile` for compilers of other chips, `pretraining` for spectra without labels, `amorphous` and `lixcoo2`
for models, `phases` for calculated spectra: they run by themselves alone.
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
    ("image_speed",),
)
# On sets of a million spectra and more.
LARGE = (("input_pipeline",), ("build",), ("streaming_memory",))
PEERS = tuple(
    ("torch_peer", "--preset", preset, "--length", length, "--mode", mode)
    for (preset, length), mode in itertools.product((("base", "144"), ("inception", "100")), ("fixed", "per_sample"))
)
# With the libraries of the extra `app`.
SERVICE = (("serve",),)
# Each batch by itself, so that one that does not fit costs no other.
ACCELERATOR = tuple(
    ("train_step", "--preset", "inception", "--dtype", dtype, "--length", length, "--width", width, "--batch", batch)
    for dtype, length, width, batch in itertools.product(
        ("bfloat16", "float32"), ("100", "200"), ("64", "128"), ("64", "1024", "16384", "65536")
    )
)
BACKEND = "import jax; print(jax.default_backend())"


def commands(backend: str, folder: Path | None = None, small: bool = False) -> list[tuple[str, ...]]:
    """Names of benchmarks with their options. Large sets need a folder; tiny ones do not."""
    found = [*EVERYWHERE, *(PEERS if find_spec("torch") else ())]
    if backend != "cpu":
        found += [*((*command, "--dtype", "bfloat16") for command in found), *ACCELERATOR]
    found += SERVICE if find_spec("uvicorn") else ()
    if folder:
        return found + [(name, *rest, "--folder", str(folder / name)) for name, *rest in LARGE]
    return found + list(LARGE if small else ())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="append results to this file")
    parser.add_argument("--folder", type=Path, default=None, help="16 GB of large sets are written here, once")
    parser.add_argument("--small", action="store_true", help="tiny shapes: shows that it runs, not how fast")
    parser.add_argument("--only", nargs="+", default=None, metavar="NAME", help="these benchmarks alone")
    options = parser.parse_args(arguments)
    # Asked in another process: this one must not hold the accelerator's memory.
    backend = subprocess.run([sys.executable, "-c", BACKEND], check=True, capture_output=True, text=True).stdout.strip()
    known = commands(backend, options.folder, options.small)
    chosen = [command for command in known if options.only is None or command[0] in options.only]
    if not chosen:
        names = ", ".join(sorted({command[0] for command in known}))
        raise SystemExit(f"no benchmark {' '.join(options.only)}; there are {names}")
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
    left = {name for name, *_ in LARGE} - {name for name, *_ in known}
    if left and not options.only:
        print(f"without --folder left out: {', '.join(sorted(left))}")
    if failed:
        raise SystemExit("failed: " + "; ".join(failed))


if __name__ == "__main__":
    main()
