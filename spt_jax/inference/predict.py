"""A trained model -> descriptors of spectra, treated exactly as the training spectra were.

The network comes as a function, from a run folder or an exported file: nothing here needs flax or orbax.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from data_pipelines.errors import CheckpointError, DatasetError, SpectrumError, UserError
from data_pipelines.places import Place
from data_pipelines.readers.spectrum import Measured
from data_pipelines.schema import SYMBOLS, Descriptor, EnergyGrid, descriptor, number_of, site_kind
from data_pipelines.spectra.grid import all_to_grid, to_grid
from spt_jax.batching import in_pieces
from spt_jax.inference.compiled import Compiled
from spt_jax.inference.measured import Corrected, means, widened
from spt_jax.inference.open_end import Ending, end_note, ending, open_end_of
from spt_jax.inference.prediction import Prediction, Value, elements_of
from spt_jax.inference.said import provenance, told, whose
from spt_jax.inference.trust import trust
from spt_jax.runs.ahead import Programs
from spt_jax.runs.blueprint import Blueprint, Network
from spt_jax.scoring.decisions import Decisions, lacks_oxygens
from spt_jax.scoring.domain import Domain
from spt_jax.scoring.open_end import OpenEnd
from spt_jax.tasks import Answers, answers_of
from spt_jax.zoo.shelf import SUFFIX, place_of

Element = str | int
"""Symbol, in any case, or atomic number."""

# Spectra are answered in pieces of one size, so that one program is compiled whatever their number; of this size,
# because a core's cache then holds what a step of the network passes to the next (benchmarks/NOTES.md).
CHUNK = 64
# Rows of a program for who asks for little: one spectrum, or the seven views of one that was measured.
FEW = 8


class Model:
    """A trained model. `predict` for people, `outputs` and `answers` for arrays.

    Pickled, it is the content of an exported file: it needs no run folder where it is read, and no flax.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        network: Network,
        programs: Programs | None = None,
        domain: Domain | None = None,
        parts: tuple[Model, ...] = (),
    ):
        """programs: of the network, compiled ahead of time. domain: what it learnt from, where that is known. parts: the
        models whose mean it is."""
        self.blueprint = blueprint
        self.network = network
        self.domain = domain
        self.parts = parts
        self._programs = programs
        self.decisions = blueprint.decisions or Decisions()
        self._compiled: dict[int, Compiled] = {}

    def __repr__(self) -> str:
        own, grid = self.blueprint, self.blueprint.grid
        said = "fitted decisions" if own.decisions else "most likely classes, no intervals"
        return (
            f"<spt_jax.Model {own.model.name.upper()}: {' '.join(task.name for task in own.learnt_tasks)} of {', '.join(own.absorbers)}; "
            f"{grid.points} points from {grid.start:g} eV in steps of {grid.step:g} eV; {said}"
            f"{f'; source {own.source}' if own.sources else ''}>"
        )

    @cached_property
    def open_end(self) -> OpenEnd | None:
        """What it expects beyond the end of a spectrum; None where it reads whole ones only, or does not show it."""
        one = self.parts[0] if self.parts else self  # they are of one training set
        return open_end_of(one.network, one.blueprint.spectrum_std, self.domain)

    def ending(self, row: np.ndarray, absorber: str) -> Ending | None:
        """What it takes to lie beyond the end of a (L,) spectrum on the grid; None where nothing is missing, or unknown."""
        return ending(self.open_end, row, absorber) if self.open_end else None

    def __reduce__(self) -> tuple:
        from spt_jax.runs.export import exported

        return _unpickled, (exported(self.blueprint, self.network, domain=self.domain),)

    def outputs(self, spectrum: np.ndarray, atomic_number: np.ndarray) -> dict[str, np.ndarray]:
        """(N, L) spectra on the grid and (N,) atomic numbers -> (N, ...) head outputs and "bands"."""
        spectrum, atomic_number = np.asarray(spectrum, np.float32), np.asarray(atomic_number, np.int32)
        count = len(spectrum)
        # One that is compiled already, and no larger than it need be: a server has several.
        most = FEW if count == 1 else max(count, CHUNK)
        ready = {*self._compiled, *(self._programs.sizes if self._programs else ())}
        size = min((each for each in ready if count <= each <= most), default=1 if count == 1 else CHUNK)
        run = self.compiled(size)
        # A single spectrum has no time for a detour.
        return run(spectrum, atomic_number) if size == count else in_pieces(run, size, spectrum, atomic_number)

    def compiled(self, size: int) -> Compiled:
        """The network for `size` spectra at a time on the first device: compiled once, or ahead of time."""
        if size not in self._compiled:
            length = self.blueprint.grid.length
            ready = self._programs.find(size, length) if self._programs else None
            self._compiled[size] = Compiled(self.network, size, length, ready=ready)
        return self._compiled[size]

    def answers(self, spectrum: np.ndarray, atomic_number: np.ndarray) -> Answers:
        """The same as class probabilities and values in their units, of the descriptors it learnt.

        As the network gives them: `decisions` makes classes, calibrated probabilities and intervals of them.
        """
        return answers_of(self.outputs(spectrum, atomic_number), self.blueprint.learnt_tasks, atomic_number)

    @overload
    def predict(
        self, energy: np.ndarray, mu: np.ndarray[tuple[int], Any], element: Element | None = None, edge: str = "K"
    ) -> dict[str, Value]: ...

    @overload
    def predict(
        self, energy: np.ndarray, mu: np.ndarray[tuple[int, int], Any], element: Element | None = None, edge: str = "K"
    ) -> list[Prediction]: ...

    def predict(
        self, energy: np.ndarray, mu: np.ndarray, element: Element | None = None, edge: str = "K"
    ) -> dict[str, Value] | list[Prediction]:
        """Descriptors of one spectrum: (N,) energy in eV, (N,) mu in any scale. Of several on the same energies,
        (M, N) mu: a Prediction for each, in order.

        element: "Ni", "ni" or 28; may be left out where the model knows a single one. Raises SpectrumError for a
        spectrum that does not fit this model; of several, the Prediction has the error. Files and DataFrames:
        `spt_jax.predict`.
        """
        energy, mu = np.asarray(energy, float), np.asarray(mu, float)
        if energy.ndim != 1 or mu.ndim not in (1, 2) or mu.shape[-1] != len(energy):
            turned = "; it lies the other way round, give mu.T" if mu.shape[:1] == energy.shape else ""
            raise SpectrumError(
                "shapes",
                f"energy {energy.shape} and mu {mu.shape}; give (N,) energy, and (N,) mu of one spectrum or "
                f"(M, N) of several{turned}",
            )
        absorber = self.absorber(element, edge)
        if mu.ndim == 2:
            symbol, edge = absorber.split()
            return self.predict_each((f"row {i}", Measured(energy, row, symbol, edge)) for i, row in enumerate(mu))
        row = self.to_grid(energy, mu, absorber)
        number = np.array([SYMBOLS.index(absorber.split()[0])])
        # The nearest spectra are looked for only where they are told.
        if self.domain and self.domain.strangeness(row[None], number)[0] > 0:
            warnings.warn(trust(self.domain, [row], absorber, measured=False).warnings[0], stacklevel=2)
        [values] = self.values([[row]], [absorber])
        return values

    def predict_each(self, spectra: Iterable[tuple[str, Measured | Corrected | UserError]]) -> list[Prediction]:
        """A Prediction for each named spectrum, in order; one that is an error, or cannot be used, has the error.

        One that was corrected is answered with the mean over its likely energies.
        """
        found: list[Prediction] = []
        usable: list[int] = []
        measured: dict[int, bool] = {}
        given: list[tuple[np.ndarray, np.ndarray, str, str]] = []
        for name, spectrum in spectra:
            views = spectrum.views() if isinstance(spectrum, Corrected) else [spectrum]
            own = views[0]
            try:
                if isinstance(own, UserError):
                    raise own
                if own.element is None and len(self.blueprint.absorbers) > 1:
                    raise SpectrumError("element not given", whose(own, self.blueprint.absorbers))
                absorber = self.absorber(own.element, own.edge or "K")
            except UserError as error:
                found.append(Prediction(name, error=told(name, error), **provenance(own)))
                continue
            element, edge = absorber.split()
            usable += [len(found)] * len(views)
            measured[len(found)] = isinstance(spectrum, Corrected)
            given += [(view.energy, view.mu, element, edge) for view in views if not isinstance(view, UserError)]
            found.append(Prediction(name, absorber, **provenance(own)))
        rows: dict[int, list[np.ndarray]] = {}
        for i, row in zip(usable, all_to_grid(given, self.blueprint.grid), strict=True):
            if isinstance(row, np.ndarray):
                rows.setdefault(i, []).append(row)
            elif i not in rows:  # the most likely energies come first
                rows[i] = []
                found[i] = replace(found[i], error=told(found[i].name, row))
        rows = {i: own for i, own in rows.items() if not found[i].error}
        if rows:
            said = self.values(list(rows.values()), [found[i].absorber for i in rows])
            for i, values in zip(rows, said, strict=True):
                found[i] = replace(found[i], values=values)
        for i, on_grid in rows.items():
            row, absorber = on_grid[0], found[i].absorber
            if note := end_note(self.blueprint.grid, row, absorber, self.ending(row, absorber)):
                found[i] = replace(found[i], notes=(*found[i].notes, note))
        if self.domain:
            for i, on_grid in rows.items():
                said_of = trust(self.domain, on_grid, found[i].absorber, measured[i])
                found[i] = replace(found[i], **said_of._asdict())
        return found

    def to_grid(self, energy: np.ndarray, mu: np.ndarray, absorber: str) -> np.ndarray:
        """(N,) energy in eV and mu -> (L,) float32 on this model's grid, as its training spectra were."""
        return to_grid(energy, mu, self.blueprint.grid, *absorber.split())

    def absorber(self, element: Element | None, edge: str = "K") -> str:
        """ "Cu K" if this model was trained on it; raises SpectrumError with what it was trained on if not."""
        known = self.blueprint.absorbers
        if f"{element} {edge}" in known:
            return f"{element} {edge}"
        if element is None:
            if len(known) == 1:
                return known[0]
            raise SpectrumError("element not given", f"say which element absorbs; this model knows {', '.join(known)}")
        found = f"{symbol_of(element)} {edge}"
        if found not in known:
            raise SpectrumError("wrong element or edge", f"{found}; this model was trained on {', '.join(known)}")
        return found

    def check_absorbers(self, absorbers: Iterable[str]) -> None:
        """Raises SpectrumError for one of these, "Cu K", that this model was not trained on."""
        for absorber in sorted(set(absorbers)):
            self.absorber(*absorber.split())

    def check_grid(self, name: str, grid: EnergyGrid) -> None:
        """Raises DatasetError where spectra on the grid of the dataset `name` are not what this model was trained on."""
        if grid != self.blueprint.grid:
            raise DatasetError(f"{name} has a grid {grid}; the model was trained on one {self.blueprint.grid}")

    def values(self, views: list[list[np.ndarray]], absorbers: list[str]) -> list[dict[str, Value]]:
        """(L,) views on the grid of each of N spectra, and their absorbers -> what is said of each."""
        elements = [absorber.split()[0] for absorber in absorbers]
        numbers = np.array([number_of(element) for element in elements])
        count = [len(own) for own in views]
        each = self.answers(np.stack([view for own in views for view in own]), np.repeat(numbers, count))
        answers = {name: means(own, count) for name, own in each.items()}
        decided, likely = self.decisions.decided(answers), self.decisions.probabilities(answers, numbers)
        intervals = self.decisions.intervals(answers, numbers)
        if max(count) > 1:
            intervals = {name: widened(name, own, each[name], count) for name, own in intervals.items()}

        def value(d: Descriptor, row: int) -> Value:
            if d.kind == "class":
                chances = dict(zip(d.classes, likely[d.name][row].tolist(), strict=True))
                return Value(d.classes[decided[d.name][row]], d.unit, chances)
            if d.kind == "elements":
                return elements_of(likely[d.name][row])
            low, high = intervals[d.name][row].tolist() if d.name in intervals else (math.nan, math.nan)
            return Value(float(decided[d.name][row]), d.unit, interval=(low, high) if math.isfinite(low) else None)

        learnt = [descriptor(task.name) for task in self.blueprint.learnt_tasks]
        alone = lacks_oxygens(decided)
        return [
            {
                d.name: value(d, row)
                for d in learnt
                if site_kind(element) in d.sites and not (d.name == "MOOD" and alone[row])
            }
            for row, element in enumerate(elements)
        ]


