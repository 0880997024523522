"""Measured spectra are brought to the scale of calculated ones, with a note for every step, and answered by what is likely."""

import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

import spt_jax
from data_pipelines.errors import SpectrumError
from data_pipelines.library import EXAMPLE
from data_pipelines.readers.spectrum import ReadAs, read_spectrum
from data_pipelines.schema import REFERENCE_ENERGY_EV
from spt_jax.inference.measured import LIKELY, Calibration, Scale, correct
from spt_jax.inference.output import row_of
from spt_jax.inference.spectra import predict_files

LIBRARY = Path(__file__).parents[2].parent / "shared" / "data" / "experiment" / "xdi_library.tar.xz"
CALIBRATION = Calibration(Scale(1.5, 0.8), Scale(1.2, 0.3), {"Mn": Scale(2.0, 0.5)}, 38)


@pytest.fixture(scope="module")
def measured():
    """A calculated spectrum as a beamline might give it: 150 eV of background below, in counts, on another energy scale."""
    run = read_spectrum(EXAMPLE)
    before = np.arange(run.energy[0] - 150, run.energy[0] - 1, 2.0)
    energy = np.concatenate([before, run.energy])
    mu = np.concatenate([np.full(len(before), run.mu[0]), run.mu])
    return run._replace(energy=energy - 1.5, mu=3.7 * mu + 2 - 1e-4 * energy)


def test_what_was_moved_scaled_and_tilted_comes_back(model, measured):
    run = read_spectrum(EXAMPLE)
    found = correct(measured, CALIBRATION)
    truth = model.to_grid(run.energy, run.mu - run.mu[0], f"{run.element} K")
    np.testing.assert_allclose(
        model.to_grid(found.spectrum.energy, found.spectrum.mu, f"{run.element} K"), truth, atol=0.06
    )
    normal, moved = found.notes
    assert normal.startswith("normalised: E0 ")
    assert moved.startswith("energies moved by +1.50 +- 0.80 eV") and "38 measured references" in moved


def test_a_foil_or_a_stated_shift_goes_before_what_was_fitted(measured):
    booklet = REFERENCE_ENERGY_EV[measured.element, "K"]
    found = correct(measured, CALIBRATION, foil=booklet - 0.7)
    assert found.sigma == 0.3 and "E0 of the foil" in found.notes[1]
    np.testing.assert_allclose(found.spectrum.energy, measured.energy + 0.7 + 1.2)
    found = correct(measured, CALIBRATION, shift=-2.0)
    assert found.sigma == 0 and len(found.views()) == 1 and "as asked for" in found.notes[1]
    np.testing.assert_allclose(found.spectrum.energy, measured.energy - 2)
    with pytest.raises(SpectrumError, match="is not of a foil of"):
        correct(measured, CALIBRATION, foil=booklet + 300)
    with pytest.raises(SpectrumError, match="no reference energy"):
        correct(measured._replace(element="La", edge="L3"), CALIBRATION)
    assert CALIBRATION.scale("Mn") == (2.0, 0.5) and CALIBRATION.scale("Mn", foil=True) == (1.2, 0.3)


def test_a_foil_behind_the_sample_is_found_checked_and_overruled(measured, rng):
    booklet = REFERENCE_ENERGY_EV[measured.element, "K"]

    def behind(e0, noise=1e-4):
        foil = 0.5 * np.arctan((measured.energy - e0) / 1.5) + noise * rng.normal(size=len(measured.energy))
        return measured._replace(reference=(measured.energy, foil))

    found = correct(behind(booklet + 1.3), CALIBRATION)
    assert found.spectrum.foil == pytest.approx(booklet + 1.3, abs=0.15) and found.sigma == 0.3
    assert "E0 of the foil behind the sample" in found.notes[1] and "foil none" in found.notes[1]
    np.testing.assert_allclose(found.spectrum.energy, measured.energy - 1.3 + 1.2, atol=0.15)
    for foil in (booklet - 0.5, "none"):
        said = correct(behind(booklet + 1.3), CALIBRATION, foil)
        plain = correct(measured, CALIBRATION, foil)
        assert said.notes == plain.notes and (said.spectrum.energy == plain.spectrum.energy).all()
    for other, why in (
        (behind(booklet + 8), "is not of a foil of"),
        (behind(booklet, noise=0.3), "edge|foil"),
        (measured._replace(reference=(measured.energy, np.ones(len(measured.energy)))), "mu rises nowhere"),
    ):
        told = correct(other, CALIBRATION)
        assert re.search(f"no foil of {measured.element} in the reference channel: .*({why})", told.notes[1])
        assert told.spectrum.foil is None and (told.spectrum.energy == measured.energy + 1.5).all()


