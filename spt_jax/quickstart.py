"""The main job on the embedded library: train, evaluate, predict one spectrum, report."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import EXAMPLE, LIBRARY
from data_pipelines.readers.spectrum import read_spectrum
from spt_jax.config import Config
from spt_jax.inference.evaluate import as_tables, evaluate
from spt_jax.inference.output import as_table
from spt_jax.inference.predict import load
from spt_jax.inference.prediction import Prediction
from spt_jax.presets import PRESETS
from spt_jax.reports.report import write_report
from spt_jax.runs.folder import REPORT, write_metrics
from spt_jax.training.loop import train
from spt_jax.training.progress import TrainingLine


def quickstart(out: Path, console: Console, config: Config | None = None) -> None:
    """Leaves the run, metrics.json and report.html in `out`. config: of the run; the preset tiny where not given."""
    dataset = Dataset(LIBRARY)
    counts = {name: part["examples"] for name, part in dataset.card["splits"].items()}
    absorbers = ", ".join(f"{element} {n}" for element, n in dataset.card["elements"].items())
    console.print(f"Embedded library: {sum(counts.values())} FEFF10 K-edge spectra ({absorbers})", highlight=False)
    console.print(f"Splits by material: {', '.join(f'{name} {n}' for name, n in counts.items())}", highlight=False)
    with TrainingLine(console) as line:
        train(config or PRESETS["tiny"](), dataset, out, line)

    model = load(out)
    evaluation = evaluate(model, dataset, "test")
    write_metrics(out, evaluation.metrics)
    console.print(as_tables(evaluation.metrics), highlight=False)
    write_report(out, evaluation, model.blueprint, dataset)

    example = read_spectrum(EXAMPLE)
    values = model.predict(example.energy, example.mu, element=example.element)
    predicted = Prediction(EXAMPLE.name, f"{example.element} {example.edge}", values)
    console.print(as_table(predicted, model.decisions.coverage))
    console.print(
        f"Report: {out / REPORT}\n"
        f"Next:   spt-jax predict {out} {EXAMPLE}\n"
        f"        spt-jax prepare YOUR_FEFF_RUNS --out dataset",
        highlight=False,
        soft_wrap=True,
    )
