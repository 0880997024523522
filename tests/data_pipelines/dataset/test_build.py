import gzip
import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Structure

from data_pipelines.dataset import chunks
from data_pipelines.dataset.build import prepare
from data_pipelines.dataset.records import run_task
from data_pipelines.errors import SourceError
from data_pipelines.library import LIBRARY
from data_pipelines.readers.sources import open_source
from data_pipelines.schema import DESCRIPTORS, NAMES, SHELL_NAMES, SITE_KINDS, EnergyGrid, site_kind

GRID = EnergyGrid()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def never(*_):
    raise AssertionError("no work was expected")


def test_every_record_is_accounted_for(built):
    records = built.card["records"]
    folders = {str(p.relative_to(built.tree)) for p in built.tree.glob("*/FEFF-XANES/*")}
    assert records["found"] == len(folders) + 1 + 2, "the tree, the run folder, and two in the archive"
    assert records["found"] == records["kept"] + records["dropped"] == sum(s["records"] for s in built.card["sources"])
    assert records["kept"] == sum(part["examples"] for part in built.card["splits"].values())
    assert [s["materials_without_spectra"] for s in built.card["sources"]] == [1, 0, 0]
    assert [s["name"] for s in built.card["sources"]] == ["tree", "CoO_base_O1", "again.tar.xz"]


def test_each_bad_member_is_named_with_its_reason(built):
    named = {d["id"]: d["reason"] for d in built.card["dropped"] if d["reason"] != "duplicate id"}
    assert named == {f"tree:{folder}": reason for folder, reason in built.bad.items()}
    assert built.card["dropped_by_reason"] == Counter(built.bad.values()) + Counter({"duplicate id": 2})


def test_repeated_ids_are_dropped_and_named(built):
    twice = {d["id"]: d["detail"] for d in built.card["dropped"] if d["reason"] == "duplicate id"}
    assert set(twice) == {"CoO_base_O1", "mp-5-NiS/000_Ni"}
    assert "also in CoO_base_O1, with same spectrum" in twice["CoO_base_O1"]
    assert "also in tree, with same spectrum" in twice["mp-5-NiS/000_Ni"]


def test_labels_and_masks_make_up_the_examples(built):
    kept = Counter()
    for element, count in built.card["elements"].items():
        kept[site_kind(element)] += count
    for d in DESCRIPTORS:
        labelled = sum(part["labelled"] for part in built.card["descriptors"][d.name].values())
        masked = sum(built.card["masked_by_reason"][d.name].values())
        assert labelled + masked == sum(kept[kind] for kind in SITE_KINDS if kind in d.sites), d.name
    assert built.card["masked_by_reason"]["MOOD"]


def test_the_text_card_tells_the_same(built):
    text = (built.out / "data_card.txt").read_text()
    assert json.loads((built.out / "data_card.json").read_text()) == built.card
    assert all(reason in text for reason in built.card["dropped_by_reason"])
    assert all(name in text for name in (*NAMES, *(s["sha256"][:16] for s in built.card["sources"])))
    assert "and 1 materials came without any spectrum" in text


def test_files_name_the_same_maker_wherever_the_code_moves(built):
    """TFDS writes the module of the builder into its files: bytes of a part would change with a room of this house."""
    makers = {
        json.loads(path.read_text())["moduleName"]
        for folder in (built.out, LIBRARY)
        for path in folder.rglob("dataset_info.json")
    }
    assert len(makers) == 1


