"""The archives of measured references, unpacked into a folder of this process, and every scan of a compound in them."""

from __future__ import annotations

import atexit
import gzip
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.measured.compounds import FOILS, Compound
from data_pipelines.readers.foil import FIRST
from data_pipelines.spectra.normalise import edge_energy

ARCHIVES = ("xdi_library.tar.xz", "beamline_formats.tar.xz", "lucia_fe_k.tar.xz")


class Scan(NamedTuple):
    """(N,) energy in eV as the file has it, with an Athena shift added; mu, and mu of a foil behind the sample, if any.

    foil_e0: E0 of a foil on the same energy scale, None where no foil was measured with it.
    """

    name: str
    energy: np.ndarray
    mu: np.ndarray
    foil: np.ndarray | None = None
    foil_e0: float | None = None


@cache
def unpacked(experiment: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="measured-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ARCHIVES:
        with tarfile.open(experiment / name) as archive:
            archive.extractall(folder / name.split(".")[0], filter="data")
    shutil.copytree(experiment / "anatase_ti_k", folder / "anatase_ti_k")
    return folder


def scans(compound: Compound, experiment: Path) -> Iterator[Scan]:
    """Every scan of it that can be read. Raises FileNotFoundError where a pattern has no file."""
    folder = unpacked(experiment)
    for pattern in compound.files:
        pattern, _, record = pattern.partition("#")
        paths = sorted(folder.rglob(pattern))
        if not paths:
            raise FileNotFoundError(f"{experiment}: no {pattern}")
        for path in paths:
            yield _calibrated(_ordered(_athena(path, record) if record else _columns(path)), path, folder)


def nickel_series(experiment: Path) -> list[tuple[str, float | None, Scan]]:
    """Composition, voltage against Li (None where it is not given) and scan of the NMC cathodes, 8330 to 8370 eV."""
    table = json.loads((experiment / "nmc_ni_k.json").read_text())
    energy = np.linspace(8330, 8370, 100)
    return [
        (
            table["composition"][key],
            voltage if isinstance(voltage := table["voltage"][key], float) else None,
            Scan(f"{table['composition'][key]} {voltage} V", energy, np.array(mu)),
        )
        for key, mu in table["intensity"].items()
    ]


def _calibrated(scan: Scan, path: Path, folder: Path) -> Scan:
    if scan.foil is not None and np.isfinite(scan.foil).all():
        return scan._replace(foil_e0=edge_energy(scan.energy, scan.foil, FIRST))
    for pattern, foil in FOILS.items():
        if path.match(pattern):
            found = _ordered(_columns(next(folder.rglob(foil))))
            return scan._replace(foil_e0=edge_energy(found.energy, found.mu, FIRST))
    return scan


def _ordered(scan: Scan) -> Scan:
    """By ascending energy, the mean where an energy was measured more than once."""
    energy, where = np.unique(scan.energy, return_inverse=True)
    count = np.bincount(where)
    mean = [None if each is None else np.bincount(where, each) / count for each in (scan.mu, scan.foil)]
    return Scan(scan.name, energy, mean[0], mean[1])


def _athena(path: Path, record: str) -> Scan:
    text = gzip.decompress(path.read_bytes()).decode("latin-1")
    for part in text.split("$old_group")[1:]:
        head = re.search(r"^@args = \((.*)\);", part, re.MULTILINE)[1]
        words = [word.strip("'") for word in head.split(",")]
        said = dict(zip(words[::2], words[1::2], strict=False))
        if said["label"] == record:
            x, y = (
                np.array(re.search(rf"^@{name} = \((.*)\);", part, re.MULTILINE)[1].replace("'", "").split(","), float)
                for name in "xy"
            )
            return Scan(f"{path.name}#{record}", x + float(said.get("bkg_eshift", 0)), y)
    raise FileNotFoundError(f"{path}: no record {record}")


def _columns(path: Path) -> Scan:
    text = path.read_text(encoding="latin-1")
    rows = [line.split() for line in text.splitlines() if re.match(r"\s*[-+.\d]", line)]
    width = len(rows[-1])
    table = np.array([row for row in rows if len(row) == width], float).T
    name = path.name
    numbered = dict(re.findall(r"#\s*Column\.(\d+):\s*(\S+)", text, re.IGNORECASE))
    if numbered:
        column = {label.lower(): table[int(number) - 1] for number, label in numbered.items()}
        if "dtc1" in column:  # NSLS-II BMM, fluorescence
            return Scan(name, column["energy"], sum(column[f"dtc{i}"] for i in range(1, 5)) / column["i0"])
        mu = column["mutrans"] if "mutrans" in column else np.log(column["i0"] / column["itrans"])
        foil = np.log(column["itrans"] / column["irefer"]) if "irefer" in column else None
        return Scan(name, column["energy"], mu, foil)
    if "LUCIA" in text:  # dead-time corrected fluorescence over I0; of foils the electron yield
        return Scan(name, table[0], table[5 if "calib" in name else 4] / table[1])
    return Scan(name, table[0], table[1])
