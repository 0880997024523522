"""Structures as people have them: every format read, partial occupancies ordered, wrong files named."""

import gzip
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Element, Structure

from data_pipelines.errors import SourceError
from data_pipelines.structures.files import Parent, read_file, read_sources, undecorated
from data_pipelines.structures.make import make_structures
from data_pipelines.structures.options import Options


def write_wrong_files(root: Path, runs: Path) -> dict[str, str]:
    """Every way to be wrong: label -> reason."""
    lines = (runs / "CoO_base_O1" / "POSCAR").read_text().splitlines()
    good = Structure.from_file(runs / "CoO_base_O1" / "POSCAR")
    cif = good.to(fmt="cif")
    dummy = json.loads(json.dumps(good.as_dict()).replace('"Co"', '"X"'))
    flat = good.as_dict()
    flat["sites"][0]["abc"][0] = float("nan")
    files = {
        "empty.cif": (b"", "unreadable"),
        "junk.cif": (bytes(range(256)), "unreadable"),
        "without_atoms.cif": ("\n".join(cif.splitlines()[:8]).encode(), "unreadable"),
        "too_full.cif": (cif.replace(" 1\n", " 1.2\n").encode(), "unreadable"),
        "without_hydrogen.cif": (cif.replace("'Co1 O1'", "'Co1 O1 H1'").encode(), "atoms missing"),
        "list.json": (json.dumps([good.as_dict(), {"a": 1}, 7]).encode(), "no structure"),
        "other.json": (b'{"energies": [1, 2]}', "no structure"),
        "cut.json": (json.dumps(good.as_dict())[:-9].encode(), "unreadable"),
        "cut.json.gz": (gzip.compress(b"[]" * 999)[:-9], "unreadable"),
        "dummy.json": (json.dumps(dummy).encode(), "unknown element"),
        "nan.json": (json.dumps(flat).encode(), "no cell"),
        "old.vasp": ("\n".join(re.sub("[CO]o?$", "", ln) for ln in lines[:5] + lines[6:]).encode(), "no elements"),
        "CONTCAR": (b"", "unreadable"),
    }
    for name, (content, _) in files.items():
        (root / name).write_bytes(content)
    reasons = {name: reason for name, (_, reason) in files.items()}
    del reasons["list.json"]
    return reasons | {"list.json#2": "no structure", "list.json#3": "no structure"}


