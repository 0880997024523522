"""Files of one sample, by a network that reads several signals: which goes where, what is refused, what is told."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import spt_jax
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.errors import RunError, SpectrumError, UserError
from data_pipelines.labels.pdf import pdf_grid
from data_pipelines.readers.gr import read_gr, to_pdf_grid
from data_pipelines.readers.spectrum import ReadAs, read_spectrum
from data_pipelines.schema import STRUCTURE, STRUCTURE_LABELS, Batch, EnergyGrid, column_of
from data_pipelines.signals import parse_signal
from data_pipelines.spectra.grid import to_grid
from spt_jax.config import LabelsConfig
from spt_jax.inference.measured import Calibration, correct
from spt_jax.inference.samples import predict_samples, predict_signals
from spt_jax.presets import fusion
from spt_jax.training.assemble import assemble

DATA = Path(__file__).parents[3] / "shared" / "data"
NMC, MNO = DATA / "feff10" / "nmc.parquet", DATA / "pdf_measured" / "MnO_neutron.gr"
GRID = EnergyGrid(signals=("Ni K", "O K", "O K EELS", "nPDF"))
needs_data = pytest.mark.skipif(not NMC.exists(), reason="../shared/data is not there")


@pytest.fixture(scope="module")
def model() -> spt_jax.Model:
    """Untrained: what it says is not asked, only whether it says the same."""
    rng = np.random.default_rng(0)
    labels, mask = (np.zeros((40, STRUCTURE_LABELS), kind) for kind in (np.float32, bool))
    labels[:, column_of("x_Li")], labels[:, column_of("vacancy")] = rng.random(40), rng.integers(0, 2, 40)
    mask[:, [column_of("x_Li"), column_of("vacancy")]] = True
    spectrum = rng.normal(1, 0.1, (40, GRID.length)).astype(np.float32)
    batch = Batch(spectrum, np.zeros(40, np.int32), labels, mask)
    config = replace(fusion(), objective=LabelsConfig(("x_Li", "vacancy")))
    made = assemble(config, Statistics.of(batch, [f"{STRUCTURE} -"] * 40), GRID, "none", 1)
    return spt_jax.Model(made.blueprint, made.network(made.params))


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    """Two edges of one cell as two columns that do not say whose they are, and a measured G(r)."""
    folder = tmp_path_factory.mktemp("sample")
    for row in pq.read_table(NMC).slice(0, 4).to_pylist():
        if row["absorber"] in ("Ni", "O"):
            np.savetxt(folder / f"{row['absorber']}.dat", np.column_stack([row["omega"], row["mu"]]))
    (folder / "sample.gr").write_bytes(MNO.read_bytes())
    return folder


def said(prediction) -> dict[str, float]:
    assert not prediction.error
    return {name: each.value for name, each in prediction.values.items()}


@needs_data
def test_files_go_to_the_places_of_their_signals(model, sample):
    [found] = predict_samples(model, [sample])
    row = np.full((4, GRID.points), np.nan, np.float32)
    for place, name in enumerate(("Ni", "O")):
        energy, mu = np.loadtxt(sample / f"{name}.dat").T
        row[place] = to_grid(energy, mu, GRID.alone, name)
    measured = read_gr(MNO)
    row[3] = to_pdf_grid(measured, pdf_grid(GRID, parse_signal("nPDF")), "")
    [expected] = model.values([[row.ravel()]], [f"{STRUCTURE} -"])
    assert said(found) == {name: each.value for name, each in expected.items()}
    assert found.notes[-1] == "no O K EELS: answered without it"
    assert "Ni.dat: taken as Ni K, where mu rises" in found.notes


@needs_data
def test_order_and_names_of_files_do_not_matter_and_arrays_say_the_same(model, sample):
    [one] = predict_samples(model, [sample])
    named = [f"O K={sample / 'O.dat'}", str(sample / "sample.gr"), f"Ni K={sample / 'Ni.dat'}"]
    [other] = predict_samples(model, list(map(Path, named)))
    signals = {f"{name} K": tuple(np.loadtxt(sample / f"{name}.dat").T) for name in ("Ni", "O")}
    assert said(one) == said(other)
    [spectra] = predict_samples(model, list(map(Path, (named[0], named[2]))))
    assert said(spectra) == {name: each.value for name, each in predict_signals(model, signals).items()}


@needs_data
def test_an_edge_may_be_named_as_energy_loss(model, sample):
    [found] = predict_samples(model, [Path(f"O K EELS={sample / 'O.dat'}")])
    assert found.notes[-3:-1] == ("no Ni K: answered without it", "no O K: answered without it")


@needs_data
def test_measured_edges_are_answered_with_the_mean_over_likely_energies_of_each(model, sample):
    """The same files, taken as measured; against every pair of energies in place of seven of them."""
    [found] = predict_samples(model, [sample], calibration=Calibration.of(""))
    assert any("answers are the mean over 7 energies" in note for note in found.notes)
    views = []
    for name in ("Ni", "O"):
        spectrum = read_spectrum(sample / f"{name}.dat", ReadAs(element=name, edge="K"))
        moved = correct(spectrum, Calibration.of("")).views()
        views.append([to_grid(each.energy, each.mu, GRID.alone, name) for each in moved])
    measured = read_gr(MNO)
    pdf = to_pdf_grid(measured, pdf_grid(GRID, parse_signal("nPDF")), "")
    rows = [np.concatenate([a, b, np.full(GRID.points, np.nan), pdf]) for a in views[0] for b in views[1]]
    each = model.answers(np.array(rows, np.float32), np.zeros(len(rows), np.int32))["x_Li"]
    assert found.values["x_Li"].value == pytest.approx(each.mean(), abs=0.5 * float(each.std()))
    assert found.values["x_Li"].value != pytest.approx(each[0], abs=1e-6)


@needs_data
def test_what_is_no_sample_is_refused_in_a_line(model, sample, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "short.gr").write_text("".join(f"{0.1 * i:.2f} 0.0\n" for i in range(60)))
    nickel = Path(f"Ni K={sample / 'Ni.dat'}")
    wrong = {
        "two spectra of one edge: .* is also in": [nickel, sample / "Ni.dat"],
        "no files in this folder": [tmp_path / "empty"],
        "no such signal: .*Mn K XANES; this model reads Ni K, O K": [Path(f"Mn K={sample / 'Ni.dat'}")],
        "is not known; give an edge as": [Path(f"Ni={sample / 'Ni.dat'}")],
        "grid not covered: .* ends at r = 5.9 Å": [Path(f"nPDF={tmp_path / 'short.gr'}")],
        "no such signal: .*PDF": [tmp_path / "short.gr"],
        "no such file": [tmp_path / "nothing.dat"],
    }
    for message, files in wrong.items():
        [found] = predict_samples(model, files)
        assert not found.values
        with pytest.raises(UserError, match=message):
            raise UserError(found.error)
    with pytest.raises(SpectrumError, match="none of Ni K"):
        predict_signals(model, {})


@needs_data
def test_one_spectrum_is_not_taken_for_a_sample(model, sample):
    energy, mu = np.loadtxt(sample / "Ni.dat").T
    with pytest.raises(RunError, match="made of all files of a sample"):
        model.predict(energy, mu)
    shares = replace(model.blueprint, grid=replace(GRID, heights="share"))
    with pytest.raises(UserError, match="as shares of the atoms, which no file tells"):
        predict_signals(spt_jax.Model(shares, model.network), {"Ni K": (energy, mu)})


@needs_data
def test_an_exported_file_says_the_same(model, sample, tmp_path):
    from spt_jax.runs.export import export

    export(model.blueprint, model.network, tmp_path / "model.spt")
    [own], [other] = (predict_samples(m, [sample]) for m in (model, spt_jax.load(tmp_path / "model.spt")))
    assert said(own)["x_Li"] == pytest.approx(said(other)["x_Li"], abs=1e-5)
    assert json.dumps(model.blueprint.to_json())  # a grid with signals as well
