"""Where the commands write: results to stdout, progress and complaints to stderr."""

from rich.console import Console

console = Console()
errors = Console(stderr=True)
