"""The page of answers: whole and in one style for images, lines, spectra and series; what it counts; hatching that is never lost."""

import io
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from spt_jax.cli import main
from spt_jax.eels import answer
from spt_jax.eels.answer_figures import class_colours, class_spectra, flagged, hatch, principal
from spt_jax.eels.answer_page import as_html, as_npz, lines
from spt_jax.eels.series import follow_phases
from tests.eels.planted_answer import CLASSES, ENERGY, PlantedModel, planted_answer, truth
from tests.pages import Page

SHAPES = {"image": (1, 12, 16), "line": (1, 1, 20), "spectrum": (1, 1, 1), "series": (4, 9, 11), "lines": (5, 1, 20), "point": (6, 1, 1), "column": (1, 40, 1)}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_shape_has_a_whole_page(shape):
    found = planted_answer(*shape)
    series = follow_phases(found) if shape[0] > 1 else None
    page = as_html(found, "map <1>.dm4", series)
    text = Page(page).text
    assert "map <1>.dm4" in text and "spinel <LiMn2O4>" in text and "nan" not in text.lower()
    assert ("Over time" in text) == (shape[0] > 1)
    assert as_html(found, "map <1>.dm4", series) == page
    assert all(len(line) <= 80 for line in lines(found))


def test_an_image_says_what_there_is():
    found = planted_answer()
    text = Page(as_html(found, "map.dm4")).text
    assert "9 of 190" in text and "2 of 192" in text and "hatched" in text
    counts = [int(np.sum(found.phase == i)) for i in range(3)]
    told = "\n".join(lines(found))
    assert all(f"{count} pixels" in told for count in counts) and "9 pixels   4.7%" in told
    assert "left out: 2 pixels (2 no counts)" in told and "left out 2 of" not in told


def test_without_spectra_maps_or_good_pixels():
    found = planted_answer()
    text = Page(as_html(replace(found, denoised=None, signal=None, maps={}), "a")).text
    assert "Spectra" not in text and "Corrections" not in text
    assert "Spectra" in Page(as_html(replace(found, denoised=None), "a")).text
    nothing = {
        name: np.full_like(getattr(found, name), np.nan)
        for name in ("probability", "share", "latent", "unlike", "denoised", "signal")
    }
    empty = replace(found, phase=np.full_like(found.phase, -1), reason=np.full_like(found.reason, 1), **nothing)
    text = Page(as_html(empty, "a")).text
    assert "No pixel could be used: 192 pixels (192 not finite)." in text
    assert "left out: 192 pixels" in "\n".join(lines(replace(empty, notes=())))
    one = planted_answer(1, 1, 1)
    left = {name: np.full_like(getattr(one, name), np.nan) for name in nothing}
    out = replace(one, phase=one.phase * 0 - 1, reason=one.reason * 0 + 1, **left)
    assert "No pixel could be used" in Page(as_html(out, "a")).text


def test_an_image_of_something_else_says_so():
    found = replace(planted_answer(), unlike=np.full((1, 12, 16), 3.0, np.float32))
    text = Page(as_html(found, "a")).text
    assert "do not rely on their classes" in text
    # The means are of all, and say so.
    assert all(each.pixels == each.flagged == (found.phase == i).sum() for i, each in enumerate(class_spectra(found)))
    assert f"{np.sum(found.phase == 0)} of them flagged" in text
    assert "do not rely on their classes" in "\n".join(lines(found))
    assert "do not rely" not in Page(as_html(planted_answer(), "a")).text


def test_one_class_and_one_latent_coordinate():
    found = planted_answer(1, 5, 6, ("only",))
    Page(as_html(replace(found, latent=found.latent[..., :1]), "a"))
    Page(as_html(planted_answer(2, 5, 6, ("only",)), "a", follow_phases(planted_answer(2, 5, 6, ("only",)))))
    Page(as_html(replace(found, latent=0 * found.latent), "a"))


