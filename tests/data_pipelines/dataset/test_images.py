"""Calculated edges and spectrum images as one set: what is in it, and what is refused in one line."""

import json
import shutil

import numpy as np
import pytest

from data_pipelines.dataset.card import read
from data_pipelines.dataset.images import CARD, EVERY, ImageData, is_own, loss_grid, prepare_images
from data_pipelines.dataset.opening import open_data, open_spectra
from data_pipelines.dataset.theory import drawn_edges, on_grid, read_theory
from data_pipelines.errors import DatasetError, UserError
from data_pipelines.places import place
from data_pipelines.readers.images.open import open_image
from tests.eels.planted_phases import CALCULATED, LINES, calculated, planted, write_image, write_theory

CLASSES = tuple(sorted(LINES))


@pytest.fixture(scope="module")
def counts():
    """(12, 14, 512)"""
    return planted().counts


@pytest.fixture(scope="module")
def theory(tmp_path_factory):
    return write_theory(tmp_path_factory.mktemp("theory"))


def made(tmp_path, theory, counts=None, labels="", **given):
    """The set of an image of these counts. labels: lines of the table."""
    images, table = [], None
    if counts is not None:
        images = [("a", open_image(write_image(tmp_path / "a.npy", counts)))]
    if labels:
        table = tmp_path / "labels.csv"
        table.write_bytes(labels if isinstance(labels, bytes) else labels.encode())
    card = prepare_images(theory, images, tmp_path / "data", "O K", table, **given)
    return card, ImageData(tmp_path / "data")


def test_rows_are_edges_and_then_pixels(tmp_path, theory, counts):
    card, data = made(tmp_path, theory, counts, "image,row,column,class\na,0,0,spinel\na,9,2,layered\n")
    assert open_data(tmp_path / "data").fingerprint == data.fingerprint == card["fingerprint"]
    train = data.split("train")
    edges, pixels = data.ranges("train")
    labels = train.batch.labels[:, :2]
    assert len(edges) == 3 and np.array_equal(np.sort(labels[edges.start : edges.stop, 0]), [0, 1, 2])
    assert (train.batch.spectrum[:3, : data.grid.groups] == 0).all()
    np.testing.assert_allclose(train.batch.spectrum[:3, data.grid.groups :].mean(axis=1), 1, rtol=1e-5)
    known = train.batch.mask[pixels.start :, 0]
    assert known.sum() == 2 and card["images"][0]["labelled"] == 2
    assert sorted(labels[pixels.start :, 0][known]) == [CLASSES.index("layered"), CLASSES.index("spinel")]
    # Line 9 is kept for validation, without the pixel whose class is known.
    assert len(pixels) == 11 * 14 + 1 and len(data.ranges("validation")[1]) == 13
    total = np.float64(counts).sum(axis=(0, 1))
    energy = 440 + 0.3 * np.arange(512)
    inside = (energy > data.grid.start - 0.01) & (energy < data.grid.relative()[-1] + 0.01)
    both = np.concatenate(
        [train.batch.spectrum[3:], data.split("validation").batch.spectrum[data.ranges("validation")[1].start :]]
    )
    np.testing.assert_allclose(
        np.float64(both[:, data.grid.groups :]).sum(axis=0) * card["images"][0]["gain"], total[inside], rtol=1e-3
    )


def test_pixels_are_spread_over_all_columns(tmp_path, theory, counts):
    many = np.tile(counts, (3, 1, 1))
    many[..., 400] = np.tile(np.arange(14) + 1.0, (36, 1))
    card, data = made(tmp_path, theory, many, most=36)
    rows = data.split("train").batch.spectrum[3:]
    at = data.grid.groups + round((440 + 0.3 * 400 - data.grid.start) / 0.3)
    assert 20 <= card["images"][0]["used"] <= 40 and len(np.unique(rows[:, at].round())) == 14


