"""Where the commands write: results to stdout, progress and complaints to stderr; and how they answer Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from spt_jax.training.progress import Live

console = Console()
errors = Console(stderr=True)

STOPPED = "stopped; run the same command again to go on where it was"
# What ends by itself in this time needs no word before.
AT_ONCE_SECONDS = 0.3
# What has not ended so long after it was asked twice is ended.
PATIENCE_SECONDS = 1.0


class Bars(Live):
    """report(stage, done, total): a bar for each stage; in a log a line when it is through."""

    def __init__(self) -> None:
        super().__init__(errors, "starting", TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.tell(f"{stage:9s} {done}/{total}", done, total, stage, aloud=done == total)


class Throughput(Live):
    """report(done, total): spectra that are done, how many in a second of this run, and how long the rest will take."""

    def __init__(self) -> None:
        super().__init__(
            errors, "reading the model, compiling", BarColumn(bar_width=12), TextColumn("{task.description}")
        )
        self._first: tuple[int, float] | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        self._first = self._first or (done, now)
        speed = (done - self._first[0]) / max(now - self._first[1], 1e-3)
        text = f"{done:,} of {total:,} spectra"
        if speed:
            text += f"  {speed:,.0f}/s  {timedelta(seconds=round((total - done) / speed))} left"
        self.tell(text, done, total, aloud=done == total or not speed)


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Ctrl-C is answered at once, and twice ends the process, also where Python waits for a compiler.

    Python's handlers wait until the main thread is back in Python, which may take a minute. The byte that every signal
    leaves in a pipe does not.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    ended = threading.Event()

    def watch() -> None:
        asked = 0
        while number := reader.recv(1):
            if number[0] not in (signal.SIGINT, signal.SIGTERM):
                continue
            asked += 1
            if ended.wait(AT_ONCE_SECONDS):
                return
            if asked == 1:
                # Whoever trains has taken the signal over, to stop when all is saved; a server says what it waits for.
                handler = signal.getsignal(number[0])
                saving = handler not in (signal.default_int_handler, signal.SIG_DFL)
                when = getattr(handler, "meanwhile", "once the state is saved")
                _answer(f"stopping{f' {when}' if saving else ''}; once more stops at once")
            elif not ended.wait(PATIENCE_SECONDS):
                errors.show_cursor()
                _answer(f"spt-jax: error: {STOPPED}")
                os._exit(130)

    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        writer.close()
        watcher.join()
        reader.close()


def _answer(text: str) -> None:
    # By the stream, which a live line puts above itself; a console of its own would write into it.
    print(text, file=sys.stderr, flush=True)
