"""FEFF campaigns: inputs, one run judged by its files, and thousands that survive kills.

A stand-in replays recorded FEFF 10 runs, and fails as FEFF does; FEFF8L of xraylarch runs for real where it is there.
"""

import dataclasses
import importlib.util
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pymatgen.core import Structure

from data_pipelines import feff_run
from data_pipelines.campaign import run_campaign
from data_pipelines.errors import RunError, SourceError, SpectrumError
from data_pipelines.feff import atoms, cards, read_xmu
from data_pipelines.feff_input import FeffSettings, safer, write_input
from data_pipelines.feff_run import judge, read_status, shell_line
from data_pipelines.ingest import prepare
from data_pipelines.schema import EnergyGrid
from data_pipelines.structures import structure_from_inp

SETTINGS = FeffSettings()
RUNS = {"CoO_base_O1": ("O", 1), "LiCoO2_base_Co0": ("Co", 0), "LiFePO4_base_P8": ("P", 8), "NiO_base_Ni0": ("Ni", 0)}
every_run = pytest.mark.parametrize("run", RUNS)
# Replays the recorded run of the same absorber in the same formula. `behaviour` says what the first, second and third
# settings of the ladder do instead. Always ends with 0, as FEFF does.
STANDIN = """
import json, os, re, sys, time
runs, behaviour = sys.argv[1:]
text = open("feff.inp").read()
formula = re.search(r"Reduced formula: *(\\w+)", text)[1]
absorber = re.search(r"^ +0 +\\d+ +(\\w+)", text, re.M)[1]
rung = 2 if "\\nSCF" not in text else 1 if " 0.05 1\\n" in text else 0
acts = json.loads(behaviour).get(f"{formula} {absorber}", ["ok"])
act = acts[min(rung, len(acts) - 1)]
print("stand-in:", formula, absorber)
[run] = [r for r in os.listdir(runs) if re.fullmatch(rf"{formula}_base_{absorber}\\d+", r)]
xmu = open(os.path.join(runs, run, "xmu.dat")).read()
lines = xmu.splitlines(keepends=True)
first = next(i for i, line in enumerate(lines) if not line.startswith("#"))
if act == "nothing":
    sys.exit()
if act == "hang":
    if os.fork() == 0:
        open("../child", "w").write(str(os.getpid()))
    time.sleep(60)
if act == "slow":
    open("xmu.dat", "w").write(xmu[: len(xmu) // 2])
    time.sleep(0.04)
if act == "cut":
    xmu = xmu[:-60]
if act == "short":
    xmu = "".join(lines[:-40])
if act == "nan":
    xmu = xmu.replace(lines[-50].split()[3], "NaN")
if act == "exafs":
    xmu = "".join(line for line in lines if line.startswith("#") or float(line.split()[2]) >= 0)
if act == "bare":
    xmu = "".join(lines[:first]) + "".join(f"{line[:-22]} 0.0\\n" for line in lines[first:])
open("xmu.dat", "w").write(xmu)
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(function, *arguments) -> str:
    with pytest.raises(SpectrumError) as caught:
        function(*arguments)
    return caught.value.reason


def make_structures(root: Path, runs: Path) -> Path:
    """The recorded materials, with the sites to run named as `spt-jax structures` names them."""
    for run, (element, index) in RUNS.items():
        material = root / run.split("_")[0]
        material.mkdir(parents=True)
        shutil.copy(runs / run / "POSCAR", material)
        sites = [{"index": index, "element": element, "multiplicity": 1}]
        (material / "provenance.json").write_text(json.dumps({"sites": sites}))
    return root


@pytest.fixture
def structures(tmp_path, runs) -> Path:
    return make_structures(tmp_path / "structures", runs)


@pytest.fixture
def command(tmp_path, runs):
    """command(behaviour) -> the shell line of the stand-in."""
    (tmp_path / "standin.py").write_text(STANDIN)
    return lambda **behaviour: _command(tmp_path, runs, {k.replace("_", " "): v for k, v in behaviour.items()})


def _command(folder: Path, runs: Path, behaviour: dict) -> str:
    return f"'{sys.executable}' -IS '{folder}/standin.py' '{runs}' '{json.dumps(behaviour)}'"


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
        structures, out, line, SETTINGS, workers=4, time_limit=1.0, report=lambda *now: seen.append(now)
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
    assert run_campaign(structures, out, line, SETTINGS, time_limit=1.0) == summary and contents(out) == before
    with pytest.raises(RunError, match="other settings"):
        run_campaign(structures, out, line, dataclasses.replace(SETTINGS, edge="L3"), time_limit=1.0)
    again = run_campaign(structures, out, command(), SETTINGS, workers=2, time_limit=1.0, redo_failed=True)
    assert (again["done"], again["failed"], again["done_at_try"]) == (4, 0, {"1": 2, "2": 2})
    assert contents(nickel) == {p.removeprefix("NiO/FEFF-XANES/000_Ni/"): b for p, b in before.items() if "Ni/" in p}


@pytest.mark.parametrize(("act", "reason"), [("short", "truncated"), ("nothing", "no xmu.dat"), ("hang", "time limit")])
def test_without_retries_the_first_failure_counts(structures, command, tmp_path, act, reason):
    summary = run_campaign(
        structures, tmp_path / "runs", command(NiO_Ni=[act]), SETTINGS, ("Ni",), time_limit=0.5, retries=0
    )
    assert summary["failed_by_reason"] == {reason: 1} and summary["sites"] == 1


def test_time_limit_kills_all_that_the_command_started(structures, command, tmp_path, monkeypatch):
    pids = []
    execute = feff_run.execute

    def spy(line, folder, *rest):
        try:
            return execute(line, folder, *rest)
        finally:
            pids.append(int((folder.parent / "child").read_text()))

    monkeypatch.setattr(feff_run, "execute", spy)
    run_campaign(structures, tmp_path / "runs", command(NiO_Ni=["hang"]), SETTINGS, ("Ni",), time_limit=0.5, retries=0)
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
    run_campaign(structures, tmp_path / "runs", line, SETTINGS, ("Ni",))
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
    summary = run_campaign(structures, structures, command(), SETTINGS, ("Ni", "Co"), workers=2)
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
        run_campaign(structures, structures, command(), SETTINGS)
    assert contents(theirs) == {"xmu.dat": b"weeks of work\n"}
    out = tmp_path / "runs"
    (out / "NiO").mkdir(parents=True)
    (out / "NiO" / "POSCAR").write_text("another structure\n")
    with pytest.raises(RunError, match="differs"):
        run_campaign(structures, out, command(), SETTINGS)
    for elements, why in ((("Qq",), "no chemical element"), (("Cu",), "no site of Cu")):
        with pytest.raises(SourceError, match=why):
            run_campaign(structures, out, command(), SETTINGS, elements)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no POSCAR"):
        run_campaign(tmp_path / "empty", out, command(), SETTINGS)


def test_half_a_record_is_made_again(structures, command, tmp_path):
    """As a broken copy leaves it: some of our files, no status."""
    whole, out = tmp_path / "whole", tmp_path / "runs"
    run_campaign(structures, whole, command(), SETTINGS)
    shutil.copytree(whole, out)
    folder = out / "NiO" / "FEFF-XANES" / "000_Ni"
    (folder / "status.json").unlink()
    (folder / "xmu.dat").write_text("half")
    (folder / "phase.bin").write_text("old")
    run_campaign(structures, out, command(), SETTINGS)
    assert contents(out) == contents(whole)


# Imports and warms up once, then forks, so that a kill hits the campaign and not its imports. A campaign that ends
# before its kill is followed by one in a new folder.
VICTIMS = """
import json, os, random, signal, sys, time
from pathlib import Path
from data_pipelines.campaign import run_campaign
from data_pipelines.feff_input import FeffSettings
root, line, hanging, seed = sys.argv[1:]
root, generator, settings = Path(root), random.Random(int(seed)), FeffSettings(scf=3.0, fms=3.5, cluster=4.0)

