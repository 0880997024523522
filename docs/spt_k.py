"""Make the model spt-k anew: python docs/spt_k.py FOLDER SOURCE...

SOURCE: what docs/models.md names. FOLDER holds the dataset, the runs and spt-k.safetensors; after a stop the same
command goes on. Half an hour on two cores, of which the labels of the structures take a third.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from data_pipelines.dataset.build import prepare
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import UserError
from data_pipelines.schema import NAMES, EnergyGrid
from spt_jax import __version__
from spt_jax.config import PEERS, Config, base
from spt_jax.reports.model_card import Words
from spt_jax.reports.packing import pack_runs
from spt_jax.training.loop import train

# The range that all sources have.
GRID = EnergyGrid(start=0.5, step=0.5, points=66)
SEEDS = (0, 1)
WORDS = Words(
    name="spt-k",
    about="K edges of oxides, calculated spectra of FEFF 9 and 10; the mean of two SPT and two MLP.",
    licence="CC-BY-4.0",
    attribution=(
        "Cu, Co, Cr, Ni, Ti, V spectra: OmniXAS (BSD-3-Clause)",
        "their structures: Materials Project (CC-BY 4.0)",
        "all others: computed for spt_jax; some structures: AMCSD, smol (LBNL BSD)",
    ),
    made_with=f"spt_jax {__version__}",
)


def configurations() -> dict[str, Config]:
    """Chosen on the validation split. Of oxygen there are too few spectra to learn its neighbours' oxidation state."""
    preset = base()
    objective = replace(preset.objective, energy_shift=0.25, descriptors=tuple(n for n in NAMES if n != "NNOSM"))
    found = {}
    for kind, network in {"spt": preset.model, "mlp": PEERS["mlp"]}.items():
        for seed in SEEDS:
            settings = replace(preset.train, batch_size=128, patience=0, seed=seed)
            found[f"{kind}{seed}"] = Config(network, objective, settings)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sources", type=Path, nargs="+")
    options = parser.parse_args()
    try:
        prepare(options.sources, options.folder / "dataset", GRID)
        dataset, runs = Dataset(options.folder / "dataset"), []
        for name, config in configurations().items():
            runs.append(options.folder / name)
            train(config, dataset, runs[-1], lambda line, name=name: print(name, line["epoch"], flush=True))
        out = options.folder / "spt-k.safetensors"
        pack_runs(runs, dataset, out, WORDS)
    except UserError as error:
        parser.error(str(error))
    print(out)


if __name__ == "__main__":
    main()