def test_a_line_and_a_series_and_one_pixel_are_images(tmp_path, theory, counts):
    for name, each in {"line": counts[0], "series": np.stack([counts, counts]), "pixel": counts[3, 4]}.items():
        (tmp_path / name).mkdir()
        card, data = made(tmp_path / name, theory, each)
        assert (
            card["images"][0]["used"]
            == each[..., 0].size
            == sum(len(data.ranges(s)[-1]) for s in ("train", "validation"))
            - (0 if data._rows["validation"][1] else len(data.ranges("validation")[0]))
        )
    wide = np.tile(counts[0], (4, 1))
    (tmp_path / "wide").mkdir()
    _, data = made(tmp_path / "wide", theory, wide, most=28)
    assert len(data.ranges("validation")) == 2, f"one pixel in {EVERY} is kept"


def test_images_are_not_needed_and_few_rows_can_be_asked_for(tmp_path, theory, counts):
    (tmp_path / "none").mkdir()
    _, alone = made(tmp_path / "none", theory)
    assert alone.quotas(64) == (64,) and alone.ranges("train") == (range(3),)
    _, data = made(tmp_path, theory, counts)
    assert data.quotas(65) == (32, 33)
    for most in (1, 2, 3, 50, 10_000):
        assert len(data.split("train", most).ids) == min(most, data.examples["train"])
        assert len(data.split("validation", most).ids) == min(most, data.examples["validation"])


def test_detectors_are_mended_as_for_answers(tmp_path, theory, counts):
    whole = made(tmp_path, theory, counts)[1].split("train").batch.spectrum
    other = counts * 50
    other[..., 300], other[..., 310] = np.nan, 0
    card, data = made(tmp_path, theory, other)
    [said] = card["images"]
    assert said["dead"] == 2 and said["gain"] == pytest.approx(50, rel=0.1) and not said["left_out"]
    np.testing.assert_allclose(data.split("train").batch.spectrum[3:] / whole[3:], 50 / said["gain"], rtol=0.6)


def test_broken_pixels_are_left_out_and_counted(tmp_path, theory, counts):
    broken = counts.copy()
    broken[0], broken[1], broken[2, 3, 250] = np.nan, 0, np.inf
    card, _ = made(tmp_path, theory, broken)
    assert card["images"][0]["left_out"] == {"not finite": 15, "few counts": 14}
    assert card["images"][0]["used"] == 168 - 29


@pytest.mark.parametrize("value", [0, np.nan, -5])
def test_an_image_without_counts_is_refused(tmp_path, theory, counts, value):
    with pytest.raises(UserError, match=r"^a: no pixel can be used: 168 "):
        made(tmp_path, theory, np.full_like(counts, value))


def table(*lines):
    return "\n".join(["image,row,column,class", *lines])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (table("a,0,0,Spinel"), r"line 2: no class 'Spinel'; known: layered, rock salt, spinel"),
        (table("a,0,0,spinel", "b,0,0,spinel"), r"line 3: no image 'b'; known: a"),
        (table("a,12,0,spinel"), r"a has 1 x 12 x 14 .* a label names frame 0, row 12, column 0"),
        (table("a,-1,0,spinel"), r"line 2: row and column are whole numbers"),
        (table("a,x,0,spinel"), r"line 2: row and column are whole numbers"),
        (table("a,0,0,spinel", "a,0,0,layered"), r"line 3: the same pixel is spinel in a line above"),
        (table("a,0"), r"line 2: no class ''"),
        ("image,class,row,column\na,spinel,1\n", r"line 2: row and column are whole numbers"),
        ("image,row,class\n", r"no column column"),
        ("\n", r"no column class, column, image, row"),
        (table("a,0,0,spinel").encode("utf-16"), r"not UTF-8 text"),
        (table("a,0,0,é").encode("latin-1"), r"not UTF-8 text"),
        ("image,row,column,class,frame\na,0,0,spinel,3\n", r"names frame 3"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_are_refused(tmp_path, theory, counts, labels, said):
    with pytest.raises(UserError, match=said):
        made(tmp_path, theory, counts, labels)
    assert not (tmp_path / "data" / CARD).exists()


def test_labels_as_spreadsheets_write_them(tmp_path, theory, counts):
    for text in ("\ufeff" + table("a,0,0,spinel"), "image, row, column, class\r\na, 0, 0, spinel\r\n"):
        assert made(tmp_path, theory, counts, text)[0]["images"][0]["labelled"] == 1


EDGE = np.column_stack([CALCULATED, calculated(535.0)])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (EDGE - [532, 0], r"one\.txt: its edge rises at .* energies must be absolute"),
        (EDGE[:40], r"one\.txt: ends at 544\.5 eV, the grid at"),
        (EDGE[25:], r"one\.txt: begins at 537\.5 eV, where it has risen already"),
        (EDGE * [1, -1], r"one\.txt: its intensity is below zero"),
        (EDGE * [1, 0], r"one\.txt: holds no edge"),
        (EDGE[np.arange(170) ^ 1], r"one\.txt: .* do not rise or fall throughout"),
        (EDGE[:1], r"one\.txt: no calibration"),
        (b"", r"one\.txt: empty"),
        (bytes(range(256)), r"one\.txt: .*not a text file"),
    ],
)
def test_theory_that_cannot_be_is_refused_by_its_file(tmp_path, theory, counts, rows, said):
    bad = shutil.copytree(theory, tmp_path / "theory")
    if isinstance(rows, bytes):
        (bad / "layered" / "one.txt").write_bytes(rows)
    else:
        np.savetxt(bad / "layered" / "one.txt", rows)
    with pytest.raises(UserError, match=said) as error:
        made(tmp_path, bad, counts)
    assert "\n" not in str(error.value)


