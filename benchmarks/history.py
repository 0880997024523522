"""What git tells of a result line: the commit that it is of, and whether the code that it ran has changed since.

Code is compared definition by definition, without imports and comments, wherever it stands: a move is no change. What
a benchmark runs are its own file and all of this repository that it imports, directly or not.
"""

from __future__ import annotations

import ast
import io
import subprocess
import tarfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
CODE = ("benchmarks", "data_pipelines", "spt_jax")


def commit(root: Path = ROOT) -> str | None:
    """The commit of this checkout, with "+" where code differs from it; None without git."""
    head = _git(root, "rev-parse", "--short", "HEAD")
    if head is None:
        return None
    changed = _git(root, "status", "--porcelain", "--", *(f"{package}/*.py" for package in CODE))
    return head.decode().strip() + ("+" if changed else "")


def age(line: dict, root: Path = ROOT) -> str:
    """Of a result line: nothing, "old" where its code has changed since, or "age unknown" and why."""
    at = line["commit"]
    if not at:
        return "age unknown: measured without git"
    if at.endswith("+"):
        return "age unknown: measured with changes that are in no commit"
    if _git(root, "rev-parse", "HEAD") is None:
        return "age unknown: no git here"
    before = _definitions_at(at, root)
    if before is None:
        return "age unknown: no such commit here"
    return "old" if _definitions_run(line["benchmark"], root) - before else ""


@cache
def _definitions_at(at: str, root: Path) -> frozenset[str] | None:
    """All definitions in the Python files of a commit; None where there is no such commit."""
    archive = _git(root, "archive", "--format=tar", at, "--", "*.py")
    if archive is None:
        return None
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        found = [_definitions(files.extractfile(each).read()) for each in files if each.isfile()]
    return frozenset().union(*found)


@cache
def _definitions_run(benchmark: str, root: Path) -> frozenset[str]:
    """Those of the present files that a benchmark runs."""
    found, todo = set(), [f"benchmarks.{benchmark}", f"benchmarks.{benchmark}.__main__"]
    while todo:
        path = _file(todo.pop(), root)
        if path and path not in found:
            found.add(path)
            todo += _named(ast.parse(path.read_bytes()))
    return frozenset().union(*(_definitions(path.read_bytes()) for path in found))


def _definitions(source: bytes) -> set[str]:
    """Each statement of a file as its tree, without imports and docstrings."""
    return {ast.dump(each) for each in _Bare().visit(ast.parse(source)).body}


class _Bare(ast.NodeTransformer):
    def visit(self, node: ast.AST) -> ast.AST | None:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            return None
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return None
        return self.generic_visit(node)


def _named(tree: ast.Module) -> list[str]:
    """Dotted names of what a file imports anywhere in it, and of modules that it starts by name."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.append(node.value)
    return [name for name in names if name.split(".")[0] in CODE]


def _file(name: str, root: Path) -> Path | None:
    """The file of a module; None where the name is of something else."""
    path = root.joinpath(*name.split("."))
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def _git(root: Path, *arguments: str) -> bytes | None:
    """What git prints; None where it fails, or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
