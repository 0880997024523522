"""Linear combination fits: the slow reference, planted fractions and their errors, and measured references."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.errors import SpectrumError
from data_pipelines.readers.spectrum import read_spectrum
from data_pipelines.spectra.combination import COLLINEAR, combination
from data_pipelines.spectra.components import components
from data_pipelines.spectra.normalise import normalise
from data_pipelines.spectra.together import together
from tests.reference import linear_combination

ARCHIVE = Path(__file__).parents[3].parent / "shared" / "data" / "experiment" / "xdi_library.tar.xz"
ENERGY = np.arange(7090.0, 7170, 0.5)


def edge(at: float, peak: float = 0.4, energy: np.ndarray = ENERGY) -> np.ndarray:
    """A spectrum in edge steps with its edge at an energy."""
    rise = 0.5 + np.arctan((energy - at) / 1.5) / np.pi
    waves = 0.05 * np.sin((energy - at) / 6) * np.exp(-((energy - at - 30) ** 2) / 800)
    return rise + peak * np.exp(-(((energy - at - 4) / 3) ** 2)) + waves


REFERENCES = np.stack([edge(7118), edge(7122, 0.5), edge(7125, 0.8)])


def test_fractions_are_those_of_the_slow_reference(rng):
    for _ in range(10):
        mu = rng.uniform(-0.3, 1, 3) @ REFERENCES + rng.normal(size=len(ENERGY)) * 0.02
        found = combination(ENERGY, mu, REFERENCES)
        np.testing.assert_allclose(found.fractions, linear_combination(mu, REFERENCES), atol=1e-9)
        assert (found.fractions >= 0).all() and found.total == pytest.approx(found.fractions.sum())
        assert found.r_factor == pytest.approx(((mu - found.fit) ** 2).sum() / (mu**2).sum())


@pytest.mark.parametrize("alike", [0.0, 0.7])
def test_errors_are_what_fractions_scatter_by(rng, alike):
    """Also of noise that goes on from point to point, which plain least squares are too sure of."""
    truth, off = np.array([0.3, 0.2, 0.5]), []
    for _ in range(200):
        noise = rng.normal(size=len(ENERGY))
        for i in range(1, len(noise)):
            noise[i] += alike * noise[i - 1]
        found = combination(ENERGY, truth @ REFERENCES + 0.01 * noise, REFERENCES)
        off.append([*((found.fractions - truth) / found.errors), (found.total - 1) / found.total_error])
    assert np.abs(np.mean(off, axis=0)).max() < 0.4
    assert np.std(off, axis=0).min() > 0.7 and np.std(off, axis=0).max() < 1.45


def test_a_doubtful_edge_step_is_in_the_error():
    mu = 0.5 * REFERENCES[0] + 0.5 * REFERENCES[2]
    found = combination(ENERGY, mu, REFERENCES[[0, 2]], 0.03, np.array([0.04, 0.0]))
    np.testing.assert_allclose(found.errors, [0.025, 0.015], atol=1e-6)
    assert found.total_error == pytest.approx(np.hypot(0.02, 0.03), abs=1e-6)


def test_doubts_are_told():
    mu = 0.5 * REFERENCES[0] + 0.5 * REFERENCES[2]
    assert not combination(ENERGY, mu, REFERENCES[[0, 2]]).doubts
    same = combination(ENERGY, mu, np.stack([REFERENCES[0], edge(7118.1), REFERENCES[2]]))
    assert same.condition > COLLINEAR and "references are collinear" in same.doubts
    moved = 0.5 * edge(7118.4) + 0.5 * edge(7125.4, 0.8)
    found = combination(ENERGY, moved, REFERENCES[[0, 2]])
    assert found.shift == pytest.approx(0.4, abs=0.1) and "seems to lie +0.4" in "".join(found.doubts.values())
    with pytest.raises(SpectrumError, match="too few points"):
        combination(ENERGY[:6], mu[:6], REFERENCES[:, :6])


def test_species_are_counted(rng):
    share = np.linspace(0, 1, 12)[:, None]
    for pure in (REFERENCES[:2], REFERENCES):
        part = np.hstack(
            [share, 1 - share] if len(pure) == 2 else [share**2, (1 - share) ** 2, 2 * share * (1 - share)]
        )
        mu = part @ pure + rng.normal(size=(12, len(ENERGY))) * 0.003
        found = components(mu)
        assert found.by_indicator == found.by_noise == len(pure)
        assert found.noise == pytest.approx(0.003, rel=0.3)
        assert found.left[len(pure) - 1] == pytest.approx(0.003, rel=0.2) and found.left[0] > 0.01


def test_spectra_are_normalised_alike():
    """Long ones as the field does it, short ones over what they share; a mixture as its parts."""
    for energy, flat in ((np.arange(6950.0, 7500, 0.5), True), (np.arange(7100.0, 7165, 0.5), False)):
        first, second = edge(7118, energy=energy), edge(7125, 0.8, energy)
        counts = [("a", energy, 40 + 300 * first), ("b", energy, 2 + 5 * second)]
        apart = together(counts)
        assert apart.flat is flat and apart.half[0] == pytest.approx(7117.5, abs=1.5)
        assert apart.half[1] - apart.half[0] == pytest.approx(7, abs=1.5)
        parts = 0.25 * counts[0][2] / apart.step[0] + 0.75 * counts[1][2] / apart.step[1]
        found = together([*counts, ("mix", energy, parts)], 2)
        np.testing.assert_allclose(found.mu[2], [0.25, 0.75] @ found.mu[:2], atol=0.01)
        assert str(found).endswith("flattened" if flat else "not all reach 100 eV")
    with pytest.raises(SpectrumError, match="late begins last"):
        together([*counts, ("late", energy[60:], counts[0][2][60:])])
    with pytest.raises(SpectrumError, match="no edge: flat: mu rises nowhere"):
        together([*counts, ("flat", energy, np.ones(len(energy)))])


@pytest.fixture(scope="module")
def iron(tmp_path_factory):
    if not ARCHIVE.exists():
        pytest.skip(f"{ARCHIVE} is not here")
    folder = tmp_path_factory.mktemp("xdi")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return {name: read_spectrum(folder / f"xdi/Fe/{name}_rt_01.xdi") for name in ("FeO", "Fe2O3", "Fe3O4")}


def test_a_mixture_of_measured_references_comes_back(iron, rng):
    feo, hematite = iron["FeO"], iron["Fe2O3"]
    steps = [normalise(each.energy, each.mu).step for each in (feo, hematite)]
    energy = feo.energy[(feo.energy > hematite.energy[0]) & (feo.energy < hematite.energy[-1])]
    parts = [np.interp(energy, e.energy, e.mu) / step for e, step in zip((feo, hematite), steps, strict=True)]
    for truth in (0.1, 0.5, 0.8):
        mu = truth * parts[0] + (1 - truth) * parts[1] + 0.003 * rng.normal(size=len(energy))
        mixed = together([("mix", energy, mu), ("FeO", *feo[:2]), ("Fe2O3", *hematite[:2])], 1)
        found = combination(mixed.energy, mixed.mu[0], mixed.mu[1:], mixed.doubt[0], mixed.doubt[1:])
        off = np.abs(found.fractions - [truth, 1 - truth])
        # A small share strays by 1.7 of its errors, as noise bends the normalisation too, which they know as a step alone.
        assert (off < 7 * found.errors).all() and (off < 0.02).all() and (found.errors < 0.02).all()


def test_magnetite_is_a_third_iron_two(iron):
    """FeO + Fe2O3 have the iron of Fe3O4, though not its tetrahedra."""
    compared = together([(name, *iron[name][:2]) for name in ("Fe3O4", "FeO", "Fe2O3")], 1)
    found = combination(compared.energy, compared.mu[0], compared.mu[1:], compared.doubt[0], compared.doubt[1:])
    np.testing.assert_allclose(found.fractions, [1 / 3, 2 / 3], atol=0.05)
    assert found.r_factor < 2e-3