def test_means_of_classes_are_of_pixels_that_are_not_flagged():
    found = planted_answer(2, 12, 16)
    own = (found.phase == 1) & ~flagged(found)
    [_, middle, _] = class_spectra(found)
    assert middle.pixels == own.sum()
    np.testing.assert_allclose(middle.measured, found.signal[own].mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(middle.denoised, found.denoised[own].mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(middle.spread, found.denoised[own].std(axis=0), rtol=1e-2, atol=1e-3)


def test_the_plane_of_the_latent_space():
    found = planted_answer()
    places, parts = principal(found)
    good = (found.phase >= 0) & ~flagged(found)
    assert places[good].std(axis=0)[0] >= places[good].std(axis=0)[1] and 0.5 < parts.sum() <= 1
    np.testing.assert_allclose(places[good].mean(axis=0), 0, atol=1e-5)
    assert principal(replace(found, latent=found.latent[..., :1])) is None
    assert principal(planted_answer(1, 1, 1)) is None


@pytest.mark.parametrize("size", [(5, 5), (40, 30), (2000, 3000)])
def test_a_flagged_pixel_is_never_lost(size):
    figure = Figure(figsize=(3, 3))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(np.zeros(size), aspect="auto")
    marked = np.zeros(size, bool)
    marked[size[0] // 2, size[1] // 3] = True
    hatch(axes, marked)
    drawn = axes.images[1].get_array()
    assert (drawn[..., 3] == 1).any() and (drawn[..., 3] > 0).sum() < 0.1 * drawn[..., 3].size
    row, column = (values.mean() for values in np.nonzero(drawn[..., 3]))
    assert row / drawn.shape[0] == pytest.approx(0.5, abs=0.12) and column / drawn.shape[1] == pytest.approx(
        1 / 3, abs=0.12
    )


def test_colours_of_many_classes_differ():
    assert len(set(class_colours(20))) == 20
    assert all(matplotlib.colors.is_color_like(each) for each in class_colours(20))


def test_arrays_of_a_file():
    found = planted_answer(3, 6, 7)
    arrays = np.load(io.BytesIO(as_npz(found, follow_phases(found))))
    assert tuple(arrays["classes"]) == CLASSES and arrays["phase"].shape == (3, 6, 7)
    assert arrays["class_denoised"].shape == (3, len(ENERGY)) and arrays["series_transitions"].shape == (3, 3)
    assert arrays["shift"].shape == arrays["reason"].shape == (3, 6, 7)


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setattr(answer, "load_image_model", lambda path: PlantedModel())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    return tmp_path / "run"


def frames(folder, count=3, height=8, width=9):
    true = truth(count, height, width, 3)
    for i in range(count):
        np.save(folder / f"f{i}.npy", np.repeat(true[i, ..., None], len(ENERGY), axis=-1).astype(np.float32))
    return [str(folder / f"f{i}.npy") for i in range(count)], ["--offset", "520", "--step", "0.5"]


def test_the_command_with_a_model(tmp_path, model, capsys):
    files, scale = frames(tmp_path)
    written = [str(tmp_path / "out" / name) for name in ("a.html", "a.npz", "d.npy", "s.npy")]
    options = [
        word for pair in zip(("--html", "--out", "--denoised", "--signal"), written, strict=True) for word in pair
    ]
    main(["image", str(model), files[0], *scale, *options])
    told = capsys.readouterr().out
    assert "f0: 8 x 9" in told and "layered" in told and ", ".join(written[:2]) in told
    assert np.load(written[2]).shape == (1, 8, 9, 120)
    main(["image", str(model), *files, *scale, *options[:4]])
    told = capsys.readouterr().out
    assert "3 of 8 x 9" in told and "from f0.npy to f2.npy, 3 frames" in told
    text = Page((tmp_path / "out" / "a.html").read_text(encoding="utf-8")).text
    assert "f0.npy to f2.npy" in text and "Over time" in text
    assert "series_changed" in np.load(written[1])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "f0.npy", "--edge", "O K"], "--edge is of corrections without a MODEL"),
        (["run", "f0.npy", "--low-loss", "f1.npy"], "--low-loss is of corrections without a MODEL"),
        (["run"], "no FILE given"),
        ([], "no FILE given"),
        (["f0.npy", "f1.npy"], "several files are answered by a MODEL"),
        (["f0.npy", "--denoised", "d.npy"], "--denoised is of a MODEL"),
        (["f0.npy", "--interval", "1"], "say --live, too"),
        (["f0.npy", "--live"], "--live is of a MODEL"),
        (["run", "f0.npy", "--live"], "--live watches one folder"),
        (["run", ".", "--live", "--out", "a.npz"], "ends in .jsonl with --live"),
        (["run", ".", "--live", "--denoised", "d.npy"], "not of --live"),
        (["run", "."], "a folder; --live answers its frames as they come"),
        (["."], "a folder, and no model"),
        (["rnu", "f0.npy"], "rnu: no such file, nor a model"),
        (["run", "f0.npy", "--interval", "0", "--live"], "interval must be at least 0.01"),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(tmp_path, model, monkeypatch, capsys, arguments, complaint):
    frames(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["image", *arguments])
    told = capsys.readouterr().err
    assert stop.value.code in (1, 2) and complaint in told and told.count("\n") == 1