def test_wrong_files_are_named_and_stop_nothing(runs, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    expected = write_wrong_files(root, runs)
    (root / "notes.txt").write_text("no structure, and no format of one")
    shutil.copy(runs / "NiO_base_Ni0" / "POSCAR", root / "NiO.vasp")
    parents, dropped = read_sources([root])
    assert {d.id.removeprefix("root/"): d.reason for d in dropped} == expected
    assert sorted(p.structure.formula for p in parents) == ["Co1 O1", "Ni1 O1"]
    assert all(d.detail for d in dropped)


def test_sources_without_any_structure_are_refused(runs, tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        read_sources([tmp_path / "nowhere"])
    with pytest.raises(SourceError, match="below this folder"):
        read_sources([tmp_path])
    (tmp_path / "empty.cif").touch()
    with pytest.raises(SourceError, match=r"no structure in .*unreadable"):
        make_structures([tmp_path], tmp_path / "out", Options())
    assert not (tmp_path / "out").exists()


def test_every_block_of_a_cif_counts(runs, tmp_path):
    one, two = (
        Structure.from_file(runs / f"{name}_base_{site}" / "POSCAR") for name, site in (("CoO", "O1"), ("NiO", "Ni0"))
    )
    blocks = [one.to(fmt="cif"), two.to(fmt="cif").replace("0.5", "?"), two.to(fmt="cif")]
    (tmp_path / "three.cif").write_text("data_about\n_journal_name_full 'no structure here'\n" + "\n".join(blocks))
    found = list(read_file(tmp_path / "three.cif"))
    assert [f.structure.formula for f in found if isinstance(f, Parent)] == ["Co1 O1", "Ni1 O1"]
    assert [(f.reason, f.detail[:6]) for f in found if not isinstance(f, Parent)] == [("unreadable", "2 of 3")]


def test_decorations_are_gone_and_hands_are_right(runs):
    structure = Structure.from_file(runs / "LiCoO2_base_Co0" / "POSCAR")
    decorated = structure.copy().add_oxidation_state_by_element({"Li": 1, "Co": 3, "O": -2})
    decorated.add_site_property("magmom", [1.0] * len(structure))
    left = Structure(decorated.lattice.matrix[[1, 0, 2]], decorated.species, decorated.frac_coords[:, [1, 0, 2]])
    for other in (decorated, left):
        clean = undecorated(other)
        assert all(isinstance(site.specie, Element) and not site.properties for site in clean)
        assert np.linalg.det(clean.lattice.matrix) > 0
        np.testing.assert_allclose(clean.cart_coords, structure.cart_coords, atol=1e-9)


# What the files say, not their names: lithium per oxygen pair.
LITHIUM = {
    "Co0.91_Li_O1.84_r3m": 1 / 0.92,
    "Li0.115CoO2": 0.23,
    "Li0.21Co0.79O2": 0.42,
    "Li0.37CoO2": 0.37,
    "Li0.58CoO2": 0.53,
    "Li0.79CoO2": 0.84,
    "Li0.89CoO2": 0.92,
    "Li1.48CoO2": 0.48,
    "LiCoO2_r3m": 1.0,
}


def test_occupancies_come_from_inside_the_files(shared):
    parents, dropped = read_sources(sorted(shared("structures").glob("*.cif")))
    assert not dropped and len(parents) == len(LITHIUM)
    for parent in parents:
        composition = parent.structure.composition
        assert 2 * composition["Li"] / composition["O"] == pytest.approx(LITHIUM[parent.source.removesuffix(".cif")])


@pytest.fixture(scope="module")
def cobaltates(tmp_path_factory):
    def make(folder: Path) -> tuple[list[Parent], Path, dict]:
        files = sorted(folder.glob("*.cif"))
        out = tmp_path_factory.mktemp("cobaltates")
        return read_sources(files)[0], out, make_structures(files, out, Options(("Co",)))

    return make


def test_partial_occupancies_are_ordered_within_the_stated_error(shared, cobaltates):
    parents, out, document = cobaltates(shared("structures"))
    assert document["structures"] == {"kept": 9, "dropped": 0}
    assert document["kept_by_kind"] == {"as read": 1, "order": 8}
    found = {p["parent"]: p for p in (json.loads(path.read_text()) for path in out.glob("*/provenance.json"))}
    for parent in parents:
        p = found[parent.name]
        structure = Structure.from_file(out / p["material"] / "POSCAR")
        copies = structure.volume / parent.structure.volume
        assert structure.is_ordered and copies == pytest.approx(round(copies), abs=1e-6)
        error = p["steps"][-1]["occupancy_error"] if p["steps"] else 0
        assert error <= 0.021
        for element, amount in parent.structure.composition.items():
            sites = sum(element in site.species for site in parent.structure)
            assert abs(structure.composition[element] / round(copies) - amount) <= (error + 1e-4) * sites


@pytest.mark.parametrize("name, count", [("lno_entries.json", 31), ("lmo_drx_entries.json.gz", 638)])
def test_computed_entries_are_read_as_plain_elements(shared, name, count):
    path = shared(f"structures/{name}")
    with (gzip.open if name.endswith("gz") else open)(path) as file:
        entries = json.load(file)
    parents, dropped = read_sources([path])
    duplicates = [d for d in dropped if d.reason == "duplicate"]
    assert len(parents) + len(duplicates) == len(entries) == count and len(duplicates) == len(dropped)
    for parent in parents:
        entry = entries[int(parent.source.split("#")[1]) - 1]
        amounts = Counter()
        for species, amount in entry["composition"].items():
            amounts[species.rstrip("+-0123456789.")] += amount
        assert dict(parent.structure.composition.get_el_amt_dict()) == amounts
        assert all(isinstance(species, Element) for species in parent.structure.composition)
        assert parent.structure.volume == pytest.approx(entry["structure"]["lattice"]["volume"])


def test_entry_in_another_place_of_its_list_keeps_its_name(shared, tmp_path):
    entries = json.loads(shared("structures/lno_entries.json").read_text())[:4]
    names = []
    for order in (entries, entries[::-1], entries[1:]):
        (tmp_path / "some.json").write_text(json.dumps(order))
        names.append({p.name for p in read_file(tmp_path / "some.json")})
    assert names[0] == names[1] and names[2] < names[0] and len(names[0]) == 4
