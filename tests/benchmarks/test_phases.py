"""The benchmark of phases in spectrum images: its library, its scores, its methods on an easy image, and that it runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.phases import __main__ as phases
from benchmarks.phases import classical, probe, vae
from benchmarks.phases.library import SETS, PhaseSet, edges, material, split, structures, write_theory
from benchmarks.phases.metrics import SCORES, scored, summary
from benchmarks.phases.task import PhaseAnswers, labelled, posed
from data_pipelines.readers.images.open import open_image
from data_pipelines.spectra.phases import PhasePlanting, phase_image
from spt_jax.cli import main

FEFF10 = Path(__file__).parents[2].parent / "shared" / "data" / "feff10"
# Three structures of a class, each class with its line elsewhere.
LINES = {"layered": 535.0, "spinel": 539.0, "rock salt": 544.0}
NAMES = {
    "layered": ["LiCoO2", "LiNiO2", "Li2MnO3"],
    "spinel": ["Co3O4", "Mn3O4", "Fe3O4"],
    "rock salt": ["CoO", "NiO", "MnO"],
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A folder as those of FEFF10, with two sites of one structure."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    omega, rows = np.linspace(531, 610, 119), []
    for kind, names in NAMES.items():
        for number, name in enumerate(names):
            for site in range(2 if name == "CoO" else 1):
                mu = (
                    0.5 + 0.5 * np.tanh(omega - 534) + (3 + site) * np.exp(-((omega - LINES[kind] - 0.2 * number) ** 2))
                )
                rows.append({"absorber": "O", "prototype": name, "variant": "base", "structure": name,
                             "omega": list(omega), "mu": list(2 * mu)})  # fmt: skip
    rows.append({**rows[0], "prototype": "CoO", "structure": "as in references"})
    folder = tmp_path_factory.mktemp("feff10")
    pq.write_table(pa.Table.from_pylist(rows[:-1]), folder / "references.parquet")
    pq.write_table(pa.Table.from_pylist(rows[-1:]), folder / "crystalline.parquet")
    return folder


@pytest.fixture(scope="module")
def easy(library):
    """An image of exact theory at a high dose, and its task."""
    how = PhasePlanting(
        height=12, width=12, grain=2, dose=1e4, misplaced=0.0, bent=0.0, blurred=0.0, drift=0.0, mixed=0.2
    )
    given = PhaseSet("O", how, (463.0, 521.0), SETS["oxides"].classes)
    found = edges(structures(library, given))
    made = phase_image(how, found, np.random.default_rng(0))
    return posed(given, how, made, labelled(how, found, 3, 1), "easy", 0)


def test_sites_are_averaged_and_a_structure_is_taken_once(library, tmp_path):
    found = structures(library, SETS["oxides"])
    assert {kind: [each.name for each in of] for kind, of in found.items()} == {k: sorted(v) for k, v in NAMES.items()}
    energy, cobalt = next(each for each in found["rock salt"] if each.name == "CoO").edge
    mean = 0.5 + 0.5 * np.tanh(energy - 534) + 3.5 * np.exp(-((energy - LINES["rock salt"]) ** 2))
    np.testing.assert_allclose(cobalt, mean, atol=1e-6)
    written = write_theory(tmp_path, found)
    assert len(written) == 9 and (tmp_path / "rock salt" / "CoO.txt") in written
    np.testing.assert_allclose(np.loadtxt(tmp_path / "rock salt" / "CoO.txt")[:, 1], cobalt, atol=1e-5)


def test_no_material_is_theory_and_new(library):
    for seed in range(5):
        theory, new = split(structures(library, SETS["oxides"]), seed)
        own = {each.material for of in theory.values() for each in of}
        assert not own & {each.material for of in new.values() for each in of}
        assert all(len(of) == 2 for of in theory.values()) and all(len(of) == 1 for of in new.values())
    assert material("NMC811_x5of10") == "NMC811" and material("LixCoO2_O3") == material("LiCoO2")


@pytest.mark.parametrize("name", list(SETS))
def test_the_real_library_has_every_class_in_theory_and_new(name):
    if not FEFF10.exists():
        pytest.skip("../shared/data/feff10 is not there")
    found = structures(FEFF10, SETS[name])
    theory, new = split(found)
    assert list(found) == list(SETS[name].classes)
    assert all(len(theory[kind]) and len(new[kind]) for kind in found)
    how = SETS[name].how
    for of in found.values():
        for each in of:
            assert how.energy[0] < each.edge.energy[0] < how.window[1] < each.edge.energy[-1]
            assert (each.edge.intensity >= 0).all()


def test_more_labels_than_structures_are_views_of_them(library):
    how = SETS["oxides"].how
    found = edges(structures(library, SETS["oxides"]))
    few, many = (labelled(how, found, count, 0) for count in (2, 5))
    assert len(few.spectra) == 6 and np.bincount(many.labels).tolist() == [5, 5, 5]
    assert len(np.unique(many.spectra.round(6), axis=0)) == 15


def test_scores_of_the_truth_are_perfect_and_of_a_guess_are_not(easy):
    truth = easy.truth
    shares, signal = truth.shares.reshape(-1, 3), truth.signal.reshape(len(easy.signal), -1)[:, easy.inside]
    best = scored(easy, PhaseAnswers(truth.phase.ravel(), np.eye(3)[truth.phase.ravel()], shares, signal))
    assert best["accuracy"] == best["iou"] == 1 and best["share_rmse"] == best["brier"] == best["ece"] == 0
    assert best["snr_db"] > 100
    tenth = scored(easy, PhaseAnswers(truth.phase.ravel(), denoised=1.1 * signal))
    assert tenth["snr_db"] == pytest.approx(20) and tenth["ece"] is None
    guess = np.full(len(signal), np.bincount(truth.phase.ravel()).argmin())
    bad = scored(easy, PhaseAnswers(guess, np.full((len(signal), 3), 1 / 3)))
    assert bad["accuracy"] <= 1 / 3 and bad["iou"] < 0.2 and bad["brier"] == pytest.approx(2 / 3)
    means = summary([best, bad])
    assert means["accuracy"] == (1 + bad["accuracy"]) / 2 and means["accuracy_95"] == (bad["accuracy"], 1)
    assert means["snr_db"] is None and set(SCORES) <= set(means)


@pytest.mark.parametrize(
    ("method", "least"),
    [
        (classical.nnls_truth, 0.97),
        (classical.nnls_references, 0.95),
        (classical.nnls_aligned, 0.95),
        (classical.pca_knn, 0.9),
        (classical.nmf, 0.8),
        (classical.kmeans, 0.8),
    ],
)
def test_methods_solve_an_easy_image(easy, method, least):
    found = method(easy)
    scores = scored(easy, found)
    assert scores["accuracy"] > least and scores["snr_db"] > 15
    for values in (found.probability, found.shares):
        if values is not None:
            np.testing.assert_allclose(values.sum(axis=1), 1)


def test_aligned_references_find_a_moved_theory(easy):
    from dataclasses import replace

    moved = replace(easy, references=classical._moved(easy, np.array([1.0, -1.0, 0.5])))
    one, other = (scored(moved, method(moved)) for method in (classical.nnls_aligned, classical.nnls_references))
    assert one["share_rmse"] < 0.1 < other["share_rmse"]


def test_the_network_has_the_sizes_of_the_paper():
    import jax
    from flax import nnx

    sizes = [x.size for x in jax.tree.leaves(nnx.state(vae.PlainVAE(rngs=nnx.Rngs(0)), nnx.Param))]
    assert sum(sizes) == 43_808 + 29_313


def trained_on(folder):
    """A model of an epoch on what `--write` wrote."""
    images = [str(path) for path in sorted((folder / "images").glob("*.npy"))]
    main(
        [
            "image-data",
            "--theory",
            str(folder / "theory"),
            "--edge",
            "O K",
            "--out",
            str(folder / "data"),
            "--images",
            *images,
        ]
    )
    main(["train", "live", "--data", str(folder / "data"), "--out", str(folder / "run"), "--train.epochs", "1",
          "--train.warmup-epochs", "0"])  # fmt: skip
    return folder / "run"


def test_it_runs_and_a_model_is_scored(library, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(vae, "EPOCHS", 1)
    common = ["--library", str(library), "--images", "2", "--doses", "100", "--labels", "1", "2", "--small"]
    assert phases.main([*common, "--write", str(tmp_path)]) == []
    capsys.readouterr()
    for path in sorted((tmp_path / "images").glob("*.npy")):
        image = open_image(path)
        assert image.shape == (1, 8, 8, 512) and image.energy[0] == 440
    assert len(list((tmp_path / "theory_1").glob("*/*.txt"))) == 3
    run = trained_on(tmp_path)
    capsys.readouterr()
    lines = phases.main([*common, "--model", str(run)])
    printed = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * (1 + 2 * (len(phases.METHODS) - 1) + 2)
    assert json.loads(printed[0])["images"] == 2 and printed[-1].startswith("oxides, new")
    (probed,) = probe.main(["--library", str(library), "--images", "2", "--small", "--model", str(run)])
    assert 0 <= probed["domain"] <= 1 and 0 <= probed["accuracy_measured"] <= 1
    told = [line for line in lines if line["case"].endswith("model")]
    assert len(told) == 4 and all(line["share_rmse"] is not None and line["ece"] is not None for line in told)


def test_what_cannot_be_is_said_in_a_line(library, tmp_path):
    with pytest.raises(SystemExit, match="fewer than two materials"):
        phases.main(["--library", str(tmp_path)])
    with pytest.raises(SystemExit, match="1 or more"):
        phases.main(["--library", str(library), "--images", "0"])
