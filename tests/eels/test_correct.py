"""A whole image: planted ones against their truth, in pieces as in one, bad ones, a measured one; the command and its page."""

import json
import re
import tarfile

import numpy as np
import pytest

from data_pipelines.errors import UserError
from data_pipelines.readers.images.open import open_image
from data_pipelines.spectra.planted import Planting, planted
from spt_jax.cli import main
from spt_jax.eels import correct as module
from spt_jax.eels.correct import correct
from spt_jax.eels.settings import ImageConfig
from tests.data_pipelines.readers.test_images import EELS, there

HOW = Planting(6, 8, 256, step=0.5, dose=400, drift=1.0, spikes=10, dead=2, thickness=0.5)


@pytest.fixture(scope="module")
def made():
    return planted(HOW, np.random.default_rng(0))


def saved(folder, name, counts, offset, **more):
    np.save(folder / f"{name}.npy", counts)
    (folder / f"{name}.json").write_text(json.dumps({"offset": float(offset), "step": 0.5, "pixel": 2.0, **more}))
    return open_image(folder / f"{name}.npy")


@pytest.fixture
def image(tmp_path, made):
    return saved(tmp_path, "core", made.counts, HOW.offset)


@pytest.fixture
def low(tmp_path, made):
    return saved(tmp_path, "low", made.low_loss, made.low_energy[0])


def test_every_correction_finds_what_was_planted(image, low, made):
    found = correct(image, ImageConfig(edge="O K"), low)
    good = found.maps["reason"][0] == 0
    np.testing.assert_array_equal(~good, made.dead)
    off = found.maps["shift"][0] - made.shift
    assert np.nanstd(off) < 0.03
    assert np.abs(found.maps["exponent"][0] - made.exponent)[good].mean() < 0.2
    assert np.abs(found.maps["thickness"][0] - made.thickness)[good].mean() < 0.05
    assert np.nansum(found.maps["spikes"]) >= 0.9 * made.spikes.sum()
    assert found.signal.shape == image.shape and not found.signal[0][made.dead].any()
    behind = slice(170, 220)
    assert found.signal[0][good][:, behind].mean() == pytest.approx(made.signal[good][:, behind].mean(), rel=0.05)
    np.testing.assert_allclose(found.sums["signal"], found.signal.sum(axis=(0, 1, 2)), rtol=1e-3, atol=1)
    assert any("left out 2 of 48 pixels: 2 no counts" in note for note in found.notes)
    assert found.windows["background"][1] < 532 and found.known[0] > 0


def test_in_pieces_as_in_one(image, low, monkeypatch, tmp_path):
    whole = correct(image, ImageConfig(edge="O K", align="features"), low)
    monkeypatch.setattr(module, "PIECE", 4 * 8 * 256)
    done = []
    parts = correct(
        image, ImageConfig(edge="O K", align="features"), low, tmp_path / "signal.npy", lambda *at: done.append(at[1:])
    )
    assert done == [(4, 6), (6, 6)]
    for name, values in whole.maps.items():
        np.testing.assert_allclose(parts.maps[name], values, rtol=1e-3, atol=1e-3, err_msg=name)
    np.testing.assert_allclose(np.load(tmp_path / "signal.npy"), whole.signal, atol=0.5)


