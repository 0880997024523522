"""The benchmark of measured Mn L edges: what it reads, its ratio of white lines on an easy image, and that it runs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import manganese_valence as valence
from benchmarks.phases.library import write_theory
from data_pipelines.dataset.images import prepare_images
from data_pipelines.errors import UserError

SPECTRA = Path(__file__).parents[2].parent / "shared" / "data" / "eels" / "mn_l23"
pytestmark = pytest.mark.skipif(not SPECTRA.exists(), reason="needs ../shared/data/eels/mn_l23")


@pytest.fixture(scope="module")
def spectra():
    return valence.measured(SPECTRA)


def test_what_is_read(spectra, tmp_path):
    names = {source: {each.name for own in found.values() for each in own} for source, found in spectra.items()}
    assert names == {"Data2": {"MnO", "YBaMn3AlO7", "LaMnO3", "SrMnO3"}, "Data3": {"MnO", "LaMnO3", "MnO2"}}
    peaks = {
        kind: [each.edge.energy[each.edge.intensity.argmax()] for source in spectra.values() for each in source[kind]]
        for kind in ("Mn2+", "Mn3+", "Mn4+")
    }
    # The line moves up with the valence.
    assert max(peaks["Mn2+"]) < min(peaks["Mn3+"]) and max(peaks["Mn3+"]) < min(peaks["Mn4+"])
    with pytest.raises(UserError, match="does not hold a spectrum of each valence"):
        valence.measured(tmp_path)


def test_edges_that_end_early_are_a_theory_of_their_own_length(spectra, tmp_path):
    write_theory(tmp_path / "theory", spectra["Data3"])
    grid = prepare_images(tmp_path / "theory", [], tmp_path / "data", "Mn L")["grid"]
    shortest = min(each.edge.energy[-1] for own in spectra["Data3"].values() for each in own)
    assert abs(grid["start"] + grid["step"] * (grid["points"] - 0.5) - shortest) < 2 * grid["step"]


def test_white_lines_of_known_spectra(spectra):
    """Of the source that they are known from, at a dose that leaves nothing to chance."""
    how = replace(valence.HOW, height=8, width=8, grain=1.5, dose=1e6, drift=0.0, thickness=0.0, mixed=0.0)
    known = {kind: own[:1] for kind, own in spectra["Data3"].items()}
    for task, materials in valence.tasks(known, known, how, 1, 0):
        assert materials == ("MnO", "LaMnO3", "MnO2")
        assert np.mean(valence.white_lines(task) == task.truth.phase.ravel()) > 0.95


def test_runs(tmp_path):
    given = ["--spectra", str(SPECTRA), "--small", "--epochs", "2", "--images", "1", "--doses", "1000"]
    lines = valence.main([*given, "--out", str(tmp_path)])
    assert len(lines) == 2 * 2 * 5
    assert all(0 <= value <= 1 for line in lines for value in line["accuracy"].values())
    assert all("flagged" in line for line in lines if line["case"].endswith(", model"))