def test_overwriting_with_two_workers_gives_the_same_bytes(built, tmp_path, monkeypatch):
    """Over a dataset of other sources, of which nothing may stay."""
    monkeypatch.setattr(chunks, "CHUNK_TASKS", 2)
    out = tmp_path / "dataset"
    shutil.copytree(built.out, out)
    (out / "data_card.json").write_text(json.dumps(built.card | {"fingerprint": "of other sources"}))
    (out / "spt_xas" / "old_part").mkdir()
    (out / "spt_xas" / "old_part" / "spt_xas-old.array_record-00000-of-00001").write_bytes(b"old")
    damaged = next((out / "blocks").rglob("train-*"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(SourceError, match="overwrite"):
        prepare(built.sources, out, built.grid, workers=2, report=never)
    prepare(built.sources, out, built.grid, workers=2, overwrite=True)
    assert contents(out) == contents(built.out)


def test_interrupted_run_goes_on_where_it_stopped(built, tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_TASKS", 1)
    out = tmp_path / "dataset"

    def stop(stage, done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(built.sources, out, built.grid, workers=1, report=stop)
    assert not (out / "data_card.json").exists()
    finished = {p: p.stat().st_mtime_ns for p in out.rglob("*.arrow")}
    assert finished

    calls = []

    def follow(stage, done, total):
        calls.append((stage, done, total))
        if stage == "ingesting":
            assert all(p.stat().st_mtime_ns == then for p, then in finished.items())

    card = prepare(built.sources, out, built.grid, workers=1, report=follow)
    assert card == built.card
    assert contents(out) == contents(built.out)
    _, first, total = calls[0]
    assert 0 < first < total == card["records"]["found"]
    counts = [done for stage, done, _ in calls if stage == "ingesting"]
    assert counts == sorted(counts) and counts[-1] == total


def test_finished_dataset_returns_at_once(built, monkeypatch):
    before = {p: p.stat().st_mtime_ns for p in built.out.rglob("*")}
    monkeypatch.setattr(chunks, "ProcessPoolExecutor", never)
    assert prepare(built.sources, built.out, built.grid, workers=1, report=never) == built.card
    assert {p: p.stat().st_mtime_ns for p in built.out.rglob("*")} == before


def test_other_sources_need_overwrite(built, runs):
    before = contents(built.out)
    for sources, grid in (([runs], GRID), (built.sources[:1], GRID), (built.sources, EnergyGrid(points=140))):
        with pytest.raises(SourceError, match="overwrite"):
            prepare(sources, built.out, grid, workers=1, report=never)
    assert contents(built.out) == before


def test_run_folder_without_poscar_gives_the_same_record(built, runs, tmp_path):
    alone, with_poscar = (open_source(folder, tmp_path) for folder in (built.sources[1], runs / "CoO_base_O1"))
    (a,), (b,) = (run_task(source.tasks[0], GRID) for source in (alone, with_poscar))
    assert (a.id, a.material, a.element, a.edge, a.dropped) == ("CoO_base_O1", "CoO", "O", "K", "")
    np.testing.assert_array_equal(a.spectrum, b.spectrum)
    np.testing.assert_allclose(a.labels, b.labels, atol=1e-4)


def test_nothing_usable_says_why(tmp_path, runs):
    folder = tmp_path / "run"
    shutil.copytree(runs / "CoO_base_O1", folder)
    (folder / "xmu.dat").write_text("")
    with pytest.raises(SourceError, match=r"no usable spectrum.*failed FEFF run"):
        prepare([folder], tmp_path / "dataset", GRID, workers=1)
    assert not (tmp_path / "dataset" / "data_card.json").exists()


def test_unreadable_sources_are_refused(tmp_path, runs, rng):
    empty = tmp_path / "empty"
    empty.mkdir()
    text = tmp_path / "spectrum.txt"
    text.write_text("1 2\n")
    whole = tmp_path / "whole.tar"
    with tarfile.open(whole, "w") as file:
        file.add(runs, "runs")
    junk, short = tmp_path / "junk.tar.xz", tmp_path / "short.tar.gz"
    junk.write_bytes(rng.bytes(4096))
    short.write_bytes(gzip.compress(whole.read_bytes())[: -int(rng.integers(100, 20000))])
    table, broken = tmp_path / "other.parquet", tmp_path / "broken.parquet"
    pq.write_table(pa.table({"id": ["a"], "mu": [[1.0]]}), table)
    broken.write_bytes(table.read_bytes()[:-10])
    for path, words in (
        (tmp_path / "missing", "no such file"),
        (empty, "no FEFF run"),
        (text, "not a folder, .tar archive, .parquet or .npz"),
        (junk, "damaged archive"),
        (short, "damaged archive"),
        (table, "absorber, omega are missing"),
        (broken, "damaged Parquet"),
    ):
        with pytest.raises(SourceError, match=words) as caught:
            prepare([path], tmp_path / "dataset", GRID, workers=1, report=never)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_damaged_archive_is_never_read_as_other_data(mode, tmp_path, runs, rng):
    archive = tmp_path / f"runs.tar.{mode}"
    with tarfile.open(archive, f"w:{mode}") as file:
        file.add(runs, "runs")
    good = archive.read_bytes()
    for place in rng.integers(100, len(good) - 100, 4):
        for damaged in (good[:place] + bytes([good[place] ^ 0x20]) + good[place + 1 :], good[:place]):
            archive.write_bytes(damaged)
            with pytest.raises(SourceError, match="damaged archive"):
                open_source(archive, tmp_path)


def test_fingerprint_follows_the_content(tmp_path, runs):
    copy = tmp_path / "runs"
    shutil.copytree(runs, copy)
    same = open_source(runs, tmp_path), open_source(copy, tmp_path)
    assert same[0].sha256 == same[1].sha256
    xmu = copy / "NiO_base_Ni0" / "xmu.dat"
    xmu.write_text(xmu.read_text().replace("1", "2", 1))
    assert open_source(copy, tmp_path).sha256 != same[0].sha256


def test_a_damaged_source_among_others_costs_a_line_and_can_be_added_when_mended(built, tmp_path):
    run, archive = built.sources[1:]
    other = tmp_path / archive.name
    other.write_bytes(archive.read_bytes()[:-400])
    with pytest.raises(SourceError, match=r"^\S*again.tar.xz: damaged archive .*--add$"):
        prepare([other, run], tmp_path / "out", GRID, 1)
    prepare([run], tmp_path / "alone", GRID, 1)
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")
    with pytest.raises(SourceError, match=r"again\.tar\.xz: damaged archive"):
        prepare([other, run], tmp_path / "out", GRID, 1, report=never)
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")
    other.write_bytes(archive.read_bytes())
    prepare([other, run], tmp_path / "out", GRID, 1, add=True)
    prepare([run, other], tmp_path / "both", GRID, 1)
    assert contents(tmp_path / "out") == contents(tmp_path / "both")


def test_a_missing_source_among_others_is_refused_before_any_work(built, tmp_path):
    with pytest.raises(SourceError, match="nowhere: no such file"):
        prepare([built.sources[1], tmp_path / "nowhere"], tmp_path / "out", GRID, 1, report=never)
    assert not (tmp_path / "out").exists()


def test_parquet_library(shared, tmp_path, rng):
    """Random structures of our FEFF library: every row is told, under its own id, with its prototype."""
    path = shared("feff10/crystalline.parquet")
    rows = pq.read_table(path).to_pylist()
    source = open_source(path, tmp_path)
    assert sorted(task.first_row + m for task in source.tasks for m in task.members) == list(range(len(rows)))
    small = [
        t for t in source.tasks if len(Structure.from_str(rows[t.first_row + t.members[0]]["structure"], "json")) <= 8
    ]
    for i in rng.permutation(len(small))[:3]:
        records = run_task(small[i], GRID)
        assert len(records) == len(small[i].members)
        for member, record in zip(small[i].members, records, strict=True):
            row = rows[small[i].first_row + member]
            assert row["structure"] == rows[small[i].first_row + small[i].members[0]]["structure"]
            if record.dropped:
                assert record.id.endswith(f"row {small[i].first_row + member}") and record.detail
                continue
            assert (record.id, record.material, record.element) == (row["id"], row["prototype"], row["absorber"])
            assert np.mean(record.spectrum[-58:]) == pytest.approx(1, abs=1e-5)
            stated = {n for n, v in zip(NAMES, record.labels, strict=False) if np.isfinite(v)}
            assert stated | set(record.masked) - set(SHELL_NAMES) == {
                d.name for d in DESCRIPTORS if site_kind(record.element) in d.sites
            }
