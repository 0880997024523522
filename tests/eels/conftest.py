"""A model of spectrum images for all who ask one, made as a user makes it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from spt_jax.cli import main
from tests.eels.planted_phases import PhaseImage, planted, write_image, write_theory

# A network that learns in seconds.
SMALL_LIVE = (
    "--train.epochs 2 --train.warmup-epochs 0 --train.schedule constant --train.batch-size 128 --model.hidden 32 "
    "--model.hidden-layers 1 --model.latent 6"
).split()


class PhaseRun(NamedTuple):
    """theory, data, run: folders. file: an image of what is in `truth`."""

    theory: Path
    file: Path
    data: Path
    run: Path
    truth: PhaseImage


@pytest.fixture(scope="session")
def phase_run(tmp_path_factory: pytest.TempPathFactory) -> PhaseRun:
    folder = tmp_path_factory.mktemp("phases")
    truth = planted()
    theory, file = write_theory(folder / "theory"), write_image(folder / "map.npy", truth.counts)
    data, run = folder / "data", folder / "run"
    main(["image-data", "--theory", str(theory), "--edge", "O K", "--images", str(file), "--out", str(data)])
    main(["train", "live", "--data", str(data), "--out", str(run), *SMALL_LIVE])
    return PhaseRun(theory, file, data, run, truth)
