"""The dataset as an engine builds it: source after source, killed and resumed, from tables."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.dataset import build, card, parts, tfds
from data_pipelines.dataset.build import prepare
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.verify import verify
from data_pipelines.errors import SourceError
from data_pipelines.feff.output import read_xmu
from data_pipelines.schema import DESCRIPTORS, NAMES, EnergyGrid
from data_pipelines.spectra.grid import to_grid

GRID = EnergyGrid()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def table(path: Path, runs: Path, rng, count: int = 40, **columns) -> Path:
    """A Parquet table of spectra without structures: one measured by FEFF, moved and scaled."""
    run = read_xmu(runs / "NiO_base_Ni0" / "xmu.dat")
    rows = {
        "id": [f"{path.stem}-{i}" for i in range(count)],
        "absorber": ["Ni"] * count,
        "omega": [(run.energy + 0.03 * i).tolist() for i in range(count)],
        "mu": [(run.mu * rng.uniform(0.5, 2)).tolist() for i in range(count)],
    }
    pq.write_table(pa.table({**rows, **columns}), path, row_group_size=16)
    return path


# source after source


def test_adding_sources_gives_what_all_at_once_gives(built, tmp_path):
    out = tmp_path / "dataset"
    prepare(built.sources[:1], out, GRID, workers=1)
    first = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    document = prepare(built.sources[1:], out, GRID, workers=1, add=True)
    assert document == built.card
    assert contents(out) == contents(built.out)
    part = document["sources"][0]["part"]
    kept = [path for path in first if part in str(path)]
    assert kept and all(path.stat().st_mtime_ns == first[path] for path in kept), "no old file is written again"


def test_adding_what_is_there_changes_nothing(built):
    before = {path: path.stat().st_mtime_ns for path in built.out.rglob("*")}
    assert prepare(built.sources[:2], built.out, GRID, workers=1, add=True) == built.card
    assert {path: path.stat().st_mtime_ns for path in built.out.rglob("*")} == before


def test_adding_with_another_grid_is_refused(built, runs):
    with pytest.raises(SourceError, match="another energy grid"):
        prepare([runs], built.out, EnergyGrid(points=140), workers=1, add=True)


def test_a_bridge_between_families_moves_the_old_part(runs, tmp_path, rng):
    """A spectrum that joins a test material to a training material takes it out of the test split, and no leak stays."""
    run = read_xmu(runs / "NiO_base_Ni0" / "xmu.dat")
    plain, bent = (to_grid(run.energy, run.mu + c * run.mu**2, GRID, "Ni") for c in (0, 0.01))
    unit = 0.01 * 0.015 / np.abs(bent - plain).max()

    def one(name: str, material: str, share: float) -> Path:
        """A spectrum that differs from the plain one by `share` of 1.5 tolerances."""
        rows = {"id": [name], "material": [material], "absorber": ["Ni"], "omega": [run.energy.tolist()]}
        mu = run.mu + share * unit * run.mu**2
        pq.write_table(pa.table({**rows, "mu": [mu.tolist()]}), tmp_path / f"{name}.parquet")
        return tmp_path / f"{name}.parquet"

    tested, trained, bridge = one("a", "CoO", 0), one("b", "LiCoO2", 1), one("c", "LiFePO4", 0.5)
    out = tmp_path / "dataset"
    prepare([tested, trained], out, GRID, workers=1)
    before = json.loads((out / card.FILE).read_text())
    after = prepare([bridge], out, GRID, workers=1, add=True)
    assert [s["splits"]["test"] for s in before["sources"]] == [1, 0]
    assert after["splits"]["train"]["examples"] == 3
    assert before["sources"][0]["part"] != after["sources"][0]["part"]
    assert before["sources"][1]["part"] == after["sources"][1]["part"]
    prepare([tested, trained, bridge], tmp_path / "whole", GRID, workers=1)
    assert contents(out) == contents(tmp_path / "whole")


# killed


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(built, tmp_path, rng):
    """kill -9 of the whole process group at random moments, again and again, until a run comes through."""
    out, program = tmp_path / "dataset", tmp_path / "build.py"
    program.write_text(
        "import sys; from pathlib import Path; from data_pipelines.dataset import chunks; chunks.CHUNK_TASKS = 1\n"
        "from data_pipelines.dataset.build import prepare; from data_pipelines.schema import EnergyGrid\n"
        "if __name__ == '__main__': prepare([Path(p) for p in sys.argv[2:]], Path(sys.argv[1]), EnergyGrid(), 2)\n"
    )
    command = [sys.executable, str(program), str(out), *map(str, built.sources)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    began = time.monotonic()
    moments = np.sort(rng.uniform(3, 12, 3))
    for moment in moments:
        process = subprocess.Popen(
            command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            process.wait(timeout=float(moment))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() in (0, -signal.SIGKILL), process.stderr.read().decode()
    print(f"killed after {moments} s; {time.monotonic() - began:.0f} s")
    assert subprocess.run(command, env=environment, check=False, timeout=120).returncode == 0
    assert contents(out) == contents(built.out)


@pytest.mark.parametrize("stop_in", ["blocks.write", "tfds.write", "card.write", "parts.remove_others"])
def test_stopped_while_writing_it_goes_on_to_the_same_bytes(built, tmp_path, monkeypatch, stop_in):
    from data_pipelines.dataset import blocks

    module, name = (
        {"blocks": blocks, "tfds": tfds, "card": card, "parts": parts}[stop_in.split(".")[0]],
        (stop_in.split(".")[1]),
    )
    out = tmp_path / "dataset"
    real, calls = getattr(module, name), []

    def stop(*arguments):
        calls.append(1)
        if len(calls) == 2 or stop_in.startswith(("card", "parts")):
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(built.sources, out, GRID, workers=1)
    prepare(built.sources, out, GRID, workers=1)
    assert contents(out) == contents(built.out)


# tables


def test_table_without_structures_has_the_labels_it_states(runs, tmp_path, rng):
    count = 40
    columns = {"material": ["NiO"] * 20 + ["LiNiO2"] * 20, "CN": [6, 4] * 20, "OS": [2.0] * 30 + [None] * 10}
    columns["MBL"] = [2.1] * 39 + [77.0]
    path = table(tmp_path / "stated.parquet", runs, rng, count, **columns)
    document = prepare([path], tmp_path / "dataset", GRID, workers=1)
    assert document["records"] == {"found": count, "kept": count, "dropped": 0}
    assert document["descriptors"]["CN"]["non-O"]["counts"] == {"4": 20, "6": 20}
    assert document["masked_by_reason"]["OS"] == {"no structure": 10}
    assert document["masked_by_reason"]["MBL"] == {"outside the plausible range": 1}
    assert document["masked_by_reason"]["PSGO"] == {"no structure": count}
    split = Dataset(tmp_path / "dataset").split("train")
    assert set(split.materials) == {"NiO", "LiNiO2"}, "equal shapes are near duplicates: one family"


def test_unlabelled_spectra_take_the_same_road(shared, tmp_path, rng):
    source = np.load(shared("unlabelled_k_feff9.npz"))
    rows = rng.choice(len(source["mu"]), 200, replace=False)
    path = tmp_path / "unlabelled.npz"
    np.savez(path, **{k: v if v.ndim == 0 else v[rows] for k, v in source.items()})
    grid = EnergyGrid(points=64)
    document = prepare([path], tmp_path / "dataset", grid, workers=1)
    assert document["records"]["found"] == 200
    assert document["records"]["kept"] + sum(document["dropped_by_reason"].values()) == 200
    assert document["records"]["kept"] > 150, document["dropped_by_reason"]
    for d in DESCRIPTORS:
        assert all(part["labelled"] == 0 for part in document["descriptors"][d.name].values())
    assert not Dataset(tmp_path / "dataset").split("train").batch.mask.any()
    assert list(verify(tmp_path / "dataset")) == []


def test_wrong_tables_are_refused(tmp_path):
    other, cut = tmp_path / "other.npz", tmp_path / "cut.npz"
    np.savez(other, mu=np.ones((3, 4)))
    cut.write_bytes(other.read_bytes()[:50])
    uneven = tmp_path / "uneven.npz"
    np.savez(uneven, mu=np.ones((3, 4)), element=np.array(["Co"]), e0_eV=1.0, step_eV=1.0)
    for path, words in ((other, "e0_eV, element, step_eV are missing"), (cut, "damaged"), (uneven, "do not belong")):
        with pytest.raises(SourceError, match=words):
            prepare([path], tmp_path / "dataset", GRID, workers=1)


# bad input


def test_three_hundred_bad_members_are_each_named(runs, tmp_path, rng):
    """Every way to be wrong, many times over; none ends the run, each is in the card with its reason."""
    run = runs / "NiO_base_Ni0"
    xmu, inp, poscar = ((run / name).read_text() for name in ("xmu.dat", "feff.inp", "POSCAR"))
    lines = xmu.splitlines()
    first = next(i for i, line in enumerate(lines) if not line.startswith("#"))

    def changed(column: int, change) -> str:
        out = lines[:first]
        for line in lines[first:]:
            words = line.split()
            words[column] = change(words[column])
            out.append(" ".join(words))
        return "\n".join(out) + "\n"

    def at_random(word: str) -> str:
        out, row = list(lines), rng.integers(first, len(lines))
        words = out[row].split()
        words[int(rng.choice([0, 3]))] = word
        out[row] = " ".join(words)
        return "\n".join(out) + "\n"

    ways = {
        "truncated": lambda: xmu[: int(rng.integers(xmu.rindex("\n", 0, -2) + 30, len(xmu) - 30))].rstrip(),
        "not finite": lambda: at_random(str(rng.choice(["NaN", "inf", "-Infinity"]))),
        "energy in keV": lambda: changed(0, lambda w: f"{float(w) / 1000:.9f}"),
        "grid not covered": lambda: "\n".join(lines[: int(rng.integers(first + 15, first + 60))]) + "\n",
        "failed FEFF run": lambda: str(rng.choice(["", "\n\n", "# nothing\n"])),
        "unreadable": lambda: rng.bytes(int(rng.integers(200, 4000))) + b"\xff\xfe",
        "too large": lambda: xmu + lines[-1] * 1 + "\n" + (lines[-1] + "\n") * 1_000_000,
        "energy not monotonic": lambda: "\n".join([*lines, *lines[first + 5 : first + 9]]) + "\n",
        "no edge step": lambda: changed(3, lambda w: f"{-abs(float(w)) - 0.1:.6f}"),
    }
    expected = {}
    root = tmp_path / "tree"
    material = root / "mp-Ωμέγα-日本 x"
    for i in range(298):
        reason = list(ways)[i % len(ways)]
        if reason == "too large" and i > len(ways):
            reason = "site mismatch"
        number = f"{0:0{i + 1}d}" if i < 200 else f"{0:0{i - 199}d}"
        folder = (material if i < 200 else root / "mp-2") / "FEFF-XANES" / f"{number}_Ni"
        if reason == "site mismatch":
            folder = folder.with_name(folder.name.replace("_Ni", str(rng.choice(["_O", "_Co", "9_Ni", "1_Ni"]))))
        folder.mkdir(parents=True)
        content = ways[reason]() if reason in ways else xmu
        (folder / "feff.inp").write_text(inp)
        (folder / "xmu.dat").write_bytes(content if isinstance(content, bytes) else content.encode())
        expected[f"tree:{folder.relative_to(root)}"] = reason
    for name in (material, root / "mp-2"):
        (name / "POSCAR").write_text(poscar)
    broken = root / "mp-broken" / "FEFF-XANES" / "000_Ni"
    shutil.copytree(run, broken, ignore=shutil.ignore_patterns("POSCAR"))
    (root / "mp-broken" / "POSCAR").write_bytes(rng.bytes(300))
    expected[f"tree:{broken.relative_to(root)}"] = "no structure"
    good = root / "mp-good" / "FEFF-XANES" / "000_Ni"
    shutil.copytree(run, good)
    shutil.move(good / "POSCAR", root / "mp-good" / "POSCAR")
    twice = tmp_path / "again" / "mp-good"
    shutil.copytree(root / "mp-good", twice)
    document = prepare([root, tmp_path / "again"], tmp_path / "dataset", GRID, workers=2)
    named = {record["id"]: record["reason"] for record in document["dropped"]}
    assert len(document["dropped"]) == 300
    assert named.pop("mp-good/000_Ni") == "duplicate id"
    wrong = {id: (reason, named.get(id)) for id, reason in expected.items() if named.get(id) != reason}
    assert not wrong
    assert document["records"]["kept"] == 1
    assert set(NAMES) == set(document["descriptors"])
    assert build.WORK not in {p.name for p in (tmp_path / "dataset").iterdir()}
