"""A file -> a spectrum image; what kind of file it is its first bytes say."""

from __future__ import annotations

from pathlib import Path

from data_pipelines.errors import UserError
from data_pipelines.readers.images.gatan import read_gatan
from data_pipelines.readers.images.hierarchical import read_hierarchical
from data_pipelines.readers.images.image import ImageCalibration, SpectrumImage, arranged
from data_pipelines.readers.images.plain import read_array, read_text

FORMATS = ".dm3, .dm4, .hspy, .emd, .nxs, .h5, .npy, .npz, .msa, .csv"


def open_image(path: Path, given: ImageCalibration | None = None, low_loss: bool = False) -> SpectrumImage:
    """The image in a file of FORMATS. Its counts are not read but looked up when asked for.

    `given` overrules what the file says. low_loss: of several images in a file the one with the zero loss. Raises SpectrumError for a file that is damaged, holds no spectra or is not calibrated.
    """
    given = given or ImageCalibration()
    if not path.is_file():
        raise UserError(f"{path}: {'a folder, name a file in it' if path.is_dir() else 'no such file'}")
    with open(path, "rb") as file:
        head = file.read(8)
    if given.part is not None and head != b"\x89HDF\r\n\x1a\n":
        raise UserError(f"{path}: --part is of HDF5 files, of others one image is taken")
    if head.startswith((b"\x93NUMPY", b"PK\x03\x04")):
        found, given = read_array(path, given)
    elif head == b"\x89HDF\r\n\x1a\n":
        found = read_hierarchical(path, given.part, low_loss)
    elif head[:4] in (b"\0\0\0\3", b"\0\0\0\4") or path.suffix.lower() in (".dm3", ".dm4"):
        found = read_gatan(path)
    elif path.suffix.lower() in (".hspy", ".emd", ".nxs", ".npy", ".npz"):
        raise UserError(f"{path}: damaged, it does not begin as {path.suffix} files do")
    else:
        found = read_text(path)
    return arranged(found, str(path), given)
