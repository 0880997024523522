"""Where the commands write: results to stdout, progress and complaints to stderr."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console

console = Console()
errors = Console(stderr=True)


@contextlib.contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """report(stage, done, total), drawn as one bar per stage from its first call on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:9s}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress, stages = Progress(*columns, console=errors), {}
    with contextlib.ExitStack() as live:

        def report(stage: str, done: int, total: int) -> None:
            if not stages:
                live.enter_context(progress)
            if stage not in stages:
                stages[stage] = progress.add_task(stage, total=total)
            progress.update(stages[stage], completed=done, total=total)

        yield report
