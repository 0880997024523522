"""The frequency of a wave on the k axis is the length of its path; and the command on real spectra."""

from dataclasses import replace

import numpy as np
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import DatasetError
from data_pipelines.library import LIBRARY
from data_pipelines.schema import EnergyGrid
from spt_jax.explain import path_lengths
from spt_jax.explain.path_lengths import PathLengths, magnitudes, per_frequency, strongest
from spt_jax.model.bands import K2_PER_EV

ENERGY = EnergyGrid().relative()


def test_a_planted_path_lies_at_its_length_on_the_k_axis_alone(rng):
    length = rng.uniform(1.8, 2.8, 200)
    k = np.sqrt(np.maximum(K2_PER_EV * (ENERGY - 10), 0))
    waves = np.where(k > 0, 0.15 * np.sin(2 * k * length[:, None]) / (0.25 + k), 0)
    mu = 0.5 + np.arctan(ENERGY - 10) / np.pi + waves
    angstrom, names = per_frequency(ENERGY, mu.mean(axis=0)), np.arange(200)
    on_k = strongest(magnitudes("kspace", ENERGY, mu), np.array((1.0, 3.5)) / angstrom)
    assert path_lengths.rank_correlation(on_k["shell"], length) > 0.95
    assert np.abs(angstrom * on_k["shell"] - length).max() < path_lengths.resolution(ENERGY, mu.mean(axis=0))
    assert set(on_k["band"]) <= set(range(1, 13))
    on_energy = strongest(magnitudes("background", ENERGY, mu), None)
    assert path_lengths.rank_correlation(on_energy["between"], length) < 0.5
    low, high = path_lengths.interval(on_k["shell"], rng.permutation(length), names)
    assert low < high < 0.5


def test_one_step_of_frequency_is_half_a_wave_of_the_k_range():
    mean = (ENERGY > 10).astype(float)
    k_range = np.sqrt(K2_PER_EV * (ENERGY[-1] - 10.5))
    assert per_frequency(ENERGY, mean) == pytest.approx(np.pi / k_range, rel=0.01)


def test_the_command_draws_the_library(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(path_lengths, "RESAMPLES", 20)
    PathLengths(LIBRARY, tmp_path / "p.svg", element="Fe").run()
    out = capsys.readouterr().out
    assert "kspace        shell" in out and "raw           band" in out
    assert (tmp_path / "p.svg").read_text().count("MBL") >= 4
    with pytest.raises(DatasetError, match="too few Pu sites"):
        PathLengths(LIBRARY, tmp_path / "q.svg", element="Pu").run()


def test_a_spectrum_that_ends_early_is_left_out():
    split = Dataset(LIBRARY).split("train")
    spectrum = split.batch.spectrum.copy()
    whole, length = path_lengths.whole(split, "Fe K")
    spectrum[split.ids.index(whole.ids[0]), -1] = np.nan
    fewer, _ = path_lengths.whole(replace(split, batch=split.batch._replace(spectrum=spectrum)), "Fe K")
    assert len(fewer.ids) == len(length) - 1
