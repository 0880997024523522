"""CIFs of which other readers lose, change or double atoms: each atom is there once, or the file is refused by name."""

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.groups import SpaceGroup

from data_pipelines.structures.composition import parse_formula, readings
from data_pipelines.structures.files import Parent, read_file

# Space group by symbol and cell, nothing else: the operations are for the reader to find.
HYDROXIDE = ("P -3", (3.19, 3.19, 4.65, 90, 90, 120))
SULFATE = ("C 1 2/c 1", (7.078, 7.549, 7.773, 90, 118.65, 90))
LAYERED = ("R -3 m", (2.816, 2.816, 14.05, 90, 90, 120))
SPINEL = (8.084, 8.084, 8.084, 90, 90, 90)
SZOMOLNOKITE = ("Fe 0 0 0", "S 0 0.155 0.25", "O1 0.172 0.044 0.393", "O2 0.094 0.269 0.151")
OCCUPIED = ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")
PLAIN = ("label", "fract_x", "fract_y", "fract_z")


def cif(group: str, cell: tuple, rows: tuple[str, ...], columns: tuple[str, ...] = PLAIN, **items: str) -> str:
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = ["data_x", *(f"_cell_{name} {value}" for name, value in zip(names, cell, strict=True))]
    lines += [f"_symmetry_space_group_name_H-M '{group}'"] if group else []
    lines += [f"_{name} '{value}'" for name, value in items.items()]
    return "\n".join([*lines, "loop_", *(f"_atom_site_{name}" for name in columns), *rows]) + "\n"


@pytest.fixture
def read(tmp_path):
    """text -> formula of the cell, or the reason of the refusal."""

    def read(text: str) -> str:
        (tmp_path / "x.cif").write_text(text)
        [found] = read_file(tmp_path / "x.cif")
        if isinstance(found, Parent):
            return found.structure.formula.replace(" ", "")
        assert found.detail and "\n" not in found.detail
        return found.reason

    return read


@pytest.mark.parametrize(
    "rows, formula, outcome",
    [
        (("Co 0 0 0", "O 0.3333 0.6667 0.22"), "", "Co1O2"),
        (("Co 0 0 0", "OH 0.3333 0.6667 0.22"), "", "atoms missing"),
        (("Co 0 0 0", "O-H1 0.3333 0.6667 0.22"), "", "atoms missing"),
        (("Co 0 0 0", "OH 0.3333 0.6667 0.22", "H 0.3333 0.6667 0.42"), "", "Co1H2O2"),
        (("Co 0 0 0", "OH1 0.3333 0.6667 0.22", "HO1 0.3333 0.6667 0.42"), "Co O2 H2", "Co1H2O2"),
        (("Co 0 0 0", "O 0.3333 0.6667 0.22", "D1 0.3333 0.6667 0.42"), "Co D2 O2", "Co1H2O2"),
        (("Co 0 0 0", "O 0.3333 0.6667 0.22", "D1 0.3333 0.6667 0.42"), "Co (O H)2", "Co1H2O2"),
        (("Co 0 0 0", "O 0.3333 0.6667 0.22", "T1 0.3333 0.6667 0.42"), "Co O2 T2", "Co1H2O2"),
        (("Co 0 0 0", "O 0.3333 0.6667 0.22", "T1 0.3333 0.6667 0.42"), "", "ambiguous label"),
        (("Co 0 0 0", "W3 0.3333 0.6667 0.22"), "", "ambiguous label"),
        (("Co 0 0 0", "W3 0.3333 0.6667 0.22"), "Co O2", "atoms missing"),
        (("Co 0 0 0", "W3 0.3333 0.6667 0.22"), "Co W2", "Co1W2"),
        (("Co 0 0 0", "M1 0.3333 0.6667 0.22"), "Co O2", "unknown element"),
        (("Co 0 0 0", "O 0.3333 0.6667 0.22"), "Co O2 H2", "atoms missing"),
        (("Co 0 0 0", "O 0.3333 0.6667 0.22"), "Co O3", "formula mismatch"),
        (("Co 0 0 0", "O 0.3333 0.6667 ?"), "", "atoms missing"),
        (("7Li 0 0 0", "18O 0.3333 0.6667 0.22"), "7Li 18O2", "Li1O2"),
        (("CO1 0 0 0", "O1 0.3333 0.6667 0.22"), "Co O2", "Co1O2"),
        (("CO1 0 0 0", "O1 0.3333 0.6667 0.22"), "C O2", "C1O2"),
        (("CO1 0 0 0", "O1 0.3333 0.6667 0.22"), "", "ambiguous label"),
        (("FE1 0 0 0", "O1 0.3333 0.6667 0.22"), "", "Fe1O2"),
        (("Co 0 0 0", "O1 0.3333 0.6667 0.22", "O2 0.3333 0.6667 0.23"), "", "too close"),
        (("Co 0 0 0", "O1 0.3333 0.6667 0.22", "O2 0.3333 0.6667 0.22"), "", "unreadable"),
    ],
)
def test_labels_are_read_by_what_adds_up(read, rows, formula, outcome):
    items = {"chemical_formula_sum": formula} if formula else {}
    assert read(cif(*HYDROXIDE, rows, **items)) == outcome