def test_bad_pixels_are_left_out_with_their_reason(tmp_path, made):
    counts = made.counts.copy()
    counts[made.dead] = made.counts[~made.dead][0]
    counts[1, :, :] = np.nan
    counts[2, 0, 5:8] = np.nan
    counts[3, 1] -= 2 * counts[3, 1].max()
    counts[4, 2] = 0
    counts[4, 2, 200] = 1e6
    counts[:, :, 77] = 0
    found = correct(saved(tmp_path, "bad", counts, HOW.offset), ImageConfig(edge="O K"))
    reason = found.maps["reason"][0]
    assert (reason[1] == 1).all() and reason[2, 0] == 0 and reason[3, 1] == 2 and reason[4, 2] in (2, 3)
    assert (reason > 0).sum() == 8 + 2
    assert found.maps["filled"][0, 2, 0] == 4 and np.isfinite(found.signal).all()
    assert any("1 channels are dead in all pixels" in note for note in found.notes)


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ({"edge": "Fe L"}, r"an edge at 708 eV cannot be read from energies of 460.0 to 587.5 eV"),
        ({"edge": "Unobtainium"}, "no edge 'Unobtainium' is known"),
        ({"background": (400, 500), "area": (532, 560)}, "background from 400 to 500 eV lies outside of the energies"),
        (
            {"background": (500, 501), "area": (532, 560)},
            "background from 500 to 501 eV holds 2 channels, 5 are needed",
        ),
        ({"edge": "O K", "align": "zero-loss"}, "asks for a low-loss image"),
    ],
)
def test_windows_that_cannot_be(image, how, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        correct(image, ImageConfig(**how))
    assert "\n" not in str(error.value)


def test_low_loss_of_another_image(tmp_path, image, made):
    with pytest.raises(UserError, match="the low-loss image has 5 x 8 pixels, this one 6 x 8"):
        correct(image, ImageConfig(edge="O K"), saved(tmp_path, "l", made.low_loss[:5], made.low_energy[0]))
    with pytest.raises(UserError, match="no zero loss in it"):
        correct(image, ImageConfig(edge="O K"), image)
    noise = np.random.default_rng(0).poisson(100.0, made.low_loss.shape).astype(np.float32)
    with pytest.raises(UserError, match="no zero loss is seen in it"):
        correct(image, ImageConfig(edge="O K"), saved(tmp_path, "n", noise, made.low_energy[0]))
    with pytest.raises(UserError, match="no pixel of the image holds counts"):
        correct(saved(tmp_path, "z", np.zeros((2, 3, 64), np.float32), 500))


def test_one_pixel_and_one_low_loss_for_all(tmp_path, made, image):
    single = saved(tmp_path, "one", made.counts[3, 3], HOW.offset)
    low = saved(tmp_path, "low", made.low_loss[3, 3], made.low_energy[0])
    assert single.shape == (1, 1, 1, 256)
    found = correct(single, ImageConfig(edge="O K"), low)
    assert found.maps["reason"].item() == 0 and "thickness" in found.maps
    found = correct(image, ImageConfig(edge="O K", normalise=True), low)
    good = found.maps["reason"][0] == 0
    start, stop = np.searchsorted(found.energy, found.windows["area"])
    np.testing.assert_allclose(found.signal[0][good][:, start : stop + 1].mean(axis=1), 1, rtol=1e-3)


def test_the_command(tmp_path, made, capsys):
    series = np.stack([made.counts, 2 * made.counts])
    saved(tmp_path, "core", series, HOW.offset, seconds=0.1)
    saved(tmp_path, "low", made.low_loss, made.low_energy[0])
    paths = {name: tmp_path / name for name in ("map.html", "map.npz", "map.npy")}
    options = [
        word
        for name, path in paths.items()
        for word in ({"html": "--html", "npz": "--out", "npy": "--signal"}[name[4:]], str(path))
    ]
    main(["image", str(tmp_path / "core.npy"), "--low-loss", str(tmp_path / "low.npy"), "--edge", "O K", *options])
    told = capsys.readouterr().out
    assert "core: 2 of 6 x 8, energies 256" in told and "left out 4 of 96 pixels" in told
    page = paths["map.html"].read_text(encoding="utf-8")
    assert page.count("<svg") >= 10 and "O K: the power law is fitted" in page and re.search(r">\d+ nm<", page)
    arrays = np.load(paths["map.npz"])
    assert arrays["shift"].shape == (2, 6, 8) and arrays["sum_signal"].shape == arrays["energy"].shape == (256,)
    assert np.load(paths["map.npy"]).shape == (2, 6, 8, 256)
    with pytest.raises(SystemExit):
        main(["image", str(tmp_path / "core.npy"), "--html", "page.txt"])
    assert "--html writes a file that ends in .html" in capsys.readouterr().err


@there
def test_a_measured_image(tmp_path, capsys):
    """NMC with its zero loss: the file's energies are 3 eV off by that; Mn and O are where the particle is."""
    with tarfile.open(EELS / "nmc_eels.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    image, low = (open_image(tmp_path / "nmc_eels" / f"{name}_spectrum_image.dm3") for name in ("tm_o", "zlp"))
    found = correct(image, ImageConfig(edge="O K"), low)
    assert any("the zero loss lies at -3.05 eV" in note for note in found.notes)
    good = found.maps["reason"][0] == 0
    assert good.sum() == 40 and np.nanstd(found.maps["shift"]) < 0.3
    assert (found.maps["exponent"][0][good] > 1.5).all() and (found.maps["area"][0][good] > 0).all()
    # Vacuum at the left, thicker to the right.
    assert np.nanmean(found.maps["thickness"][0][:, :4]) < 0.6 * np.nanmean(found.maps["thickness"][0][:, -8:])
