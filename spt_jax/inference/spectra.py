"""Spectra as people hold them, in files, arrays or a DataFrame -> what a model says of each, and why not of some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from data_pipelines.errors import SpectrumError, UserError
from data_pipelines.readers.measured import Foil, Measured, Normalisation, ReadAs
from data_pipelines.readers.spectrum import read_spectra
from spt_jax.inference.measured import Calibration, Corrected, correct
from spt_jax.inference.predict import CHUNK, Element, Model, load, symbol_of
from spt_jax.inference.prediction import Prediction, Value

if TYPE_CHECKING:
    from pandas import DataFrame


@overload
def predict(
    model: Model | Path | str,
    data: str | Path | Sequence[str | Path],
    element: Element | None = None,
    edge: str | None = None,
    read_as: ReadAs | None = None,
) -> list[Prediction]: ...


@overload
def predict(
    model: Model | Path | str,
    data: tuple[np.ndarray, np.ndarray],
    element: Element | None = None,
    edge: str | None = None,
) -> dict[str, Value] | list[Prediction]: ...


@overload
def predict(
    model: Model | Path | str, data: DataFrame, element: Element | None = None, edge: str | None = None
) -> DataFrame: ...


def predict(
    model: Model | Path | str,
    data: Any,
    element: Element | None = None,
    edge: str | None = None,
    read_as: ReadAs | None = None,
) -> Any:
    """What a model, or the one in a run folder or exported file, says of `data`:

    (energy, mu)   (N,) in eV and (N,) in any scale: the Values of one spectrum by descriptor; (N,) and (M, N): a
                   Prediction for each of M spectra on the same energies
    paths          of spectrum files, of folders of them, or one of either: a Prediction for each spectrum in each file
    DataFrame      columns energy and mu, an array in each row, and element and edge where rows differ: a DataFrame with
                   the same index and the columns absorber, each descriptor, its probability (of a class) or low and
                   high (ends of the interval of a value), and error

    element: "Ni", "ni" or 28; of files it goes before what they say, and is not needed where they or a model of one
    element say it. edge: K where nobody says it. read_as: what else is said of files in place of themselves, as channel
    and columns. One spectrum that does not fit raises SpectrumError; of many it costs its own row, whose `error` says
    why.
    """
    model = model if isinstance(model, Model) else load(model)
    if hasattr(data, "columns"):
        return _predict_frame(model, data, element, edge or "K")
    if isinstance(data, np.ndarray):
        raise UserError("mu alone does not say where its edge is; give (energy, mu)")
    if isinstance(data, (str, Path)):
        data = [data]
    if len(data) == 2 and not isinstance(data[0], (str, Path)):
        energy, mu = data
        return model.predict(energy, mu, element=element, edge=edge or "K")
    return list(predict_files(model, files_of(data), element, edge, read_as))


def predict_files(
    model: Model,
    files: Sequence[Path],
    element: Element | None = None,
    edge: str | None = None,
    read_as: ReadAs | None = None,
    calibration: Calibration | None = None,
    foil: Foil = "auto",
    normalise: Normalisation = "edges",
) -> Iterator[Prediction]:
    """A Prediction for each spectrum in each file, in order; `element` and `edge` go before what a file says.

    calibration: of measured spectra, which are brought to the scale of calculated ones; foil: E0 that their monochromator
    gives to a metal foil, and normalise: how, both as of `correct`. Without a calibration every spectrum is taken as it is.

    Files are read some dozens at a time, as the predictions are asked for: however many there are, memory is not.
    """
    read_as = read_as or ReadAs()
    if element is not None:
        read_as = replace(read_as, element=symbol_of(element))
    read_as = replace(read_as, edge=edge or read_as.edge)
    waiting: list[tuple[str, Measured | Corrected | UserError]] = []
    for file in files:
        waiting += [
            (name, corrected(model, found, calibration, foil, normalise)) for name, found in _read(file, read_as)
        ]
        if len(waiting) >= CHUNK:
            yield from model.predict_each(waiting)
            waiting = []
    yield from model.predict_each(waiting)


def files_of(paths: Sequence[str | Path]) -> list[Path]:
    """The paths, with all files that lie in it in the place of a folder; raises UserError for one without any."""
    found = []
    for path in map(Path, paths):
        inside = sorted(p for p in path.iterdir() if p.is_file() and p.name[0] != ".") if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path}: no files in this folder; name spectrum files, for instance {path}/*/xmu.dat")
        found += inside
    return found


def _read(file: Path, read_as: ReadAs) -> Sequence[tuple[str, Measured | UserError]]:
    try:
        return read_spectra(file, read_as)
    except UserError as error:
        return [(str(file), error)]
    except OSError as error:
        return [(str(file), SpectrumError("unreadable", f"{file}: {error.strerror or error}"))]


def corrected(
    model: Model,
    found: Measured | UserError,
    calibration: Calibration | None,
    foil: Foil = "auto",
    normalise: Normalisation = "edges",
) -> Measured | Corrected | UserError:
    """A spectrum as it was read -> as the model is to be asked about it; of one that cannot be, why."""
    if calibration is None or isinstance(found, UserError) or found.calculated:
        return found
    if found.element is None and len(model.blueprint.absorbers) > 1:
        return found  # and is asked whose it is
    try:
        element, edge = model.absorber(found.element, found.edge or "K").split()
        return correct(found._replace(element=element, edge=edge), calibration, foil, normalise=normalise)
    except UserError as error:
        return error


def _predict_frame(model: Model, data: DataFrame, element: Element | None, edge: str) -> DataFrame:
    import pandas as pd

    if missing := {"energy", "mu"} - set(data.columns):
        raise UserError(
            f"the DataFrame has no column {' and '.join(sorted(missing))}; it has {', '.join(data.columns)}"
        )

    def spectrum(row: dict) -> Measured | UserError:
        own, own_edge = (row.get(name) for name in ("element", "edge"))
        try:
            # A hole in a column is None or NaN.
            given = element if own is None or own != own else own
            symbol = None if given is None else symbol_of(given)
            energy, mu = (np.asarray(row[name], float) for name in ("energy", "mu"))
        except (TypeError, ValueError) as error:
            return error if isinstance(error, UserError) else SpectrumError("not numbers", str(error))
        return Measured(energy, mu, symbol, own_edge if isinstance(own_edge, str) else edge)

    rows = []
    for start in range(0, len(data), CHUNK):
        piece = data.iloc[start : start + CHUNK]
        named = zip((f"row {label}" for label in piece.index), map(spectrum, piece.to_dict("records")), strict=True)
        rows += [_flat(found) for found in model.predict_each(named)]
    columns = dict.fromkeys(name for row in rows for name in row if name != "error")
    return pd.DataFrame(rows, index=data.index, columns=[*columns, "error"])


def _flat(prediction: Prediction) -> dict[str, object]:
    found: dict[str, object] = {"absorber": prediction.absorber}
    for name, value in prediction.values.items():
        found[name] = value.value
        if isinstance(value.value, tuple):
            found[f"{name}_probability"] = value.elements
        elif value.probabilities:
            found[f"{name}_probability"] = value.probabilities[int(value.value)]
        if value.interval:
            found[f"{name}_low"], found[f"{name}_high"] = value.interval
    if prediction.strangeness is not None:
        found |= {"strangeness": prediction.strangeness, "warnings": "; ".join(prediction.warnings)}
    return {**found, "error": prediction.error}