@pytest.mark.parametrize("label", ["H2O", "OH", "Wat1", "Ow", "OW1", "O-H2", "W3"])
def test_water_without_its_hydrogen_is_refused_and_other_oxygen_read(read, label):
    rows = (*SZOMOLNOKITE, f"{label} 0 0.637 0.25")
    assert read(cif(*SULFATE, rows, chemical_formula_sum="Fe S O5")) == "atoms missing"
    assert read(cif(*SULFATE, (*SZOMOLNOKITE, "O3 0 0.637 0.25"), chemical_formula_sum="Fe S O5")) == "Fe4S4O20"


@pytest.mark.parametrize(
    "rows, outcome",
    [
        (("Co1 Co3+ 0 0 0 1", "O1 O2- 0.3333 0.6667 0.22 1"), "Co1O2"),
        (("Fe1 Co 0 0 0 1", "X9 O-2 0.3333 0.6667 0.22 1"), "Co1O2"),
        (("Li1 7Li 0 0 0 1", "O1 18O 0.3333 0.6667 0.22 1"), "Li1O2"),
        (("D1 T 0 0 0 1", "O1 ? 0.3333 0.6667 0.22 1"), "H1O2"),
        (("Co1 Co 0 0 0 0.5", "Ni1 Ni 0 0 0 0.5", "O1 O 0.3333 0.6667 0.22 1"), "Co0.5Ni0.5O2"),
        (("Co1 Co 0 0 0 1", "O1 O 0.3333 0.6667 0.22 0.5", "H1 H 0.3333 0.6667 0.22 0.5"), "Co1H1O1"),
        (("Co1 Co 0 0 0 0.6", "Ni1 Ni 0 0 0 0.6", "O1 O 0.3333 0.6667 0.22 1"), "unreadable"),
        (("Co1 Co 0 0 0 1", "O1 O 0.3333 0.6667 0.22 1.2"), "unreadable"),
    ],
)
def test_type_symbols_and_shared_sites(read, rows, outcome):
    assert read(cif(*HYDROXIDE, rows, OCCUPIED)) == outcome


def test_more_than_one_reading_that_adds_up_is_refused(read):
    rows = ("W1 0 0 0", "W2 0 0 0.5", "O1 0.3333 0.6667 0.22")
    assert read(cif(*HYDROXIDE, rows, chemical_formula_sum="W O3")) == "ambiguous label"


