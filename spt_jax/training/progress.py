"""The live line of a training run: loss, validation score, spectra per second, time left."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingLine:
    """A `report` for `train`: one live line on a terminal, a line per validation in a log file."""

    def __init__(self, console: Console):
        self.console = console
        columns = (TextColumn("epoch"), MofNCompleteColumn(), BarColumn(bar_width=12), TextColumn("{task.description}"))
        self.progress = Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console)
        self.bar = self.progress.add_task("compiling", total=None)
        self.score = ""

    def __enter__(self) -> TrainingLine:
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *_) -> None:
        if self.console.is_terminal:
            self.progress.stop()

    def __call__(self, line: dict) -> None:
        if "score" in line:
            self.score = f"  score {line['score']:.3f}"
        text = f"loss {line['loss']:.3f}{self.score}  {line['spectra_per_s']:.0f}/s"
        self.progress.update(self.bar, completed=line["epoch"], total=line["epochs"], description=text)
        if not self.console.is_terminal and "score" in line:
            self.console.print(f"epoch {line['epoch']}/{line['epochs']}  {text}", highlight=False)
