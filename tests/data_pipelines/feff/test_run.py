"""FEFF on every site of a tree: each failure has its reason, and nothing foreign is touched."""

import dataclasses
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from data_pipelines.errors import RunError, SourceError
from data_pipelines.feff import run
from data_pipelines.feff.campaign import Campaign, run_campaign
from data_pipelines.feff.input import FeffSettings
from data_pipelines.feff.run import read_status
from tests.data_pipelines.feff_standin import contents

SETTINGS = FeffSettings()


def test_every_failure_is_tried_again_and_listed(structures, command, tmp_path):
    """Safer settings rescue Ni, which hangs, and Co, which ends without a file; P and O stay failures."""
    out = tmp_path / "runs"
    line = command(
        NiO_Ni=["hang", "nan", "ok"],
        LiCoO2_Co=["nothing", "ok"],
        LiFePO4_P=["cut", "nan", "bare"],
        CoO_O=["exafs"],
    )
    seen = []
    summary = run_campaign(
        Campaign(structures, out, line, SETTINGS, workers=4, time_limit=1.0), lambda *now: seen.append(now)
    )
    assert (summary["sites"], summary["done"], summary["failed"]) == (4, 2, 2)
    assert summary["done_at_try"] == {"2": 2} and summary["feff"] == {"FEFF 10.0.0": 2}
    assert summary["failed_by_reason"] == {"no scattering": 1, "not a XANES run": 1}
    assert json.loads(json.dumps(summary)) == json.loads((out / "campaign.json").read_text())
    assert seen[-1] == ("running", 4, 4)

    nickel = out / "NiO" / "FEFF-XANES" / "000_Ni"
    tries = read_status(nickel)["tries"]
    assert [t["failed"] for t in tries] == ["time limit", ""], "a slow run goes to the cheapest settings at once"
    assert tries[-1]["settings"] == json.loads((nickel / "settings.json").read_text())
    assert {p.name for p in nickel.iterdir()} == {"feff.inp", "feff.out", "settings.json", "status.json", "xmu.dat"}
    phosphorus = out / "LiFePO4" / "FEFF-XANES" / "008_P"
    assert [t["failed"] for t in read_status(phosphorus)["tries"]] == ["truncated", "not finite", "no scattering"]
    oxygen = out / "CoO" / "FEFF-XANES" / "001_O"
    assert len(read_status(oxygen)["tries"]) == 1, "other settings make no XANES of EXAFS"
    for failed in (phosphorus, oxygen):
        assert not (failed / "xmu.dat").exists() and (failed / "rejected_xmu.dat").exists()
    assert str(tmp_path) not in "".join(p.read_text() for p in out.rglob("*.json")), "no path of this machine"
    assert not (out / ".feff").exists()

    before = contents(out)
    assert (
        run_campaign(Campaign(structures, out, line, SETTINGS, time_limit=1.0)) == summary and contents(out) == before
    )
    with pytest.raises(RunError, match="other settings"):
        run_campaign(Campaign(structures, out, line, dataclasses.replace(SETTINGS, edge="L3"), time_limit=1.0))
    again = run_campaign(Campaign(structures, out, command(), SETTINGS, workers=2, time_limit=1.0, redo_failed=True))
    assert (again["done"], again["failed"], again["done_at_try"]) == (4, 0, {"1": 2, "2": 2})
    assert contents(nickel) == {p.removeprefix("NiO/FEFF-XANES/000_Ni/"): b for p, b in before.items() if "Ni/" in p}


@pytest.mark.parametrize(("act", "reason"), [("short", "truncated"), ("nothing", "no xmu.dat"), ("hang", "time limit")])
def test_without_retries_the_first_failure_counts(structures, command, tmp_path, act, reason):
    summary = run_campaign(
        Campaign(structures, tmp_path / "runs", command(NiO_Ni=[act]), SETTINGS, ("Ni",), time_limit=0.5, retries=0)
    )
    assert summary["failed_by_reason"] == {reason: 1} and summary["sites"] == 1