def campaign(out, command):
    return run_campaign(root / "structures", out, command, settings, workers=2)

def killed(out, command, sign, after):
    child = os.fork()
    if not child:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in the background
        try:
            campaign(out, command)
        except KeyboardInterrupt:
            os._exit(130)
        os._exit(0)
    time.sleep(after)
    os.kill(child, sign)
    began = time.monotonic()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"code": code, "took": time.monotonic() - began, "found": finished(out)}

def finished(out):
    return {str(p): p.stat().st_ino for p in out.glob("*/FEFF-XANES/*/status.json")}

campaign(root / "whole", line)
began = time.monotonic()
campaign(root / "again", line)
span, kills, outs = time.monotonic() - began, [], 1
while sum(kill["code"] != 0 for kill in kills) < 10 and len(kills) < 50:
    kills.append({"out": f"out{outs}", **killed(root / f"out{outs}", line, signal.SIGKILL, generator.uniform(0, span))})
    outs += kills[-1]["code"] == 0
stop = killed(root / "stopped", hanging, signal.SIGINT, span / 2)
stop["left"] = (root / "stopped" / ".feff").exists()
for out in [*sorted({kill["out"] for kill in kills}), "stopped"]:
    campaign(root / out, line)
print(json.dumps({"kills": kills, "stop": stop, "end": {k["out"]: finished(root / k["out"]) for k in kills}}))
"""


@pytest.fixture(scope="module")
def victims(tmp_path_factory, runs) -> SimpleNamespace:
    """Campaigns killed at ten random moments and one stopped by Ctrl-C, then run to their end by the same command."""
    root = tmp_path_factory.mktemp("victims")
    make_structures(root / "structures", runs)
    (root / "standin.py").write_text(STANDIN)
    (root / "victims.py").write_text(VICTIMS)
    acts = {"NiO Ni": ["slow"], "LiFePO4 P": ["slow"], "CoO O": ["cut", "slow"], "LiCoO2 Co": ["nothing"]}
    line = _command(root, runs, acts)
    hanging = _command(root, runs, {key: ["hang"] for key in acts})
    seed = random.randrange(10**9)
    process = subprocess.run(
        [sys.executable, root / "victims.py", root, line, hanging, str(seed)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return SimpleNamespace(root=root, seed=seed, **json.loads(process.stdout))


def test_ten_kills_change_no_byte(victims):
    """kill -9 of the campaign, its children left to write on: nothing lost, nothing run twice, the same bytes."""
    print("seed", victims.seed, [(kill["out"], kill["code"], len(kill["found"])) for kill in victims.kills])
    assert sum(kill["code"] == -signal.SIGKILL for kill in victims.kills) == 10
    whole = contents(victims.root / "whole")
    assert sum(name.endswith("status.json") for name in whole) == 4
    assert contents(victims.root / "again") == whole
    for kill, later in zip(victims.kills, [*victims.kills[1:], None], strict=True):
        after = later["found"] if later and later["out"] == kill["out"] else victims.end[kill["out"]]
        assert after.items() >= kill["found"].items(), "a finished site is neither lost nor run again"
    for out in victims.end:
        shutil.rmtree(victims.root / out / ".feff", ignore_errors=True)  # where an orphan wrote after the clean-up
        assert contents(victims.root / out) == whole, out


def test_interrupt_stops_all_and_the_same_command_goes_on(victims):
    assert victims.stop["code"] == 130 and victims.stop["took"] < 10 and not victims.stop["found"]
    assert not victims.stop["left"]
    assert contents(victims.root / "stopped") == contents(victims.root / "whole")


def test_a_newer_campaign_takes_over(structures, command, tmp_path, monkeypatch):
    """The older one stops at its next look, and nothing of it is put in place."""
    out = tmp_path / "runs"
    execute, calls = feff_run.execute, []

    def overtaken(line, folder, time_limit, lease):
        if not calls:
            calls.append(1)
            newer.append(run_campaign(structures, out, command(), SETTINGS, ("Ni",)))
        return execute(line, folder, time_limit, lease)

    newer = []
    monkeypatch.setattr(feff_run, "execute", overtaken)
    with pytest.raises(RunError, match="another campaign"):
        run_campaign(structures, out, command(), SETTINGS)
    assert newer[0]["done"] == 1
    assert [p.parent.name for p in out.rglob("status.json")] == ["000_Ni"]


def test_a_command_that_breaks_ends_the_campaign(structures, tmp_path):
    with pytest.raises(RunError, match="cannot be run"):
        run_campaign(structures, tmp_path / "runs", "true && $NO_SUCH_FOLDER/feff", SETTINGS)
    assert not list(tmp_path.rglob("status.json")), "that is no failure of any site"


def test_the_tree_becomes_a_dataset(structures, command, tmp_path):
    out, dataset = tmp_path / "runs", tmp_path / "dataset"
    run_campaign(structures, out, command(LiCoO2_Co=["nothing"]), SETTINGS, workers=2)
    (out / ".feff" / "left" / "work0").mkdir(parents=True)
    shutil.copy(out / "NiO" / "FEFF-XANES" / "000_Ni" / "xmu.dat", out / ".feff" / "left" / "work0")
    card = prepare([out], dataset, EnergyGrid(), workers=1)
    assert card["records"] == {**card["records"], "found": 4, "kept": 3, "dropped": 1}
    assert card["dropped_by_reason"] == {"no xmu.dat": 1}
    assert set(card["elements"]) == {"Ni", "O", "P"}


@pytest.mark.parametrize("wrong", ["", "/nowhere/feff"])
def test_the_command_line_says_what_is_missing(structures, capsys, wrong):
    from spt_jax.cli import main

    with pytest.raises(SystemExit) as stop:
        main(["feff", str(structures), "--feff-cmd", wrong])
    message = capsys.readouterr().err
    assert stop.value.code == 1 and message.count("\n") == 1 and "--feff-cmd" in message


def test_the_command_line_ends_with_the_next_command(structures, command, tmp_path, capsys):
    from spt_jax.cli import main

    out = tmp_path / "runs"
    main(
        ["feff", str(structures), "--out", str(out), "--feff-cmd", command(CoO_O=["nothing"]), "--elements", "Ni", "O"]
    )
    text = capsys.readouterr().out
    assert "first CoO/FEFF-XANES/001_O (FEFF's last words: stand-in: CoO O)" in text and "1 of 2 sites" in text
    assert text.rstrip().endswith(f"spt-jax prepare {out} --out dataset")


PARSL_CONFIG = """
import os
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider
executor = HighThroughputExecutor(address="127.0.0.1", max_workers_per_node=2, provider=LocalProvider())
config = Config(executors=[executor], run_dir=os.path.join(os.path.dirname(__file__), "runinfo"))
"""


def test_parsl_gives_the_same_bytes(structures, command, tmp_path, monkeypatch):
    pytest.importorskip("parsl", reason="needs the extra `campaign`")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    (tmp_path / "cluster.py").write_text(PARSL_CONFIG)
    line, out = command(LiCoO2_Co=["nothing"], NiO_Ni=["cut", "ok"]), tmp_path / "runs"
    run_campaign(structures, tmp_path / "whole", line, SETTINGS)
    run_campaign(structures, out, line, SETTINGS, engine=tmp_path / "cluster.py")
    assert contents(out) == contents(tmp_path / "whole")


def test_engines_that_cannot_be_are_refused(structures, command, tmp_path):
    if importlib.util.find_spec("parsl") is None:
        with pytest.raises(RunError, match=r"spt-jax\[campaign\]"):
            run_campaign(structures, tmp_path / "runs", command(), SETTINGS, engine=tmp_path / "cluster.py")
        return
    for text, why in ((None, "no such file"), ("x = 1", "no Parsl"), ("config = 1", "not a parsl.Config")):
        if text:
            (tmp_path / "cluster.py").write_text(text)
        with pytest.raises(RunError, match=why):
            run_campaign(structures, tmp_path / "runs", command(), SETTINGS, engine=tmp_path / "cluster.py")


@pytest.fixture(scope="module")
def feff8l() -> Path:
    """Folder of FEFF8L's modules: the environment variable FEFF8L, or xraylarch."""
    found = importlib.util.find_spec("larch")
    system = {"Linux": "linux64", "Darwin": "darwin64"}.get(platform.system(), "")
    folder = Path(os.environ.get("FEFF8L") or (Path(found.origin).parent / "bin" / system if found else "nowhere"))
    if not os.access(folder / "feff8l_pot", os.X_OK):
        pytest.skip("no FEFF8L: set FEFF8L to the folder of feff8l_pot, or install xraylarch")
    return folder


