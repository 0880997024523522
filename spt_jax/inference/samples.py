"""Files of one sample -> what a model of several signals says of it: a spectrum of each edge, pair distribution functions.

A file tells its signal by its element and edge, a .gr file by its radiation; 'Ni K=scan.dat' says it in its place. What is
not there is not needed: the model answers from the rest, and it is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from data_pipelines.errors import SpectrumError, UserError
from data_pipelines.readers.measured import Foil, Measured, Normalisation, ReadAs
from data_pipelines.readers.spectrum import read_spectrum
from data_pipelines.schema import EnergyGrid
from data_pipelines.signals import FUNCTIONS, SPECTRA, Signal, parse_signal
from data_pipelines.spectra.grid import to_grid
from data_pipelines.spectra.shape import k_edges_near
from spt_jax.inference.measured import Calibration, correct
from spt_jax.inference.predict import Element, Model, symbol_of
from spt_jax.inference.prediction import Prediction, Value
from spt_jax.inference.said import told

PDF_ENDINGS = (".gr",)


@dataclass
class Sample:
    """What is known of one sample so far. views: by place of its signal, (points,) at each of the likely energies of a
    measured spectrum, the likeliest first; one of anything else. of: name of the file in each place."""

    grid: EnergyGrid
    views: dict[int, list[np.ndarray]] = field(default_factory=dict)
    of: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    element: str = ""

    def rows(self) -> list[np.ndarray]:
        """(S points,) views of the whole sample, NaN where a signal is missing.

        Energies of two signals are off each by its own: every signal goes through its views, in an order of its own.
        """
        count = max(map(len, self.views.values()), default=1)
        rows = np.full((count, len(self.grid.signals), self.grid.points), np.nan, np.float32)
        for number, (place, views) in enumerate(self.views.items()):
            stride = 1 + number % max(len(views) - 1, 1)
            for view in range(count):
                rows[view, place] = views[view * stride % len(views)]
        return list(rows.reshape(count, -1))

    def place_of(self, signal: Signal) -> int:
        """The first free place of a signal. Raises SpectrumError where there is none."""
        places = [i for i, each in enumerate(map(parse_signal, self.grid.signals)) if _is(each, signal)]
        what = " ".join(filter(None, signal))
        if not places:
            raise SpectrumError("no such signal", f"{what}; this model reads {', '.join(self.grid.signals)}")
        free = [place for place in places if place not in self.of]
        if not free:
            others = ", ".join(self.of[place] for place in places)
            raise SpectrumError("two spectra of one edge", f"{what} is also in {others}; give one of them")
        return free[0]

    def put(self, place: int, signal: Signal, name: str, views: list[np.ndarray]) -> None:
        """Of a file, or of anything else with a name."""
        self.views[place], self.of[place] = views, name
        own = parse_signal(self.grid.signals[place])
        if own.is_spectrum and not own.element:
            self.element = signal.element

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for place, name in enumerate(self.grid.signals) if place not in self.of)


def _is(of_model: Signal, found: Signal) -> bool:
    if not found.is_spectrum or of_model.element:
        return of_model == found
    return of_model.is_spectrum and of_model[1:] == found[1:]


def predict_signals(
    model: Model, signals: dict[str, tuple[np.ndarray, np.ndarray]], element: Element | None = None
) -> dict[str, Value]:
    """What a model of several signals says of one sample.

    signals: "Ni K" or "O K EELS" -> (N,) energy in eV and (N,) mu in any scale, on the energies of calculated spectra; "PDF"
    -> (N,) r in Å and (N,) G in 1/Å^2. Those that are left out are not known. element: of the absorber, for a model
    whose signals are of whichever element absorbs. Raises SpectrumError for what the model cannot use.
    """
    sample = _sample(model)
    symbol = "" if element is None else symbol_of(element)
    for name, (x, y) in signals.items():
        signal = parse_signal(name)
        x, y = np.asarray(x, float), np.asarray(y, float)
        if signal.is_spectrum:
            signal = signal._replace(element=signal.element or symbol)
        place = sample.place_of(signal)
        row = _spectrum(sample.grid, x, y, signal) if signal.is_spectrum else _function(sample.grid, x, y, signal, name)
        sample.put(place, signal, name, [row])
    return _answered(model, sample)


def predict_samples(
    model: Model,
    files: Sequence[Path],
    read_as: ReadAs | None = None,
    calibration: Calibration | None = None,
    foil: Foil = "auto",
    normalise: Normalisation = "edges",
) -> Iterator[Prediction]:
    """A Prediction for each folder of files, and for all other files together; one that cannot be used has the error.

    Measured spectra are corrected as those of a model of one spectrum are, and answered with the mean over likely energies.
    """
    for name, own in samples_of(files):
        try:
            sample = _sample(model)
            if not own:
                raise UserError(f"{name}: no files in this folder")
            for path in own:
                try:
                    _put_file(sample, path, read_as or ReadAs(), calibration, foil, normalise)
                except UserError as error:
                    raise UserError(told(str(path), error)) from None
            absorber = model.absorber(sample.element or None)
            missing = [f"no {each}: answered without it" for each in sample.missing]
            notes = (*sample.notes, *missing)
            yield Prediction(name, absorber, _answered(model, sample), notes=notes)
        except UserError as error:
            yield Prediction(name, error=str(error))
        except OSError as error:
            yield Prediction(name, error=f"{error.filename}: {error.strerror}")


def samples_of(files: Sequence[Path]) -> list[tuple[str, list[Path]]]:
    """Names and files of samples: each folder is one, all files that are named by themselves are another."""
    folders, alone = ([path for path in files if path.is_dir() is which] for which in (True, False))
    found = [(str(path), sorted(p for p in path.iterdir() if p.is_file() and p.name[0] != ".")) for path in folders]
    if alone:
        more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
        found.append((f"{alone[0]}{more}", alone))
    return found


def _sample(model: Model) -> Sample:
    grid = model.blueprint.grid
    if not grid.signals:
        raise UserError("this model reads one spectrum at a time")
    if grid.heights == "share":
        raise UserError(
            "this model learnt edge steps as shares of the atoms, which no file tells; use one prepared with --grid.heights step"
        )
    return Sample(grid)


def _put_file(
    sample: Sample,
    path: Path,
    read_as: ReadAs,
    calibration: Calibration | None,
    foil: Foil,
    normalise: Normalisation,
) -> None:
    said, _, rest = str(path).partition("=")
    signal = None
    if rest and not path.exists():
        signal, path = parse_signal(said), Path(rest)
    if signal.technique in FUNCTIONS if signal else path.suffix.lower() in PDF_ENDINGS:
        from data_pipelines.readers.gr import read_gr  # with pymatgen, which spectra do without

        measured = read_gr(path)
        signal = signal or Signal("", "", "nPDF" if measured.radiation == "neutron" else "PDF")
        place = sample.place_of(signal)
        row = _function(sample.grid, measured.r, measured.g, signal, str(path), measured.qmax)
        return sample.put(place, signal, str(path), [row])
    if signal:
        read_as = replace(read_as, element=signal.element or read_as.element, edge=signal.edge)
    found = read_spectrum(path, read_as)
    element, edge = found.element or _by_energy(sample, found), found.edge or "K"
    if not element:
        raise SpectrumError("element not given", f"{path} does not say whose edge it is; write 'Ni K={path}'")
    if not found.element:
        sample.notes.append(f"{path.name}: taken as {element} {edge}, where mu rises")
    found = found._replace(element=element, edge=edge)
    signal = Signal(element, edge, signal.technique if signal else SPECTRA[0])
    place = sample.place_of(signal)
    views = [found]
    if calibration is not None and not found.calculated:
        views = correct(found, calibration, foil, normalise=normalise).views()
    likeliest = _spectrum(sample.grid, views[0].energy, views[0].mu, signal)
    sample.put(place, signal, str(path), [likeliest, *_others(sample.grid, views[1:], signal)])
    sample.notes += [f"{path.name}: {note}" for note in views[0].notes]


def _others(grid: EnergyGrid, views: Sequence[Measured], signal: Signal) -> Iterator[np.ndarray]:
    """Those that lie on the grid, as of a model of one spectrum."""
    for view in views:
        with suppress(SpectrumError):
            yield _spectrum(grid, view.energy, view.mu, signal)


def _by_energy(sample: Sample, found: Measured) -> str:
    """The one element among the model's signals at whose edge mu rises, "" where none or several do."""
    known = {signal.element for signal in map(parse_signal, sample.grid.signals) if signal.edge == (found.edge or "K")}
    near = [element for element in k_edges_near(found.energy, found.mu) if element in known]
    return near[0] if len(near) == 1 else ""


