"""What a model says of some examples of a dataset, as columns of a table: a row for each, null where nothing is said."""

from __future__ import annotations

import jax
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipelines.dataset.data import Identified
from data_pipelines.errors import SpectrumError
from data_pipelines.schema import descriptor, number_of, site_kind
from data_pipelines.spectra.grid import refused
from spt_jax.inference.predict import Model
from spt_jax.inference.prediction import elements_of
from spt_jax.runs.blueprint import Network
from spt_jax.scoring.decisions import lacks_oxygens
from spt_jax.tasks import answers_of

STRANGENESS = "strangeness"
_LIST, _MAP = pa.list_(pa.string()), pa.map_(pa.string(), pa.float32())


def schema_of(model: Model) -> pa.Schema:
    """id, material, split, element, edge; then of each descriptor its value and `NAME_probability` of a class, or
    `NAME_low` and `NAME_high`, the ends of the interval of a number; of a shell the list of its likely elements and the
    map from each that may be there to its probability (as of `Value`); then `strangeness` where the model knows what it
    learnt from, as of `scoring.domain.Domain`, and `error`, why there are no answers."""
    fields = [pa.field(name, pa.string()) for name in ("id", "material", "split", "element", "edge")]
    for task in model.blueprint.learnt_tasks:
        if task.kind == "elements":
            fields += [pa.field(task.name, _LIST), pa.field(f"{task.name}_probability", _MAP)]
        elif task.classes:
            fields += [pa.field(task.name, pa.int16()), pa.field(f"{task.name}_probability", pa.float32())]
        else:
            fields += [pa.field(name, pa.float32()) for name in (task.name, f"{task.name}_low", f"{task.name}_high")]
    fields += [pa.field(STRANGENESS, pa.float32())] if model.domain else []
    return pa.schema([*fields, pa.field("error", pa.string())])


def network_of(model: Model) -> Network:
    """Its network, which tells strangeness besides where the model knows what it learnt from."""
    if (domain := model.domain) is None:
        return model.network

    def network(spectrum: jax.Array, atomic_number: jax.Array) -> dict[str, jax.Array]:
        strangeness = domain.strangeness(spectrum, atomic_number)
        return {**model.network(spectrum, atomic_number), STRANGENESS: strangeness}

    return network


def errors_of(model: Model, examples: Identified) -> list[str | None]:
    """Why `predict` would refuse each example; None where it would not."""
    texts = examples.texts
    absorbers = pc.binary_join_element_wise(texts["element"], texts["edge"], " ").combine_chunks().dictionary_encode()
    unknown = [_unknown(model, absorber) for absorber in absorbers.dictionary.to_pylist()]
    found = [unknown[index] for index in absorbers.indices.to_pylist()]
    for row, error in refused(examples.rows.spectrum, model.blueprint.grid).items():
        found[row] = found[row] or str(error)
    return found


def table_of(
    model: Model, outputs: dict[str, np.ndarray], texts: pa.Table, errors: list[str | None], split: str
) -> pa.Table:
    """(N,) rows of `schema_of`. outputs: (N, ...) of the heads. errors: of each row, as of `errors_of`."""
    elements = texts["element"].combine_chunks().dictionary_encode()
    symbols, of = elements.dictionary.to_pylist(), elements.indices.to_numpy()
    kinds = np.array([site_kind(symbol) for symbol in symbols])[of]
    numbers = np.array([number_of(symbol) for symbol in symbols])[of]
    answers, decisions = answers_of(outputs, model.blueprint.learnt_tasks, numbers), model.decisions
    decided, likely = decisions.decided(answers), decisions.probabilities(answers, numbers)
    intervals = decisions.intervals(answers, numbers)
    silent = np.array([error is not None for error in errors])
    columns: dict[str, pa.Array] = {"split": pa.repeat(split, len(texts)), "error": pa.array(errors, pa.string())}
    columns |= {name: texts[name] for name in ("id", "material", "element", "edge")}
    for task in model.blueprint.learnt_tasks:
        name, d = task.name, descriptor(task.name)
        nothing = silent | ~np.isin(kinds, d.sites)
        if name == "MOOD":
            nothing = nothing | lacks_oxygens(decided)
        if task.kind == "elements":
            said = [None if silent[row] else elements_of(each) for row, each in enumerate(likely[name])]
            columns[name] = pa.array([each and each.value for each in said], _LIST)
            chances = [each and list(each.elements.items()) for each in said]
            columns[f"{name}_probability"] = pa.array(chances, _MAP)
            continue
        if task.classes:
            chosen = decided[name]
            chance = likely[name][np.arange(len(chosen)), chosen]
            columns[name] = pa.array(np.take(d.classes, chosen).astype(np.int16), mask=nothing)
            columns[f"{name}_probability"] = pa.array(chance.astype(np.float32), mask=nothing)
            continue
        columns[name] = pa.array(decided[name].astype(np.float32), mask=nothing)
        ends = intervals[name].T.astype(np.float32) if name in intervals else None
        for place, end in enumerate(("low", "high")):
            unknown = nothing if ends is None else nothing | np.isnan(ends[place])
            said = pa.nulls(len(texts), pa.float32()) if ends is None else pa.array(ends[place], mask=unknown)
            columns[f"{name}_{end}"] = said
    if STRANGENESS in outputs:
        columns[STRANGENESS] = pa.array(outputs[STRANGENESS].astype(np.float32), mask=silent)
    schema = schema_of(model)
    return pa.table({name: columns[name] for name in schema.names}, schema)


def _unknown(model: Model, absorber: str) -> str | None:
    try:
        model.absorber(*absorber.split())
    except SpectrumError as error:
        return str(error)
    return None
