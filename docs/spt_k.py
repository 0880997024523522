"""Make the model spt-k anew: python docs/spt_k.py FOLDER UNLABELLED SOURCE...

UNLABELLED: unlabelled_k_feff9.npz. SOURCE: what docs/models.md names. FOLDER holds the dataset, the runs and
spt-k.safetensors; after a stop the same command goes on. Forty minutes of one core, of which the labels of the structures
take a tenth.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipelines.dataset.build import prepare
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import UserError
from data_pipelines.files import replacing
from data_pipelines.schema import NAMES, SHELL_NAMES, EnergyGrid
from spt_jax import __version__
from spt_jax.config import Config
from spt_jax.presets import PEERS, dense
from spt_jax.reports.model_card import Words
from spt_jax.reports.packing import pack_runs
from spt_jax.training.loop import train

# All sources have the first 33 eV.
GRID = EnergyGrid(start=0.5, step=0.5, points=144, required=66)
INDEX = "npz_index"
# Of oxygen there are too few spectra to learn its neighbours' oxidation state.
LEARNT = (*(name for name in NAMES if name != "NNOSM"), *SHELL_NAMES)
SEEDS = (0, 1, 2)
WORDS = Words(
    name="spt-k",
    about="K edges of oxides, calculated spectra of FEFF 9 and 10; three networks that learnt from labels and from six others.",
    licence="CC-BY-4.0",
    attribution=(
        "Cu, Co, Cr, Ni, Ti, V spectra: OmniXAS (BSD-3-Clause)",
        "their structures: Materials Project (CC-BY 4.0)",
        "all others: computed for spt_jax; some structures: AMCSD, smol (LBNL BSD)",
    ),
    made_with=f"spt_jax {__version__}",
)


def teachers() -> dict[str, Config]:
    """Four MLPs and two of the preset `dense`: their errors differ."""
    preset = dense()
    objective = replace(preset.objective, cut=0.25, descriptors=LEARNT)
    settings = replace(preset.train, patience=0, batch_size=176)
    kinds = {"mlp": (PEERS["mlp"], (0, 1, 2, 3)), "dense": (preset.model, (0, 1))}
    return {
        f"{kind}{seed}": Config(network, objective, replace(settings, seed=seed))
        for kind, (network, seeds) in kinds.items()
        for seed in seeds
    }


def students(teacher: Path) -> dict[str, Config]:
    """What ships. A student sees mixtures of all shares, and nothing of it is dropped: the teacher answers for each view."""
    preset = dense()
    model = replace(preset.model, dropout=0.0)
    objective = replace(preset.objective, cut=0.25, mixup=1.0, descriptors=LEARNT, teacher=str(teacher))
    settings = replace(preset.train, patience=0, batch_size=192, epochs=96, weight_decay=0.01)
    return {f"student{seed}": Config(model, objective, replace(settings, seed=seed)) for seed in SEEDS}


def without_structure(unlabelled: Path, sources: Sequence[Path], out: Path) -> None:
    """The rows of `unlabelled` that no source has as well, by its column npz_index, as a file of the same kind."""
    tables = (source for source in sources if source.suffix == ".parquet")
    numbered = [table for table in tables if INDEX in pq.read_schema(table).names]
    known = [row for table in numbered for row in pq.read_table(table, columns=[INDEX])[INDEX].to_pylist()]
    with np.load(unlabelled) as file:
        rows = np.setdiff1d(np.arange(len(file["mu"])), known)
        scales = {name: np.broadcast_to(file[name], len(file["mu"]))[rows] for name in ("e0_eV", "step_eV")}
        with replacing(out) as partial, open(partial, "wb") as whole:
            np.savez(whole, mu=file["mu"][rows], element=file["element"][rows], **scales)


def of_oxides(source: Path, folder: Path) -> Path:
    """The library without the rows whose column `ood` is true, metals and sulfides; the library itself where it has none."""
    if source.suffix != ".parquet" or "ood" not in pq.read_schema(source).names:
        return source
    table = pq.read_table(source)
    out = folder / source.name
    if out.exists():
        return out
    with replacing(out) as partial:
        pq.write_table(table.filter(pc.invert(pc.fill_null(table["ood"], False))), partial)
    return out


def formulas(sources: Sequence[Path]) -> dict[str, str]:
    """Of the materials of the Parquet libraries: "TiO2 (mp-390)"."""
    found = {}
    for source in sources:
        if source.suffix == ".parquet":
            for row in pq.read_table(source, columns=["prototype", "formula"]).to_pylist():
                found[row["prototype"]] = f"{row['formula']} ({row['prototype']})"
    return found


def fit(configurations: dict[str, Config], dataset: Dataset, folder: Path) -> Sequence[Path]:
    """The run of each, as far as it is not there."""
    for name, config in configurations.items():
        train(config, dataset, folder / name, lambda line, name=name: print(name, line["epoch"], flush=True))
    return [folder / name for name in configurations]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("unlabelled", type=Path)
    parser.add_argument("sources", type=Path, nargs="+")
    options = parser.parse_args()
    folder = options.folder.resolve()  # of the teacher, which belongs to a run
    folder.mkdir(parents=True, exist_ok=True)
    try:
        more = folder / "more.npz"
        if not more.exists():
            without_structure(options.unlabelled, options.sources, more)
        sources = [of_oxides(source, folder) for source in options.sources]
        prepare([*sources, more], folder / "dataset", GRID)
        dataset, teacher, out = (
            Dataset(folder / "dataset"),
            folder / "teacher.safetensors",
            folder / "spt-k.safetensors",
        )
        runs = fit(teachers(), dataset, folder)
        if not teacher.exists():
            pack_runs(runs, dataset, teacher, replace(WORDS, name="teacher", about="whom spt-k learnt from"))
        pack_runs(fit(students(teacher), dataset, folder), dataset, out, WORDS, formulas(sources), sources)
    except UserError as error:
        parser.error(str(error))
    print(out)


if __name__ == "__main__":
    main()