def test_folders_that_are_no_theory(tmp_path, theory):
    (tmp_path / "only" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no file in \.txt, .*at least two classes are needed"):
        read_theory(tmp_path / "only")
    shutil.copy(theory / "spinel" / "one.txt", tmp_path / "only" / "a")
    with pytest.raises(UserError, match=r"only a; at least two classes"):
        read_theory(tmp_path / "only")
    for name in ("nowhere", "only/a/one.txt"):
        with pytest.raises(UserError, match="no such folder"):
            read_theory(tmp_path / name)


def test_hidden_files_and_folders_are_no_theory(tmp_path, theory):
    other = shutil.copytree(theory, tmp_path / "theory")
    (other / "spinel" / ".one.txt").write_bytes(b"\0\1")
    (other / "spinel" / "more.txt").mkdir()
    (other / ".ipynb_checkpoints").mkdir()
    shutil.copy(theory / "spinel" / "one.txt", other / ".ipynb_checkpoints" / "one.txt")
    assert {each.kind for each in read_theory(other)} == set(LINES)


def test_an_edge_on_the_grid_is_its_mean_over_each_channel(theory):
    grid = loss_grid("O K", {"a": 440 + 0.3 * np.arange(512)}, CLASSES)
    for each in read_theory(theory):
        fine = np.linspace(*grid.borders()[1][[0, -1]], 20 * grid.points + 1)
        values = calculated(LINES[each.kind], fine)
        want = ((values[1:] + values[:-1]) / 2).reshape(grid.points, 20).mean(axis=1)
        np.testing.assert_allclose(on_grid(each, grid, 532.0), want / want.mean(), atol=0.03)
    drawn = drawn_edges(np.stack([on_grid(each, grid, 532.0) for each in read_theory(theory)]), grid.step)
    assert np.isfinite(drawn).all() and np.allclose(drawn.mean(axis=1), 1)


@pytest.mark.parametrize(
    ("energies", "said"),
    [
        ([560 + 0.3 * np.arange(300)], r"^a: an edge at 532 eV cannot be read"),
        ([440 + 0.3 * np.arange(330)], r"^a: its energies end at 538\.7 eV"),
        (
            [440 + 0.3 * np.arange(512), 526 + 0.3 * np.arange(300)],
            r"^b: an edge at 532 eV .* too little lies in front",
        ),
        ([440 + 0.3 * np.arange(512), 10 + 0.3 * np.arange(512)], r"^b: an edge at 532 eV"),
    ],
)
def test_an_image_that_does_not_cover_the_edge_is_named(energies, said):
    with pytest.raises(UserError, match=said):
        loss_grid("O K", dict(zip("ab", energies, strict=False)), CLASSES)


def test_images_of_other_calibration_share_a_grid(tmp_path, theory, counts):
    coarse = counts[..., :510].reshape(12, 14, 170, 3).sum(axis=-1)
    images = [
        open_image(write_image(tmp_path / "a.npy", counts)),
        open_image(write_image(tmp_path / "b.npy", coarse, 440.3, 0.9)),
    ]
    prepare_images(theory, list(zip("ab", images, strict=True)), tmp_path / "data", "O K")
    rows = ImageData(tmp_path / "data").split("train").batch.spectrum[3:]
    one, other = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    np.testing.assert_allclose(one.sum(axis=0), other.sum(axis=0), rtol=0.15)
    with pytest.raises(UserError, match="two images are named a"):
        prepare_images(theory, [("a", images[0]), ("a", images[1])], tmp_path / "data", "O K")


DAMAGES = {
    "a card that is no JSON": (lambda folder: (folder / CARD).write_text("{"), r"images\.json: damaged"),
    "a card that is a list": (lambda folder: (folder / CARD).write_text("[]"), r"images\.json: damaged"),
    "no rows": (lambda folder: changed(folder, rows=None), r"images\.json: damaged"),
    "rows of text": (lambda folder: changed(folder, rows={"train": ["a", "b"], "validation": [1, 1]}), r"images\.json: damaged"),
    "rows of one": (lambda folder: changed(folder, rows={"train": [4], "validation": [1, 1]}), r"images\.json: damaged"),
    "a grid of spectra": (lambda folder: changed(folder, grid={"start": 0, "step": 0.5, "points": 144}), r"images\.json: damaged"),
    "counts cut": (lambda folder: cut(folder / "train.counts.npy"), r"train\.counts\.npy: missing or damaged"),
    "counts of another shape": (lambda folder: np.save(folder / "train.counts.npy", np.ones((3, 3))), r"train\.counts\.npy: holds"),
    "counts that are junk": (lambda folder: (folder / "train.counts.npy").write_bytes(b"x"), r"train\.counts\.npy: missing or"),
    "no labels": (lambda folder: (folder / "train.labels.npy").unlink(), r"train\.labels\.npy: missing or damaged"),
    "labels of no class": (lambda folder: more(folder / "train.labels.npy", 7), r"train\.labels\.npy: damaged"),
    "labels below zero": (lambda folder: more(folder / "train.labels.npy", -1), r"train\.labels\.npy: damaged"),
}  # fmt: skip


def changed(folder, **own):
    card = json.loads((folder / CARD).read_text()) | own
    (folder / CARD).write_text(json.dumps({name: each for name, each in card.items() if each is not None}))


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def more(path, number):
    np.save(path, np.load(path) + np.float32(number))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, theory, counts):
    folder = tmp_path_factory.mktemp("whole")
    made(folder, theory, counts)
    return folder / "data"


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_damage_is_named(tmp_path, whole, damage):
    folder = shutil.copytree(whole, tmp_path / "data")
    change, said = DAMAGES[damage]
    change(folder)
    with pytest.raises(UserError, match=said) as error:
        open_data(folder).split("train")
    assert "\n" not in str(error.value)


def test_a_stopped_run_leaves_no_dataset(tmp_path, whole, theory, counts, monkeypatch):
    folder, saved = shutil.copytree(whole, tmp_path / "data"), np.save

    def stop(file, array):
        saved(file, array)
        if array.shape[1] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, theory, counts[:6])
    monkeypatch.undo()
    assert not (folder / CARD).exists() and all(map(is_own, folder.iterdir()))
    with pytest.raises(DatasetError):
        open_data(folder)
    assert made(tmp_path, theory, counts[:6])[1].split("train")


def test_who_asks_of_spectra_is_told_of_images(whole):
    for ask in (open_spectra, read):
        with pytest.raises(DatasetError, match=r"holds spectrum images, which `spt-jax train image` learns"):
            ask(whole)
    with pytest.raises(DatasetError, match=r"held in memory; train with --train.input resident"):
        open_data(whole).stream("train", 8, 0)


def test_a_set_in_an_object_store_is_refused_in_one_line(whole):
    there = place("memory://images/set")
    (there / CARD).write_bytes((whole / CARD).read_bytes())
    with pytest.raises(DatasetError, match="fetch the folder first"):
        open_data("memory://images/set")
    (there / CARD).unlink()
