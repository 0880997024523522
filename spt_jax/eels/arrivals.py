"""Frames that come into a folder during a measurement: each file once it is whole, and again when it has grown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_pipelines.errors import UserError
from data_pipelines.files import files_in

SUFFIXES = (".dm3", ".dm4", ".hspy", ".hdf5", ".emd", ".nxs", ".h5", ".npy", ".npz", ".msa", ".csv", ".txt")
# Beside an array lies its calibration.
ARRAYS, BESIDE = (".npy", ".npz"), (".json", ".csv")
# What cannot be read is read once more when it has not changed for so long; then it is bad.
PATIENCE_SECONDS = 2.0

# Bytes and time of the last change, ns, of a file and of what lies beside it.
Stamp = tuple[tuple[int, int], ...]


@dataclass
class Arrival:
    """One file. seen: time.monotonic() of the look that found it as it is now. again: it was answered before."""

    path: Path
    stamp: Stamp
    seen: float
    failed: bool = False
    done: bool = False
    again: bool = False


class Arrivals:
    """A file is whole when its size and time stay the same for `settle` seconds. Names with a dot in front are left alone, and links that lead
    out of the folder. Who writes under another name and renames at the end is never read half. Raises UserError where there is
    no such folder."""

    def __init__(self, folder: Path, settle: float, known: set[tuple[str, int, int]] | None = None):
        """known: (name, bytes, time in ns) of files that need no answer any more."""
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder to watch")
        self.folder, self._settle, self._known = folder, settle, known or set()
        self._files: dict[str, Arrival] = {}

    def look(self, now: float) -> list[Arrival]:
        """Files to read now, oldest first; whoever reads one says `done` or `failed`."""
        found = files_in(self.folder)
        for name in [name for name in self._files if name not in found]:
            del self._files[name]
        ready = []
        for name, own in found.items():
            path = self.folder / name
            if (
                not own[0]
                or path.suffix.lower() not in SUFFIXES
                or _is_beside(path, found)
                or (name, *own) in self._known
            ):
                continue
            beside = [found.get(path.with_suffix(suffix).name, (0, 0)) for suffix in BESIDE]
            stamp = (own, *(beside if path.suffix.lower() in ARRAYS else ()))
            file = self._files.get(name)
            if file is None or file.stamp != stamp:
                # The calibration of a frame that was answered without it changes nothing.
                if file is not None and file.done and not file.failed and file.stamp[0] == own:
                    file.stamp = stamp
                    continue
                again = file is not None and (file.again or (file.done and not file.failed))
                self._files[name] = Arrival(path, stamp, now, again=again)
                continue
            wait = PATIENCE_SECONDS if file.failed else self._settle
            if not file.done and now - file.seen >= wait:
                ready.append(file)
        return sorted(ready, key=lambda file: (file.stamp[0][1], file.path.name))


def is_last_try(file: Arrival, now: float) -> bool:
    """Whether a file that cannot be read is bad: it was tried before, and has not changed since."""
    return file.failed and now - file.seen >= PATIENCE_SECONDS


def _is_beside(path: Path, found: dict[str, tuple[int, int]]) -> bool:
    """A .csv beside an array has its energies."""
    return path.suffix.lower() == ".csv" and any(path.with_suffix(suffix).name in found for suffix in ARRAYS)