def test_time_limit_kills_all_that_the_command_started(structures, command, tmp_path, monkeypatch):
    pids = []
    execute = run.execute

    def spy(line, folder, *rest):
        try:
            return execute(line, folder, *rest)
        finally:
            pids.append(int((folder.parent / "child").read_text()))

    monkeypatch.setattr(run, "execute", spy)
    run_campaign(
        Campaign(structures, tmp_path / "runs", command(NiO_Ni=["hang"]), SETTINGS, ("Ni",), time_limit=0.5, retries=0)
    )
    [pid] = pids
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # a killed process without a parent to collect it is still listed
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_stragglers_reach_no_record(structures, command, tmp_path):
    """A daemon that the command leaves behind goes on writing into the file it holds."""
    line = command(NiO_Ni=["ok"]) + "; exec 3>>xmu.dat; (setsid sh -c 'sleep 0.2; echo junk >&3' &)"
    if not shutil.which("setsid"):
        pytest.skip("no setsid")
    run_campaign(Campaign(structures, tmp_path / "runs", line, SETTINGS, ("Ni",)))
    xmu = tmp_path / "runs" / "NiO" / "FEFF-XANES" / "000_Ni" / "xmu.dat"
    before = xmu.read_bytes()
    time.sleep(0.4)
    assert xmu.read_bytes() == before


def test_sites_of_a_tree_without_provenance(structures, command, tmp_path, runs):
    """One site of each symmetry orbit; unreadable and disordered materials are named and end nothing."""
    for name in ("NiO", "LiCoO2"):
        (structures / name / "provenance.json").unlink()
    (structures / "bad").mkdir()
    (structures / "bad" / "POSCAR").write_text("not a structure\n")
    (structures / "CoO" / "provenance.json").write_text('{"sites": [{"index": 0, "element": "O"}]}')
    summary = run_campaign(Campaign(structures, structures, command(), SETTINGS, ("Ni", "Co"), workers=2))
    found = {str(p.relative_to(structures)) for p in structures.rglob("xmu.dat")}
    assert found == {"NiO/FEFF-XANES/000_Ni/xmu.dat", "LiCoO2/FEFF-XANES/000_Co/xmu.dat"}
    assert {m["material"]: m["reason"] for m in summary["materials_left_out"]} == {
        "bad": "unreadable",
        "CoO": "site mismatch",
    }


def test_what_is_not_ours_is_left_alone(structures, command, tmp_path):
    theirs = structures / "NiO" / "FEFF-XANES" / "000_Ni"
    theirs.mkdir(parents=True)
    (theirs / "xmu.dat").write_text("weeks of work\n")
    with pytest.raises(RunError, match="not made by this command"):
        run_campaign(Campaign(structures, structures, command(), SETTINGS))
    assert contents(theirs) == {"xmu.dat": b"weeks of work\n"}
    out = tmp_path / "runs"
    (out / "NiO").mkdir(parents=True)
    (out / "NiO" / "POSCAR").write_text("another structure\n")
    with pytest.raises(RunError, match="differs"):
        run_campaign(Campaign(structures, out, command(), SETTINGS))
    for elements, why in ((("Qq",), "no chemical element"), (("Cu",), "no site of Cu")):
        with pytest.raises(SourceError, match=why):
            run_campaign(Campaign(structures, out, command(), SETTINGS, elements))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no POSCAR"):
        run_campaign(Campaign(tmp_path / "empty", out, command(), SETTINGS))


def test_half_a_record_is_made_again(structures, command, tmp_path):
    """As a broken copy leaves it: some of our files, no status."""
    whole, out = tmp_path / "whole", tmp_path / "runs"
    run_campaign(Campaign(structures, whole, command(), SETTINGS))
    shutil.copytree(whole, out)
    folder = out / "NiO" / "FEFF-XANES" / "000_Ni"
    (folder / "status.json").unlink()
    (folder / "xmu.dat").write_text("half")
    (folder / "phase.bin").write_text("old")
    run_campaign(Campaign(structures, out, command(), SETTINGS))
    assert contents(out) == contents(whole)
