"""Images and theory as files, so that the command line can be tried on them and other programs can answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from data_pipelines.spectra.phases import PhaseImage, PhasePlanting

# Of a pixel, nm: images have no size of their own.
PIXEL, UNIT = 1.0, "nm"


def write_image(folder: Path, name: str, how: PhasePlanting, made: PhaseImage) -> Path:
    """FOLDER/images/NAME.npy, (H, W, E) counts, with NAME.json beside it, which says the energies; FOLDER/truth/NAME.npz holds
    the other fields of `PhaseImage`."""
    for part in ("images", "truth"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    path = folder / "images" / f"{name}.npy"
    np.save(path, made.counts)
    calibration = {"offset": how.offset, "step": how.step, "pixel": PIXEL, "unit": UNIT}
    path.with_suffix(".json").write_text(json.dumps(calibration) + "\n", encoding="utf-8")
    truth = {field: np.asarray(value) for field, value in vars(made).items() if field != "counts"}
    np.savez_compressed(folder / "truth" / f"{name}.npz", **truth)
    return path
