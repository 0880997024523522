"""What is published: built as a stranger builds it, installed away from the sources, used."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

USE = """
from pathlib import Path
import data_pipelines, spt_jax
from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import LIBRARY
print(Path(spt_jax.__file__).parent, Path(data_pipelines.__file__).parent)
print(len(Dataset(LIBRARY).split("test").ids), spt_jax.load.__name__)
"""


def sources(*suffixes: str) -> set[str]:
    """Files of the two packages; all of the embedded library's, the zoo's and the page's, whatever their suffix."""
    paths = [path for package in ("data_pipelines", "spt_jax") for path in (ROOT / package).rglob("*")]
    whole = (ROOT / "data_pipelines" / "library", ROOT / "spt_jax" / "zoo", ROOT / "spt_jax" / "app" / "page")
    found = [path for path in paths if path.suffix in suffixes or (path.is_file() and set(path.parents) & set(whole))]
    return {str(path.relative_to(ROOT)) for path in found if path.suffix != ".pyc"}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist and the wheel made of it, from a copy: a build leaves traces among its sources."""
    for library in ("build", "setuptools"):
        pytest.importorskip(library, reason="needs the extra `test`")
    folder = tmp_path_factory.mktemp("package")
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, folder / "clone", ignore=unwanted)
    line = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(folder / "clone")]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel_holds_both_packages_and_nothing_else(built):
    [wheel], [sdist] = built.glob("*.whl"), built.glob("*.tar.gz")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in inside if ".dist-info/" not in name} == sources(".py", ".typed")
    assert "data_pipelines/py.typed" in inside and "spt_jax/py.typed" in inside
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "constraints.txt"} <= names
    assert not {name for name in names if name.startswith(("tests", "benchmarks"))}


def test_the_installed_wheel_reads_its_library(built, tmp_path):
    [wheel] = built.glob("*.whl")
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run(pip, check=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    call = {"cwd": tmp_path, "env": environment, "check": True, "capture_output": True, "text": True}
    where, found = subprocess.run([sys.executable, "-c", USE], **call).stdout.splitlines()
    assert where == f"{site / 'spt_jax'} {site / 'data_pipelines'}"
    assert found.split()[0] > "0" and found.split()[1] == "load"
    told = subprocess.run([site / "bin" / "spt-jax", "--help"], **call).stdout
    assert "quickstart" in told
