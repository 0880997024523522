"""Real files by name, small ones: of the repository, and of the folders beside it where they are."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.library import EXAMPLE
from data_pipelines.readers.spectrum import read_spectrum

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
RUNS = ROOT / "tests" / "data_pipelines" / "runs"
LARGEST = 150_000


@cache
def spectra(held: str) -> dict[str, bytes]:
    """held: "here", files of the repository and what is made of them; "cases" and "experiment", beside it, else skipped."""
    if held == "here":
        return _here()
    place = SHARED / ("cases" if held == "cases" else "data/experiment")
    if not place.exists():
        pytest.skip(f"{place} is not here")
    if held == "cases":
        paths = (path for path in place.iterdir() if path.suffix in (".prj", ".xdi", ".dat", ".txt", ".msa"))
        return {path.name: path.read_bytes() for path in paths}
    found = {}
    for name, most in (("beamline_formats.tar.xz", 40), ("xdi_library.tar.xz", 12), ("lucia_fe_k.tar.xz", 4)):
        with tarfile.open(place / name) as archive:
            members = [each for each in archive if each.isfile() and each.size < LARGEST]
            for each in members[:: max(1, len(members) // most)]:
                found[Path(each.name).name] = archive.extractfile(each).read()
    return found


def _here() -> dict[str, bytes]:
    own = read_spectrum(EXAMPLE)
    energy, mu = own.energy, own.mu
    # Beyond the edge, and with counts, as a beamline has it.
    longer = np.concatenate([energy[0] - np.arange(60, 0, -2.0), energy, energy[-1] + np.arange(1, 250, 2.0)])
    level = np.concatenate([np.full(30, mu[0]), mu, np.full(125, mu[-1])])
    rows = np.column_stack([longer, np.full(len(longer), 1e5), 1e5 * np.exp(-level), 3e3 * level + 10])
    table = "\n".join(" ".join(f"{x:.6f}" for x in row) for row in rows)
    names = "".join(f"# Column.{i}: {name}\n" for i, name in enumerate(("energy eV", "i0", "itrans", "ifluor"), 1))
    xdi = (
        f"# XDI/1.0\n# Element.symbol: Co\n# Element.edge: K\n# Mono.d_spacing: 3.1355\n{names}# ///\n#----\n{table}\n"
    )
    pairs = "\n".join(f"{e:.4f} {m:.6f}" for e, m in zip(longer, level, strict=True))
    scan = f"#N 4\n#L Energy  I0  I1  If\n{table}\n\n"
    even = np.interp(np.arange(longer[0], longer[-1], 0.5), longer, level)
    msa = "#FORMAT      : EMSA/MAS SPECTRAL DATA FILE\n#XUNITS      : eV\n#DATATYPE    : Y\n#XPERCHAN    : 0.5\n"
    msa += f"#OFFSET      : {longer[0]}\n#SPECTRUM    :\n" + "".join(f"{x:.6f},\n" for x in even) + "#ENDOFDATA   :\n"
    lists = (",".join(f"'{x:.6f}'" for x in numbers) for numbers in (longer, level))
    said = "'label','CoO','bkg_z','Co','fft_edge','k','bkg_eshift','-1.5','xdi',bless( {'a' => [1,'(']}, 'X')"
    perl = "# Athena project file -- Demeter version 0.9.26\n\n$old_group = 'g';\n@args = ({});\n@x = ({});\n@y = ({});\n[record]\n\n1;\n"
    perl = perl.format(said, *lists).encode()
    larch = {"_____header1": "# Athena project file -- Demeter version 0.9.26"}
    larch["abc"] = {"args": {"label": "CoO", "bkg_z": "Co"}, "x": longer.tolist(), "y": level.tolist()}
    texts = {
        "scan.xdi": xdi,
        "columns.txt": f"# Element: Co\n# energy mu\n{pairs}\n",
        "bare.dat": pairs,
        "keV.csv": "energy,mu\n" + "\n".join(f"{e / 1000:.7f},{m:.6f}" for e, m in zip(longer, level, strict=True)),
        "comma.txt": pairs.replace(".", ",").replace(" ", "\t"),
        "two.spec": f"#F a\n#S 1 ascan\n{scan}#S 2 ascan\n{scan}",
        "loss.msa": msa,
        "larch.prj": json.dumps(larch),
    }
    found = {name: text.encode() for name, text in texts.items()}
    found |= {"plain.prj": perl, "packed.prj": gzip.compress(perl), "xmu.dat": EXAMPLE.read_bytes()}
    return found | {f"{path.parent.name}.dat": path.read_bytes() for path in sorted(RUNS.glob("*/xmu.dat"))}


@cache
def nexus() -> bytes:
    """A NeXus file, whose bytes then are changed; skips without h5py."""
    h5py = pytest.importorskip("h5py", reason="needs the extra `beamline`")
    own, content = read_spectrum(EXAMPLE), io.BytesIO()
    with h5py.File(content, "w") as file:
        for name in ("entry", "second"):
            entry = file.create_group(name)
            entry["element"], entry["edge/name"], entry["data/mode"] = "Co", "K", "Transmission"
            entry.create_dataset("data/energy", data=own.energy, compression="gzip")
            entry["data/absorbed_beam"], entry["data/incoming_beam"] = np.exp(-own.mu), np.ones_like(own.mu)
            entry["data/energy"].attrs["units"] = "eV"
    return content.getvalue()


@cache
def structures() -> dict[str, bytes]:
    """POSCARs, and CIF and pymatgen JSON made of one; CIFs of the cases where they are."""
    from pymatgen.core import Structure
    from pymatgen.io.cif import CifWriter

    found = {f"{path.parent.name}.vasp": path.read_bytes() for path in sorted(RUNS.glob("*/POSCAR"))}
    own = Structure.from_file(RUNS / "NiO_base_Ni0" / "POSCAR")
    found |= {"nio.cif": str(CifWriter(own, symprec=0.01)).encode(), "nio.json": own.to_json().encode()}
    cases = SHARED / "cases"
    return found | {path.name: path.read_bytes() for path in cases.glob("*.cif")}