def symbol_of(element: Element) -> str:
    """ "Ni" of "Ni", "ni", " NI", 28 or "28"; raises SpectrumError for what is no element.

    >>> symbol_of("ni"), symbol_of(28)
    ('Ni', 'Ni')
    """
    if isinstance(element, str) and element.strip().isdecimal():
        element = int(element)
    if isinstance(element, str):
        symbol = element.strip().capitalize()
        if symbol and symbol in SYMBOLS:
            return symbol
    elif 0 < element < len(SYMBOLS) and element == int(element):
        return SYMBOLS[int(element)]
    raise SpectrumError("unknown element", f"{element!r}; give a symbol as Ni, or an atomic number as 28")


def _unpickled(content: bytes) -> Model:
    from spt_jax.runs.export import read_exported

    return Model(*read_exported(content, "pickled model"))


def load(path: Place | str = "", compiled: bool = False, source: int | str | None = None) -> Model:
    """A model by its name in the zoo (the zoo's default where none is given), or from where it lies: the best of a run
    folder, the members of an ensemble's folder as one, a file of `spt-jax export` or of `spt-jax pack`, the latter also
    by its address, https://HOST/NAME.safetensors#sha256=CHECKSUM. A run or a file may be in an object store.

    compiled: run the programs that an exported file holds compiled ahead of time, where they are for this machine. They
    are machine code and pickles, which can do anything: only for files of people whose programs you would run. Without
    it nothing of them is read.

    source: what all spectra are taken to come from, by a model that was told of sources (`--model.sources`): a version of
    FEFF, "average" of those that it was trained on, or "unknown", as it is where not given. An exported file keeps that
    of its export.

    Raises CheckpointError where there is no model, or of another version; RunError for a source that training never saw.
    """
    place = place_of(path)
    # Each brings only the libraries that it needs.
    if place.is_file() and place.suffix != SUFFIX:
        from spt_jax.runs.export import load_exported

        model = Model(*load_exported(place, compiled))
        if source is not None and str(source) != model.blueprint.source:
            model.blueprint.weights_of(source)  # or it has no such source at all
            again = f"make one with `spt-jax export RUN --out FILE --source {source}`"
            raise CheckpointError(f"{path}: exported for source {model.blueprint.source}; {again}")
        return model
    if compiled and place.exists():
        raise CheckpointError(
            f"{path or place}: a {'folder' if place.is_dir() else 'packed file'} has no programs compiled ahead; leave "
            "--compiled (compiled=True) out, or make a file with `spt-jax export RUN --out FILE --compiled-batch 1 64`"
        )
    from spt_jax.inference.load import load_folder, load_packed

    if isinstance(place, Path) and place.suffix == SUFFIX:
        return load_packed(place, source)
    return load_folder(place, source)