@pytest.mark.skipif(not LIBRARY.exists(), reason=f"{LIBRARY} is not here")
def test_foils_of_a_library_of_references(tmp_path):
    """Chromium behind chromium is found; of three scans without a foil, the sample's own edge leaks into that channel."""
    with tarfile.open(LIBRARY) as archive:
        archive.extractall(tmp_path, filter="data")
    calibration, found = Calibration.of("spt-k"), {}
    for path in sorted(tmp_path.rglob("Cr/*.xdi")):
        found[path.stem] = correct(read_spectrum(path), calibration)
    used = {name: each.spectrum.foil for name, each in found.items() if each.spectrum.foil}
    assert len(used) == 37 and 1 < min(used.values()) - 5989 < max(used.values()) - 5989 < 3
    left = {name for name, each in found.items() if any("no foil of Cr" in note for note in each.notes)}
    assert left == {f"cr2o3_ssrl4_1_rt_00{i}" for i in (1, 2, 3)}
    path = next(tmp_path.rglob("na2cro4_rt_001.xdi"))
    model = spt_jax.load("spt-k")
    [with_foil] = predict_files(model, [path], calibration=calibration)
    [without] = predict_files(model, [path], calibration=calibration, foil="none")
    [told] = predict_files(model, [path], read_as=ReadAs(shift=-1.5), calibration=calibration)
    assert (with_foil.values["OS"].value, without.values["OS"].value) == (6, 5)
    assert with_foil.foil == pytest.approx(5990.68, abs=0.02) and without.foil is None
    # Who says the shift has calibrated.
    assert told.foil is None and told.shift == -1.5
    assert row_of(with_foil)["foil"] == round(with_foil.foil, 3)


def test_answers_are_the_mean_over_likely_energies(model, measured):
    found = correct(measured, CALIBRATION)
    views = found.views()
    assert len(views) == LIKELY and views[0].energy == pytest.approx(found.spectrum.energy)
    moves = [view.energy[0] - found.spectrum.energy[0] for view in views]
    assert np.mean(moves) == pytest.approx(0, abs=1e-6) and np.std(moves) == pytest.approx(0.8, rel=0.15)

    sharp, [said] = model.predict_each([("a", views[0])]), model.predict_each([("a", found)])
    each = model.predict_each([(str(i), view) for i, view in enumerate(views)])
    row = np.stack([model.to_grid(v.energy, v.mu, each[0].absorber) for v in views])
    answers = model.answers(row, np.full(LIKELY, {"Co": 27, "Ni": 28, "Fe": 26, "Mn": 25}[measured.element]))
    mean = float(answers["MBL"].mean())
    assert said.values["MBL"].value == pytest.approx(mean, abs=1e-5)
    low, high = said.values["MBL"].interval
    narrow = sharp[0].values["MBL"].interval
    assert high - low >= narrow[1] - narrow[0] - 1e-6
    most = max(said.values["CN"].probabilities.values())
    assert most <= max(max(one.values["CN"].probabilities.values()) for one in each) + 1e-6


def test_views_that_are_refused_are_left_out_and_one_without_any_has_the_reason(model, measured):
    grid = model.blueprint.grid.absolute(measured.element)
    start = measured.energy >= grid[0] + 8.7 - 1.5
    late = measured._replace(energy=measured.energy[start], mu=measured.mu[start])
    wide = Calibration(Scale(1.5, 1.5), Scale(1, 1), {}, 1)
    plain = model.predict_each([("late", late._replace(energy=late.energy + 40))])
    assert plain[0].error
    corrected = correct(measured, wide)._replace(spectrum=late._replace(energy=late.energy + 40))
    [none] = model.predict_each([("late", corrected)])
    assert none.error.startswith("grid not covered: late") and not none.values


def test_the_shipped_constants_are_of_the_shipped_model():
    found = Calibration.of("spt-k")
    assert -3 < found.common.shift < 4 and 0.4 < found.common.sigma < 2.5 and found.references >= 30
    assert Calibration.of("a run folder") == found
    assert spt_jax.load("spt-k").absorber("Fe")


def test_mback_is_one_more_way_to_normalise(measured):
    pytest.importorskip("xraydb", reason="needs the extra `mback`")
    bent = 0.3 * ((measured.energy - REFERENCE_ENERGY_EV[measured.element, "K"]) / 100) ** 2
    height = np.ptp(measured.mu)
    plain, found = (
        correct(measured._replace(mu=mu), CALIBRATION, normalise="mback")
        for mu in (measured.mu, measured.mu + height * bent)
    )
    assert found.notes[0].startswith("normalised by MBACK: E0 ") and "of degree 2, edge step" in found.notes[0]
    np.testing.assert_allclose(found.spectrum.energy, measured.energy + 1.5)
    np.testing.assert_allclose(found.spectrum.mu, plain.spectrum.mu, atol=0.02)
    by_edges = correct(measured, CALIBRATION)
    assert np.corrcoef(plain.spectrum.mu, by_edges.spectrum.mu)[0, 1] > 0.99
