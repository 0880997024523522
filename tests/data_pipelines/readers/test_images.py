"""Spectrum images of every format: written here, read back in order; real ones; and bad ones, which are one line each."""

import json
import resource
import tarfile
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.errors import UserError
from data_pipelines.readers.images.image import ImageCalibration
from data_pipelines.readers.images.open import open_image
from tests.data_pipelines.readers.gatan_files import write_gatan

EELS = Path(__file__).parents[4] / "shared" / "data" / "eels"
there = pytest.mark.skipif(not EELS.exists(), reason="needs ../shared/data/eels")
ENERGY = ("Energy loss", "eV", 0.5, 400.0)
ROWS, COLUMNS = ("y", "nm", 3.0, 0.0), ("x", "nm", 2.0, 0.0)


def numbered(shape, dtype="float32"):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def whole(image):
    return np.stack([image.rows(t, 0, image.shape[1]) for t in range(image.shape[0])])


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["float32", "int16", "uint16", "int32"])
def test_gatan(tmp_path, version, order, dtype):
    counts = numbered((20, 3, 4), dtype)  # energy first, as Gatan's spectrum images are
    tags = {"EELS": {"Acquisition": {"Exposure (s)": 0.5, "Number of frames": 4}}, "Microscope Info": {"Voltage": 2e5}}
    path = write_gatan(tmp_path / f"a.dm{version}", counts, (ENERGY, ROWS, COLUMNS), version, order, tags=tags)
    image = open_image(path)
    assert image.shape == (1, 3, 4, 20)
    np.testing.assert_array_equal(whole(image)[0], counts.transpose(1, 2, 0))
    np.testing.assert_allclose(image.energy, 400 + 0.5 * np.arange(20))
    assert (image.pixel, image.unit, image.seconds) == ((3.0, 2.0), "nm", 2.0)
    assert image.facts == {"beam energy": "200 keV"} and image.title == "map"
    assert any("energy was axis 1 of 3" in note for note in image.notes)


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((20,), (ENERGY,), (1, 1, 1, 20)),
        ((5, 20), (COLUMNS, ENERGY), (1, 1, 5, 20)),
        ((3, 5, 20), (ROWS, COLUMNS, ENERGY), (1, 3, 5, 20)),
        ((2, 3, 5, 20), (("", "s", 4.0, 0.0), ROWS, COLUMNS, ENERGY), (2, 3, 5, 20)),
        ((20, 3, 2, 5), (ENERGY, ROWS, ("time", "", 1.0, 0.0), COLUMNS), (2, 3, 5, 20)),
        ((1, 1, 20), (ROWS, COLUMNS, ENERGY), (1, 1, 1, 20)),
    ],
)
def test_every_number_of_axes(tmp_path, shape, axes, expected):
    counts = numbered(shape)
    image = open_image(write_gatan(tmp_path / "a.dm4", counts, axes, 4))
    assert image.shape == expected
    found = [axis for axis in image.order if axis is not None]
    np.testing.assert_array_equal(
        whole(image).ravel(), counts.transpose(found + [i for i in range(counts.ndim) if i not in found]).ravel()
    )


def test_intensities_units_and_turned_energies(tmp_path):
    counts = numbered((4, 20), "int16")
    axes = (COLUMNS, ("", "keV", -0.001, 0.5))
    image = open_image(write_gatan(tmp_path / "a.dm3", counts, axes, brightness=(10.0, 2.0)))
    np.testing.assert_allclose(image.energy, 481 + np.arange(20))
    np.testing.assert_allclose(whole(image)[0, 0], (counts[:, ::-1] - 10.0) * 2)
    assert sum(word in note for note in image.notes for word in ("(stored - 10) * 2", "turned round")) == 2


def test_numpy_and_what_lies_beside_it(tmp_path):
    counts = numbered((3, 4, 20))
    np.save(tmp_path / "a.npy", counts)
    with pytest.raises(UserError, match=r"no axis is one of energies.*--offset and --step"):
        open_image(tmp_path / "a.npy")
    (tmp_path / "a.json").write_text(json.dumps({"offset": 400, "step": 0.5, "pixel": 2, "seconds": 0.1}))
    image = open_image(tmp_path / "a.npy", ImageCalibration(pixel=4))
    assert (image.energy[1], image.pixel, image.seconds) == (400.5, (4, 4), 0.1)
    assert "calibration of a.json" in image.notes
    (tmp_path / "a.json").write_text('{"offset": "400"}')
    with pytest.raises(UserError, match="offset cannot be '400'"):
        open_image(tmp_path / "a.npy")
    (tmp_path / "a.json").unlink()
    (tmp_path / "a.csv").write_text("energy\n" + "\n".join(f"{400 + 0.5 * i:.2f}" for i in range(20)))
    np.testing.assert_array_equal(whole(open_image(tmp_path / "a.npy"))[0], counts)
    np.savez(tmp_path / "b.npz", counts=counts.transpose(2, 0, 1), energy=np.linspace(400, 500, 20) ** 1.01)
    image = open_image(tmp_path / "b.npz")
    np.testing.assert_array_equal(whole(image)[0], counts)
    assert image.energy[-1] == pytest.approx(500**1.01)