@pytest.mark.parametrize("digits", [3, 4, 5])
@pytest.mark.parametrize("number", [*range(143, 195)])
def test_rounded_special_positions_keep_their_number(read, number, digits, rng):
    """Positions on thirds and sixths, written in few digits, in every trigonal and hexagonal group."""
    group = SpaceGroup.from_int_number(number)
    z = float(rng.uniform(0.05, 0.07))
    lattice = Lattice.hexagonal(7.7, 28.9)
    sites = [(1 / 3, 2 / 3, z), (5 / 6, 1 / 6, 2 / 3), (1 / 2, 0, 1 / 6), (0, 0, 1 / 3)]
    written = "Co {} {} {}".format(*(f"{x:.{digits}f}" for x in sites[int(rng.integers(len(sites)))]))
    exact = [
        round(float(x) * 6) / 6 if abs(float(x) * 6 - round(float(x) * 6)) < 0.01 else float(x)
        for x in written.split()[1:]
    ]
    expected = Structure.from_spacegroup(group.symbol, lattice, ["Co"], [exact], tol=1e-3)
    assert read(cif(group.symbol, lattice.parameters, (written,))) == f"Co{len(expected)}"


def test_four_digits_in_a_long_cell(read):
    rows = ("Co4 0.8333 0.1667 0.6667", "O3 0.9732 0.4866 0.7043")
    cell = (5.7, 5.7, 28.9, 90, 90, 120)
    for group in ("R -3 m", "R -3 m H", "R -3 m :H"):
        assert read(cif(group, cell, rows, chemical_formula_sum="Co9 O18")) == "Co9O18"


def test_multiplicities_stated_are_held_against_the_positions(read):
    columns = (*PLAIN, "symmetry_multiplicity")
    for stated, outcome in ((2, "Co1O2"), (3, "Co1O2"), (6, "formula mismatch")):  # 3 is the order of the site
        rows = ("Co 0 0 0 1", f"O 0.3333 0.6667 0.22 {stated}")
        assert read(cif(*HYDROXIDE, rows, columns)) == outcome


def test_cells_with_too_few_formulas_are_refused(read):
    """Without its centring a list of operations gives the right ratio and a third of the atoms."""
    rows = ("Li 0 0 0.5", "Co 0 0 0", "O 0 0 0.26")
    formula = {"chemical_formula_sum": "Li Co O2", "cell_formula_units_Z": "3"}
    assert read(cif(*LAYERED, rows, **formula)) == "Li3Co3O6"
    assert read(cif("P -3 m 1", LAYERED[1], rows, **formula)) == "formula mismatch"
    listed = cif("", LAYERED[1], rows) + "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-y,x-y,z\n"
    assert read(listed) == "symmetry"


# settings


def spinel(shift: float) -> tuple[str, ...]:
    sites = (("Co1", 0.125), ("Co2", 0.5), ("O1", 0.2631))
    return tuple(f"{label} {x + shift} {x + shift} {x + shift}" for label, x in sites)


@pytest.mark.parametrize(
    "symbol, shift", [("F d -3 m :2", 0), ("F d -3 m Z", 0), ("F d 3 m (origin choice 2)", 0), ("F d -3 m :1", 0.125)]
)
def test_origins(tmp_path, symbol, shift):
    """Cobalt has four and six oxygens in either origin; the wrong one gives other neighbours."""
    (tmp_path / "x.cif").write_text(cif(symbol, SPINEL, spinel(shift), chemical_formula_sum="Co3 O4"))
    [found] = read_file(tmp_path / "x.cif")
    assert found.structure.formula == "Co24 O32"
    shells = [len(found.structure.get_neighbors(site, 2.1)) for site in found.structure if site.specie.symbol == "Co"]
    assert sorted(shells) == [4] * 8 + [6] * 16


def test_an_origin_is_told_by_the_atoms_or_refused_by_name(tmp_path, read):
    assert read(cif("F d -3 m", SPINEL, spinel(0), chemical_formula_sum="Co3 O4")) == "Co24O32", "else O meets O"
    anatase = cif("I 41/a m d", (3.785, 3.785, 9.514, 90, 90, 90), ("Ti 0 0 0", "O 0 0 0.208"))
    assert read(anatase.replace("m d", "m d :1")) == "Ti4O8"
    assert read(anatase.replace("data_x", "data_x\n_chemical_formula_sum TiO2\n_cell_formula_units_Z 4")) == "Ti4O8"
    (tmp_path / "x.cif").write_text(cif("F d -3 m", (5.43, 5.43, 5.43, 90, 90, 90), ("Si 0.125 0.125 0.125",)))
    [found] = read_file(tmp_path / "x.cif")
    assert found.reason == "ambiguous setting" and ": 1 or" in found.detail and found.detail.endswith(": 2")


