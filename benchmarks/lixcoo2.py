"""Does the oxidation state of Co follow delithiation: python -m benchmarks.lixcoo2 LIXCOO2.parquet MODEL...

For LixCoO2 from x = 1 to 0 in the phases O3, H1-3 and O1: the mean oxidation state over the Co sites of each phase and x,
as the mean over probabilities and as that of the decided classes, against 4 - x; how many steps of x go the wrong way; and
the confusion matrix of sites whose charge is stated (localised models, and x of 0 or 1), with the recall of Co4+.
A model that has learnt from 0 < x < 1 shows nothing: `--leave-out SOURCE.parquet OUT.parquet` writes a source of
`spt-jax prepare` without such rows. `--ends FOLDER`: each model is first moved by the spectra of x = 0 and 1 with their
oxidation state alone, into a run in FOLDER, and judged at 0 < x < 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pymatgen.core import Composition

import spt_jax
from benchmarks import measure
from data_pipelines.dataset.data import Split
from data_pipelines.dataset.shots import Drawn, Shots
from data_pipelines.schema import NAMES, SYMBOLS, Batch, EnergyGrid, descriptor, encode_labels
from data_pipelines.spectra.grid import to_grid
from spt_jax.inference.predict import Model
from spt_jax.study.curve import BATCH, STEPS, FineTuning, configured
from spt_jax.training.adapt import adapt, starts_of
from spt_jax.training.sharding import Layout, make_mesh

STATES = np.array(descriptor("OS").classes)
THREE, FOUR = 3, 4


def delithiated(formula: str) -> bool:
    """Is this LixCoO2 with 0 < x < 1, in whatever structure?

    >>> delithiated("Li12 Co12 O24"), delithiated("Li1 Co2 O4"), delithiated("Co4 O8"), delithiated("Li2 Co1 O3")
    (False, True, False, False)
    """
    amounts = Composition(formula).get_el_amt_dict()
    if set(amounts) != {"Li", "Co", "O"}:
        return False
    return bool(np.isclose(amounts["O"], 2 * amounts["Co"]) and amounts["Li"] < amounts["Co"] * (1 - 1e-6))


def leave_out(source: Path, out: Path) -> int:
    """Write the rows of a source that are no LixCoO2 of 0 < x < 1; returns how many are left out."""
    table = pq.read_table(source)
    kept = np.array([not delithiated(formula) for formula in table["formula"].to_pylist()])
    pq.write_table(table.filter(pa.array(kept)), out, row_group_size=1000)
    return int((~kept).sum())


def cobalt(library: Path) -> pd.DataFrame:
    """The Co spectra: phase, x, tag of the structure, energy and mu, and `charge`, NaN where it is not a whole number."""
    columns = ["absorber", "phase", "x", "tag", "omega", "mu", "charge_model", "OS_formal", "OS_mean"]
    table = pq.read_table(library, columns=columns).to_pandas()
    own = table[table.absorber == "Co"].reset_index(drop=True)
    charge = own.OS_formal.where(own.charge_model == "loc", own.OS_mean).astype(float)
    return own.assign(charge=charge.where(np.isclose(charge % 1, 0)))


class Ends(NamedTuple):
    """What `Shots` asks of data."""

    name: str
    grid: EnergyGrid
    fingerprint: str


def moved(name: str, own: pd.DataFrame, out: Path) -> Model:
    """The model, a single run, after it learnt the oxidation state of x = 0 and x = 1."""
    [start] = starts_of(name)
    grid, ends = start.blueprint.grid, own[own.x.isin([0, 1])]
    rows = zip(ends.omega, ends.mu, strict=True)
    spectra = np.stack([to_grid(np.array(energy), np.array(mu), grid, "Co", "K") for energy, mu in rows])
    labels = np.full((len(ends), len(NAMES)), np.nan)
    labels[:, NAMES.index("OS")] = ends.charge
    number = np.full(len(ends), SYMBOLS.index("Co"), np.int32)
    tags = tuple(ends.tag)
    split = Split(tags, tags, ("Co K",) * len(ends), Batch(spectra, number, *encode_labels(labels)))
    shots = Shots(Ends("ends", grid, "ends of LixCoO2"), Drawn(split, split, (), True), STEPS * BATCH, "all")
    config = configured(name, start, FineTuning(), BATCH)
    adapt(start, config, shots, {"Co K"}, 0, Layout(make_mesh()), out)
    return spt_jax.load(out)


def told(model: Model, own: pd.DataFrame) -> pd.DataFrame:
    """With `mean`, over the calibrated probabilities, and `decided` of each site."""
    rows = zip(own.omega, own.mu, strict=True)
    spectra = np.stack([model.to_grid(np.array(energy), np.array(mu), "Co K") for energy, mu in rows])
    number = np.full(len(own), SYMBOLS.index("Co"), np.int32)
    answers = {"OS": model.answers(spectra, number)["OS"]}
    likely = model.decisions.probabilities(answers, number)["OS"]
    return own.assign(mean=likely @ STATES, decided=STATES[model.decisions.classes(answers)["OS"]])


def by_content(own: pd.DataFrame) -> pd.DataFrame:
    """A row for each phase and x, from x = 1 on: structures, sites, truth, and both means."""
    groups = own.groupby(["phase", own.x.round(4)])
    found = groups.agg(
        structures=("tag", "nunique"), sites=("tag", "size"), mean=("mean", "mean"), decided=("decided", "mean")
    )
    found["truth"] = 4 - groups.x.first()
    return found.reset_index().sort_values(["phase", "x"], ascending=[False, False])


def wrong_way(means: pd.DataFrame, column: str) -> tuple[int, int]:
    """Steps of falling x within a phase in which the mean falls, and all steps."""
    steps = np.concatenate([np.diff(each[column]) for _, each in means.groupby("phase", sort=False)])
    return int((steps < 0).sum()), len(steps)


def recall(own: pd.DataFrame) -> tuple[int, int]:
    """Co4+ sites that are found, and all."""
    four = own[own.charge == FOUR]
    return int((four.decided == FOUR).sum()), len(four)


def summary(own: pd.DataFrame, means: pd.DataFrame) -> dict:
    """The numbers of the result line."""
    fields: dict = {"sites": len(own)}
    for column in ("mean", "decided"):
        fields[f"mae_{column}"] = float((means[column] - means.truth).abs().mean())
        fields[f"wrong_steps_{column}"], fields["steps"] = wrong_way(means, column)
        fields[f"spearman_{column}"] = float(own[column].corr(-own.x, method="spearman"))
    fields["co4_recall_x0"] = recall(own[own.x == 0])
    for phase, each in own.groupby("phase"):
        fields[f"co4_recall_{phase}"] = recall(each)
    return fields


def show(own: pd.DataFrame, means: pd.DataFrame, fields: dict) -> None:
    print("phase       x  structures  sites  4 - x  mean  decided")
    for each in means.itertuples():
        print(
            f"{each.phase:6}{each.x:7.3f}{each.structures:12}{each.sites:7}{each.truth:7.2f}{each.mean:6.2f}{each.decided:9.2f}"
        )
    for column, words in (("mean", "mean over probabilities"), ("decided", "decided classes")):
        print(
            f"{words}: mean absolute error over phase and x {fields[f'mae_{column}']:.3f}; "
            f"{fields[f'wrong_steps_{column}']} of {fields['steps']} steps of x go the wrong way; "
            f"Spearman over sites {fields[f'spearman_{column}']:.2f}"
        )
    stated = own[own.charge.notna()]
    print(f"\nconfusion of {len(stated)} sites of stated charge (rows: stated, columns: decided)")
    columns = sorted({THREE, FOUR, *stated.decided})
    for phase in (*stated.phase.unique(), "all"):
        some = stated if phase == "all" else stated[stated.phase == phase]
        found, whole = recall(some)
        print(f"{phase:6}" + "".join(f"{column:+5d}" for column in columns) + f"    Co4+ recall {found} of {whole}")
        for charge in (THREE, FOUR):
            row = some[some.charge == charge].decided
            print(f"  {charge:+d}  " + "".join(f"{(row == column).sum():5d}" for column in columns))
    if fields["co4_recall_x0"][1]:
        print("x = 0: Co4+ recall {} of {}".format(*fields["co4_recall_x0"]))


def main(argv: Sequence[str] | None = None) -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("library", type=Path, nargs="?", help="LIXCOO2.parquet")
    parser.add_argument("models", nargs="*", default=[], help="run folders, files, or names of `spt-jax models`")
    parser.add_argument("--ends", type=Path, metavar="FOLDER", help="learn x = 0 and 1 first, into FOLDER")
    parser.add_argument("--leave-out", type=Path, nargs=2, metavar=("SOURCE", "OUT"), help="write a source and stop")
    options = parser.parse_args(argv)
    if options.leave_out:
        print(f"{options.leave_out[1]}: {leave_out(*options.leave_out)} rows of LixCoO2, 0 < x < 1, left out")
        return
    if not (options.library and options.models):
        parser.error("LIXCOO2.parquet and a MODEL are needed")
    own = cobalt(options.library)
    for name in options.models:
        if options.ends:
            model = moved(name, own, options.ends / Path(name).name)
            found = told(model, own[~own.x.isin([0, 1])])
        else:
            found = told(spt_jax.load(name), own)
        means = by_content(found)
        fields = summary(found, means)
        print(f"\n{name}{', moved by the ends' if options.ends else ''}")
        show(found, means, fields)
        measure.record(
            "lixcoo2", f"{name}{' ends' if options.ends else ''}", options, length=None, batch=None, **fields
        )


if __name__ == "__main__":
    main()
