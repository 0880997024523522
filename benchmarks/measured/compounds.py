"""Measured reference spectra of known chemistry: which file is which compound, its oxidation state and coordination.

Formal oxidation states; coordination of the absorber by its first shell. Two values stand where a compound has two
kinds of sites or a mixed valence. Structures: Wells, Structural Inorganic Chemistry (5th ed., Oxford 1984), for plain
compounds; Handbook of Mineralogy (Mineralogical Society of America) for minerals; others as named.
"""

from __future__ import annotations

from typing import NamedTuple


class Compound(NamedTuple):
    """files: patterns below the unpacked archives; `project.prj#name` is one record of an Athena project."""

    name: str
    element: str
    oxidation: tuple[int, ...]
    coordination: tuple[int, ...]
    files: tuple[str, ...]
    source: str


WELLS, MINERALS = "Wells 1984", "Handbook of Mineralogy"
MN = "formats/Mn.prj#"

KNOWN = (
    Compound("TiO2 anatase", "Ti", (4,), (6,), ("anatase_ti_k/anatase_exp.txt",), WELLS),
    Compound("VO", "V", (2,), (6,), ("V/VO.xdi",), WELLS),
    Compound("V2O3", "V", (3,), (6,), ("V/V2O3.xdi",), WELLS),
    Compound("VO2", "V", (4,), (6,), ("V/VO2.xdi",), WELLS),
    Compound("V2O5", "V", (5,), (5,), ("V/V2O5.xdi",), WELLS),
    Compound("Ca0.25V2O5", "V", (4, 5), (5, 6), ("formats/NSLS6BM_2019.dat",), "bronzes MxV2O5: Galy 1992, JSSC 100, 229"),
    Compound("Cr2O3", "Cr", (3,), (6,), ("Cr/cr2o3_*.xdi",), WELLS),
    Compound("CrO2", "Cr", (4,), (6,), ("Cr/cro2_*.xdi",), WELLS),
    Compound("K2CrO4", "Cr", (6,), (4,), ("Cr/k2cro4_*.xdi",), WELLS),
    Compound("Na2CrO4", "Cr", (6,), (4,), ("Cr/na2cro4_*.xdi",), WELLS),
    Compound("K2Cr2O7", "Cr", (6,), (4,), ("Cr/k2cr2o7_*.xdi",), WELLS),
    Compound("MnO", "Mn", (2,), (6,), ("Mn/MnO_rt_*.xdi", MN + "MnO", "formats/MnO_bv.prj#mno.xmu"), WELLS),
    Compound("Mn3O4", "Mn", (2, 3), (4, 6), ("Mn/Mn3O4_rt_*.xdi", MN + "Mn3O4"), WELLS),
    Compound("Mn2O3", "Mn", (3,), (6,), ("Mn/Mn2O3_rt_*.xdi",), WELLS),
    Compound("MnO2 pyrolusite", "Mn", (4,), (6,), ("Mn/MnO2_rt_*.xdi", MN + "Pyrolusite"), MINERALS),
    Compound("MnO2 ramsdellite", "Mn", (4,), (6,), (MN + "Ramsdellite",), MINERALS),
    Compound("Li2MnO3", "Mn", (4,), (6,), (MN + "Li2MnO3",), WELLS),
    Compound("MnOOH", "Mn", (3,), (6,), (MN + "g-MnOOH",), MINERALS),
    Compound("rhodochrosite MnCO3", "Mn", (2,), (6,), (MN + "Rhodochrosite",), MINERALS),
    Compound("psilomelane", "Mn", (3, 4), (6,), (MN + "Psilomelane",), MINERALS + ", as romanechite"),
    Compound("todorokite", "Mn", (3, 4), (6,), (MN + "Todorokite",), MINERALS),
    Compound("Mn oxalate", "Mn", (2,), (6,), (MN + "Mn Oxalate",), "lindbergite, " + MINERALS),
    Compound("FeO", "Fe", (2,), (6,), ("Fe/FeO_rt_01.xdi", "formats/feo_rt1.xdi"), WELLS),
    Compound("Fe3O4", "Fe", (2, 3), (4, 6), ("Fe/Fe3O4_rt_01.xdi", "Fe/Hansel2001_magnetite_*.xdi"), WELLS),
    Compound("Fe2O3 hematite", "Fe", (3,), (6,), ("Fe/Fe2O3_rt_01.xdi", "lucia_fe_k/Hematite_*.dat"), WELLS),
    Compound("goethite FeOOH", "Fe", (3,), (6,), ("Fe/Hansel2001_goethite_*.xdi",), MINERALS),
    Compound("ferrihydrite", "Fe", (3,), (4, 6), ("Fe/Hansel2001_2lineFerrihydrite_*.xdi",), "Michel 2007, Science 316, 1726"),
    Compound("green rust Cl", "Fe", (2, 3), (6,), ("Fe/Hansel2001_greenrust_Cl_*.xdi",), "Refait 1998, Corros. Sci. 40, 1547"),
    Compound("green rust SO4", "Fe", (2, 3), (6,), ("Fe/Hansel2001_greenrust_SO4_*.xdi",), "Simon 2003, Solid State Sci. 5, 327"),
    Compound("siderite FeCO3", "Fe", (2,), (6,), ("Fe/Hansel2001_siderite_*.xdi",), MINERALS),
    Compound("vivianite", "Fe", (2,), (6,), ("Fe/Hansel2001_vivianite_*.xdi",), MINERALS),
    Compound("gillespite", "Fe", (2,), (4,), ("lucia_fe_k/Gillepsite_*.dat",), "Hazen 1974, Am. Mineral. 59, 1166"),
    Compound("yoderite", "Fe", (3,), (5, 6), ("lucia_fe_k/Yoderite_pt[3-5]*.dat",), "Higgins 1982, Am. Mineral. 67, 76"),
    Compound("orthoclase", "Fe", (3,), (4,), ("lucia_fe_k/Orthoclase_*.dat",), "Fe3+ for Al; Hofmeister 1984, PCM 11, 213"),
    Compound("Ni(OH)2", "Ni", (2,), (6,), ("Ni/NiOH2_*.xdi",), WELLS),
    Compound("CuO tenorite", "Cu", (2,), (4,), ("Cu/CuO_tenorite_*.xdi",), WELLS),
    Compound("azurite", "Cu", (2,), (4, 5), ("Cu/Cu_azurite_*.xdi",), MINERALS),
)  # fmt: skip
"""Oxygen around the absorber, and nothing else. Of yoderite two more scans lost the beam."""