def test_text(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffeV,counts\n" + "\n".join(f"{500 + i},{i * i}" for i in range(30)))
    image = open_image(tmp_path / "a.csv")
    assert image.shape == (1, 1, 1, 30) and whole(image).sum() == sum(i * i for i in range(30))
    rows = [f"{500 + i}, {i}" for i in range(30)]
    rows[4:6] = rows[5:3:-1]
    (tmp_path / "b.csv").write_text("\n".join(rows))
    image = open_image(tmp_path / "b.csv")
    assert (np.diff(image.energy) > 0).all() and any("put in order" in note for note in image.notes)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("part", [0.02, 0.1, 0.5, 0.97])
def test_a_cut_file(tmp_path, version, part):
    path = write_gatan(tmp_path / f"a.dm{version}", numbered((20, 3, 4)), (ENERGY, ROWS, COLUMNS), version)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(
        UserError, match=rf"is cut: it has {int(part * len(content)):,} of {len(content):,} bytes"
    ) as error:
        open_image(path)
    assert "\n" not in str(error.value)


def test_mangled_files_are_one_line(tmp_path, rng):
    path = write_gatan(tmp_path / "a.dm4", numbered((20, 3, 4)), (ENERGY, ROWS, COLUMNS), 4)
    content = bytearray(path.read_bytes())
    for _ in range(300):
        changed = bytearray(content)
        for place in rng.integers(4, len(content), 3):
            changed[place] = rng.integers(256)
        path.write_bytes(changed)
        try:
            whole(open_image(path))
        except UserError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("axes", "given", "complaint"),
    [
        (
            (("", "nm", 1, 0), ROWS, COLUMNS),
            ImageCalibration(),
            "no calibration.*no axis is one of energies: 20 (nm), 3 (nm)",
        ),
        ((("", "", 1, 0), ROWS, COLUMNS), ImageCalibration(energy_axis=5), "has 3 axes, --energy-axis is 5"),
        ((("", "", 1, 0), ROWS, COLUMNS), ImageCalibration(energy_axis=0), "its energies are not calibrated"),
        ((ROWS, COLUMNS, ENERGY), ImageCalibration(), "4 channels are no spectrum"),
        ((ENERGY, ROWS, COLUMNS), ImageCalibration(step=0), "do not rise or fall"),
    ],
)
def test_no_calibration(tmp_path, axes, given, complaint):
    path = write_gatan(tmp_path / "a.dm3", numbered((20, 3, 4)), axes)
    with pytest.raises(UserError, match=complaint.replace("(", r"\(").replace(")", r"\)")):
        open_image(path, given)


def test_what_is_no_image(tmp_path):
    (tmp_path / "a.dm3").write_bytes(b"hello, this is a text")
    (tmp_path / "b.hspy").write_bytes(b"nothing of HDF5 in here")
    np.save(tmp_path / "c.npy", np.array([{}], object))
    with pytest.raises(UserError, match=r"is no \.dm3 or \.dm4 file"):
        open_image(tmp_path / "a.dm3")
    with pytest.raises(UserError, match=r"does not begin as \.hspy files do"):
        open_image(tmp_path / "b.hspy")
    with pytest.raises(UserError, match="Python objects"):
        open_image(tmp_path / "c.npy")
    with pytest.raises(UserError, match="no such file"):
        open_image(tmp_path / "d.npy")
    with pytest.raises(UserError, match="a folder"):
        open_image(tmp_path)


@pytest.mark.parametrize("kind", ["dm4", "npy", "energy first"])
def test_thirty_gigabytes_stream(tmp_path, kind):
    """A file that is a hole: its size is 34 GB, and rows of it are read in the memory of a few."""
    shape = (2048, 2048, 2048)
    counts = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), shape, (0, 0, 0))
    path = tmp_path / f"large.{kind}"
    if kind != "npy":
        axes = (ROWS, COLUMNS, ENERGY) if kind == "dm4" else (ENERGY, ROWS, COLUMNS)
        write_gatan(path, counts, axes, 4, sparse=True)
    else:
        with open(path, "wb") as file:
            np.lib.format.write_array_header_2_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            file.truncate(file.tell() + counts.nbytes)
    assert path.stat().st_size > 30e9 and path.stat().st_blocks * 512 < 1e6
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image = open_image(path, ImageCalibration(offset=400, step=0.5))
    assert image.nbytes > 30e9
    for (_, start, piece), place in zip(image.pieces(), range(3), strict=False):
        assert piece.shape == (1, 2048, 2048) and start == place and not piece.any()
    assert image.rows(0, 2047, 2048).shape == (1, 2048, 2048)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 1e9


@there
def test_measured_ones(tmp_path):
    """NMC: a spectrum image and its zero loss, extracted edges; Mn L of known valence."""
    with tarfile.open(EELS / "nmc_eels.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    image = open_image(tmp_path / "nmc_eels" / "tm_o_spectrum_image.dm3")
    assert image.shape == (1, 2, 21, 2048) and image.unit == "nm" and image.facts == {"beam energy": "300 keV"}
    assert image.pixel[0] == pytest.approx(2.05, abs=0.01) and image.seconds == 5
    assert image.energy[[0, -1]] == pytest.approx([440, 1054.1])
    low = open_image(tmp_path / "nmc_eels" / "zlp_spectrum_image.dm3")
    assert abs(low.energy[whole(low).sum(axis=(0, 1, 2)).argmax()]) < 5
    # The tool that extracted this summed the image.
    summed = open_image(tmp_path / "nmc_eels" / "Extracted Spectrum 1.msa")
    np.testing.assert_allclose(summed.energy, image.energy, atol=0.01)
    assert np.corrcoef(whole(summed).ravel(), whole(image).sum(axis=(0, 1, 2)))[0, 1] > 0.99
    for path in sorted((EELS / "mn_l23").glob("*.csv")):
        manganese = open_image(path)
        peak = manganese.energy[whole(manganese).ravel().argmax()]
        assert 640 < peak < 646, path.name
