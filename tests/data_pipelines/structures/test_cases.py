"""Inputs that once failed, each with what is right in ../shared/cases/manifest.tsv: those of structures and of runs."""

import csv
import json
import tarfile
from pathlib import Path

import pytest
from pymatgen.core import Structure

from data_pipelines.dataset.build import prepare
from data_pipelines.errors import SourceError
from data_pipelines.schema import EnergyGrid
from data_pipelines.structures.make import as_text, make_structures
from data_pipelines.structures.options import Options
from tests.data_pipelines.conftest import SHARED

CASES = SHARED.parent / "cases"
KINDS = ("cif atoms lost or changed", "good cif refused", "files ignored in silence")
RUNS = ("prepare accepts bad runs", "prepare trusts folder and POSCAR", "prepare accepts coinciding atoms")
# File -> formula of the structure that comes out, or the reason why none does.
EXPECTED = {
    "cif_szomolnokite_OH.cif": "atoms missing",
    "cif_szomolnokite_H2O.cif": "atoms missing",
    "cif_amcsd_OH_label_noformula.cif": "atoms missing",
    "cif_H_shares_O_site_50.cif": "Ce4 Fe4 As4 H2 O2",
    "cif_deuterium.cif": "Co1 H2 O2",
    "cif_kagome_4_decimals.cif": "Co9 O18",
    "cif_spinel_setting2.cif": "Co24 O32",
    "prepare_chi_zero.tar.gz": "no scattering",
    "prepare_wrong_site_number.tar.gz": "site mismatch",
    "prepare_twin_atom.tar.gz": "too close",
}


def cases(kinds: tuple[str, ...]) -> list[str]:
    if not (CASES / "manifest.tsv").exists():
        return [pytest.param("", marks=pytest.mark.skip(reason=f"{CASES} is not here"))]
    with open(CASES / "manifest.tsv", encoding="utf-8") as file:
        return [row["file"] for row in csv.DictReader(file, delimiter="\t") if row["kind"] in kinds]


def unpacked(name: str, scratch: Path) -> Path:
    if not name.endswith(".tar.gz"):
        return CASES / name
    with tarfile.open(CASES / name) as archive:
        archive.extractall(scratch, filter="data")
    return next(path for path in scratch.iterdir() if path.is_dir())


@pytest.mark.parametrize("name", cases(KINDS))
def test_structures(tmp_path, name):
    (tmp_path / "source").mkdir()
    source, out = unpacked(name, tmp_path / "source"), tmp_path / "out"
    try:
        document = make_structures([source], out, Options())
    except SourceError as error:
        assert EXPECTED[name] in str(error) and "\n" not in str(error)
        return
    made = [Structure.from_file(path) for path in sorted(out.glob("*/POSCAR"))]
    assert not document["dropped"]
    if name.startswith("folder"):
        # The magnetic one is read, in the cell of its order.
        assert [structure.formula for structure in made] == ["Ni4 O4"] * 2 and not document["passed_over"]
    else:
        assert [structure.formula for structure in made] == [EXPECTED[name]]


@pytest.mark.parametrize("name", cases(RUNS))
def test_runs(tmp_path, name):
    with pytest.raises(SourceError, match=f"no usable spectrum in .*{EXPECTED[name]}"):
        prepare([CASES / name], tmp_path / "dataset", EnergyGrid(), workers=1)


def test_files_of_other_formats_are_counted(runs, tmp_path):
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    structure = Structure.from_file(runs / "NiO_base_Ni0" / "POSCAR")
    written = {"a.mcif": "cif", "b.cssr": "cssr", "c.xsf": "xsf", "mp-1_POSCAR": "poscar", "d.json": "json"}
    for number, (name, fmt) in enumerate(written.items()):
        structure.copy().apply_strain(0.01 * number).to(root / "deep" / name, fmt=fmt)
    for name in ("e.xyz", "f.XYZ", "g.pdb", "README", "h.xyz.gz"):
        (root / name).write_text("nothing that is read here")
    document = make_structures([root], tmp_path / "out", Options())
    assert document["structures"] == {"kept": 5, "dropped": 0}
    assert document["passed_over"] == {".pdb": 1, ".xyz": 3, "README": 1}
    assert "passed over 5 files of unknown format: 1 .pdb, 3 .xyz, 1 README" in as_text(document)
    assert json.loads((tmp_path / "out" / "structures.json").read_text())["passed_over"] == document["passed_over"]
    with pytest.raises(SourceError, match=r"1 \.xyz below this folder"):
        (tmp_path / "only").mkdir()
        (tmp_path / "only" / "x.xyz").touch()
        make_structures([tmp_path / "only"], tmp_path / "none", Options())
