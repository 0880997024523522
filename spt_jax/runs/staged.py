"""Checkpoints of a run that lies in an object store: saved on this machine, then put there step by step.

    RUN/checkpoints/<step>/...    the files of a step
    RUN/checkpoints/<step>.json   their sizes and checksums, written last: a step without it is not there

Orbax 0.12 writes to folders and to gs:// alone (of s3:// it says that the path is not absolute), and makes a step
complete by a rename, which an object store does not have. So it always writes here, and one rule holds for every store.
A step is put in the background; the next save waits for it. Of several processes the first puts what all have together,
and each fetches for itself.
"""

from __future__ import annotations

import json
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from data_pipelines.errors import CheckpointError
from data_pipelines.files import file_sha256, read_json, write_atomic
from data_pipelines.places import RemotePath

# Files that are put or fetched at a time.
AT_A_TIME = 8


class StagedSteps:
    """The steps in a folder of an object store. here: the folder of this machine that Orbax works in. kept: of the newest;
    kept_period: those that it divides are kept for good, with 0 none."""

    def __init__(self, there: RemotePath, here: Path, kept: int, kept_period: int = 0):
        self._there, self._here, self._kept, self._period = there, here, kept, kept_period
        self._pool, self._pending = ThreadPoolExecutor(1), Future[None]()
        self._pending.set_result(None)

    def steps(self) -> list[int]:
        """Whole ones, newest first."""
        found = (path.stem for path in self._there.glob("*.json"))
        return sorted((int(name) for name in found if name.isdecimal()), reverse=True)

    def fetch(self, step: int) -> None:
        """Have a step here. Raises CheckpointError where it is not what was put."""
        sums = read_json(self._mark(step))
        partial = self._here / f".{step}.partial"
        shutil.rmtree(partial, ignore_errors=True)

        def get(name: str) -> None:
            file = partial / name
            file.parent.mkdir(parents=True, exist_ok=True)
            source = self._there / str(step) / name
            try:
                source.download(file)
            except FileNotFoundError:
                raise CheckpointError(f"{source}: missing") from None
            if file_sha256(file) != sums[name]:
                raise CheckpointError(f"{source}: damaged (checksum differs)")

        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(get, sums))
        shutil.rmtree(self._here / str(step), ignore_errors=True)
        partial.rename(self._here / str(step))

    def put_behind(self, step: int, saved) -> None:
        """Put a step once `saved` has returned, in the background."""
        self._pending = self._pool.submit(lambda: (saved(), self._put(step)))

    def wait(self) -> None:
        """Until all that was given is there. Raises what went wrong."""
        self._pending.result()

    def close(self) -> None:
        self._pool.shutdown()
        self.wait()

    def disown(self, step: int) -> None:
        """Damaged: its files go with the next step that is put."""
        self._mark(step).unlink(missing_ok=True)

    def _mark(self, step: int) -> RemotePath:
        return self._there / f"{step}.json"

    def _put(self, step: int) -> None:
        if self._mark(step).exists():  # by a process that was killed: the run that repeats it is the same
            return
        folder = self._here / str(step)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            put = [(path, self._there / str(step) / path.relative_to(folder).as_posix()) for path in files]
            list(pool.map(lambda pair: pair[1].upload(pair[0]), put))
        sums = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
        write_atomic(self._mark(step), json.dumps(sums, indent=1) + "\n")
        steps = self.steps()
        kept = {str(own) for own in steps if own in steps[: self._kept] or (self._period and own % self._period == 0)}
        rest = [path for path in self._there.rglob("*") if self._step_of(path) not in kept]
        # A step that loses its mark first is never taken for whole.
        for path in sorted(rest, key=lambda path: path.parent != self._there):
            path.unlink(missing_ok=True)

    def _step_of(self, path: RemotePath) -> str:
        return path.relative_to(self._there).parts[0].removesuffix(".json")
