"""`spt-jax pdf`: the structure that was measured comes first, and what cannot be used is a line."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from data_pipelines.labels.pdf import PdfGrid, pair_distribution
from spt_jax.cli import main
from tests.data_pipelines.labels.test_pdf import ROCK_SALT, RUTILE
from tests.data_pipelines.readers.test_gr import written


@pytest.fixture
def files(tmp_path):
    """NiO measured at half scale, warmer than anybody says, and three structures."""
    for name, structure in (("NiO", ROCK_SALT), ("TiO2", RUTILE), ("mixed", ROCK_SALT.copy())):
        if name == "mixed":
            structure = Structure(Lattice.cubic(4.2), [{"Ni": 0.5, "Co": 0.5}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        structure.to(tmp_path / f"{name}.cif")
    grid = PdfGrid(stop=21, points=2100, displacement=0.012)
    written(tmp_path / "NiO.gr", grid.r, 0.5 * pair_distribution(ROCK_SALT, grid))
    return tmp_path


def test_the_structure_that_was_measured_comes_first(files, capsys):
    out = files / "out" / "pdf.png"
    main(
        ["pdf", str(files / "TiO2.cif"), str(files / "NiO.cif"), "--measured", str(files / "NiO.gr"), "--out", str(out)]
    )
    said = capsys.readouterr().out
    first, second = (line.split() for line in said.splitlines()[1:3])
    assert first[-1] == "NiO.cif" and float(first[1]) < 0.1 and float(second[1]) > 0.5
    assert float(first[3]) == pytest.approx(0.012, rel=0.15) and float(first[6]) == pytest.approx(0.5, rel=0.05)
    assert out.read_bytes()[:4] == b"\x89PNG"
    table = np.genfromtxt(out.with_suffix(".csv"), delimiter=",", names=True)
    assert table.dtype.names[:2] == ("r", "measured") and len(table) == 500


def test_what_cannot_be_used_is_a_line_and_the_rest_is_drawn(files, capsys):
    out = files / "pdf.svg"
    given = [str(files / name) for name in ("mixed.cif", "TiO2.cif", "nothere.cif")]
    with pytest.raises(SystemExit) as stop:
        main(["pdf", *given, "--element", "Ti", "--out", str(out)])
    err = capsys.readouterr().err.splitlines()
    assert stop.value.code == 1 and out.read_text().startswith("<?xml")
    assert "shared by several elements" in err[0] and err[1].endswith("nothere.cif: no such file")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--out", "pdf.pdf"], "name a file that ends in .svg or .png"),
        (["--measured", "NiO.gr", "--element", "Ni"], "leave one of them out"),
        (["--measured", "NiO.gr", "--qmax", "30"], "was measured to Qmax 25/Å, 30 are needed"),
        (["--measured", "NiO.gr", "--stop", "30"], "ends at r = 21 Å, 30 Å are needed"),
        (["--measured", "NiO.cif"], "rows of r and G"),
        (["--measured", "nothere.gr"], "nothere.gr"),
    ],
)
def test_what_is_wrong_is_one_line(files, monkeypatch, capsys, words, line):
    monkeypatch.chdir(files)
    with pytest.raises(SystemExit):
        main(["pdf", "NiO.cif", *words])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert line in last and "Traceback" not in last
