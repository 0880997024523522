"""Real FEFF 10 runs of our own (`runs/`), a source tree made of them, and the dataset ingested from it."""

import shutil
import tarfile
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_pipelines.dataset.build import prepare
from data_pipelines.schema import EnergyGrid
from tests.data_pipelines.feff_standin import STANDIN, make_structures, standin_line

HERE = Path(__file__).parent
SHARED = HERE.parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def runs() -> Path:
    return HERE / "runs"


@pytest.fixture
def structures(tmp_path, runs) -> Path:
    """Structures whose sites the stand-in for FEFF has recorded."""
    return make_structures(tmp_path / "structures", runs)


@pytest.fixture
def command(tmp_path, runs):
    """command(behaviour) -> the shell line of the stand-in."""
    (tmp_path / "standin.py").write_text(STANDIN)
    return lambda **behaviour: standin_line(tmp_path, runs, {k.replace("_", " "): v for k, v in behaviour.items()})


@pytest.fixture(scope="session")
def shared():
    """shared("name") -> path of a data file beside the repository; skips where there is none."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"{SHARED / name} is not here")
        return SHARED / name

    return find


@pytest.fixture(scope="session")
def copper_oxides(shared) -> dict[str, tuple[str, list[int]]]:
    """Material -> text of its POSCAR and indices of its computed sites, in one pass through the archive."""
    poscars, sites = {}, defaultdict(list)
    with tarfile.open(shared("cu_k_feff9.tar.xz"), "r|xz") as archive:
        for member in archive:
            parts = member.name.split("/")
            if parts[-1] == "POSCAR":
                poscars[parts[2]] = archive.extractfile(member).read().decode()
            elif parts[-1] == "xmu.dat":
                sites[parts[2]].append(int(parts[4].removesuffix("_Cu")))
    return {name: (poscars[name], sites[name]) for name in sorted(poscars.keys() & sites.keys())}


def shift_energy(xmu: str, by: float) -> str:
    """The text of an xmu.dat with its energies moved: a distinct spectrum for every site of a material."""
    lines = []
    for line in xmu.splitlines():
        if not line.startswith("#"):
            energy, rest = line.split(maxsplit=1)
            line = f"{float(energy) + by:21.10f} {rest}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def make_tree(root: Path) -> Path:
    """MATERIAL/POSCAR and MATERIAL/FEFF-XANES/NNN_El/{feff.inp,xmu.dat}, as people have them."""
    count = 0
    for material, run, sites in (
        ("mp-1-LiFePO4", "LiFePO4_base_P8", ("008_P", "009_P", "010_P", "011_P")),
        ("mp-2-LiFePO4", "LiFePO4_base_P8", ("008_P", "009_P", "010_P", "011_P")),
        ("mp-3-LiCoO2", "LiCoO2_base_Co0", ("000_Co",)),
        ("mp-4-NiO", "NiO_base_Ni0", ("000_Ni",)),
    ):
        source = HERE / "runs" / run
        for site in sites:
            folder = root / material / "FEFF-XANES" / site
            folder.mkdir(parents=True)
            shutil.copy(source / "feff.inp", folder)
            (folder / "xmu.dat").write_text(shift_energy((source / "xmu.dat").read_text(), 0.02 * count))
            count += 1
        shutil.copy(source / "POSCAR", root / material)
    return root


def add_sulphide(root: Path) -> Path:
    """NiS in the cell of NiO: no oxygen in the first shell, so MOOD does not exist."""
    folder = root / "mp-5-NiS" / "FEFF-XANES" / "000_Ni"
    folder.mkdir(parents=True)
    run = HERE / "runs" / "NiO_base_Ni0"
    shutil.copy(run / "xmu.dat", folder)
    poscar = (run / "POSCAR").read_text()
    (root / "mp-5-NiS" / "POSCAR").write_text("\n".join(line.replace("O", "S") for line in poscar.splitlines()) + "\n")
    return root


def add_bad_members(root: Path) -> dict[str, str]:
    """Break sites in every way that is counted; returns folder -> reason."""
    material = root / "mp-6-CoO"
    run = HERE / "runs" / "CoO_base_O1"
    xmu, inp = (run / "xmu.dat").read_text(), (run / "feff.inp").read_text()
    mu = xmu.splitlines()[-60].split()[3]
    members = {
        "101_O": ("site mismatch", inp, xmu),
        "000_Co": ("site mismatch", inp, xmu),
        "0001_O": ("no xmu.dat", inp, None),
        "00001_O": ("truncated", inp, xmu[:-60]),
        "000001_O": ("not a XANES run", inp.replace("XANES 4.5 0.04 0.1", "EXAFS 12"), xmu),
        "0000001_O": ("not finite", inp, xmu.replace(mu, "NaN")),
        "00000001_O": ("failed FEFF run", inp, ""),
    }
    for name, (_, feff_inp, text) in members.items():
        folder = material / "FEFF-XANES" / name
        folder.mkdir(parents=True)
        (folder / "feff.inp").write_text(feff_inp)
        if text is not None:
            (folder / "xmu.dat").write_text(text)
    shutil.copy(run / "POSCAR", material)
    (root / "mp-7-lonely").mkdir()
    shutil.copy(run / "POSCAR", root / "mp-7-lonely")
    return {f"mp-6-CoO/FEFF-XANES/{name}": reason for name, (reason, *_) in members.items()}


def run_without_poscar(root: Path) -> Path:
    folder = root / "CoO_base_O1"
    folder.mkdir(parents=True)
    for name in ("feff.inp", "xmu.dat"):
        shutil.copy(HERE / "runs" / "CoO_base_O1" / name, folder)
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> SimpleNamespace:
    """A dataset of three sources: a tree, a run folder without POSCAR, an archive that repeats parts of both."""
    root = tmp_path_factory.mktemp("sources")
    tree = add_sulphide(make_tree(root / "tree"))
    bad = add_bad_members(tree)
    run = run_without_poscar(root)
    archive = root / "again.tar.xz"
    add_sulphide(root / "again")
    with tarfile.open(archive, "w:xz") as file:
        file.add(run, run.name)
        file.add(root / "again" / "mp-5-NiS", "mp-5-NiS")
    sources, grid, out = [tree, run, archive], EnergyGrid(), root / "dataset"
    card = prepare(sources, out, grid, workers=1)
    return SimpleNamespace(root=root, sources=sources, tree=tree, bad=bad, grid=grid, out=out, card=card)
