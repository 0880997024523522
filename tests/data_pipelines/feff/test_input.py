"""FEFF input files, the commands that run them, and what counts as a run that went well."""

import dataclasses
import json
import tarfile

import numpy as np
import pytest
from pymatgen.core import Structure

from data_pipelines.errors import RunError
from data_pipelines.feff.input import FeffSettings, safer, write_input
from data_pipelines.feff.match import structure_from_inp
from data_pipelines.feff.output import atoms, cards
from data_pipelines.feff.run import judge, shell_line
from tests.data_pipelines.feff_standin import RUNS, refused

SETTINGS = FeffSettings()
every_run = pytest.mark.parametrize("run", RUNS)


@every_run
def test_input_is_that_of_the_recorded_run(run, runs, tmp_path):
    element, site = RUNS[run]
    write_input(Structure.from_file(runs / run / "POSCAR"), site, SETTINGS, tmp_path)
    assert cards(tmp_path / "feff.inp") == cards(runs / run / "feff.inp")
    (symbols, found), (same, recorded) = (atoms(folder / "feff.inp") for folder in (tmp_path, runs / run))
    assert symbols[0] == element and sorted(symbols) == sorted(same)
    np.testing.assert_allclose(
        np.sort(np.linalg.norm(found, axis=1)), np.sort(np.linalg.norm(recorded, axis=1)), atol=1e-4
    )
    assert len(structure_from_inp(tmp_path / "feff.inp")) == len(Structure.from_file(runs / run / "POSCAR"))
    assert FeffSettings(**json.loads((tmp_path / "settings.json").read_text())) == SETTINGS


def test_every_setting_reaches_the_input(runs, tmp_path):
    charged = Structure.from_file(runs / "NiO_base_Ni0" / "POSCAR")
    charged.add_oxidation_state_by_element({"Ni": 2, "O": -2})
    settings = FeffSettings("L3", "RPA", 4, 30, 0.1, 6, 7, 6, 0.05, 0.2, cards=("EXCHANGE 0 0.0 0.5 2", "RPATH -1"))
    write_input(charged, np.int64(0), settings, tmp_path)
    found = cards(tmp_path / "feff.inp")
    assert (found["EDGE"], found["CORE"], found["SCF"]) == ("L3", "RPA", "4 0 30 0.1 1")
    assert (found["FMS"], found["XANE"]) == ("6 0", "6 0.05 0.2")
    assert (found["EXCH"], found["RPAT"]) == ("0 0.0 0.5 2", "-1")
    assert "LDOS" not in found
    assert 6 < np.linalg.norm(atoms(tmp_path / "feff.inp")[1], axis=1).max() <= 7
    assert len(charged[0].species_string) > 2, "the caller's structure keeps its charges"
    write_input(charged, 0, dataclasses.replace(settings, scf=0.0), tmp_path)
    assert "SCF" not in cards(tmp_path / "feff.inp")
    assert FeffSettings(**json.loads((tmp_path / "settings.json").read_text())).cards == settings.cards


@pytest.mark.parametrize(
    "wrong", [{"fms": 9.0}, {"scf": -1.0}, {"k_step": 5.0}, {"scf_mixing": 0.0}, {"cards": ("FMS 7 0",)}, {"fms": 0.0}]
)
def test_settings_that_contradict_each_other_are_refused(wrong):
    with pytest.raises(ValueError):
        FeffSettings(**wrong)


def test_what_feff_cannot_take_is_refused(runs, tmp_path):
    mixed = Structure.from_file(runs / "NiO_base_Ni0" / "POSCAR")
    mixed[0] = {"Ni": 0.5, "Co": 0.5}
    assert refused(write_input, mixed, 0, SETTINGS, tmp_path) == "no input"
    assert not list(tmp_path.iterdir())


def test_ladder_ends_and_answers_a_slow_run_with_a_cheaper_one():
    ladder = [SETTINGS]
    while ladder[-1] is not None:
        ladder.append(safer(ladder[-1], "truncated"))
    assert len(ladder) == 4 and ladder[1].scf_mixing < SETTINGS.scf_mixing and ladder[2].scf == 0
    assert ladder[2].fms < SETTINGS.fms and ladder[2].edge == SETTINGS.edge
    cheaper = safer(SETTINGS, "time limit")
    assert cheaper.scf == 0 and cheaper.fms < SETTINGS.fms and safer(cheaper, "time limit") is None


@every_run
def test_recorded_runs_are_accepted(run, runs):
    assert judge(runs / run / "xmu.dat", RUNS[run][0], SETTINGS).version == "FEFF 10.0.0"
    assert refused(judge, runs / run / "xmu.dat", "Xe", SETTINGS) == "site mismatch"
    longer = dataclasses.replace(SETTINGS, k_max=6.0)
    assert refused(judge, runs / run / "xmu.dat", RUNS[run][0], longer) == "truncated"
    other = dataclasses.replace(SETTINGS, edge="L3")
    assert refused(judge, runs / run / "xmu.dat", RUNS[run][0], other) == "site mismatch"


def test_all_sixteen_recorded_folders_are_accepted(shared, tmp_path):
    with tarfile.open(shared("feff10/raw_runs.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    folders = sorted((tmp_path / "raw_runs").iterdir())
    assert len(folders) == 16
    for folder in folders:
        site = json.loads((folder / "site.json").read_text())
        judge(folder / "xmu.dat", site["absorber"], SETTINGS)


def test_commands(tmp_path, monkeypatch):
    program = tmp_path / "my feff"
    program.write_text("#!/bin/sh\n")
    monkeypatch.chdir(tmp_path)
    for wrong, why in (
        ("", "no FEFF"),
        ("/nowhere/feff", "not there"),
        ("feff_nobody_has", "not there"),
        ("cat,feff_nobody_has", "not there"),
        ("cat feff.inp | feff_nobody_has > log", "not there"),
        ("./bin/feff", "full path"),
        ("feff 'x", "no shell line"),
        ("my feff", "not executable"),
    ):
        with pytest.raises(RunError, match=why):
            shell_line(wrong)
    program.chmod(0o755)
    assert shell_line("my feff") == f"'{program}'"
    assert shell_line("cat, my feff") == f"cat && '{program}'"
    for right in ("cat feff.inp > log 2>&1; cd .", "N=2 /nowhere/feff", "$FEFF/rdinp && true", "cat -b a,b"):
        assert shell_line(right) == right
