"""The report of a real run: a page that says what scores are worth, and commands that work."""

import shlex

import numpy as np
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import LIBRARY
from data_pipelines.pages import html
from data_pipelines.schema import DESCRIPTORS, NAMES, SHELL_NAMES, descriptor, site_kind
from data_pipelines.shells import shell_labels
from spt_jax.cli import main
from spt_jax.config import Config, LabelsConfig, ModelConfig, TrainConfig
from spt_jax.inference.evaluate import evaluate
from spt_jax.inference.load import load_run
from spt_jax.reports.figures import confusions
from spt_jax.reports.report import write_report
from spt_jax.reports.trivial import trivial_answers
from spt_jax.scoring.names import CLASS_SCORES, VALUE_SCORES
from spt_jax.training.loop import train
from tests.pages import Page

SMALL = Config(
    ModelConfig(width=8, blocks=1, bands=2, highest_band=5, attention="none", readout_channels=2, hidden=16),
    LabelsConfig(descriptors=("OS", "CN", "MBL", "NNOSM")),
    TrainConfig(epochs=2, batch_size=64, warmup_epochs=0.5),
)


@pytest.fixture(scope="module")
def dataset():
    return Dataset(LIBRARY)


@pytest.fixture(scope="module")
def written(dataset, tmp_path_factory):
    """A folder with a blank in its name, what was evaluated, and the page."""
    run = tmp_path_factory.mktemp("report") / "my run"
    train(SMALL, dataset, run)
    model = load_run(run)
    evaluation = evaluate(model, dataset, "test")
    write_report(run, evaluation, model.blueprint, dataset)
    return run, evaluation, (run / "report.html").read_text(encoding="utf-8")


def test_the_page_tells_every_score_and_every_abbreviation(written):
    _, evaluation, page = written
    text = Page(page).text
    for part in evaluation.metrics["sites"].values():
        for name, scores in part["descriptors"].items():
            assert f"{name} {descriptor(name).meaning}" in text
            for key, title in (CLASS_SCORES if scores["kind"] == "class" else VALUE_SCORES).items():
                assert title in text and (scores[key] is None or f"{scores[key]:.3f}" in text)
    for section in ("Learning curves", "Classes", "Values", "Chosen bands", "What next"):
        assert section in text
    # Oxygen is -2 in every training material: nobody is better than who says so.
    assert 'class="O"' in page and "1.000" in text


def test_its_commands_work(written, capsys):
    run, _, page = written
    lines = Page(page).text.split("spt-jax ")
    (predict,) = [shlex.split(line) for line in lines if line.startswith("predict")]
    capsys.readouterr()
    main(predict)
    assert "Co K" in capsys.readouterr().out
    (explain,) = [shlex.split(line) for line in lines if line.startswith("explain")]
    assert explain[1:] == [str(run), "--data", str(LIBRARY)]


def test_the_trivial_answer_knows_the_element_alone(dataset):
    train, split = dataset.split("train").batch, dataset.split("test").batch
    found = trivial_answers(train, split)
    assert list(found) == [*NAMES, *SHELL_NAMES]
    for name in SHELL_NAMES:
        known, present = shell_labels(train, name)
        for row, element in enumerate(split.atomic_number):
            shares = present[train.atomic_number[known] == element].mean(axis=0)
            np.testing.assert_allclose(found[name][row], shares, atol=1e-12)
    for column, d in enumerate(DESCRIPTORS):
        for row, element in enumerate(split.atomic_number):
            known = train.mask[:, column] & (train.atomic_number == element)
            known = known if known.any() else train.mask[:, column]
            labels = train.labels[known, column]
            if d.kind == "regression":
                assert found[d.name][row] == pytest.approx(labels.mean(), rel=1e-5)
            else:
                shares = [(labels == c).mean() for c in range(len(d.classes))]
                np.testing.assert_allclose(found[d.name][row], shares)


def test_an_element_without_labels_gets_what_is_usual_of_all(dataset):
    train, split = dataset.split("train").batch, dataset.split("test").batch
    mask = train.mask.copy()
    mask[train.atomic_number == 26, NAMES.index("MBL")] = mask[:, NAMES.index("OCN")] = False
    found = trivial_answers(train._replace(mask=mask), split)
    iron = found["MBL"][split.atomic_number == 26]
    np.testing.assert_allclose(iron, train.labels[mask[:, NAMES.index("MBL")], NAMES.index("MBL")].mean(), rtol=1e-5)
    assert "OCN" not in found


def test_a_row_of_few_sites_is_pale(dataset):
    """Colour is the number of sites: one site alone in its row is not as dark as fifty."""
    split, column = dataset.split("test"), NAMES.index("PSGO")
    labels = split.batch.labels[:, column].astype(int)
    page = confusions({"PSGO": labels}, split)
    counts = np.bincount(labels)
    assert (
        f"{len(labels)} of {len(labels)} sites right; darkest: {counts.max()}"
        in Page(html.page("", "", [("Part", "", page)])).text
    )
    for c in np.flatnonzero(counts):
        assert f"{descriptor('PSGO').classes[c]} ({counts[c]})" in page
    assert {site_kind(absorber.split()[0]) for absorber in split.absorbers} == {"O", "non-O"}
