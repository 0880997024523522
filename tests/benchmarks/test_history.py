"""Whether code has changed since a commit, asked of real repositories."""

import subprocess
from pathlib import Path

import pytest

from benchmarks import history

FILES = {
    "benchmarks/ops.py": '"""Ops."""\nfrom spt_jax.old import double\n\n\ndef main():\n    return double(2)\n',
    "benchmarks/many/__init__.py": "",
    "benchmarks/many/__main__.py": "from benchmarks.many import part\n",
    "benchmarks/many/part.py": "FOUR = 4\n",
    "benchmarks/build.py": 'COMMAND = ["-m", "spt_jax.launch"]\n',
    "spt_jax/__init__.py": "",
    "spt_jax/old.py": "def double(x):\n    return 2 * x\n",
    "spt_jax/launch.py": "def main():\n    from spt_jax import old\n    return old\n",
    "spt_jax/other.py": "A = 1\n",
}


def git(root: Path, *arguments: str) -> str:
    name = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *name, *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def repository(tmp_path) -> Path:
    write(tmp_path, FILES)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def age_of(benchmark: str, at: str | None, root: Path) -> str:
    return history.age({"benchmark": benchmark, "commit": at}, root)


MOVED = {
    "benchmarks/ops.py": FILES["benchmarks/ops.py"].replace("spt_jax.old", "spt_jax.room.new"),
    "spt_jax/launch.py": FILES["spt_jax/launch.py"].replace("from spt_jax import old", "from spt_jax.room import new as old"),
    "spt_jax/room/__init__.py": '"""A room."""\n',
    "spt_jax/room/new.py": "# a reason\n" + FILES["spt_jax/old.py"].replace("(x):\n", '(x):\n    """Twice."""\n'),
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "old"),
    [
        ({}, set()),
        (MOVED, set()),
        ({"spt_jax/other.py": "A = 2\n"}, set()),
        ({"benchmarks/ops.py": FILES["benchmarks/ops.py"].replace("2", "3")}, {"ops"}),
        ({"spt_jax/old.py": FILES["spt_jax/old.py"].replace("2", "3")}, {"ops", "build"}),
        ({"spt_jax/launch.py": "def main():\n    return 1\n"}, {"build"}),
        ({"benchmarks/many/part.py": "FOUR = 5\n"}, {"many"}),
    ],
    ids=[
        "nothing",
        "moved and explained",
        "elsewhere",
        "itself",
        "what it imports",
        "what it starts",
        "a part of a package",
    ],
)
def test_a_row_is_old_where_code_that_it_runs_changed(repository, change, old):
    at = git(repository, "rev-parse", "--short", "HEAD")
    if change is MOVED:
        (repository / "spt_jax/old.py").unlink()
    write(repository, change)
    assert {name for name in ("ops", "build", "many") if age_of(name, at, repository) == "old"} == old
    assert all(age_of(name, at, repository) in ("", "old") for name in ("ops", "build"))
    python = [name for name in git(repository, "status", "--porcelain").splitlines() if name]
    assert history.commit(repository) == at + ("+" if python else "")


def test_what_git_cannot_tell_is_said(repository, tmp_path_factory):
    assert age_of("ops", None, repository) == "age unknown: measured without git"
    assert age_of("ops", "1234567", repository) == "age unknown: no such commit here"
    at = git(repository, "rev-parse", "HEAD")
    assert age_of("ops", at + "+", repository) == "age unknown: measured with changes that are in no commit"
    bare = tmp_path_factory.mktemp("bare")
    write(bare, FILES)
    assert age_of("ops", at, bare) == "age unknown: no git here"
    assert history.commit(bare) is None
