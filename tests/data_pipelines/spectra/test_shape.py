"""What is no spectrum of an edge is refused, and every spectrum of the library is one."""

import numpy as np
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import SpectrumError
from data_pipelines.library import EXAMPLE, LIBRARY
from data_pipelines.readers.spectrum import read_spectrum
from data_pipelines.schema import EnergyGrid
from data_pipelines.spectra.grid import to_grid
from data_pipelines.spectra.shape import check_points, shapes
from data_pipelines.spectra.spikes import standing_out

GRID = EnergyGrid()
NICKEL = GRID.absolute("Ni")
ENERGY = np.arange(NICKEL[0] - 60, NICKEL[-1] + 60, 0.4)


def refused(energy, mu, element="Ni") -> str:
    with pytest.raises(SpectrumError) as error:
        to_grid(energy, mu, GRID, element)
    assert "\n" not in str(error.value)
    return error.value.reason


@pytest.mark.parametrize("noise", [0, 0.001, 0.003])
def test_curves_without_fine_structure_are_refused(rng, noise):
    x = ENERGY - NICKEL[0] - rng.uniform(5, 15)
    scatter = noise * rng.normal(size=len(x))
    width = rng.uniform(0.3, 5)
    for mu in (np.arctan(x / width) / np.pi + 0.5, (1 + np.tanh(x / width)) / 2):
        assert refused(ENERGY, mu + scatter + 1e-4 * x) == "no fine structure"
    for period in rng.uniform(40, 300, 10):
        mu = 1 + np.sin(2 * np.pi * x / period + rng.uniform(0, 6))
        refused(ENERGY, mu + scatter)
    for mu in ((ENERGY / NICKEL[0]) ** -3, 1 - 1e-3 * x, np.exp(-x / 100), 0 * x, 1 + 1e-3 * x):
        refused(ENERGY, mu + scatter)
    refused(ENERGY, rng.normal(size=len(x)))


def test_every_spectrum_of_the_library_has_the_shape_of_one():
    dataset = Dataset(LIBRARY)
    for split in (dataset.split(name) for name in ("train", "validation")):
        elements = [absorber.split()[0] for absorber in split.absorbers]
        assert not any(shapes(split.batch.spectrum, dataset.grid, elements))


@pytest.mark.parametrize("steps", [9, 3, -3])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_glitches_are_refused_and_white_lines_are_not(rng, steps, width):
    found = read_spectrum(EXAMPLE)
    energy = np.linspace(found.energy[0], found.energy[-1], 300)
    mu = np.interp(energy, found.energy, found.mu)
    cobalt = GRID.absolute("Co")
    to_grid(energy, mu, GRID, "Co")
    at = int(rng.integers(np.searchsorted(energy, cobalt[30]), np.searchsorted(energy, cobalt[-5])))
    level = mu[-50:].mean()
    mu[at : at + width] += steps * level
    assert refused(energy, mu, "Co") in ("glitch", "implausible edge step")
    alone = standing_out(mu, 0.5 * level)
    assert alone[at : at + width].all()
    to_grid(energy[~alone], mu[~alone], GRID, "Co")


def test_points_too_far_apart_are_refused(rng):
    found = read_spectrum(EXAMPLE)
    for step in (3.5, 5, 9):
        energy = np.arange(found.energy[0], found.energy[-1], step)
        assert refused(energy, np.interp(energy, found.energy, found.mu), "Co") == "too few points"
    energy = np.arange(found.energy[0], found.energy[-1], 1.0)
    to_grid(energy, np.interp(energy, found.energy, found.mu), GRID, "Co")
    cobalt = GRID.absolute("Co")
    # Below the grid and far above the edge points may be farther apart.
    sparse = np.concatenate(
        [[7500, 7600], np.arange(cobalt[0] - 1, cobalt[0] + 30, 1), np.arange(cobalt[0] + 33, 7900, 5)]
    )
    check_points(sparse, cobalt)
    with pytest.raises(SpectrumError, match=r"7740\.0 and 7764\.0 eV follow each other"):
        check_points(sparse[(sparse < 7741) | (sparse > 7760)], cobalt)


def test_a_background_of_energy_loss_is_refused():
    oxygen = GRID.absolute("O")
    energy = np.arange(oxygen[0] - 30, oxygen[-1] + 20, 0.3)
    x = energy - 532
    edge = np.where(x > 0, 1 + np.exp(-x / 3) + 0.2 * np.sin(x / 4) * np.exp(-x / 20), 0) * np.clip(x, 0, 1)
    to_grid(energy, edge + 0.01, GRID, "O")
    assert refused(energy, edge + 20 * (energy / 530) ** -3, "O") == "background"
