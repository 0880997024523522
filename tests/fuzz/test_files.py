"""Spectrum files: `read_spectra`, `correct`, `to_grid` and the answer of the model that comes with the package."""

import gzip
import io
import json
import math
import os
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import spt_jax
from data_pipelines.errors import UserError
from data_pipelines.library import EXAMPLE
from data_pipelines.readers.cures import put_right
from data_pipelines.readers.measured import Measured, ReadAs
from data_pipelines.readers.spectrum import read_spectrum
from spt_jax.inference.measured import Calibration
from spt_jax.inference.output import as_csv, as_json, as_table
from spt_jax.inference.predict import Model
from spt_jax.inference.prediction import Prediction
from spt_jax.inference.spectra import corrected, files_of, predict_files
from tests.fuzz import corpus
from tests.fuzz.harness import is_line, share
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
FOIL = st.sampled_from(["auto", "auto", "none", 7709.0, 7112.5, 1e308, math.nan])


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
    screen = Console(file=io.TextIOWrapper(io.BytesIO(), "utf-8"))
    for each in found:
        screen.print(as_table(each, 0.9))
    rows = json.loads("".join(as_json(found)), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert len(rows) == len(found)
    "".join(as_csv(found)).encode()


def ask(
    guarded, path, said: dict | None = None, foil: float | str = "auto", scaled: bool = True, how: str = "edges"
) -> None:
    """As `spt-jax predict` does it."""
    model, calibration = known()
    with guarded():
        try:
            read_as = ReadAs(**(said or {}))
        except UserError as error:
            is_line(str(error))
            return
        found = list(
            predict_files(
                model, [path], read_as=read_as, calibration=calibration if scaled else None, foil=foil, normalise=how
            )
        )
        check(found, name if (name := str(path).rpartition("/")[2]).isprintable() else "")


@pytest.mark.parametrize("held", ["here", "cases", "experiment"])
def test_a_changed_file_is_answered_or_refused_in_a_line(held, guarded):
    contents = corpus.spectra(held)
    known()

    @given(mangled(contents), SAID, FOIL, st.booleans(), st.sampled_from(["edges", "edges", "mback"]))
    def run(changed, said, foil, scaled, how):
        name, content = changed
        path = guarded.fresh() / name
        path.write_bytes(content)
        ask(guarded, path, said, foil, scaled, how)

    run()


LARCH = '{"_____header1": "# Athena project file", "a": {"args": {"bkg_z": "Co"}, "x": [%s], "y": [%s]}}'
FOUND = {
    # What once was no line: name -> (content, what is said).
    "one.dat": (b"# Element: Co\n7709 1\n", {}),
    "two.dat": (b"# Element: Co\n7709 1\n7710 1\n", {}),
    "far.dat": (b"\n".join(b"%d %d" % (7000 + 10**i, i) for i in range(40)), {"element": "Co"}),
    "inf.dat": (b"1e400 1\n-1e400 2\n" * 30, {"element": "Co"}),
    "wide.dat": (b"-1e308 1 2\n1e308 2 -1e308\n" * 30, {"columns": "angle=1 mu=exp(exp(2))"}),
    "huge.prj": ((LARCH % ("1" + "0" * 400, "1")).encode(), {}),
    "element.dat": (EXAMPLE.read_bytes(), {"element": "²"}),
    "digits.dat": (b"# Element: " + b"9" * 400 + b"\n7709 1\n", {}),
    "edge.dat": (EXAMPLE.read_bytes(), {"edge": "Q\n"}),
    "shift.dat": (EXAMPLE.read_bytes(), {"shift": math.nan}),
    "further.dat": (EXAMPLE.read_bytes(), {"shift": -1e308}),
    "note.dat": (b"# \x1b[31m\xe2\x80\xa8energy\tmu\n" + EXAMPLE.read_bytes(), {"element": "Fe\n"}),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found(name, guarded):
    content, said = FOUND[name]
    path = guarded.fresh() / name
    path.write_bytes(content)
    for foil in ("auto", math.nan, 7709.0):
        for calculated in (True, False):
            ask(guarded, path, {**said, "calculated": calculated}, foil)


def test_a_changed_nexus_file_is_answered_or_refused_in_a_line(guarded):
    content = corpus.nexus()
    known()

    @given(mangled({"scan.nxs": content}))
    def run(changed):
        path = guarded.fresh() / "scan.nxs"
        path.write_bytes(changed[1])
        ask(guarded, path)

    run()


def test_names_that_no_file_should_have(guarded):
    known()
    folder = guarded.fresh()

    @given(NAMES, st.sampled_from([EXAMPLE.read_bytes(), b"no numbers"]))
    @share(0.3)
    def run(name, content):
        path = guarded.fresh() / name
        path.write_bytes(content)
        ask(guarded, path)
        ask(guarded, f"{path}#{name}")

    run()
    for name in ("a\0b.dat", "a" * 5000, "../" * 2000, "", "#", "/", "/dev/zero", "/proc/self/mem", "~", "https://a/b"):
        ask(guarded, folder / name if name[:1] not in "/" else name)


def test_a_folder_of_what_is_no_file(guarded):
    known()
    folder = guarded.fresh()
    (folder / "good.dat").write_bytes(EXAMPLE.read_bytes())
    (folder / "nowhere.dat").symlink_to(folder / "gone")
    (folder / "round.dat").symlink_to(folder / "round.dat")
    (folder / "endless.dat").symlink_to("/dev/zero")
    (folder / "below").mkdir()
    os.mkfifo(folder / "pipe.dat")
    with guarded():
        found = files_of([folder])
    assert [path.name for path in found] == ["good.dat"]
    for name in ("nowhere.dat", "round.dat", "endless.dat", "pipe.dat", "below"):
        ask(guarded, folder / name)


NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1e30, -1e30, 2e5, 7709.0, 1e-320])


def test_arrays_of_any_numbers(guarded):
    """Those of a spectrum, some of them changed, so that most checks are passed."""
    model, calibration = known()
    own = read_spectrum(EXAMPLE)
    places = st.dictionaries(st.integers(0, len(own.mu) - 1), NUMBERS, max_size=6)

    @given(places, places, st.sampled_from([1.0, 1e-3, 1e30, 0.0, -1.0, math.nan]), st.booleans(), FOIL)
    def run(energies, levels, scale, calculated, foil):
        energy, mu = own.energy.copy(), own.mu * scale
        for array, changed in ((energy, energies), (mu, levels)):
            array[list(changed)] = list(changed.values())
        given = Measured(energy, mu, "Co", "K", calculated=calculated)
        with guarded():
            try:
                found = corrected(model, put_right(given, "a"), calibration, foil)
            except UserError as error:
                found = error
            check(model.predict_each([("a", found), ("a", given)]), "a")
            try:
                model.predict(energy, mu, "Co")
            except UserError as error:
                is_line(str(error))

    run()


@pytest.mark.parametrize("how", ["zeros", "zeros within", "numbers", "json"])
def test_a_bomb_costs_a_line(how, guarded):
    known()
    head = b"# Athena project file\n"
    content = {
        "zeros": head + bytes(60_000_000),
        "zeros within": gzip.compress(head + bytes(60_000_000)),
        "numbers": head + b"$old_group = 'g';\n@args = ('label','a');\n@x = (" + b"'0'," * 2_500_000 + b");\n",
        "json": b'{"_____header1": "# Athena project file", "a": {"x": [' + b"1," * 6_000_000,
    }[how]
    path = guarded.fresh() / "bomb.prj"
    path.write_bytes(gzip.compress(content, 1))
    del content
    ask(guarded, path)
