"""Runs of FEFF that contradict themselves are dropped, each by its reason; what is sound is kept."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Structure

from data_pipelines.dataset import card
from data_pipelines.dataset.build import prepare
from data_pipelines.dataset.records import run_task
from data_pipelines.errors import SourceError, SpectrumError
from data_pipelines.feff.output import read_xmu
from data_pipelines.labels.descriptors import Surroundings, describe
from data_pipelines.readers.sources import open_source
from data_pipelines.schema import EnergyGrid, column_of
from data_pipelines.spectra.grid import post_edge
from data_pipelines.spectra.spikes import check_spikes

RUN = "NiO_base_Ni0"


def outcomes(source: Path, scratch: Path) -> list[str]:
    """ "" for a record that is kept, else its reason; every detail is one line."""
    records = [record for task in open_source(source, scratch).tasks for record in run_task(task, EnergyGrid())]
    assert all(record.detail and "\n" not in record.detail for record in records if record.dropped)
    return [record.dropped for record in records]


def columns(text: str, change) -> str:
    """The rows of an xmu.dat with `change(row, index)` applied to their numbers."""
    lines, index = [], 0
    for line in text.splitlines():
        if not line.startswith("#"):
            line = " ".join(change(line.split(), index))
            index += 1
        lines.append(line)
    return "\n".join(lines) + "\n"


def with_mu(row: list[str], mu: float) -> list[str]:
    return [*row[:3], f"{mu:.6f}", *row[4:]]


def with_chi(row: list[str], chi: str) -> list[str]:
    return [*row[:5], chi]


SPECTRA = {
    "": lambda row, i: row,
    "no scattering": lambda row, i: with_chi(row, "0.0"),
    "no scattering but at the edge": lambda row, i: with_chi(row, "0.0") if i > 20 else row,
    "not finite": lambda row, i: with_chi(row, "NaN") if i == 50 else row,
    "spike": lambda row, i: with_mu(row, float(row[3]) + 9) if i == 90 else row,
    "spike down": lambda row, i: with_mu(row, float(row[3]) - 0.6) if i == 90 else row,
    "spike of two points": lambda row, i: with_mu(row, float(row[3]) + 1) if i in (90, 91) else row,
    "spike at the end": lambda row, i: with_mu(row, float(row[3]) + 1) if i == 118 else row,
    "no edge in range": lambda row, i: with_mu(row, 1),
}


@pytest.mark.parametrize("kind", SPECTRA)
def test_spectra(runs, tmp_path, kind):
    folder = shutil.copytree(runs / RUN, tmp_path / "run")
    (folder / "xmu.dat").write_text(columns((runs / RUN / "xmu.dat").read_text(), SPECTRA[kind]))
    [found] = outcomes(folder, tmp_path)
    assert found == "" if not kind else kind.startswith(found) and found


def tree(root: Path, runs: Path, run: str, folder: str) -> Path:
    """One run as a member of a tree, in a folder whose number is said to be its site."""
    target = root / "material" / "FEFF-XANES" / folder
    shutil.copytree(runs / run, target)
    shutil.move(target / "POSCAR", root / "material" / "POSCAR")
    return root


@pytest.mark.parametrize(
    "run, folder, outcome",
    [
        (RUN, "000_Ni", ""),
        (RUN, "001_O", "site mismatch"),
        ("LiFePO4_base_P8", "008_P", ""),
        ("LiFePO4_base_P8", "009_P", ""),  # equivalent
        ("LiFePO4_base_P8", "004_Fe", "site mismatch"),
        ("LiFePO4_base_P8", "099_P", "site mismatch"),
    ],
)
def test_the_site_of_the_folder_is_held_against_the_cluster(runs, tmp_path, run, folder, outcome):
    assert outcomes(tree(tmp_path / "tree", runs, run, folder), tmp_path) == [outcome]


def strained(structure: Structure) -> Structure:
    return structure.apply_strain(0.01)


def doubled(structure: Structure) -> Structure:
    return structure.make_supercell([2, 1, 1])


def twin(structure: Structure) -> Structure:
    return structure.append("Ni", [0.02, 0, 0])


@pytest.mark.parametrize("change, outcome", [(strained, "site mismatch"), (doubled, ""), (twin, "too close")])
def test_the_poscar_is_held_against_the_cluster(runs, tmp_path, change, outcome):
    root = tree(tmp_path / "tree", runs, RUN, "000_Ni")
    poscar = root / "material" / "POSCAR"
    change(Structure.from_file(poscar)).to(poscar, fmt="poscar")
    assert outcomes(root, tmp_path) == [outcome]


@pytest.mark.parametrize(
    "card, outcome",
    [("EDGE K", ""), ("EDGE 1", ""), ("EDGE L3", "edge mismatch"), ("HOLE 4 1.0", "edge mismatch"), ("", "")],
)
def test_the_edge_of_the_input_is_held_against_the_spectrum(runs, tmp_path, card, outcome):
    folder = shutil.copytree(runs / RUN, tmp_path / "run")
    lines = (folder / "feff.inp").read_text().splitlines()
    (folder / "feff.inp").write_text("\n".join(card if line.startswith("EDGE") else line for line in lines))
    assert outcomes(folder, tmp_path) == [outcome]


def test_an_input_in_reciprocal_space_is_not_doubted(runs, tmp_path):
    root = tree(tmp_path / "tree", runs, RUN, "000_Ni")
    inp = root / "material" / "FEFF-XANES" / "000_Ni" / "feff.inp"
    text = inp.read_text()
    inp.write_text(text[: text.index("ATOMS")] + "RECIPROCAL\nTARGET 1\n")
    assert outcomes(root, tmp_path) == [""]


def test_spins_and_charges_split_no_symmetry(runs, tmp_path):
    """An antiferromagnetic order halves the point group of a cell; its spectrum knows nothing of it."""
    structure = Structure.from_file(runs / RUN / "POSCAR").make_supercell([2, 1, 1])
    plain, _ = describe(Surroundings(structure), 0)
    decorated = structure.copy().add_spin_by_site([5, -5, 0, 0]).add_site_property("magmom", [5, -5, 0, 0])
    assert decorated.get_space_group_info() != structure.get_space_group_info()
    labels, _ = describe(Surroundings(decorated), 0)
    assert labels[column_of("PSGO")] == plain[column_of("PSGO")]
    run = read_xmu(runs / RUN / "xmu.dat")
    rows = {"id": ["plain", "spins"], "absorber": ["Ni"] * 2, "site_index": [0, 0]}
    rows |= {"structure": [json.dumps(s.as_dict()) for s in (structure, decorated)]}
    rows |= {name: [getattr(run, column).tolist()] * 2 for name, column in (("omega", "energy"), ("mu", "mu"))}
    pq.write_table(pa.table(rows), tmp_path / "library.parquet")
    tasks = open_source(tmp_path / "library.parquet", tmp_path).tasks
    one, other = (record for task in tasks for record in run_task(task, EnergyGrid()))
    np.testing.assert_array_equal(one.labels, other.labels)


def test_a_library_row_without_scattering_is_dropped(runs, tmp_path):
    run = read_xmu(runs / RUN / "xmu.dat")
    structure = json.dumps(Structure.from_file(runs / RUN / "POSCAR").as_dict())
    rows = {"id": ["good", "bare"], "absorber": ["Ni"] * 2, "site_index": [0, 0], "structure": [structure] * 2}
    rows |= {"omega": [run.energy.tolist()] * 2, "mu": [run.mu.tolist()] * 2}
    rows |= {"chi": [run.chi.tolist(), np.zeros(len(run.chi)).tolist()]}
    pq.write_table(pa.table(rows), tmp_path / "library.parquet")
    assert outcomes(tmp_path / "library.parquet", tmp_path) == ["", "no scattering"]


@pytest.mark.parametrize("source", ["references", "amorphous", "lixcoo2", "crystalline"])
def test_no_computed_spectrum_has_a_spike_and_every_one_shows_it(shared, rng, source):
    """Lines of 20 edge steps at the Li K edge are none; one point two steps off is."""
    spectra = [np.array(mu) for mu in pq.read_table(shared(f"feff10/{source}.parquet"))["mu"].to_pylist()]
    for mu in spectra:
        check_spikes(mu / post_edge(mu).mean(), "")
    for mu in spectra[:40]:
        spiked = mu.copy()
        spiked[int(rng.integers(len(mu) - 20, len(mu)))] += 2 * mu[-40:].mean()
        with pytest.raises(SpectrumError):
            check_spikes(spiked / post_edge(spiked).mean(), "")


def test_recorded_runs_are_kept(shared, tmp_path):
    with tarfile.open(shared("feff10/raw_runs.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    assert outcomes(tmp_path / "raw_runs", tmp_path) == [""] * 16


def test_files_beside_the_runs_are_counted(runs, tmp_path):
    """FEFF's own output is none of them, nor what these commands write."""
    root = tree(tmp_path / "tree", runs, RUN, "000_Ni")
    for name in ("material/structure.cif", "material/NiO.cif", "notes.md", "structures.json", ".hidden", "README"):
        (root / name).touch()
    (root / "material" / "FEFF-XANES" / "000_Ni" / "feff.out").touch()
    document = prepare([root], tmp_path / "dataset", EnergyGrid(), workers=1)
    assert document["sources"][0]["passed_over"] == {".cif": 2, ".md": 1, "README": 1}
    assert "passed over 2 .cif, 1 .md, 1 README\n" in card.as_text(document)
    shutil.rmtree(root / "material")
    with pytest.raises(SourceError, match=r"1 \.md, 1 README below this folder, but no FEFF run"):
        prepare([root], tmp_path / "other", EnergyGrid(), workers=1)
