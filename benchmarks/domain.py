"""How often a packed model calls a spectrum strange, and how far off it is beyond the end of one: python -m benchmarks.domain MODEL DATASET [EXPERIMENT] [REFERENCES]

DATASET: whose test split it never saw; as it is, moved on its energy axis, and with its points in another order. Whole
spectra of its validation split are cut, and compared with the band that is drawn beyond the end.
EXPERIMENT: the folder with xdi_library.tar.xz and the others: measured oxides, and metals, sulfides and molecules; each
compound counts once, by its median scan, on the energies that `spt-jax predict` would give it. REFERENCES: calculated ones,
of which those that have `ood` true are metals and sulfides.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import spt_jax
from benchmarks.measured.compounds import FOREIGN, KNOWN, Compound
from benchmarks.measured.files import scans
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import SpectrumError
from data_pipelines.readers.measured import Measured
from data_pipelines.schema import SYMBOLS
from spt_jax.inference.measured import Calibration, correct
from spt_jax.inference.predict import Model
from spt_jax.scoring.domain import Domain

SHIFTS = (-8.0, -5.0, -4.0, -3.5, -3.0, 3.0, 3.5, 4.0, 5.0, 8.0)


def of_theory(domain: Domain, dataset: Dataset) -> None:
    split, grid = dataset.split("test"), dataset.grid
    common = grid.relative()[: grid.common]
    spectrum, number = np.asarray(split.batch.spectrum)[:, : grid.common], np.asarray(split.batch.atomic_number)

    def share(rows: np.ndarray) -> str:
        return f"{100 * np.mean(domain.strangeness(rows.astype(np.float32), number) > 0):5.1f} %"

    rng = np.random.default_rng(0)
    print(f"{len(number)} test spectra called strange: {share(spectrum)}")
    for shift in SHIFTS:
        print(
            f"  moved by {shift:+4.1f} eV: {share(np.stack([np.interp(common - shift, common, mu) for mu in spectrum]))}"
        )
    far = rng.uniform(3, 10, len(number)) * rng.choice((-1, 1), len(number))
    moved = np.stack([np.interp(common - shift, common, mu) for mu, shift in zip(spectrum, far, strict=True)])
    print(f"  moved by 3 to 10 eV: {share(moved)}")
    print(f"  points in another order: {share(rng.permuted(spectrum, axis=1))}")


def of_open_ends(model: Model, dataset: Dataset) -> None:
    own, batch, grid = model.open_end, dataset.split("validation").batch, dataset.grid
    if own is None or not len(own.widths):
        return
    whole = np.isfinite(batch.spectrum).all(axis=1)
    spectrum, number = np.float64(batch.spectrum[whole]), batch.atomic_number[whole]
    width = np.array([own.width(each) for each in number])[:, None]
    copper = number == SYMBOLS.index("Cu")
    print(
        f"\n{len(number)} whole validation spectra, {copper.sum()} of Cu, cut: points in the band, rms off, mean half width"
    )
    for end in np.linspace(grid.common, grid.points, 5)[:-1].astype(int):
        known = np.arange(grid.points) < end
        expected, std = own.expected(spectrum, known)
        off, half = np.abs(spectrum[:, ~known] - expected), width * std
        for name, rows in (("Cu", copper), ("others", ~copper)):
            inside, rms = (off <= half)[rows].mean(), np.sqrt((off[rows] ** 2).mean())
            print(
                f"  to {grid.relative()[end - 1]:4.1f} eV, {name:6}: {100 * inside:4.1f} %, {rms:.3f}, {half[rows].mean():.3f}"
            )


def of_measured(model: Model, compounds: Sequence[Compound], experiment: Path, calibration: Calibration) -> None:
    found = {}
    for one in compounds:
        given = []
        for scan in scans(one, experiment):
            try:
                given.append((scan.name, correct(Measured(scan.energy, scan.mu, one.element, "K"), calibration)))
            except SpectrumError as error:
                print(f"  {scan.name}: {error}")
        each = [said.strangeness for said in model.predict_each(given) if said.strangeness is not None]
        if each:
            found[f"{one.element} {one.name}"] = float(np.median(each))
    strange = [name for name, value in found.items() if value > 0]
    print(f"{len(strange)} of {len(found)} are called strange")
    for name, value in found.items():
        print(f"  {name:24} {value:+6.1f}{' strange' if value > 0 else ''}")


def of_references(model: Model, references: Path) -> None:
    columns = ["absorber", "formula", "omega", "mu", "ood"]
    for row in pq.read_table(references, columns=columns).to_pylist():
        if row["ood"] and f"{row['absorber']} K" in model.blueprint.absorbers:
            spectrum = Measured(np.array(row["omega"]), np.array(row["mu"]), row["absorber"], "K")
            [said] = model.predict_each([(row["formula"], spectrum)])
            value = said.error or f"{said.strangeness:+6.1f}{' strange' if said.warnings else ''}"
            print(f"  {row['absorber']} K of {row['formula']:12} {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("experiment", type=Path, nargs="?")
    parser.add_argument("references", type=Path, nargs="?")
    options = parser.parse_args()
    model = spt_jax.load(options.model)
    if model.domain is None:
        parser.error(f"{options.model} does not know what it learnt from; pack it anew with `spt-jax pack`")
    dataset = Dataset(options.dataset)
    of_theory(model.domain, dataset)
    of_open_ends(model, dataset)
    if options.experiment:
        calibration = Calibration.of(options.model)
        for title, group in (("measured oxides", KNOWN), ("measured metals, sulfides, molecules", FOREIGN)):
            print(f"\n{title}")
            of_measured(model, group, options.experiment, calibration)
    if options.references:
        print("\ncalculated metals and sulfides")
        of_references(model, options.references)


if __name__ == "__main__":
    main()
