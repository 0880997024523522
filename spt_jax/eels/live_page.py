"""The page of a measurement that goes on: the last frame, fractions and times so far, bad files. A browser reads it again."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from html import escape
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator

from data_pipelines.errors import line_of
from data_pipelines.files import write_atomic
from data_pipelines.pages import html
from data_pipelines.pages.style import BLUE, GREY, INK, ORANGE, RC, STEPS, as_svg, panel
from spt_jax.eels.answer import ImageAnswer
from spt_jax.eels.answer_figures import MARKERS, class_colours
from spt_jax.eels.answer_page import classes_section
from spt_jax.eels.live import LiveFrame, LiveRun
from spt_jax.eels.maps import WIDTH

# Frames that are drawn, rows of a table, seconds from one reading to the next.
DRAWN, ROWS, REFRESH_SECONDS = 500, 20, 2.0
# Frames up to which each has its mark.
MARKED = 30


@dataclass(frozen=True)
class LiveState:
    """What a page shows, taken between two frames."""

    frames: tuple[LiveFrame, ...]
    answered: int
    bad: tuple[tuple[str, str], ...]
    bad_count: int
    last: ImageAnswer | None
    summary: str

    @classmethod
    def of(cls, run: LiveRun) -> LiveState:
        return cls(
            tuple(run.frames[-DRAWN:]), len(run.frames), tuple(run.bad[-ROWS:]), len(run.bad), run.last, run.summary()
        )


class LivePage:
    """Writes the page in a thread of its own, so that no frame waits for a picture: always of the newest state, no more often than
    a browser reads it. `close` writes the last. trouble: why it could not be written, "" while it could."""

    def __init__(self, path: Path, name: str):
        self.path, self.name, self.trouble = path, name, ""
        self._next: LiveState | None = None
        self._changed, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="page", daemon=True)
        self._thread.start()

    def show(self, run: LiveRun) -> None:
        self._next = LiveState.of(run)
        self._changed.set()

    def close(self, run: LiveRun) -> None:
        """The last page is not read again by a browser."""
        self._over.set()
        self._changed.set()
        self._thread.join()
        self._write(LiveState.of(run), refresh=0)

    def _work(self) -> None:
        while not self._over.is_set():
            self._changed.wait()
            self._changed.clear()
            if self._next and not self._over.is_set():
                self._write(self._next, REFRESH_SECONDS)
            # Drawing takes time from the answers.
            self._over.wait(REFRESH_SECONDS)

    def _write(self, state: LiveState, refresh: float) -> None:
        try:
            write_atomic(self.path, live_html(state, self.name, refresh))
            self.trouble = ""
        except Exception as error:  # a full disk must not end a measurement
            self.trouble = f"{self.path}: {getattr(error, 'strerror', None) or line_of(error)}"


def live_html(state: LiveState, name: str, refresh: float) -> str:
    """The page. refresh: seconds until a browser reads it again, 0 for never."""
    facts = {"frames": f"{state.answered:,}", "bad": f"{state.bad_count:,}"}
    sections = []
    if state.last is not None and state.frames:
        newest = state.frames[-1]
        facts |= {"last": escape(newest.file), "seen to answer": f"{newest.seconds:.3f} s"}
        if np.isfinite(newest.p50):
            facts |= {"p50": f"{newest.p50:.3f} s", "p99": f"{newest.p99:.3f} s"}
        facts["flagged"] = f"{newest.flagged:,}"
        colours = class_colours(len(state.last.classes))
        _, note, content = classes_section(state.last, colours)
        sections.append(("Last frame", f"{escape(newest.file)}, {newest.time[11:19]} UTC. {note}", content))
        keys = [
            (f"{i + 1} {escape(each)}", colour)
            for i, (each, colour) in enumerate(zip(state.last.classes, colours, strict=True))
        ]
        if any(frame.flagged for frame in state.frames):
            keys.append(("flagged (crosses)", INK))
        pictures = [
            html.panel(
                _fractions(state.frames, state.last.classes, colours), f"<b>fraction of pixels</b> {html.legend(keys)}"
            ),
            html.panel(
                _seconds(state.frames), "<b>seconds</b> from file seen to answer; orange: also compiled for a new shape"
            ),
        ]
        sections.append(("So far", f"The last {len(state.frames):,} frames.", html.panels(pictures)))
        rows = [
            (
                str(frame.number),
                escape(frame.file),
                f"{frame.seconds:.3f}",
                *frame.pixels.values(),
                frame.flagged,
                frame.left_out,
            )
            for frame in reversed(state.frames[-ROWS:])
        ]
        heads = ("", "file", "seconds", *map(escape, state.last.classes), "flagged", "left out")
        sections.append(("Frames", "The newest first.", html.table(heads, rows)))
    if state.bad:
        rows = [(escape(file), escape(why)) for file, why in reversed(state.bad)]
        sections.append(
            ("Bad files", "They were skipped; one that changes is read again.", html.table(("file", "why"), rows))
        )
    return html.page(name, html.tiles(facts), sections, refresh)


@matplotlib.rc_context(RC)
def _fractions(frames: tuple[LiveFrame, ...], classes: tuple[str, ...], colours: list[str]) -> str:
    figure, axes = panel(WIDTH, 2.4)
    numbers, few = [frame.number for frame in frames], len(frames) <= MARKED
    used = np.array([max(sum(frame.pixels.values()), 1) for frame in frames])
    for i, (name, colour) in enumerate(zip(classes, colours, strict=True)):
        parts = np.array([frame.pixels.get(name, 0) for frame in frames]) / used
        mark = MARKERS[i % len(MARKERS)] if few else ""
        axes.plot(numbers, parts, f"{mark}-", color=colour, markersize=3.5, linewidth=1)
    if any(frame.flagged for frame in frames):
        parts = np.array([frame.flagged for frame in frames]) / used
        axes.plot(numbers, parts, "x--" if few else "--", color=INK, markersize=4, linewidth=0.8)
    axes.set(xlabel="frame", ylabel="fraction of pixels")
    axes.set_ylim(-0.03, 1.03)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS, integer=True))
    return as_svg(figure)


@matplotlib.rc_context(RC)
def _seconds(frames: tuple[LiveFrame, ...]) -> str:
    figure, axes = panel(WIDTH, 2.4)
    usual = [frame for frame in frames if not frame.compiled]
    new = [frame for frame in frames if frame.compiled]
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.plot([frame.number for frame in usual], [frame.seconds for frame in usual], ".", color=BLUE, markersize=4)
    axes.plot([frame.number for frame in new], [frame.seconds for frame in new], "D", color=ORANGE, markersize=4)
    axes.set(xlabel="frame", ylabel="seconds")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS, integer=True))
    return as_svg(figure)
