"""Every record knows its calculation, and the card tells versions, settings and mixtures of them."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.dataset import card, parts
from data_pipelines.dataset.build import prepare
from data_pipelines.dataset.calculations import MOST, mixtures, rows, stated, version
from data_pipelines.dataset.loading import Dataset
from data_pipelines.feff.output import read_xmu
from data_pipelines.schema import SOURCE, EnergyGrid, source_of
from data_pipelines.survey.page import write_page

GRID = EnergyGrid()


@pytest.fixture
def mixed(runs, tmp_path):
    """NiO of a run folder, of one of another version, of a table that states settings, and of an .npz that has none."""
    run = read_xmu(runs / "NiO_base_Ni0" / "xmu.dat")
    shutil.copytree(runs / "NiO_base_Ni0", tmp_path / "ten" / "NiO")
    nine = tmp_path / "nine" / "LiNiO2"
    shutil.copytree(runs / "NiO_base_Ni0", nine)
    (nine / "xmu.dat").write_text((nine / "xmu.dat").read_text().replace("FEFF 10.0.0", "FEFF 9.9.1"))
    spectrum = {"absorber": ["Ni"] * 2, "omega": [(run.energy + 1).tolist()] * 2, "mu": [run.mu.tolist()] * 2}
    settings = [json.dumps({"code": "FEFF 9.9.1", "SCF": "7.0"}), "a code of ours"]
    pq.write_table(pa.table({"id": ["a", "b"], **spectrum, "settings": settings}), tmp_path / "table.parquet")
    even = run.energy[0] + 0.25 * np.arange(400)
    spectra = {"mu": np.interp(even, run.energy, run.mu)[None], "element": np.array(["Ni"])}
    np.savez(tmp_path / "none.npz", **spectra, e0_eV=even[0], step_eV=0.25)
    np.savez(tmp_path / "said.npz", **spectra, e0_eV=even[0], step_eV=0.25, settings=settings[0])
    sources = [tmp_path / name for name in ("ten", "nine", "table.parquet", "none.npz", "said.npz")]
    return prepare(sources, tmp_path / "set", GRID), tmp_path / "set"


def test_every_record_says_which_calculation_made_it(mixed):
    document, out = mixed
    ten, nine, *others = (parts.ledger(out, s["part"])["settings"].to_pylist() for s in document["sources"])
    assert json.loads(ten[0])["code"] == "FEFF 10.0.0" and json.loads(nine[0])["code"] == "FEFF 9.9.1"
    assert json.loads(ten[0])["SCF"] == "3.5 0 10 0.2 1" and json.loads(ten[0])["XANE"] == "4.5 0.04 0.1"
    stated = '{"SCF": "7.0", "code": "FEFF 9.9.1"}'
    assert others == [[stated, '{"code": "a code of ours"}'], [""], [stated]]


def test_the_source_of_every_example_is_the_version_that_its_settings_name(mixed):
    document, out = mixed
    numbers = {f"FEFF {number}": 1 + SOURCE.classes.index(number) for number in (9, 10)}
    said = {
        row["id"]: max((number for name, number in numbers.items() if name in row["settings"]), default=0)
        for source in document["sources"]
        for row in parts.ledger(out, source["part"]).to_pylist()
    }
    splits = [Dataset(out).split(name) for name, count in Dataset(out).examples.items() if count]
    found = {id: number for split in splits for id, number in zip(split.ids, source_of(split.batch), strict=True)}
    assert found == said and sorted(found.values()) == [0, 0, *[numbers["FEFF 9"]] * 3, numbers["FEFF 10"]]


@pytest.mark.parametrize(
    ("code", "major"),
    [("FEFF 10.0.0", 10), ("Feff8.40", 8), ("FEFF 11", None), ("FEFF", None), ("FDMNES 9", None), (9, None)],
)
def test_a_version_that_is_none_of_the_classes_is_not_known(code, major):
    found = version(json.dumps({"code": code}))
    assert found == major if major else np.isnan(found)


def test_the_card_names_the_mixture_in_words(mixed, tmp_path):
    document, out = mixed
    assert sum(n for each in document["calculations"] for n in each["elements"].values()) == 6
    text = " ".join(card.as_text(document).split())
    assert max(map(len, card.as_text(document).splitlines())) <= 80
    assert "made by FEFF 9.9.1: Ni 2 SCF 7.0" in text and "a code not stated: Ni 1 settings not stated" in text
    told = "Ni: 3 by FEFF 9.9.1 with 2 settings, 1 by "
    assert f"mixture {told}" in text and all(name in text for name in ("1 by FEFF 10.0.0", "1 by a code of ours"))
    write_page(Dataset(out), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Mixtures of calculations" in page and told in page


def test_one_calculation_is_no_mixture(runs, tmp_path):
    document = prepare([runs], tmp_path / "set", GRID)
    assert [each["code"] for each in document["calculations"]] == ["FEFF 10.0.0"]
    assert "mixture" not in card.as_text(document)


def test_more_than_a_card_can_name_are_counted_together(rng):
    many = [{"code": "FEFF 10", "settings": {"fms": i}, "elements": {"Ni": 9}} for i in range(MOST + 3)]
    assert [settings for _, settings, _ in rows(many)][:2] == ["fms 0", "as before, but fms 1"]
    assert list(rows(many))[-1] == ("3 more", "other settings", "Ni\xa027")
    assert list(mixtures(many)) == [f"Ni: {9 * len(many)} by FEFF 10 with {len(many)} settings"]


@pytest.mark.parametrize(
    ("text", "found"), [(None, {}), ("", {}), ('{"code": "x"}', {"code": "x"}), ("[1", {"code": "[1"})]
)
def test_settings_that_are_no_json_name_the_code(text, found):
    assert stated(text) == found
