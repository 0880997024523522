"""Frames answered as they come, from a folder that a measurement fills or from a program."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from data_pipelines.errors import UserError, line_of, printable
from data_pipelines.readers.images.image import ImageCalibration
from data_pipelines.readers.images.open import open_image
from spt_jax.eels.answer import ImageAnswer, ImageModel
from spt_jax.eels.answer_figures import certainty, flagged
from spt_jax.eels.arrivals import Arrival, Arrivals, is_last_try

# Percentiles are of so many frames, the last.
TIMED = 10_000
# Frames that are taken from a program while one is being answered.
AHEAD = 2


@dataclass(frozen=True)
class LiveFrame:
    """One answered frame. seconds: from the look that saw the file as it is to its answer. compiled: its shape was new, and
    the time is not among those of p50 and p99, seconds, NaN before there are any. waiting: files that were whole by then.
    pixels: of each class; certainty: their mean, None without pixels."""

    number: int
    file: str
    seconds: float
    p50: float
    p99: float
    shape: tuple[int, int, int, int]
    compiled: bool
    again: bool
    waiting: int
    pixels: dict[str, int]
    certainty: float | None
    flagged: int
    left_out: int
    time: str

    def line(self) -> str:
        """For a terminal."""
        counts = ", ".join(f"{name} {pixels:,}" for name, pixels in self.pixels.items())
        told = f"{self.number:5d} {printable(self.file)}  {self.seconds:.3f} s"
        if np.isfinite(self.p50):
            told += f" (p50 {self.p50:.3f}, p99 {self.p99:.3f})"
        told += f"  {counts}; flagged {self.flagged:,}" + (f", left out {self.left_out:,}" if self.left_out else "")
        told += "; again, as it changed" if self.again else ""
        if self.compiled:
            told += f"; compiled for {' x '.join(map(str, self.shape[1:]))}"
        return told + (f"; {self.waiting:,} waiting" if self.waiting else "")

    def record(self) -> dict:
        known = {name: None if value != value else value for name, value in vars(self).items() if name != "shape"}
        return {"shape": list(self.shape)} | known


@dataclass
class LiveRun:
    """What has happened so far: answered frames, bad ones with their reason, the last answer."""

    frames: list[LiveFrame] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)
    last: ImageAnswer | None = None
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=TIMED))
    shapes: set[tuple[int, ...]] = field(default_factory=set)

    def summary(self) -> str:
        told = f"{len(self.frames):,} {'frame' if len(self.frames) == 1 else 'frames'} answered, {len(self.bad):,} bad"
        if self.seconds:
            p50, p99 = np.percentile(self.seconds, [50, 99])
            told += f"; p50 {p50:.3f} s, p99 {p99:.3f} s"
        return told


class FrameLog:
    """A .jsonl file with a line for each frame, appended. What it tells at first needs no answer again."""

    def __init__(self, path: Path):
        self.path, self.known = path, set()
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            for line in text.splitlines():
                try:
                    said = json.loads(line)
                    if "error" not in said:
                        self.known.add((said["file"], said["bytes"], said["modified_ns"]))
                except (ValueError, KeyError, TypeError):  # a line that was cut, or of another program
                    continue
            if text and not text.endswith("\n"):
                self._append("\n")

    def add(self, file: Arrival, said: dict) -> None:
        size, modified = file.stamp[0]
        own = {"file": file.path.name, "bytes": size, "modified_ns": modified}
        self._append(json.dumps(own | said) + "\n")

    def _append(self, text: str) -> None:
        with open(self.path, "a", encoding="utf-8") as log:
            log.write(text)


def follow_folder(
    folder: Path,
    model: ImageModel,
    run: LiveRun,
    say: Callable[[str], None],
    interval: float,
    given: ImageCalibration | None = None,
    log: FrameLog | None = None,
    show: Callable[[LiveRun], None] | None = None,
    over: Callable[[], bool] = lambda: False,
) -> None:
    """Answers what lies in the folder, oldest first, and what comes, until `over` or KeyboardInterrupt; `run` tells how far it
    came. interval: seconds from one look to the next, and for which a file that is whole has not changed. show(run) is called after every frame, and must not take long."""
    arrivals = Arrivals(folder, interval, log.known if log else None)
    trouble = ""
    while not over():
        try:
            ready = arrivals.look(time.monotonic())
            trouble = ""
        except OSError as error:
            # Told once; the next look may find it mended.
            ready = []
            if (now := f"{folder}: {error.strerror or line_of(error)}") != trouble:
                trouble = now
                say(trouble)
        for place, file in enumerate(ready):
            if over():
                return
            if _take(file, model, run, say, given, log, len(ready) - 1 - place) and show:
                show(run)
        if not ready:
            time.sleep(interval)


def _take(
    file: Arrival,
    model: ImageModel,
    run: LiveRun,
    say: Callable[[str], None],
    given: ImageCalibration | None,
    log: FrameLog | None,
    waiting: int,
) -> bool:
    """Whether there is anything new to show."""
    try:
        image = open_image(file.path, given)
        # Spectra without noise take most of the time, and nobody sees them here.
        answer = model.answer(image, spectra=False)
    except Exception as error:  # a frame that cannot be used must not end a measurement
        if not is_last_try(file, time.monotonic()):
            file.failed = True
            return False
        why = str(error) if isinstance(error, UserError) else line_of(error)
        why = why.replace(f"{file.path}: ", "")
        file.done = True
        run.bad.append((file.path.name, why))
        say(f"  bad {printable(file.path.name)}: {printable(why)}")
        if log:
            log.add(file, {"error": why})
        return True
    file.done, file.failed = True, False
    frame = _told(file, answer, run, waiting)
    run.frames.append(frame)
    run.last = answer
    say(frame.line())
    if log:
        log.add(file, frame.record())
    return True


def _told(file: Arrival, answer: ImageAnswer, run: LiveRun, waiting: int) -> LiveFrame:
    seconds, shape = time.monotonic() - file.seen, answer.image.shape
    compiled = shape[1:] not in run.shapes
    run.shapes.add(shape[1:])
    if not compiled:
        run.seconds.append(seconds)
    p50, p99 = np.percentile(run.seconds, [50, 99]) if run.seconds else (np.nan, np.nan)
    used = answer.phase >= 0
    return LiveFrame(
        len(run.frames) + 1,
        file.path.name,
        round(seconds, 4),
        round(float(p50), 4),
        round(float(p99), 4),
        shape,
        compiled,
        file.again,
        waiting,
        {name: int(np.sum(answer.phase == i)) for i, name in enumerate(answer.classes)},
        round(float(np.nanmean(certainty(answer))), 4) if used.any() else None,
        int(flagged(answer).sum()),
        int((~used).sum()),
        datetime.now(UTC).isoformat(timespec="milliseconds"),
    )


def answers(frames: Iterable[np.ndarray], model: ImageModel, energy: np.ndarray) -> Iterator[ImageAnswer]:
    """An answer for each frame, in order, while the next ones are being taken from `frames` in another thread.

    frames: (H, W, E) counts. energy: (E,) eV. A frame of a new shape is compiled for. Raises UserError for an array that is no
    frame, and what `frames` raises in the place of its frame.
    """
    energy = np.asarray(energy, float)
    taken: queue.Queue[tuple[str, np.ndarray | BaseException | None]] = queue.Queue(AHEAD)
    over = threading.Event()

    def put(kind: str, what: np.ndarray | BaseException | None) -> None:
        while not over.is_set():
            try:
                return taken.put((kind, what), timeout=0.1)
            except queue.Full:
                continue

    def take() -> None:
        try:
            for counts in frames:
                put("frame", counts)
                if over.is_set():
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)

    threading.Thread(target=take, name="frames", daemon=True).start()
    try:
        number = 0
        while True:
            kind, what = taken.get()
            if kind == "end":
                return
            if kind == "error":
                raise what
            number += 1
            counts = np.asarray(what)
            if counts.ndim != 3 or counts.shape[-1] != len(energy) or counts.dtype.kind not in "iufb":
                raise UserError(
                    f"frame {number}: rows x columns x {len(energy)} counts are needed, got "
                    f"{' x '.join(map(str, counts.shape)) or 'one number'} of {counts.dtype}"
                )
            yield model.answer_frame(counts, energy)
    finally:
        over.set()
