"""The house rules that keep a line of code in its room."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("data_pipelines", "spt_jax")
FLOORS = (
    # Data flows upward: a room may import what stands below it, and nothing on its own floor but itself.
    ("data_pipelines.errors", "data_pipelines.run_tree", "data_pipelines.library"),
    ("data_pipelines.faults",),
    ("data_pipelines.places",),
    ("data_pipelines.files", "data_pipelines.ranges", "data_pipelines.signals"),
    ("data_pipelines.schema",),
    ("data_pipelines.pages", "data_pipelines.chemistry", "data_pipelines.shells", "data_pipelines.loss_grid"),
    ("data_pipelines.spectra", "data_pipelines.structures", "data_pipelines.labels"),
    ("data_pipelines.feff",),
    ("data_pipelines.readers",),
    ("data_pipelines.dataset",),
    ("data_pipelines.survey",),
    ("spt_jax.network_config",),
    ("spt_jax.shapes", "spt_jax.config", "spt_jax.batching", "spt_jax.tasks"),
    ("spt_jax.presets", "spt_jax.model", "spt_jax.scoring"),
    ("spt_jax.objectives", "spt_jax.peers"),
    ("spt_jax.runs",),
    ("spt_jax.zoo",),
    ("spt_jax.inference", "spt_jax.eels"),
    ("spt_jax.training",),
    ("spt_jax.robustness", "spt_jax.reports", "spt_jax.series"),
    ("spt_jax.explain", "spt_jax.study"),
    ("spt_jax.quickstart", "spt_jax.__init__"),
    ("spt_jax.app",),
    ("spt_jax.commands",),
    ("spt_jax.cli",),
    ("spt_jax.launch",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
OWNERS = {
    "fastapi": "spt_jax/app/web.py",
    "pydantic": "spt_jax/app/web.py",
    "starlette": "spt_jax/app/web.py",
    "uvicorn": "spt_jax/app/listen.py",
    "array_record": "data_pipelines/dataset/array_records.py",
    "fsspec": "data_pipelines/places.py",
    "h5py": "data_pipelines/readers/hdf5.py",
    "grain": "data_pipelines/dataset/stream.py",
    "parsl": "data_pipelines/feff/campaign.py",
    "orbax": "spt_jax/runs/checkpoint.py",
    "safetensors": "spt_jax/runs/packed.py",
    "xraydb": "data_pipelines/spectra/mback.py",
    "tensorflow_datasets": "data_pipelines/dataset/tfds.py",
}
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, anywhere in it: of `from a import b`, a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(dotted: str) -> str:
    return ".".join(dotted.split(".")[:2])


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_import_goes_down_a_floor(path):
    """A written list of floors leaves no room for a circle; imports inside functions count."""
    name, modules = str(path.relative_to(ROOT)), list(imports(path))
    here = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if here == "data_pipelines.__init__":
        assert not modules
        return
    for module in modules:
        there = "spt_jax.__init__" if module == "spt_jax.__version__" else room(module)
        if module.startswith(PACKAGES) and there != here:
            assert FLOOR[there] < FLOOR[here], f"{name} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_library_is_in_its_room(path):
    name, modules = str(path.relative_to(ROOT)), list(imports(path))
    roots = {module.split(".")[0] for module in modules}
    assert not roots & {"benchmarks", "tests"}
    if name.startswith(("data_pipelines/", "spt_jax/scoring/")) or name == "spt_jax/peers/trees.py":
        assert not roots & {"jax", "flax", "optax"}
    elif name.startswith(("spt_jax/model/", "spt_jax/peers/")):
        allowed = (
            "jax",
            "flax",
            "numpy",
            "math",
            "functools",
            "itertools",
            "dataclasses",
            "collections",
            "typing",
            "contextlib",
            "warnings",
            "__future__",
        )
        own = ("spt_jax.model", "spt_jax.config", "spt_jax.shapes", "data_pipelines.errors")
        own += ("spt_jax.peers",) if name.startswith("spt_jax/peers/") else ()
        assert all(m.split(".")[0] in allowed or m.startswith(own) for m in modules), modules
    for library, owner in OWNERS.items():
        assert library not in roots or name == owner


def test_files_stay_short():
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert not {name: count for name, count in lines.items() if count > 330}


def test_every_room_has_a_floor():
    rooms = {room(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in SOURCES}
    assert rooms - {"data_pipelines.__init__"} == set(FLOOR)


def test_the_map_in_readme_is_the_listing():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text[text.index("## Folders") :].split("```")[1]
    for package in PACKAGES:
        listed = {
            path.name for path in (ROOT / package).iterdir() if path.name[0] not in "_." and path.name != "py.typed"
        }
        block = re.search(rf"^{package}/.*\n((?:  .*\n)+)", shown, re.MULTILINE)[1]
        named = {name.rstrip("/") for name in re.findall(r"(?<=[ \n])[a-z_]+(?:/|\.py)(?=\s)", "\n" + block)}
        assert named == listed, package


def test_a_public_class_name_exists_once():
    names: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                names.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert not {name: places for name, places in names.items() if len(places) > 1}
