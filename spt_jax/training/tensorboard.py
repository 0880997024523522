"""The log of a run for TensorBoard. Any other place for it is a class like this one: it is called with each line."""

from __future__ import annotations

from pathlib import Path

from data_pipelines.errors import MissingExtra

FOLDER = "tensorboard"


class Board:
    """Writes every number of a log line as a scalar of its epoch. Raises MissingExtra where tensorboardX is missing."""

    def __init__(self, run: Path):
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError:
            raise MissingExtra("tensorboard", "a log for TensorBoard") from None
        self._writer = SummaryWriter(str(run / FOLDER))

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_) -> None:
        # Its thread writes behind: what is not closed lacks its last events.
        self._writer.close()

    def __call__(self, line: dict) -> None:
        scalars = {name: value for name, value in line.items() if isinstance(value, int | float)}
        scalars |= {f"validation/{name}": value for name, value in line.get("validation", {}).items()}
        for name, value in scalars.items():
            if value is not None:
                self._writer.add_scalar(name, value, line["epoch"])
        self._writer.flush()