def test_feff8l_runs_and_its_exafs_is_refused_as_xanes(feff8l, structures, tmp_path):
    """It stops at COREHOLE, passes over FMS and XANES, and always exits with 0: only the files tell."""
    modules = [str(feff8l / f"feff8l_{m}") for m in ("rdinp", "pot", "xsph", "pathfinder", "genfmt", "ff2x")]
    settings = FeffSettings(scf=0.0, fms=3.5, cluster=4.5)
    stopped = run_campaign(structures, tmp_path / "stopped", ",".join(modules), settings, ("Ni",))
    assert stopped["failed_by_reason"] == {"no xmu.dat": 1}
    line = f"sed '/COREHOLE/d' feff.inp > cut && mv cut feff.inp && {' && '.join(modules)}"
    summary = run_campaign(structures, tmp_path / "runs", line, settings, ("Ni",))
    assert summary["failed_by_reason"] == {"not a XANES run": 1}
    folder = tmp_path / "runs" / "NiO" / "FEFF-XANES" / "000_Ni"
    table = np.loadtxt(folder / "rejected_xmu.dat")
    assert np.isfinite(table).all() and table[0, 2] == 0 and len(table) > 50, "a whole EXAFS spectrum"
    assert refused(read_xmu, folder / "rejected_xmu.dat") == "not a XANES run"
    assert "Done with module" in (folder / "feff.out").read_text()
