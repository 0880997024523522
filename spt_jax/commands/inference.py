"""What a trained model says: scores, descriptors of spectra, one file to take away."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from data_pipelines.errors import SpectrumError, UserError
from spt_jax.commands.screen import console


@dataclass(frozen=True)
class Evaluate:
    """Score a trained model on a split: a table on the screen, and RUN/metrics.json."""

    model: tyro.conf.Positional[Path]
    """Run folder made by `spt-jax train`."""
    data: Path
    """Dataset folder."""
    split: Literal["train", "validation", "test"] = "test"
    """Which split of it."""

    def run(self) -> None:
        from data_pipelines.dataset.loading import Dataset
        from data_pipelines.files import write_atomic
        from spt_jax.inference.evaluate import as_table, evaluate
        from spt_jax.inference.load import load_run

        metrics = evaluate(load_run(self.model), Dataset(self.data), self.split).metrics
        write_atomic(self.model / "metrics.json", json.dumps(metrics, indent=1) + "\n")
        console.print(as_table(metrics))


@dataclass(frozen=True)
class Predict:
    """Descriptors of spectra: FEFF's xmu.dat, text of two columns (energy in eV, mu in any scale), XDI or Athena files."""

    model: tyro.conf.Positional[Path]
    """Run folder made by `spt-jax train`, or file made by `spt-jax export`."""
    files: tyro.conf.Positional[tuple[Path, ...]]
    """Spectrum files."""
    element: str | None = None
    """Absorbing element where the file does not name it; not needed for a model of one element."""
    edge: str = "K"
    """Absorption edge where the file does not name it."""
    format: Literal["table", "json", "csv"] = "table"
    """How to print the result."""

    def run(self) -> None:
        from data_pipelines.readers.spectrum import read_spectrum
        from spt_jax.inference.output import as_csv, as_json, as_table
        from spt_jax.inference.predict import load

        if not self.files:
            raise UserError("no FILE given; name xmu.dat or two-column text files")
        model = load(self.model)
        spectra = []
        for file in self.files:
            found = read_spectrum(file)
            if self.element and found.element and self.element != found.element:
                raise SpectrumError(
                    "wrong element or edge", f"{file} is a {found.element} spectrum, not {self.element}"
                )
            with _named(file):
                absorber = model.absorber(found.element or self.element, found.edge or self.edge)
                spectra.append((model.to_grid(found.energy, found.mu, absorber), absorber))
        names = [str(file) for file in self.files]
        results = list(zip(names, [a for _, a in spectra], model.predict_on_grid(spectra), strict=True))
        if self.format == "table":
            console.print(*(as_table(*result) for result in results), sep="\n")
        else:
            sys.stdout.write(as_json(results) if self.format == "json" else as_csv(results))


@dataclass(frozen=True)
class Export:
    """Put a trained model into one file, for use on another machine, at a beamline or in another program.

    It holds the network with its weights as StableHLO (jax.export; CPU, CUDA and TPU, any batch size) and all that
    `spt-jax predict FILE xmu.dat` and `spt_jax.load("FILE")` need: they then work without flax, orbax and the run.
    """

    model: tyro.conf.Positional[Path]
    """Run folder made by `spt-jax train`."""
    out: Path
    """File to write, for instance model.spt."""

    def run(self) -> None:
        from spt_jax.inference.load import load_run
        from spt_jax.runs.export import export

        if self.out.is_dir():
            raise UserError(f"{self.out} is a folder; name a file, for instance --out {self.out / 'model.spt'}")
        self.out.parent.mkdir(parents=True, exist_ok=True)
        model = load_run(self.model)
        export(model.blueprint, model.network, self.out)
        print(f"{self.out}: {self.out.stat().st_size / 1e6:.1f} MB")
        print(f"Next: spt-jax predict {self.out} xmu.dat")


@contextlib.contextmanager
def _named(file: Path):
    """Put the file's name into what is wrong with its spectrum."""
    try:
        yield
    except SpectrumError as error:
        raise SpectrumError(error.reason, f"{file}: {error.detail}") from None
