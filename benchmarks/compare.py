"""Compare two result files: `python -m benchmarks.compare OLD NEW [--threshold 0.1]`; status 1 where one got slower."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

KEY = ("benchmark", "case", "preset", "dtype", "length", "batch", "device", "small")


def read(path: Path) -> dict[tuple, dict]:
    """The last timed line of each case of a result file."""
    found = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}") from None
    for number, text in enumerate(lines, start=1):
        try:
            line = json.loads(text)
            key = tuple(line.get(name) for name in KEY)
        except (ValueError, AttributeError):
            raise SystemExit(f"{path}, line {number}: not a result line") from None
        if line.get("median_ms"):
            found[key] = line
    return found


def compare(old: dict[tuple, dict], new: dict[tuple, dict], threshold: float) -> tuple[list[str], bool]:
    """A printed line for each case in both, and whether any is slower by more than the threshold."""
    rows, slower = [], False
    for key in sorted(old.keys() & new.keys(), key=str):
        ratio = new[key]["median_ms"] / old[key]["median_ms"]
        verdict = "slower" if ratio > 1 + threshold else "faster" if ratio < 1 / (1 + threshold) else ""
        slower |= verdict == "slower"
        name = f"{key[0]} {key[1]} {key[2]} {key[3]}"
        rows.append(f"{name[:46]:46s} {old[key]['median_ms']:9.3g} {new[key]['median_ms']:9.3g} {ratio:6.2f} {verdict}")
    return rows, slower


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--threshold", type=float, default=0.1, help="ratio that counts as a change")
    options = parser.parse_args(arguments)
    rows, slower = compare(read(options.old), read(options.new), options.threshold)
    if not rows:
        raise SystemExit("no case stands in both files, on the same device")
    print(f"{'case':46s} {'old ms':>9s} {'new ms':>9s} {'ratio':>6s}")
    print("\n".join(rows))
    sys.exit(1 if slower else 0)


if __name__ == "__main__":
    main()
