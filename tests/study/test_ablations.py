"""Ablations: one change at a time, a planted exponent found, and a small real run."""

import numpy as np
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import LIBRARY
from spt_jax.cli import main
from spt_jax.config import Config, LabelsConfig, ModelConfig, TrainConfig
from spt_jax.presets import PRESETS
from spt_jax.study.ablations import SHARES, ablate, scaling, variants
from spt_jax.study.ablations_page import ablations_page
from tests.pages import Page

SMALL = Config(
    ModelConfig(width=8, blocks=1, bands=1, highest_band=6, readout_channels=2, hidden=16, hidden_layers=1),
    LabelsConfig(descriptors=("CN", "MBL")),
    TrainConfig(epochs=1, batch_size=64, warmup_epochs=0.5),
)


def test_every_variant_changes_one_thing():
    preset = PRESETS["base"]()
    first, *others = variants(preset)
    assert (first.config, first.share) == (preset, 1)
    seen = {(variant.config, variant.share) for variant in others}
    assert len(seen) == len(others) and (preset, 1) not in seen
    for variant in others:
        changed = [
            name
            for part in ("model", "objective", "train")
            for name, value in vars(getattr(variant.config, part)).items()
            if value != getattr(getattr(preset, part), name)
        ]
        assert len(changed) == (variant.share == 1) or variant.name in ("none", "neither", "mixtures alone"), variant
    assert sorted(variant.share for variant in others if variant.group == "data") == sorted(SHARES)


def test_a_planted_exponent_is_found(rng):
    exponent, sizes = rng.uniform(0.05, 0.4), (300, 600, 1200, 2400)
    rows = [{"group": "data", "examples": n, "test_mean": [1 - 0.9 * n**-exponent]} for n in sizes]
    found = scaling(rows)
    assert found["exponent"] == pytest.approx(exponent) and found["error"] < 1e-6
    assert scaling(rows[:2]) is None


def test_a_small_run_keeps_its_fits_and_writes_a_page(tmp_path):
    first, *others = variants(SMALL)
    chosen = [first, next(v for v in others if v.share == 0.5)]
    dataset, told = Dataset(LIBRARY), []
    result = ablate(dataset, tmp_path, chosen, 1, lambda *line: told.append(line))
    assert [row["share"] for row in result["variants"]] == [1, 0.5]
    sizes = [row["examples"] for row in result["variants"]]
    assert sizes[1] < sizes[0] == len(dataset.split("train").ids)
    for row in result["variants"]:
        assert np.isfinite(row["test_mean"]).all() and row["seconds"][0] > 0
    assert "validation split" in Page((tmp_path / "report.html").read_text()).text
    assert result["scaling"] is None, "two sizes do not tell an exponent"
    more = [{**row, "group": "data", "examples": 100 * i} for i, row in enumerate(result["variants"], start=1)]
    rows = [*result["variants"], *more]
    page = ablations_page({**result, "variants": rows, "scaling": scaling(rows)})
    assert "n<sup>-b</sup>" in page and Page(page)
    stamp = {path: path.stat().st_mtime_ns for path in tmp_path.glob("jobs/*/job.json")}
    assert ablate(dataset, tmp_path, chosen, 1, lambda *_: None) == result
    assert stamp == {path: path.stat().st_mtime_ns for path in tmp_path.glob("jobs/*/job.json")}


def test_folds_are_fitted_one_by_one_and_judged_on_the_same_test_split(tmp_path):
    first, other = variants(SMALL)[:2]
    dataset, told = Dataset(LIBRARY), []
    result = ablate(dataset, tmp_path, [first, other], 1, lambda title, *_: told.append(title), folds=2)
    known = {*dataset.split("train").ids, *dataset.split("validation").ids}
    for row in result["variants"]:
        assert len(row["validation_mean"]) == len(row["test_mean"]) == 2 and np.isfinite(row["validation_mean"]).all()
        assert row["validation_mean"][0] != row["validation_mean"][1]
        assert row["examples"] == round(len(known) / 2)
    assert [title for title in dict.fromkeys(told)][:2] == ["preset fold 1 of 2", "preset fold 2 of 2"]
    page = (tmp_path / "report.html").read_text()
    assert "2 folds" in page and "each against the preset in that fold" in page
    assert len(list(tmp_path.glob("jobs/*fold_1_of_2*"))) == 2


def test_wrong_ablations_get_one_line(tmp_path, capsys):
    wrong = {
        "unknown preset": ["--preset", "huge"],
        "unknown group": ["--groups", "colour"],
        "at least 2": ["--folds", "1"],
        "without seeds": ["--folds", "5", "--seeds", "3"],
    }
    for complaint, more in wrong.items():
        with pytest.raises(SystemExit):
            main(["ablate", str(LIBRARY), "--out", str(tmp_path / "out"), *more])
        message = capsys.readouterr().err
        assert complaint in message and message.count("\n") == 1, message
    assert not (tmp_path / "out").exists()
