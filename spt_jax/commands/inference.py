"""What a trained model says: scores, and descriptors of spectra."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from data_pipelines.errors import DoubtError, UserError
from data_pipelines.ranges import Range
from spt_jax.commands.file_options import FileOptions, model_and_files
from spt_jax.commands.places_named import Named
from spt_jax.commands.screen import Bars, Throughput, console, errors

if TYPE_CHECKING:
    from spt_jax.inference.prediction import Prediction

# Fewer files are done before a bar is drawn.
MANY = 256


@dataclass(frozen=True)
class Evaluate:
    """Score a trained model on a split: tables on the screen, and RUN/metrics.json where it is a folder.

    The main scores come first: weighted F1 of classes, R2 of values.
    """

    model: tyro.conf.Positional[Named]
    """Run folder made by `spt-jax train`, folder of `spt-jax ensemble`, file of `spt-jax export` or `spt-jax pack`, or a
    name of `spt-jax models`."""
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATASET...")]
    """Dataset folders, as of `spt-jax train`; of several, all spectra are scored together, without weights."""
    split: Annotated[Literal["train", "validation", "test"], tyro.conf.arg(metavar="SPLIT")] = "test"
    """train, validation or test."""
    compiled: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run the machine code that the file holds, which can do anything: only of people whose programs you would run."""
    source: Annotated[str | None, tyro.conf.arg(metavar="VERSION|average|unknown")] = None
    """What all spectra are taken to come from, by a model trained with --model.sources: a version of FEFF (9), `average`
    of those it was trained on, or `unknown`, as it is where not given. What a dataset says of its rows is not used."""

    def run(self) -> None:
        from data_pipelines.dataset.opening import open_spectra
        from spt_jax.inference.evaluate import as_tables, evaluate
        from spt_jax.inference.predict import load
        from spt_jax.runs.folder import write_metrics

        metrics = evaluate(load(self.model, self.compiled, self.source), open_spectra(self.data), self.split).metrics
        if self.model.is_dir():
            write_metrics(self.model, metrics)
        console.print(as_tables(metrics), highlight=False)


