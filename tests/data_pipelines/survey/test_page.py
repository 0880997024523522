"""The page of a data card: its numbers against slow ones, what it must say, and what it must not need."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import data_pipelines
from data_pipelines.dataset.loading import Dataset
from data_pipelines.dataset.splits import NEAR_DUPLICATE
from data_pipelines.schema import NAMES
from data_pipelines.survey import page as survey_page
from data_pipelines.survey.look import fair_sample, look, outliers, read
from data_pipelines.survey.nearest import nearest
from spt_jax.cli import main
from tests.pages import Page

LIBRARY = Path(data_pipelines.__file__).parent / "library"


@pytest.fixture(scope="module")
def library():
    return Dataset(LIBRARY)


@pytest.fixture(scope="module")
def examples(library):
    return read(library)


@pytest.fixture(scope="module")
def page(library, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "data_card.html"
    survey_page.write_page(library, path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    return path.read_text(encoding="utf-8")


def select(examples, *absorbers):
    return type(examples)(*(column[np.isin(examples.absorbers, absorbers)] for column in examples))


def slow_nearest(spectra, groups, row):
    """Smallest max |mu_i - mu_j| over all of another group."""
    others = np.flatnonzero(groups != groups[row])
    return np.abs(spectra[others] - spectra[row]).max(axis=1).min() if len(others) else np.inf


@pytest.mark.parametrize("count", [1, 2, 7, 400])
def test_nearest_is_exact(rng, count):
    """Also where whole groups are nearer to a spectrum than any other group."""
    groups = np.sort(rng.integers(0, max(count // 60, 1) + 1, count))
    centres = rng.normal(size=(groups.max() + 1, 50))
    spectra = (centres[groups] + 0.01 * rng.normal(size=(count, 50))).cumsum(axis=1).astype(np.float32)
    rows = rng.permutation(count)[: max(count // 2, 1)]
    finished = []
    distance, partner = nearest(spectra, groups, rows, finished.append)
    np.testing.assert_array_equal(distance, np.float64([slow_nearest(spectra, groups, row) for row in rows]))
    assert sum(finished) == len(rows)
    for row, d, p in zip(rows, distance, partner, strict=True):
        assert (p == -1) == np.isinf(d)
        assert p == -1 or (groups[p] != groups[row] and np.abs(spectra[p] - spectra[row]).max() == d)


def test_sample_keeps_what_is_rare(rng):
    absorbers = rng.permutation(np.repeat(["Cu K", "O K", "V K"], [700, 250, 9]))
    rows = fair_sample(absorbers, 100)
    assert len(rows) == 100 and (np.diff(rows) > 0).all()
    assert sorted(np.unique(absorbers[rows], return_counts=True)[1]) == [9, 45, 46]
    np.testing.assert_array_equal(fair_sample(absorbers, 959), np.arange(959))


def test_labels_are_in_their_units(library, examples):
    assert set(examples.labels[:, NAMES.index("OS")][examples.absorbers == "O K"]) >= {-2.0}
    for column, name in enumerate(NAMES):
        labelled = sum(part["labelled"] for part in library.card["descriptors"][name].values())
        assert np.isfinite(examples.labels[:, column]).sum() == labelled


def test_library_does_not_leak(examples):
    """And the distances across its splits are those of comparing all with all."""
    seen = look(examples)
    assert not seen.leaks and not seen.straddling
    for pair, (rows, distance, _) in seen.across.items():
        assert len(rows) == (examples.splits == pair[1]).sum()
        for row, d in zip(rows[:20], distance[:20], strict=True):
            pool = np.isin(examples.splits, pair) & (examples.absorbers == examples.absorbers[row])
            place = int(pool[:row].sum())
            assert d == slow_nearest(examples.spectrum[pool], examples.splits[pool], place)


def test_planted_leaks_and_outlier_are_found(library, examples):
    iron = select(examples, "Fe K")
    train, test = (np.flatnonzero(iron.splits == name) for name in ("train", "test"))
    spectrum, materials = iron.spectrum.copy(), iron.materials.copy()
    spectrum[test[0]] = spectrum[train[0]] + NEAR_DUPLICATE / 2
    materials[test[1]] = materials[train[1]]
    spectrum[train[2]] += np.linspace(-1, 1, spectrum.shape[1], dtype=np.float32)
    seen = look(iron._replace(spectrum=spectrum, materials=materials))
    assert seen.leaks == 1
    assert seen.straddling == {materials[train[1]]: ("train", "test")}
    assert outliers(seen, 1)[0].row == train[2]
    page = survey_page.as_html("leaky", seen, library.card)
    assert "FAIL: 1 spectra, 1 materials" in page and iron.ids[test[0]] in page


def test_page_stands_alone(page):
    assert len(Page(page).links) == 8


def test_page_tells_everything(page, library, examples):
    text = Page(page).text
    for absorber in np.unique(examples.absorbers):
        assert f"{absorber} · " in text
    for name, reasons in library.card["masked_by_reason"].items():
        assert name in text and all(reason in text for reason in reasons)
    for pair in outliers(look(examples), survey_page.OUTLIERS):
        assert examples.ids[pair.row] in text and examples.ids[pair.partner] in text
    assert "Looked at here" not in text and "FAIL" not in text


def test_sample_is_confessed(library, examples):
    """And its distances are to all spectra, not to the sample."""
    full, seen = look(examples), look(examples, limit=50)
    known = dict(zip(full.sample.tolist(), full.neighbours.distance.tolist(), strict=True))
    assert [known[row] for row in seen.sample.tolist()] == seen.neighbours.distance.tolist()
    few = select(examples, "V K", "Cr K")
    page = survey_page.as_html("sampled", look(few, limit=2), library.card)
    assert f"2 of {len(few.ids)} spectra" in page and f"2 of {(few.splits == 'validation').sum()}" in page
    assert "in a sample" in page


def test_command_prints_the_text(capsys):
    main(["data", "card", str(LIBRARY)])
    assert capsys.readouterr().out == (LIBRARY / "data_card.txt").read_text(encoding="utf-8")


def test_command_writes_the_page(page, tmp_path, capsys):
    """Beside the dataset unless told otherwise; the same bytes every time."""
    shutil.copytree(LIBRARY, tmp_path / "library")
    main(["data", "card", str(tmp_path / "library"), "--html"])
    written = tmp_path / "library" / "data_card.html"
    assert written.read_text(encoding="utf-8") == page
    assert capsys.readouterr().out.strip() == str(written)


def test_page_of_a_small_dataset_names_what_was_dropped(built, tmp_path):
    """Few spectra of each absorber, no validation split, records dropped for many reasons; a file of one's own."""
    file = tmp_path / "new" / "page.html"
    main(["data", "card", str(built.out), "--html", str(file)])
    page = file.read_text(encoding="utf-8")
    Page(page)
    for record in built.card["dropped"]:
        assert record["id"] in page and record["reason"] in page


def test_wrong_datasets_and_files_get_one_line(tmp_path, capsys):
    def fails(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["data", "card", *map(str, arguments)])
        assert stop.value.code not in (0, None)
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert message.startswith("spt-jax: error: ")
        return message

    assert "spt-jax prepare" in fails(tmp_path, "--html")
    assert "spt-jax prepare" in fails(tmp_path / "nowhere")
    assert "is a folder" in fails(LIBRARY, "--html", tmp_path)
    assert "one file" in fails(LIBRARY, "--html", "a.html", "b.html")
    copy = tmp_path / "damaged"
    shutil.copytree(LIBRARY, copy)
    for shard in copy.rglob("*array_record*"):
        if shard.is_file():
            shard.write_bytes(shard.read_bytes()[:-40])
    assert "damaged" in fails(copy, "--html")
    assert not (copy / "data_card.html").exists()


def test_bare_data_says_what_there_is(capsys):
    main(["data"])
    assert "spt-jax data card" in capsys.readouterr().out
