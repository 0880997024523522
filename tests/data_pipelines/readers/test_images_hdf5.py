"""Spectrum images in HDF5, as HyperSpy, EMD, Velox and NeXus lay them out: small files in their layout, read."""

import json

import numpy as np
import pytest

from data_pipelines.errors import UserError
from data_pipelines.readers.images.image import ImageCalibration
from data_pipelines.readers.images.open import open_image
from tests.data_pipelines.readers.test_images import COLUMNS, ENERGY, ROWS, numbered, whole


def hyperspy(h5py, path, counts):
    with h5py.File(path, "w") as file:
        file.attrs["file_format"] = "HyperSpy"
        group = file.create_group("Experiments/map")
        group.create_dataset("data", data=counts, chunks=True, compression="gzip")
        for number, (name, unit, scale, offset) in enumerate((ROWS, COLUMNS, ENERGY)):
            axis = group.create_group(f"axis-{number}")
            axis.attrs.update(name=name, units=unit, scale=scale, offset=offset, size=counts.shape[number])
        tem = group.create_group("metadata/Acquisition_instrument/TEM")
        tem.attrs["beam_energy"] = 300.0
        tem.create_group("Detector/EELS").attrs["dwell_time"] = 0.02


def berkeley(h5py, path, counts):
    with h5py.File(path, "w") as file:
        group = file.create_group("data/map")
        group.attrs["emd_group_type"] = 1
        group["data"] = counts
        for number, (name, unit, scale, offset) in enumerate((ROWS, COLUMNS, ENERGY), start=1):
            group[f"dim{number}"] = offset + scale * np.arange(counts.shape[number - 1])
            group[f"dim{number}"].attrs.update(name=name, units=f"[{'_'.join(unit)}]" if unit == "nm" else f"[{unit}]")


def emd(h5py, path, counts):
    """EMD 1.0: axes from dim0, of two points where they are even."""
    with h5py.File(path, "w") as file:
        file.attrs.update(emd_group_type="file", version_major=1, version_minor=0, authoring_program="emdfile")
        root = file.create_group("root")
        root.attrs.update(emd_group_type="root", python_class="Root")
        group = root.create_group("map")
        group.attrs.update(emd_group_type="array", python_class="Array")
        group["data"] = counts
        group["data"].attrs["units"] = "counts"
        for number, (name, unit, scale, offset) in enumerate((ROWS, COLUMNS, ENERGY)):
            group[f"dim{number}"] = offset + scale * np.arange(2)
            group[f"dim{number}"].attrs.update(name=name, units=unit)
        root.create_group("metadatabundle").attrs["emd_group_type"] = "metadatabundle"


def said(*objects):
    """As Velox writes JSON: each in a column of bytes, filled up with zeros."""
    texts = [json.dumps(each).encode() for each in objects]
    rows = np.zeros((200 + max(map(len, texts)), len(texts)), np.uint8)
    for number, text in enumerate(texts):
        rows[: len(text), number] = np.frombuffer(text, np.uint8)
    return rows


def velox(h5py, path, counts, offsets=(-5.0, 400.0, 600.0), **last):
    """(rows, columns, energies) counts in the range from 400 eV, none in the others, stored with 100 added and at half of their size."""
    height, width, channels = counts.shape
    frame = {"exposureTime": 0.004, "detectorFramesAveraged": 5, "dispersion": 0.5}
    frame |= {"intensityScale": 0.5, "intensityOffset": -50.0}
    optics = {"AccelerationVoltage": "300000", "FullScanFieldOfView": {"x": "2e-7", "y": "3e-7"}}
    told = {"Optics": optics, "Scan": {"ScanSize": {"width": "100", "height": "100"}}}
    with h5py.File(path, "w") as file:
        file["Data/SpectrumStream/c/Data"] = np.full((20, 1), 65535, np.uint16)
        for number, offset in enumerate(offsets):
            group = file.create_group(f"Data/EelsSpectrumImage/{number:032x}")
            stored = 100 + 2 * (offset == 400) * counts.transpose(1, 2, 0)
            group["Data"] = stored.astype(np.uint16)
            info = {"encoding": "uint16", "bincount": str(channels), "width": str(width), "height": str(height)}
            group["Info"] = [json.dumps(info)]
            rows = [{"Data": frame | {"offset": offset}} for _ in range(height)]
            rows[-1]["Data"] |= last
            group["AcquisitionMetadata"], group["Metadata"] = said(*rows), said(told)


