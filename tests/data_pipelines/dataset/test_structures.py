"""Rows of several signals: what prepare makes of real cells, and of what is wrong with them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Structure

from data_pipelines.dataset import parts
from data_pipelines.dataset.build import prepare
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.opening import open_data
from data_pipelines.dataset.verify import verify
from data_pipelines.errors import RunError, SourceError
from data_pipelines.labels.pdf import pair_distribution, pdf_grid
from data_pipelines.schema import STRUCTURE_NAMES, EnergyGrid, column_of
from data_pipelines.signals import named_apart, parse_signal
from data_pipelines.spectra.grid import to_grid
from data_pipelines.survey.page import write_page

NMC = Path(__file__).parents[4] / "shared" / "data" / "feff10" / "nmc.parquet"
EDGES = ("Ni K", "Mn K", "Co K", "O K")
GRID = EnergyGrid(signals=EDGES)
needs_nmc = pytest.mark.skipif(not NMC.exists(), reason="../shared/data/feff10/nmc.parquet is not there")
CELLS = 8  # of two parents, each clean, with either defect and with both


@pytest.fixture(scope="module")
def cells() -> pa.Table:
    table = pq.read_table(NMC)
    names = list(dict.fromkeys(table["structure_id"].to_pylist()))[:CELLS]
    return table.filter(pc.is_in(table["structure_id"], pa.array(names)))


def made(table: pa.Table, folder: Path, grid: EnergyGrid = GRID) -> Dataset:
    pq.write_table(table, folder / "cells.parquet")
    prepare([folder / "cells.parquet"], folder / "dataset", grid)
    return Dataset(folder / "dataset")


def everything(dataset: Dataset) -> dict[str, tuple[np.ndarray, dict[str, float]]]:
    """id -> (S, points) signals, and the labels that are there."""
    found = {}
    for name in dataset.examples:
        if not dataset.examples[name]:
            continue
        split = dataset.split(name)
        for i, id in enumerate(split.ids):
            known = {
                n: split.batch.labels[i, column_of(n)] for n in STRUCTURE_NAMES if split.batch.mask[i, column_of(n)]
            }
            found[id] = split.batch.spectrum[i].reshape(len(dataset.grid.signals), -1), known
    return found


def changed(table: pa.Table, row: int, **values) -> pa.Table:
    rows = table.to_pylist()
    rows[row] |= values
    return pa.Table.from_pylist(rows, table.schema)


@needs_nmc
def test_a_structure_holds_the_spectra_of_its_sites_and_what_it_is_made_of(cells, tmp_path):
    dataset = made(cells, tmp_path)
    found = everything(dataset)
    assert len(found) == CELLS and not list(verify(dataset.path, lambda *done: None))
    for row in cells.to_pylist():
        signals, labels = found[row["structure_id"]]
        place = EDGES.index(f"{row['absorber']} K")
        expected = to_grid(np.array(row["omega"]), np.array(row["mu"]), GRID.alone, row["absorber"])
        np.testing.assert_array_equal(signals[place], expected)
        atoms = Structure.from_str(row["structure"], fmt="json").composition
        assert labels["x_Li"] == pytest.approx(row["li_content"], abs=1e-5)
        assert labels["x_Ni"] == pytest.approx(atoms["Ni"] / (atoms["Ni"] + atoms["Mn"] + atoms["Co"]), abs=1e-6)
        assert labels["vacancy"] == row["has_O_vacancy"] and labels["antisite"] == row["has_antisite"]
        missing, of = map(int, row["proto_note"].split("vacancies ")[1].split(" O")[0].split(" of "))
        assert labels["vacancies"] == pytest.approx(missing / of, abs=1e-6)


@needs_nmc
def test_a_foreign_reader_and_a_stream_see_the_same_rows(cells, tmp_path):
    dataset = made(cells, tmp_path)
    [part] = [source["part"] for source in dataset.card["sources"]]
    foreign = open_data(str(parts.paths(dataset.path, part)[parts.TFDS] / "1.0.0"))
    for name in (name for name, count in dataset.examples.items() if count):
        own, other = dataset.split(name), foreign.split(name)
        assert own.ids == other.ids
        for a, b in zip(own.batch, other.batch, strict=True):
            np.testing.assert_array_equal(a, b)


@needs_nmc
def test_sites_of_one_edge_are_averaged_or_held_apart(cells, tmp_path):
    """The second site of an element is a copy of the first whose mu is another."""
    rows = [row for row in cells.to_pylist() if row["structure_id"] == cells["structure_id"][0].as_py()]
    [oxygen] = [row for row in rows if row["absorber"] == "O"]
    other = next(r for r in cells.to_pylist()[len(rows) :] if r["absorber"] == "O")
    rows.append({**oxygen, "id": oxygen["id"] + "b", "mu": other["mu"], "omega": other["omega"]})
    table = pa.Table.from_pylist(rows, cells.schema)
    (tmp_path / "mean").mkdir(), (tmp_path / "apart").mkdir()
    [(mean, _)] = everything(made(table, tmp_path / "mean")).values()
    [(apart, _)] = everything(made(table, tmp_path / "apart", EnergyGrid(signals=(*EDGES, "O K")))).values()
    each = [to_grid(np.array(r["omega"]), np.array(r["mu"]), GRID.alone, "O") for r in (oxygen, other)]
    np.testing.assert_allclose(mean[3], np.mean(each, axis=0), atol=1e-6)
    np.testing.assert_array_equal(apart[[3, 4]], each)


@needs_nmc
@pytest.mark.parametrize("heights", ["area", "share"])
def test_heights_of_the_edges(cells, tmp_path, heights):
    found = everything(made(cells, tmp_path, EnergyGrid(signals=EDGES, heights=heights)))
    for row in cells.to_pylist():
        own = found[row["structure_id"]][0][EDGES.index(f"{row['absorber']} K")]
        plain = to_grid(np.array(row["omega"]), np.array(row["mu"]), GRID.alone, row["absorber"])
        atoms = Structure.from_str(row["structure"], fmt="json").composition
        factor = 1 / plain.mean() if heights == "area" else atoms.get_atomic_fraction(row["absorber"])
        np.testing.assert_allclose(own, plain * factor, rtol=1e-5)


@needs_nmc
def test_pair_distributions_beside_the_spectrum_of_a_site(cells, tmp_path):
    grid = EnergyGrid(signals=("XANES", "PDF", "dPDF", "nPDF"), each="site")
    dataset = made(cells.slice(0, 8), tmp_path, grid)
    found = everything(dataset)
    for row in cells.slice(0, 8).to_pylist():
        structure = Structure.from_str(row["structure"], fmt="json")
        for place, name in enumerate(grid.signals[1:], start=1):
            asked = pdf_grid(grid, parse_signal(name))
            expected = pair_distribution(structure, asked, row["absorber"] if name == "dPDF" else None)
            np.testing.assert_allclose(found[row["id"]][0][place], expected, atol=1e-5)


@needs_nmc
def test_a_missing_edge_is_nan_and_counted(cells, tmp_path):
    dataset = made(cells.slice(1), tmp_path)  # the first row is the Ni of the first cell
    signals, _ = everything(dataset)[cells["structure_id"][0].as_py()]
    assert np.isnan(signals[0]).all() and np.isfinite(signals[1:]).all()
    assert dataset.card["signals"]["Ni K"] == CELLS - 1


@needs_nmc
def test_the_page_of_a_data_card_shows_every_signal(cells, tmp_path):
    dataset = made(cells.slice(1), tmp_path, EnergyGrid(signals=(*EDGES, "PDF")))
    write_page(dataset, tmp_path / "card.html")
    page = (tmp_path / "card.html").read_text(encoding="utf-8")
    assert f"<b>Ni K</b> · {CELLS - 1} of {CELLS} rows" in page and f"<b>PDF</b> · {CELLS} of {CELLS} rows" in page
    assert "x_Li" in page and "x_Cu</b>" not in page


@needs_nmc
def test_a_spectrum_that_is_there_twice_is_dropped_by_name(cells, tmp_path):
    dataset = made(pa.concat_tables([cells, cells.slice(0, 1)]), tmp_path)
    assert len(everything(dataset)) == CELLS
    assert dataset.card["dropped_by_reason"] == {"duplicate id": 1}
    assert cells["id"][0].as_py() in dataset.card["dropped"][0]["detail"]


@needs_nmc
def test_sites_whose_energies_disagree_cost_their_structure(cells, tmp_path):
    row = cells.slice(0, 1).to_pylist()[0]
    before = np.arange(row["omega"][0], row["omega"][0] + 15, 0.5).tolist()
    later = {"omega": [*before, *(e + 15 for e in row["omega"])], "mu": [row["mu"][0]] * len(before) + row["mu"]}
    moved = {**row, "id": row["id"] + "b", "chi": None, **later}
    dataset = made(pa.concat_tables([cells, pa.Table.from_pylist([moved], cells.schema)]), tmp_path)
    assert dataset.card["dropped_by_reason"] == {"energies disagree": 5}
    assert "eV apart" in dataset.card["dropped"][0]["detail"]


@needs_nmc
def test_an_unknown_technique_is_dropped(cells, tmp_path):
    table = cells.drop(["chi"]).append_column("technique", pa.array(["RIXS", *[None] * (len(cells) - 1)]))
    dataset = made(table, tmp_path)
    assert dataset.card["dropped_by_reason"] == {"unknown technique": 1}


@needs_nmc
def test_an_edge_that_is_not_asked_for_is_dropped(cells, tmp_path):
    dataset = made(cells, tmp_path, EnergyGrid(signals=("Ni K",)))
    assert dataset.card["dropped_by_reason"] == {"no such signal": 3 * CELLS}


@needs_nmc
def test_structures_without_any_spectrum_are_no_dataset(cells, tmp_path):
    with pytest.raises(SourceError, match=r"no usable spectrum.*no such signal"):
        made(cells, tmp_path, EnergyGrid(signals=("Fe K",)))


@needs_nmc
def test_a_defect_whose_parent_is_missing_is_masked(cells, tmp_path):
    parent = cells["prototype"][0].as_py()
    table = cells.filter(pc.or_(cells["has_O_vacancy"], pc.not_equal(cells["prototype"], parent)))
    dataset = made(table, tmp_path)
    labels = {row["structure_id"]: row["prototype"] for row in table.to_pylist()}
    for id, (_, known) in everything(dataset).items():
        assert ("vacancy" in known) == (labels[id] != parent) and "antisite" in known
    assert dataset.card["masked_by_reason"]["vacancy"] == {"no cell of its parent without the defect": 2}


@needs_nmc
def test_adding_a_source_gives_what_both_at_once_give(cells, tmp_path):
    half = 4 * CELLS // 2
    for name, table in (("a", cells.slice(0, half)), ("b", cells.slice(half))):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    prepare([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "both", GRID)
    prepare([tmp_path / "a.parquet"], tmp_path / "one", GRID)
    prepare([tmp_path / "b.parquet"], tmp_path / "one", GRID, add=True)
    cards = [json.loads((tmp_path / name / "data_card.json").read_text()) for name in ("both", "one")]
    assert cards[0]["files"] == cards[1]["files"]


def test_names_of_signals():
    assert named_apart(("O K", "PDF", "O K")) == ("O K 1", "PDF", "O K 2")
    for wrong in ("Ni", "Ni K RIXS", "pdf", ""):
        with pytest.raises(RunError, match="is not known"):
            parse_signal(wrong)
    with pytest.raises(RunError, match="no element 'Xx'"):
        EnergyGrid(signals=("Xx K",))
    with pytest.raises(RunError, match="no reference energy for the Ni L3 edge"):
        EnergyGrid(signals=("Ni L3",))
