"""What a long command says while it works: bars on a terminal; elsewhere lines, at least one every half minute."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn

SILENCE_SECONDS = 30.0


class Live:
    """`begin` until there is something to tell; then bars on a terminal, and in a log what is said aloud.

    A log also hears where the work stands and how long it has been at it, whenever it heard nothing for half a minute.
    """

    def __init__(self, console: Console, begin: str, *columns: ProgressColumn):
        self.console = console
        self._now = begin
        self._beginning = console.status(begin)
        self._progress = Progress(*columns, console=console)
        self._bars: dict[str, TaskID] = {}
        self._told, self._over = threading.Event(), False
        self._watch = threading.Thread(target=self._break_silence, daemon=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._beginning.start()
        else:
            self._watch.start()
        return self

    def __exit__(self, *_) -> None:
        if self.console.is_terminal:
            self._beginning.stop()
            self._progress.stop()
        else:
            self._over = True
            self._told.set()
            self._watch.join()

    def tell(self, text: str, done: float, total: int, bar: str = "", aloud: bool = False) -> None:
        """Where the work stands: the text beside a bar, and of a log's next line, or of one now if it is `aloud`."""
        self._now = text
        if self.console.is_terminal:
            if bar not in self._bars:
                self._beginning.stop()
                self._progress.start()
                self._bars[bar] = self._progress.add_task("", total=total)
            self._progress.update(self._bars[bar], completed=done, total=total, description=text)
        elif aloud:
            self._told.set()
            self._print(text)

    def _break_silence(self) -> None:
        began = time.monotonic()
        while not self._over:
            if self._told.wait(SILENCE_SECONDS):
                self._told.clear()
            else:
                self._print(f"{self._now}  [{timedelta(seconds=int(time.monotonic() - began))}]")

    def _print(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


class TrainingLine(Live):
    """A `report` for `train`: epoch, loss, validation score, spectra per second; in a log a line each validation."""

    def __init__(self, console: Console):
        columns = (BarColumn(bar_width=12), TextColumn("{task.description}"), TimeRemainingColumn(), TextColumn("left"))
        super().__init__(console, "reading the data, compiling", *columns)
        self._score = ""

    def __enter__(self) -> Self:
        if not self.console.is_terminal:
            self._print(self._now)
        return super().__enter__()

    def __call__(self, line: dict) -> None:
        if line.get("score") is not None:
            self._score = f"  score {line['score']:.3f}"
        self.tell(self._said(line, ""), line["epoch"], line["epochs"], aloud="score" in line)

    def within(self, line: dict) -> None:
        """In the middle of an epoch: its share that is through, and the loss so far."""
        done = line["epoch"] - 1 + line["share"]
        self.tell(self._said(line, f" at {100 * line['share']:.0f} %"), done, line["epochs"])

    def _said(self, line: dict, where: str) -> str:
        epoch = f"epoch {line['epoch']}/{line['epochs']}{where}"
        return f"{epoch}  loss {line['loss']:.3f}{self._score}  {line['spectra_per_s']:.0f}/s"
