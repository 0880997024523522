"""From structures to folders for FEFF: variants with their provenance, stopped and resumed, families kept."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Structure

from data_pipelines.errors import UserError
from data_pipelines.structures.distances import CLOSEST
from data_pipelines.structures.make import ATTEMPTS, make_structures
from data_pipelines.structures.options import Options, Variants
from spt_jax.cli import main

EVERY_KIND = Variants(
    strain=1, thermal=1, delithiate=(0.5, 1.0), substitute=("Co:Ni:0.5",), antisites=1, vacancies=1, cell_atoms=16
)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def provenances(out: Path) -> dict[str, dict]:
    return {p.parent.name: json.loads(p.read_text()) for p in sorted(out.glob("*/provenance.json"))}


@pytest.fixture(scope="module")
def sources(runs, tmp_path_factory) -> Path:
    """Three structures: a POSCAR in a folder of its own, a named POSCAR, JSON with partial occupancies."""
    root = tmp_path_factory.mktemp("sources")
    (root / "LiCoO2").mkdir()
    shutil.copy(runs / "LiCoO2_base_Co0" / "POSCAR", root / "LiCoO2")
    shutil.copy(runs / "CoO_base_O1" / "POSCAR", root / "CoO.vasp")
    mixed = Structure.from_file(runs / "LiCoO2_base_Co0" / "POSCAR")
    mixed.replace_species({"Li": {"Li": 0.5}})
    (root / "mixed.json").write_text(json.dumps(mixed.as_dict()))
    return root


@pytest.fixture(scope="module")
def made(sources, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out"
    make_structures([sources], out, Options(("Co", "O"), seed=3, variants=EVERY_KIND))
    return out


def test_every_planned_structure_is_kept_or_named(made):
    document = json.loads((made / "structures.json").read_text())
    found = provenances(made)
    assert document["parents"] == 3 and len(found) == document["structures"]["kept"]
    assert len(found) + document["structures"]["dropped"] == 3 * (1 + 7)
    # CoO holds no lithium: two stages of a path and the antisite.
    assert document["dropped_by_reason"] == {"does not apply": 3}
    assert all(d["id"].startswith("CoO-") and "no Li" in d["detail"] for d in document["dropped"])
    assert document["kept_by_kind"] == {
        "as read": 2,
        "antisites": 2,
        "delithiate": 4,
        "order": 1,
        "oxygen vacancies": 3,
        "strain": 3,
        "substitute": 3,
        "thermal": 3,
    }
    sites = Counter(site["element"] for p in found.values() for site in p["sites"])
    assert document["sites"] == dict(sorted(sites.items()))


def test_sites_and_distances_are_those_of_the_poscar_as_read(made):
    radii = {"Li": 1.28, "Co": 1.5, "Ni": 1.24, "O": 0.66}
    for name, p in provenances(made).items():
        structure = Structure.from_file(made / name / "POSCAR")
        symbols = [site.specie.symbol for site in structure]
        assert p["material"] == name and p["formula"] == structure.formula
        multiplicities = Counter()
        for site in p["sites"]:
            assert symbols[site["index"]] == site["element"]
            multiplicities[site["element"]] += site["multiplicity"]
        assert multiplicities == {e: n for e, n in Counter(symbols).items() if e in ("Co", "O")}
        near = structure.get_all_neighbors(4.0)
        shortest = min(n.nn_distance for around in near for n in around)
        assert p["min_distance"] == pytest.approx(shortest, abs=1e-4)
        smallest = min(radii[a] + radii[b] for a in set(symbols) for b in set(symbols))
        assert p["min_distance"] > CLOSEST * smallest
        assert structure.lattice.volume == pytest.approx(np.linalg.det(structure.lattice.matrix)), "right-handed"


def test_provenance_leads_back_to_the_source(made, sources):
    found = provenances(made)
    parents = {p["parent"]: p for p in found.values()}
    assert len(parents) == 3
    for p in found.values():
        assert p["material"].startswith(p["parent"])
        file = sources.parent / sources.name / p["source"].removeprefix(f"{sources.name}/")
        assert file.is_file() and len(p["source_sha256"]) == 64
        assert all("seed" in step for step in p["steps"] if step["name"] != "supercell")
    one = next(p for p in found.values() if p["source"].endswith("mixed.json") and p["steps"][-1]["name"] == "thermal")
    assert [step["name"] for step in one["steps"] if step["name"] != "supercell"] == ["order", "thermal"]


def test_same_seed_same_bytes_and_parents_do_not_touch_each_other(made, sources, tmp_path):
    options = Options(("Co", "O"), seed=3, variants=EVERY_KIND)
    out = tmp_path / "out"
    make_structures([sources / "LiCoO2"], out, options)
    alone = contents(out)
    shared = {name for name in alone if "/" in name}
    assert len(shared) == 2 * 8
    together = contents(made)
    assert {name for name in together if name.startswith("LiCoO2-")} == shared
    # The label of a source begins with the argument's name; nothing else may differ.
    for name in shared:
        there = together[name].replace(f"{sources.name}/LiCoO2/POSCAR".encode(), b"LiCoO2/POSCAR")
        assert alone[name] == there, name
    make_structures([sources / "LiCoO2"], tmp_path / "other", Options(("Co", "O"), seed=4, variants=EVERY_KIND))
    other = contents(tmp_path / "other")
    assert sum(other[name] != alone[name] for name in shared if name.endswith("POSCAR")) == 6, (
        "all but the parent and its last stage"
    )


def test_stopped_run_goes_on_and_ends_with_the_same_bytes(made, sources, tmp_path):
    options = Options(("Co", "O"), seed=3, variants=EVERY_KIND)
    out = tmp_path / "out"

    def stop(stage, done, total):
        if stage == "making" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_structures([sources], out, options, stop)
    assert not (out / "structures.json").exists()
    victim = sorted(out.glob("*/provenance.json"))[1]
    victim.unlink()
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/provenance.json")}
    assert before
    make_structures([sources], out, options)
    assert all(p.stat().st_mtime_ns == then for p, then in before.items())
    assert contents(out) == contents(made)


def test_folder_of_something_else_is_refused(made, sources):
    before = contents(made)
    with pytest.raises(UserError, match="other options"):
        make_structures([sources], made, Options(("Co", "O"), seed=4, variants=EVERY_KIND))
    with pytest.raises(UserError, match="not of these sources"):
        make_structures([sources / "LiCoO2"], made, Options(("Co", "O"), seed=3, variants=EVERY_KIND))
    assert contents(made) == before


def test_sources_may_be_added(sources, tmp_path):
    one, two = sources / "CoO.vasp", sources / "LiCoO2"
    options = Options(variants=Variants(strain=1))
    make_structures([one], tmp_path / "grown", options)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "grown").glob("*/*")}
    make_structures([one, two], tmp_path / "grown", options)
    assert before and all(p.stat().st_mtime_ns == then for p, then in before.items())
    make_structures([one, two], tmp_path / "fresh", options)
    assert contents(tmp_path / "grown") == contents(tmp_path / "fresh")


def test_variants_of_variants_stay_in_the_family(made, tmp_path):
    out = tmp_path / "out"
    document = make_structures([made], out, Options(("Co",), variants=Variants(thermal=1, cell_atoms=1)))
    first, second = provenances(made), provenances(out)
    thermal = {name for name in first if name.endswith("thermal0.05-1")}
    # Those that are among the sources are not made again.
    assert document["structures"] == {"kept": 2 * len(first) - len(thermal), "dropped": len(thermal)}
    assert {d["id"] for d in document["dropped"]} == thermal and document["dropped_by_reason"] == {"duplicate": 3}
    for name, p in first.items():
        assert second[name]["steps"] == p["steps"]
        assert (out / name / "POSCAR").read_bytes() == (made / name / "POSCAR").read_bytes()
        child = second[f"{name}-thermal0.05-1"]
        assert (child["parent"], child["source_sha256"]) == (p["parent"], p["source_sha256"])
        if child["material"] not in thermal:
            assert child["steps"][:-1] == p["steps"] and child["steps"][-1]["name"] == "thermal"


def test_atoms_too_close_drop_their_variants_as_well(runs, tmp_path):
    squeezed = Structure.from_file(runs / "CoO_base_O1" / "POSCAR")
    squeezed.scale_lattice(squeezed.volume * 0.2)
    squeezed.to(filename=str(tmp_path / "squeezed.vasp"), fmt="poscar")
    shutil.copy(runs / "NiO_base_Ni0" / "POSCAR", tmp_path / "NiO.vasp")
    document = make_structures([tmp_path], tmp_path / "out", Options(variants=Variants(strain=2)))
    assert document["dropped_by_reason"] == {"parent dropped": 2, "too close": 1}
    assert "limit" in next(d["detail"] for d in document["dropped"] if d["reason"] == "too close")
    assert document["structures"]["kept"] == 3


def test_equal_variants_are_made_once(runs, tmp_path):
    """Every oxygen of rock salt is like every other, so the second vacancy is the first one elsewhere."""
    document = make_structures(
        [runs / "NiO_base_Ni0" / "POSCAR"], tmp_path, Options(variants=Variants(vacancies=3, cell_atoms=16))
    )
    assert document["structures"] == {"kept": 2, "dropped": 2} and document["dropped_by_reason"] == {"duplicate": 2}


def test_absorber_may_come_with_a_variant(runs, tmp_path):
    options = Options(("Ni",), variants=Variants(strain=1, substitute=("Co:Ni:0.5",), cell_atoms=16))
    document = make_structures([runs / "CoO_base_O1" / "POSCAR"], tmp_path, options)
    assert document["dropped_by_reason"] == {"no absorber": 2}
    assert document["kept_by_kind"] == {"substitute": 1} and set(document["sites"]) == {"Ni"}


def test_variant_is_drawn_again_and_then_given_up(runs, tmp_path):
    options = Options(variants=Variants(thermal=3, thermal_sigma=0.5, cell_atoms=64))
    document = make_structures([runs / "NiO_base_Ni0" / "POSCAR"], tmp_path, options)
    assert document["dropped_by_reason"] == {"too close": 3}
    assert all(f"{ATTEMPTS} draws" in d["detail"] for d in document["dropped"])


def test_command_teaches_the_next_one(sources, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["structures", str(sources), "--out", str(out), "--elements", "Co", "--strain", "1"]
    main(arguments)
    text = capsys.readouterr().out
    assert "6 kept, 0 dropped, of 3 parents" in text and f"spt-jax feff {out} --feff-cmd" in text
    assert max(len(line) for line in text.splitlines()[:-1]) <= 80
    before = contents(out)
    main(arguments)
    assert contents(out) == before
    for wrong in (["--strain", "2"], ["--delithiate", "7"], ["--elements", "Xx"]):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([*arguments, *wrong])
        assert stop.value.code not in (0, None)
        message = capsys.readouterr().err
        assert message.startswith("spt-jax: error: ") and message.count("\n") == 1, message


def test_a_damaged_file_among_others_costs_a_line(sources, tmp_path, capsys):
    mixed = tmp_path / "mixed"
    shutil.copytree(sources, mixed)
    (mixed / "cut.json").write_text((mixed / "mixed.json").read_text()[:-99])
    with pytest.raises(SystemExit) as stop:
        main(["structures", str(mixed), "--out", str(tmp_path / "out")])
    found = capsys.readouterr()
    assert stop.value.code == 1 and "3 kept, 1 dropped, of 3 parents" in found.out
    [message] = [line for line in found.err.splitlines() if "error" in line]
    assert "1 structure(s) not read, the first mixed/cut.json (JSONDecodeError" in message
    main(["structures", str(sources), "--out", str(tmp_path / "whole")])
    assert provenances(tmp_path / "out").keys() == provenances(tmp_path / "whole").keys()


def test_a_damaged_record_of_an_earlier_run_is_named(sources, tmp_path, capsys):
    arguments = ["structures", str(sources / "CoO.vasp"), "--out", str(tmp_path / "out")]
    main(arguments)
    [record] = (tmp_path / "out").glob("*/provenance.json")
    before = record.read_bytes()
    record.write_bytes(before[:-9])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(arguments)
    assert f"{record}: damaged" in capsys.readouterr().err
    record.unlink()
    main(arguments)
    assert record.read_bytes() == before