def nexus(h5py, path, counts):
    with h5py.File(path, "w") as file:
        group = file.create_group("entry/data")
        group.attrs.update(NX_class="NXdata", signal="counts", axes=["y", "x", "energy"])
        group["counts"] = counts
        for number, (name, unit, scale, offset) in enumerate((ROWS, COLUMNS, ("energy", "eV", 0.5, 400.0))):
            group[name] = offset + scale * np.arange(counts.shape[number])
            group[name].attrs["units"] = unit
        file["entry/elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")


@pytest.mark.parametrize(
    ("write", "name"),
    [(hyperspy, "a.hspy"), (berkeley, "a.emd"), (emd, "a.emd"), (velox, "a.emd"), (nexus, "a.nxs")],
)
def test_hdf5(tmp_path, write, name):
    h5py = pytest.importorskip("h5py", reason="needs the extra `beamline`")
    counts = numbered((3, 4, 20))
    write(h5py, tmp_path / name, counts)
    image = open_image(tmp_path / name)
    np.testing.assert_array_equal(whole(image)[0], counts)
    np.testing.assert_allclose(image.energy, 400 + 0.5 * np.arange(20))
    assert (image.pixel, image.unit) == ((3.0, 2.0), "nm")
    if write in (hyperspy, velox):
        assert image.seconds == 0.02 and image.facts == {"beam energy": "300 keV"}
    content = (tmp_path / name).read_bytes()
    (tmp_path / f"cut{name}").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="damaged HDF5 file") as error:
        open_image(tmp_path / f"cut{name}")
    assert "\n" not in str(error.value)


def test_velox(tmp_path):
    """Which range is taken; and a file that is not as those that are known."""
    h5py = pytest.importorskip("h5py", reason="needs the extra `beamline`")
    counts, path = numbered((3, 4, 60)), tmp_path / "a.emd"
    velox(h5py, path, counts)
    image = open_image(path)
    assert image.energy[0] == 400 and image.shape == (1, 3, 4, 60)
    np.testing.assert_array_equal(whole(image)[0], counts)
    assert any("took signal 2 of 3; --part chooses: 1 EELS -5.0 to 24.5 eV, 2" in note for note in image.notes)
    assert any("(stored - 100) * 0.5" in note for note in image.notes)
    assert open_image(path, low_loss=True).energy[0] == -5
    assert open_image(path, ImageCalibration(part=3)).energy[0] == 600
    with pytest.raises(UserError, match="holds 3 signals, --part is 4"):
        open_image(path, ImageCalibration(part=4))
    velox(h5py, tmp_path / "b.emd", counts, dispersion=0.6)
    with pytest.raises(UserError, match="energies or intensities differ from row to row"):
        open_image(tmp_path / "b.emd")
    path = tmp_path / "c.emd"
    velox(h5py, path, counts)
    with h5py.File(path, "a") as file:
        del file[f"Data/EelsSpectrumImage/{0:032x}/Info"]
    with pytest.raises(UserError, match="lacks what says its energies"):
        open_image(path)
    with h5py.File(path, "a") as file:
        del file["Data/EelsSpectrumImage"]
    with pytest.raises(UserError, match="holds X-ray spectra, and none of energy losses"):
        open_image(path)
    np.save(tmp_path / "a.npy", counts)
    with pytest.raises(UserError, match="--part is of HDF5 files"):
        open_image(tmp_path / "a.npy", ImageCalibration(part=1))
