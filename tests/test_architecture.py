"""The house rules that keep a line of code in its room."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OWNERS = {
    "array_record": "data_pipelines/dataset/blocks.py",
    "grain": "data_pipelines/dataset/loading.py",
    "larch": "data_pipelines/readers/spectrum.py",
    "parsl": "data_pipelines/feff/campaign.py",
    "orbax": "spt_jax/runs/checkpoint.py",
    "tensorflow_datasets": "data_pipelines/dataset/tfds.py",
}
SOURCES = sorted([*(ROOT / "data_pipelines").rglob("*.py"), *(ROOT / "spt_jax").rglob("*.py")])


def imports(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_import_is_in_its_room(path):
    name, modules = str(path.relative_to(ROOT)), imports(path)
    roots = {module.split(".")[0] for module in modules}
    assert not roots & {"benchmarks", "tests"}
    if name.startswith("data_pipelines/"):
        assert not roots & {"jax", "flax", "optax", "spt_jax"}
    if name.startswith("spt_jax/model/"):
        assert not any(m.startswith("spt_jax.peers") for m in modules)
    if name == "spt_jax/peers/trees.py":
        assert not roots & {"jax", "flax", "optax"}
    elif name.startswith(("spt_jax/model/", "spt_jax/peers/")):
        allowed = ("jax", "flax", "numpy", "math", "functools", "dataclasses", "collections", "typing", "__future__")
        own = ("spt_jax.model", "spt_jax.peers", "spt_jax.config", "spt_jax.shapes", "data_pipelines.errors")
        assert all(m.split(".")[0] in allowed or m.startswith(own) for m in modules), modules
    for library, owner in OWNERS.items():
        assert library not in roots or name == owner


def test_files_stay_short():
    long = {
        str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 330
    }
    assert not long