DOUBTFUL = (
    Compound("diopside", "Fe", (2,), (6,), ("lucia_fe_k/Diopside_*.dat",), "Fe2+ for Mg, and Fe3+: its pre-edge lies between them"),
    Compound("Ni2O3", "Ni", (3,), (6,), ("Ni/Ni2O3_*.xdi",), "its label; edge where that of Ni(OH)2 is: Ni2+"),
)  # fmt: skip
"""Of doubtful chemistry, and not counted. Centroids of the pre-edge peak on one monochromator: gillespite (Fe2+) 7112.9 eV,
this diopside 7113.7 eV, hematite, yoderite, orthoclase (Fe3+) 7114.1 to 7114.3 eV."""

FOILS = {
    "V/V*O*.xdi": "V/V_foil.xdi",
    "Fe/Hansel2001_*.xdi": "Fe/Hansel2001_Fe_foil_xanes_001.xdi",
    "Fe/Fe3O4_rt_01.xdi": "Fe/Fe_metal_rt_01.xdi",
    "Fe/Fe*O*_rt_01.xdi": "Fe/Fe_metal_rt_02.xdi",
    "lucia_fe_k/*_*.dat": "lucia_fe_k/calib_Fe_01.dat",
    "formats/feo_rt1.xdi": "Fe/Fe_metal_rt_02.xdi",
}
"""Which foil calibrates scans of the same beamline and time, where no foil stood behind the sample; the first that fits."""

FOREIGN = (
    Compound("V metal", "V", (0,), (), ("V/V_foil.xdi",), WELLS),
    Compound("Cr2S3", "Cr", (3,), (6,), ("Cr/cr2s3_*.xdi",), WELLS),
    Compound("Mn metal", "Mn", (0,), (), (MN + "Mn foil",), WELLS),
    Compound("MnCl2", "Mn", (2,), (6,), (MN + "MnCl2",), WELLS),
    Compound("CpMn(CO)3", "Mn", (1,), (), ("formats/mn_cpmnco3.dat",), "Berndt 1963, Acta Cryst. 16, 118"),
    Compound("Fe metal", "Fe", (0,), (8,), ("Fe/Fe_[Fm]*.xdi", "Fe/Hansel2001_Fe_foil*.xdi"), WELLS),
    Compound("Fe3C", "Fe", (0,), (), ("Fe/Fe3C_rt_01.xdi",), WELLS),
    Compound("FeN", "Fe", (), (), ("Fe/FeN_rt_01.xdi",), "by its label"),
    Compound("FeS2 pyrite", "Fe", (2,), (6,), ("Fe/FeS2_rt_01.xdi",), WELLS),
    Compound("Co metal", "Co", (0,), (12,), ("Co/co_metal_rt.xdi",), WELLS),
    Compound("Ni metal", "Ni", (0,), (12,), ("Ni/Ni_metal_rt_*.xdi", "formats/ni_metal_rt.xdi"), WELLS),
    Compound("NiS", "Ni", (2,), (6,), ("Ni/NiS_rt_*.xdi",), WELLS),
    Compound("Cu metal", "Cu", (0,), (12,), ("Cu/[Cc]u_[Fm]*.xdi",), WELLS),
    Compound("Cu2S", "Cu", (1,), (3, 4), ("Cu/Cu2S_*.xdi",), WELLS),
    Compound("CuS covellite", "Cu", (1, 2), (3, 4), ("Cu/CuS_*.xdi",), WELLS),
)
"""Metals, sulfides, molecules: no model of oxides has learnt them, and none should answer for them as if it had."""