def _spectrum(grid: EnergyGrid, energy: np.ndarray, mu: np.ndarray, signal: Signal) -> np.ndarray:
    """(points,) as training spectra were."""
    if not signal.element:
        raise SpectrumError("element not given", f"say which element absorbs: {signal.edge} of which?")
    row = to_grid(energy, mu, grid.alone, signal.element, signal.edge)
    return row / row[: grid.common].mean() if grid.heights == "area" else row


def _function(
    grid: EnergyGrid, r: np.ndarray, g: np.ndarray, signal: Signal, name: str, qmax: float | None = None
) -> np.ndarray:
    """(points,) G(r) as far in r and Q as training had it."""
    from data_pipelines.labels.pdf import pdf_grid
    from data_pipelines.readers.gr import MeasuredPdf, to_pdf_grid

    asked = pdf_grid(grid, signal)
    return to_pdf_grid(MeasuredPdf(r, g, asked.radiation, qmax, ""), asked, name).astype(np.float32)


def _answered(model: Model, sample: Sample) -> dict[str, Value]:
    if not sample.of:
        raise SpectrumError("no signal", f"none of {', '.join(sample.grid.signals)} was given")
    absorber = model.absorber(sample.element or None)
    [values] = model.values([sample.rows()], [absorber])
    return values