@pytest.mark.parametrize("name", ["CoO_base_O1", "LiFePO4_base_P8", "LiCoO2_base_Co0"])
@pytest.mark.parametrize("symprec", [0.01, None])
def test_structures_come_back_with_and_without_their_operations(runs, tmp_path, name, symprec):
    structure = Structure.from_file(runs / name / "POSCAR")
    text = structure.to(fmt="cif", symprec=symprec)
    same = StructureMatcher(primitive_cell=True, scale=False)
    for lines in (
        text.splitlines(),
        [line for line in text.splitlines() if "," not in line and "equiv_pos" not in line],
    ):
        lines = [
            a
            for a, b in zip(lines, [*lines[1:], ""], strict=True)
            if not (a.strip() == "loop_" and b.strip()[:1] != "_")
        ]
        (tmp_path / "x.cif").write_text("\n".join(lines))
        [found] = read_file(tmp_path / "x.cif")
        assert isinstance(found, Parent), found.detail
        assert same.fit(found.structure, structure)


def test_a_group_that_is_not_known_is_refused(read):
    assert read(cif("Q -3 m", LAYERED[1], ("Co 0 0 0",), symmetry_Int_Tables_number="166")) == "unknown space group"
    assert read(cif("P m -3 m", LAYERED[1], ("Co 0 0 0",))) == "unknown space group"


@pytest.mark.parametrize("symbol", ["C m c e", "C m c a", "C m m a", "C m m e", "B m a b", "P b n m", "P n m a"])
def test_symbols_of_before_and_after_1992_and_of_other_axes(read, symbol):
    """A general position in a cell of right angles, in the number that the tables give."""
    number = {"P": 8, "C": 16, "B": 16}[symbol[0]]
    assert read(cif(symbol, (5.1, 6.3, 7.7, 90, 90, 90), ("Co 0.11 0.13 0.17",))) == f"Co{number}"


@pytest.mark.parametrize("hall, outcome", [("-F 4vw 2vw 3", "Co24O32"), ("F 4d 2 3 -1d", "too close")])
def test_hall_symbols_tell_the_origin(read, hall, outcome):
    assert read(cif("F d -3 m", SPINEL, spinel(0), space_group_name_Hall=hall)) == outcome
    moved = cif("F d -3 m", SPINEL, spinel(0), space_group_name_Hall=f"{hall} (x,y,z+1/4)")
    assert read(moved) == "unknown space group"


# words


@pytest.mark.parametrize(
    "text, element",
    [
        *(("FE1", "Fe"), ("fe2", "Fe"), ("SiT", "Si"), ("MgM1", "Mg"), ("OA1", "O"), ("Oco", "O"), ("Hw2", "H")),
        *(("O3A", "O"), ("NH4", "N"), ("Na1", "Na"), ("CaB", "Ca"), ("Cs1", "Cs"), ("(Fe)", "Fe"), ("57Fe", "Fe")),
        ("Lp1", ""),
    ],
)
def test_labels(text, element):
    assert next((reading.element for reading in readings(text)), "") == element


def test_formulas():
    for text, amounts in (
        ("'Fe.98 Mg.02 S O5'", None),
        ("Fe.98 Mg.02 S O5", {"Fe": 0.98, "Mg": 0.02, "S": 1, "O": 5}),
        ("Ca (S O4) (H2 O)2", {"Ca": 1, "S": 1, "O": 6, "H": 4}),
        ("Cu2+, 2(O H)", None),
        ("?", None),
        ("Li0.94(2) Co O2", {"Li": 0.94, "Co": 1, "O": 2}),
    ):
        found = parse_formula(text)
        assert found is None if amounts is None else found == pytest.approx(amounts)
    assert np.isclose(sum(parse_formula("Ba2Co9O14").values()), 25)
