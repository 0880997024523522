"""Compare two result files: `python -m benchmarks.compare OLD NEW [--threshold 0.1]`; status 1 where one got slower."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import measure


def newest(path: Path) -> dict[tuple, dict]:
    """The last timed line of each key of a result file."""
    return {measure.key(line): line for line in measure.read(path) if line["median_ms"]}


def compare(old: dict[tuple, dict], new: dict[tuple, dict], threshold: float) -> tuple[list[str], bool]:
    """A printed line for each key in both, and whether any is slower by more than the threshold."""
    rows, slower = [], False
    for key in sorted(old.keys() & new.keys(), key=str):
        ratio = new[key]["median_ms"] / old[key]["median_ms"]
        verdict = "slower" if ratio > 1 + threshold else "faster" if ratio < 1 / (1 + threshold) else ""
        slower |= verdict == "slower"
        name = " ".join(str(new[key][field]) for field in ("benchmark", "case", "preset", "dtype"))
        rows.append(f"{name[:46]:46s} {old[key]['median_ms']:9.3g} {new[key]['median_ms']:9.3g} {ratio:6.2f} {verdict}")
    return rows, slower


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--threshold", type=float, default=0.1, help="ratio that counts as a change")
    options = parser.parse_args(arguments)
    old, new = newest(options.old), newest(options.new)
    rows, slower = compare(old, new, options.threshold)
    if not rows:
        raise SystemExit(f"no case stands in both files with equal {', '.join(measure.KEY[2:])}")
    print(f"{'case':46s} {'old ms':>9s} {'new ms':>9s} {'ratio':>6s}")
    print("\n".join(rows))
    alone = len(old.keys() - new.keys()), len(new.keys() - old.keys())
    if any(alone):
        print(f"not compared: {alone[0]} of the old file and {alone[1]} of the new, of no equal in the other")
    sys.exit(1 if slower else 0)


if __name__ == "__main__":
    main()
