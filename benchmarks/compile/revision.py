"""An older commit compiled by today's benchmark, for `--compare`."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.compile.isolate import ROOT
from data_pipelines.errors import UserError

OURS = ("benchmarks/compile", "benchmarks/peaks.py", "benchmarks/scaling")
"""What is measured with; the workload and its counted work are the commit's own, as its network is."""


@contextmanager
def checkout(revision: str, root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """A work tree of a commit, with this benchmark in it, and the commit's short name; removed at the end.

    Raises UserError where git knows no such commit.
    """
    commit = _git(root, "rev-parse", "--short", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
    if not commit:
        raise UserError(f"--compare {revision}: no such commit")
    with tempfile.TemporaryDirectory(prefix="revision-") as name:
        tree = Path(name) / "tree"
        try:
            _git(root, "worktree", "add", "--detach", str(tree), commit)
            if not tree.exists():
                raise UserError(f"--compare {revision}: git made no work tree")
            for part in OURS:
                _copy(root / part, tree / part)
            yield tree, commit
        finally:
            _git(root, "worktree", "remove", "--force", str(tree))


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _git(root: Path, *arguments: str) -> str:
    """What it prints, "" where it fails."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        raise UserError("--compare needs git") from None
    return done.stdout if done.returncode == 0 else ""
