"""Sources that say different things of one site: both are named, and what they say is withheld, in whatever order."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Structure

from data_pipelines.dataset import card, chunks, parts
from data_pipelines.dataset.build import prepare
from data_pipelines.dataset.contradictions import REASON
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.verify import verify
from data_pipelines.errors import SourceError
from data_pipelines.feff.match import find_absorber
from data_pipelines.feff.output import read_xmu
from data_pipelines.schema import NAMES, EnergyGrid, column_of

GRID = EnergyGrid()
SETTINGS = {"code": "FEFF 10.0.0", "edge": "K", "fms": "5.0 0"}


@pytest.fixture
def library(tmp_path, runs):
    """library(name, settings, **site) -> a Parquet source of our four runs: of NiO with another spectrum, charge,
    structure or id where `site` gives one."""

    def write(name: str, settings: dict | None = SETTINGS, prefix: str = "", **site) -> Path:
        rows = []
        for folder, charge in (
            ("NiO_base_Ni0", 2),
            ("LiCoO2_base_Co0", 3),
            ("CoO_base_O1", -2),
            ("LiFePO4_base_P8", 5),
        ):
            structure = Structure.from_file(runs / folder / "POSCAR")
            index, run = find_absorber(structure, runs / folder / "feff.inp"), read_xmu(runs / folder / "xmu.dat")
            own = site if folder == "NiO_base_Ni0" else {}
            structure = own.get("structure", structure)
            rows.append(
                {
                    "id": f"{prefix}{folder}",
                    "absorber": run.element,
                    "site_index": own.get("index", index),
                    "structure": structure.to_json(),
                    "OS_formal": own.get("charge", charge),
                    "settings": json.dumps(settings) if settings else None,
                    "omega": (run.energy + own.get("shift", 0.0)).tolist(),
                    "mu": run.mu.tolist(),
                }
            )
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
        return tmp_path / f"{name}.parquet"

    return write


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def told(document: dict) -> str:
    """The text card, without its line breaks."""
    text = card.as_text(document)
    assert max(map(len, text.splitlines())) <= 80
    return " ".join(text.split())


def ledger(out: Path) -> list[dict]:
    return [row for s in card.read(out)["sources"] for row in parts.ledger(out, s["part"]).to_pylist()]


def labels(out: Path) -> dict[str, np.ndarray]:
    """id -> labels of every example, NaN where masked."""
    found = {}
    for name, own in card.read(out)["splits"].items():
        if own["examples"]:
            split = Dataset(out).split(name)
            found |= dict(zip(split.ids, np.where(split.batch.mask, split.batch.labels, np.nan), strict=True))
    return found


def test_a_label_that_two_sources_contradict_is_withheld_from_both_and_both_are_named(library, tmp_path):
    one, two = library("one"), library("two", prefix="again/", charge=3)
    document = prepare([one, two], tmp_path / "set", GRID)
    (found,) = document["contradictions"]
    assert found == {
        "what": "OS",
        "detail": "OS 2 in one.parquet (NiO_base_Ni0), 3 in two.parquet (again/NiO_base_Ni0)",
        "records": 2,
    }
    assert document["records"]["kept"] == 8 and document["masked_by_reason"]["OS"][REASON] == 2
    assert found["detail"] in told(document)
    for row in ledger(tmp_path / "set"):
        contradicted = "NiO_base_Ni0" in row["id"]
        assert (json.loads(row["masked"]).get("OS") == REASON) == contradicted == (row["detail"] == found["detail"])
    for id, own in labels(tmp_path / "set").items():
        lacking = {name for name in NAMES if np.isnan(own[column_of(name)])} & {"OS", "CN", "CN2", "PSGO", "MBL"}
        assert lacking == ({"OS"} if "NiO" in id else set()), id
    assert list(verify(tmp_path / "set")) == []


def test_the_order_of_sources_and_the_workers_change_nothing(library, tmp_path, monkeypatch):
    one, two = library("one"), library("two", prefix="again/", charge=3, shift=0.2)
    prepare([one, two], tmp_path / "set", GRID)
    monkeypatch.setattr(chunks, "CHUNK_TASKS", 1)
    prepare([one, two], tmp_path / "busy", GRID, workers=2)
    assert contents(tmp_path / "busy") == contents(tmp_path / "set")
    prepare([two, one], tmp_path / "turned", GRID)
    there, here = labels(tmp_path / "set"), labels(tmp_path / "turned")
    assert there.keys() == here.keys()
    for id, own in there.items():
        np.testing.assert_array_equal(own, here[id])


def test_added_one_after_the_other_is_what_all_at_once_is(library, tmp_path):
    """Whatever is withheld, repeated or in agreement when a source comes."""
    one, agrees = library("one"), library("agrees", prefix="third/")
    two, same_id = library("two", prefix="again/", charge=3), library("same", charge=4, shift=9.0)
    for number, sources in enumerate(([one, two, agrees], [one, same_id, agrees, two], [one, agrees, same_id])):
        prepare(sources, tmp_path / f"whole{number}", GRID)
        for source in sources:
            prepare([source], tmp_path / f"grown{number}", GRID, add=True)
        assert contents(tmp_path / f"grown{number}") == contents(tmp_path / f"whole{number}"), number
        assert card.read(tmp_path / f"whole{number}")["contradictions"], number


@pytest.mark.parametrize("stop_in", [(card, "write"), (parts, "remove_others")])
def test_stopped_while_a_label_is_taken_from_an_old_part_it_goes_on_to_the_same_bytes(
    library, tmp_path, monkeypatch, stop_in
):
    one, two = library("one"), library("two", prefix="again/", charge=3)
    prepare([one, two], tmp_path / "whole", GRID)
    (old,) = prepare([one], tmp_path / "set", GRID)["sources"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(*stop_in, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        prepare([two], tmp_path / "set", GRID, add=True)
    document = prepare([two], tmp_path / "set", GRID, add=True)
    assert document["sources"][0]["part"] != old["part"], "its labels have changed"
    if stop_in[1] == "write":
        assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_a_repeated_id_with_another_label_is_dropped_and_the_first_is_not_believed(library, tmp_path):
    document = prepare([library("one"), library("two", charge=3)], tmp_path / "set", GRID)
    (found,) = document["contradictions"]
    assert found["detail"] == "OS 2 in one.parquet (NiO_base_Ni0), 3 in two.parquet (NiO_base_Ni0)"
    details = [d["detail"] for d in document["dropped"] if "contradict" in d["detail"]]
    assert details == ["NiO_base_Ni0 is also in one.parquet, with same spectrum; they contradict each other on OS"]
    assert np.isnan(labels(tmp_path / "set")["NiO_base_Ni0"][column_of("OS")])


@pytest.mark.parametrize("prefix", ["", "again/"])
@pytest.mark.parametrize(
    ("shift", "other", "apart"), [(0.5, SETTINGS, False), (3.0, SETTINGS, True), (3.0, {}, False), (9.0, {}, True)]
)
def test_spectra_that_cannot_be_of_one_site_take_its_labels(library, tmp_path, prefix, shift, other, apart):
    """Calculated alike, less is allowed than between versions of FEFF."""
    document = prepare([library("one"), library("two", other, prefix, shift=shift)], tmp_path / "set", GRID)
    assert [each["what"] for each in document["contradictions"]] == ["spectrum"] * apart
    for id, own in labels(tmp_path / "set").items():
        assert np.isnan(own[: len(NAMES)]).all() == np.isnan(own[column_of("NN1")]) == (apart and "NiO" in id)
    if apart:
        detail = f"spectrum of one.parquet (NiO_base_Ni0) and two.parquet ({prefix}NiO_base_Ni0) cannot be of one site"
        assert detail in told(document)


def test_an_equivalent_site_of_the_structure_written_otherwise_is_the_same(library, runs, tmp_path, rng):
    structure = Structure.from_file(runs / "NiO_base_Ni0" / "POSCAR").make_supercell([2, 1, 1], in_place=False)
    order = rng.permutation(len(structure)).tolist()
    other = Structure.from_sites([structure[i] for i in order]).translate_sites(order, rng.random(3))
    index = next(i for i, site in enumerate(other) if site.specie.symbol == "Ni")
    two = library("two", prefix="again/", structure=other, index=index, charge=3)
    assert [c["what"] for c in prepare([library("one"), two], tmp_path / "set", GRID)["contradictions"]] == ["OS"]


def test_another_structure_contradicts_nothing(library, runs, tmp_path):
    wider = Structure.from_file(runs / "NiO_base_Ni0" / "POSCAR").apply_strain(0.05, inplace=False)
    two = library("two", prefix="again/", structure=wider, charge=3, shift=9.0)
    assert prepare([library("one"), two], tmp_path / "set", GRID)["contradictions"] == []


def test_sites_with_two_charges_in_one_source_contradict_neither(library, tmp_path):
    """Which of equal sites of a mixed-valent cell has which charge is arbitrary: only who agrees on none contradicts."""
    one, both = library("one"), tmp_path / "both.parquet"
    rows = pq.read_table(library("two", prefix="a/", charge=3)).to_pylist()
    more = pq.read_table(library("three", prefix="b/")).to_pylist()
    pq.write_table(pa.Table.from_pylist([*rows, *more]), both)
    assert prepare([one, both], tmp_path / "set", GRID)["contradictions"] == []


def test_a_table_contradicts_by_an_equal_spectrum(library, runs, tmp_path):
    """Without a structure there is nothing else to know a site by."""
    run = read_xmu(runs / "NiO_base_Ni0" / "xmu.dat")
    rows = {"id": ["x"], "absorber": ["Ni"], "omega": [run.energy.tolist()], "mu": [(3 * run.mu).tolist()]}
    pq.write_table(pa.table({**rows, "OS": [2], "CN": [4], "MBL": [2.09]}), tmp_path / "table.parquet")
    document = prepare([tmp_path / "table.parquet", library("one")], tmp_path / "set", GRID)
    (found,) = document["contradictions"]
    assert found["detail"] == "CN 4 in table.parquet (x), 6 in one.parquet (NiO_base_Ni0)"


def test_calculations_of_one_site_with_other_settings_do_not_contradict(shared, tmp_path):
    """48 real pairs: the self-consistency of one of each stopped early."""
    same = [shared("feff10/crystalline.parquet"), shared("feff10/references.parquet")]
    small = []
    for path in same:
        rows = [
            row for row in pq.read_table(path).to_pylist() if len(Structure.from_str(row["structure"], "json")) <= 6
        ]
        small.append(tmp_path / path.name)
        pq.write_table(pa.Table.from_pylist(rows), small[-1])
    document = prepare(small, tmp_path / "set", EnergyGrid(0.5, 0.5, 66))
    named = [row["site"] for row in ledger(tmp_path / "set")]
    assert len(named) - len(set(named)) >= 10
    assert document["contradictions"] == []
    assert [line for line in card.as_text(document).splitlines() if line.startswith("mixture")]


def test_a_dataset_from_before_is_read_and_not_added_to(library, tmp_path):
    document = prepare([library("one")], tmp_path / "set", GRID)
    part = document["sources"][0]["part"]
    path = parts.paths(tmp_path / "set", part)[parts.LEDGER]
    pq.write_table(pq.read_table(path).drop_columns(["site", "withheld"]), path)
    (table,) = parts.records(tmp_path / "set", part, GRID)
    assert set(table["site"].to_pylist()) == {""}
    del document["contradictions"]
    card.write(tmp_path / "set", document)
    with pytest.raises(SourceError, match=r"what tells its sites apart.*--overwrite"):
        prepare([library("two", prefix="again/")], tmp_path / "set", GRID, add=True)