@dataclass(frozen=True)
class Predict(FileOptions):
    """Descriptors of spectra: FEFF's xmu.dat, columns of text, XDI, SPEC, EPICS, EMSA, Athena or NeXus files (docs/files.md);
    or with --data of a whole dataset. Without a MODEL by the default one that comes with the package (`spt-jax models`).

    A model of several signals answers for a sample: all FILEs together, or each folder of them by itself (docs/fusion.md).

    A file that cannot be used costs a line on stderr, and exit status 1 at the end; the others are answered. Exit status 3
    is of answers that have a warning: the spectrum is unlike what the model learnt (docs/measured.md).

      spt-jax predict xmu.dat
      spt-jax predict run xmu.dat
      spt-jax predict run --data dataset --out answers.parquet

    A dataset is streamed through all devices into one Parquet file with a row for each spectrum: id, material, split,
    element, edge, each descriptor with its probability (of a class; of a shell a map from element to probability) or low
    and high (ends of the interval of a value), strangeness of a packed model (docs/measured.md), and error. After a stop
    the same command goes on where it was; until it is through, what is done lies in OUT.parts.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = ""
    """Run folder made by `spt-jax train`, folder of `spt-jax ensemble`, file of `spt-jax export` or `spt-jax pack`, a
    name of `spt-jax models`, or an address, https://HOST/NAME.safetensors#sha256=CHECKSUM."""
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE...")] = ()
    """Spectrum files, or folders of them; FILE#NAME is one record of several in a file."""
    format: Literal["table", "json", "csv"] = "table"
    """How to print the result."""
    strict: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Refuse a spectrum that is unlike what the model learnt, instead of answering it with a warning."""
    data: Named | None = None
    """Dataset folder made by `spt-jax prepare`, or one of TFDS, in the place of files."""
    out: Path | None = None
    """Parquet file to write, with --data."""
    split: tuple[str, ...] = ()
    """With --data, these splits of it; all where not given."""
    batch_size: Annotated[int, Range(least=0)] = 0
    """With --data, spectra on each device at a time; 0 means 64 on a CPU and 4096 elsewhere."""
    compiled: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run the machine code that the file holds, which can do anything: only of people whose programs you would run."""
    source: Annotated[str | None, tyro.conf.arg(metavar="VERSION|average|unknown")] = None
    """What all spectra are taken to come from, by a model trained with --model.sources: a version of FEFF (9), `average`
    of those it was trained on, or `unknown`, as it is where not given. What a dataset says of its rows is not used."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data and self.files:
            raise UserError("--data takes the place of files; give one of them")
        if self.data and not self.out:
            raise UserError("--data needs a file for the answers: --out answers.parquet")
        if not self.data and (self.out or self.split or self.batch_size):
            raise UserError("--out, --split and --batch-size are of a dataset; give --data DATASET")
        if self.data and self._of_files:
            raise UserError("--data has its spectra as they are; --format, --strict and how to read them are of files")

    @property
    def _of_files(self) -> bool:
        """Whether anything is said that is of files alone."""
        named = {"format", "strict", *(each.name for each in fields(FileOptions))}
        return any(getattr(self, each.name) != each.default for each in fields(self) if each.name in named)

    def run(self) -> None:
        if self.data:
            self._predict_dataset()
        else:
            self._predict_files()

    def _predict_dataset(self) -> None:
        from data_pipelines.dataset.opening import open_spectra
        from spt_jax.inference.bulk import predict_dataset
        from spt_jax.training.sharding import Layout, make_mesh
        from spt_jax.zoo.shelf import place_of

        if self.out.is_dir():
            raise UserError(f"{self.out} is a folder; name a file, for instance --out {self.out / 'answers.parquet'}")
        dataset = open_spectra(self.data)
        with Throughput() as report:
            done = predict_dataset(
                place_of(self.model),
                dataset,
                self.out,
                self.split,
                self.batch_size,
                Layout(make_mesh()),
                report,
                self.compiled,
                self.source,
            )
        if done.model.blueprint.decisions is None:
            _note_undecided()
        if done.before:
            print(f"{self.out}: done before, {done.rows:,} spectra")
            return
        silent = f", {done.silent:,} of them without answers (column error)" if done.silent else ""
        print(f"{self.out}: {done.rows:,} spectra{silent}, {self.out.stat().st_size / 1e6:.1f} MB")

    def _predict_files(self) -> None:
        from spt_jax.inference.kept import load_kept
        from spt_jax.inference.measured import Calibration
        from spt_jax.inference.output import as_csv, as_json
        from spt_jax.inference.prediction import refused_if_warned
        from spt_jax.inference.samples import predict_samples, samples_of
        from spt_jax.inference.spectra import files_of, predict_files

        name, given = model_and_files(self.model, self.files)
        with Bars() as report:
            model = load_kept(name, self.compiled, self.source, report)
        together = bool(model.blueprint.grid.signals)
        files = list(given) if together else files_of(given)
        total = len(samples_of(files)) if together else len(files)
        bad: list[str] = []
        absorbers: list[str] = []
        warned: list[str] = []
        # Progress takes stdout over while it is on a terminal; tables there are progress enough.
        out, shown = sys.stdout, total > MANY and not sys.stdout.isatty()
        with Bars() as report:
            told = report if shown else None
            calibration = Calibration.of(name)
            if together:
                each = predict_samples(model, files, self.read_as, calibration, self.foil, self.normalise)
            else:
                each = predict_files(
                    model, files, self.element, self.edge, self.read_as, calibration, self.foil, self.normalise
                )
            each = map(refused_if_warned, each) if self.strict else each
            predictions = _watched(each, total, bad, absorbers, warned, told)
            if self.format == "table":
                _print_tables(predictions, model.decisions.coverage)
            else:
                for text in (as_json if self.format == "json" else as_csv)(predictions):
                    out.write(text)
        out.flush()
        if model.blueprint.decisions is None and absorbers:
            _note_undecided()
        _note_unscored(name, absorbers)
        if bad:
            # A file may hold several spectra.
            count = len(bad) + len(absorbers)
            what = (
                f"{count} files"
                if count == total and not together
                else f"{count} samples"
                if together
                else f"{count} spectra"
            )
            raise UserError(bad[0] if count == 1 else f"{len(bad)} of {what} could not be used")
        if warned:
            few = ", ".join(warned[:3]) + (", ..." if len(warned) > 3 else "")
            raise DoubtError(f"{few}: unlike what this model learnt; do not rely on the answer")


def _note_undecided() -> None:
    note = "note: this model has no fitted decisions: the most likely classes, and no intervals"
    errors.print(note, style="yellow", highlight=False, soft_wrap=True)


def _note_unscored(model: str, absorbers: Iterable[str]) -> None:
    """Of which elements a packed model has too few test spectra for anyone to know how good its answers are."""
    from spt_jax.runs.packed import read_card, unscored
    from spt_jax.zoo.shelf import SUFFIX, place_of

    place = place_of(model)
    if place.suffix != SUFFIX:
        return
    card = read_card(place)
    for note in filter(None, (unscored(card, absorber) for absorber in sorted(set(absorbers)))):
        errors.print(f"note: {note}", style="yellow", highlight=False, soft_wrap=True)


def _watched(
    predictions: Iterable[Prediction],
    total: int,
    bad: list[str],
    absorbers: list[str],
    warned: list[str],
    report: Callable[[str, int, int], None] | None,
) -> Iterator[Prediction]:
    """The same, while what is wrong with some is kept in `bad` and told, whose the others are is kept in `absorbers`,
    the names of those with a warning in `warned`, and what is done is reported."""
    told = 0
    for done, each in enumerate(predictions, start=1):
        if each.error:
            bad.append(each.error)
        else:
            absorbers.append(each.absorber)
            warned += [each.name] * bool(each.warnings)
        # That of a single spectrum is the command's own error.
        if total > 1 or done > 1:
            for error in bad[told:]:
                errors.print(error, markup=False, highlight=False, soft_wrap=True)
            told = len(bad)
        if report and (done % MANY == 0 or done == total):
            report("spectra", done, max(done, total))
        yield each


def _print_tables(predictions: Iterable[Prediction], coverage: float) -> None:
    from spt_jax.inference.output import as_table, legend

    names: dict[str, None] = {}
    for each in predictions:
        if not each.error:
            names |= dict.fromkeys(each.values)
            console.print(as_table(each, coverage))
    if names:
        console.print(legend(names), highlight=False)
