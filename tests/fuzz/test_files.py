"""Spectrum files: `read_spectra`, `correct`, `to_grid` and the answer of the model that comes with the package."""

import gzip
import io
import json
import math
import os
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import spt_jax
from data_pipelines.errors import UserError
from data_pipelines.library import EXAMPLE
from data_pipelines.readers.cures import put_right
from data_pipelines.readers.measured import Measured, ReadAs
from data_pipelines.readers.spectrum import read_spectrum
from spt_jax.inference.measured import Calibration
from spt_jax.inference.output import as_csv, as_json
from spt_jax.inference.predict import Model
from spt_jax.inference.prediction import Prediction
from spt_jax.inference.spectra import corrected, files_of, predict_files
from tests.fuzz import corpus
from tests.fuzz.harness import is_line
from tests.fuzz.mangled import NAMES, mangled

SAID = st.fixed_dictionaries(
    {
        "element": st.sampled_from([None, None, "Co", "Fe", "Cu", "O", "S", "Xx", "999", "²"]),
        "edge": st.sampled_from([None, None, None, "K", "L3", "Q\n"]),
        "channel": st.sampled_from([None, None, "transmission", "fluorescence", "reference"]),
        "columns": st.sampled_from(
            ["", "", "", "energy=1 mu=2", "energy=1 mu=ln(2/3)", "energy=2 mu=1/0.0", "angle=1 mu=exp(exp(2))"]
        ),
        "beamline": st.sampled_from(["", "", "", "soleil-lucia", "nowhere"]),
        "shift": st.sampled_from([0.0, 0.0, 7000.0, -1e308, math.nan, math.inf]),
        "deglitch": st.booleans(),
        "calculated": st.sampled_from([None, None, True, False]),
    }
)
FOIL = st.sampled_from([None, None, None, 7709.0, 7112.5, 1e308, math.nan])


@cache
def known() -> tuple[Model, Calibration]:
    """Compiled before anything is measured."""
    model, calibration = spt_jax.load("spt-k"), Calibration.of("")
    for calculated in (True, False):
        list(predict_files(model, [EXAMPLE], read_as=ReadAs(calculated=calculated), calibration=calibration))
    return model, calibration


def check(found: list[Prediction], name: str = "") -> None:
    """Each is an answer of numbers, or a line with the file in it; and all of them can be written down."""
    assert found
    for each in found:
        if each.error:
            is_line(each.error)
            assert name in each.error
            continue
        for value in each.values.values():
            numbers = [*(value.interval or ()), *(value.probabilities or {}).values()]
            numbers += [value.value] if isinstance(value.value, float) else []
            assert np.isfinite(numbers).all(), each
        assert each.strangeness is None or not math.isnan(each.strangeness)
        for line in (*each.notes, *each.warnings):
            is_line(line)
    rows = json.loads("".join(as_json(found)), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert len(rows) == len(found)
    "".join(as_csv(found)).encode()


def ask(guarded, path, said: dict | None = None, foil: float | None = None, scaled: bool = True) -> None:
    """As `spt-jax predict` does it."""
    model, calibration = known()
    with guarded():
        try:
            read_as = ReadAs(**(said or {}))
        except UserError as error:
            is_line(str(error))
            return
        found = list(
            predict_files(model, [path], read_as=read_as, calibration=calibration if scaled else None, foil=foil)
        )
        check(found, path.name if path.name.isprintable() else "")


@pytest.mark.parametrize("held", ["here", "cases", "experiment"])
def test_a_changed_file_is_answered_or_refused_in_a_line(held, guarded):
    contents = corpus.spectra(held)
    known()

    @given(mangled(contents), SAID, FOIL, st.booleans())
    def run(changed, said, foil, scaled):
        name, content = changed
        path = guarded.fresh() / name
        path.write_bytes(content)
        ask(guarded, path, said, foil, scaled)

    run()


def test_a_changed_nexus_file_is_answered_or_refused_in_a_line(guarded):
    content = corpus.nexus()
    known()

    @given(mangled({"scan.nxs": content}))
    def run(changed):
        path = guarded.fresh() / "scan.nxs"
        path.write_bytes(changed[1])
        ask(guarded, path)

    run()
