"""FEFF campaigns: thousands of runs that survive kills, on one machine or through Parsl; FEFF8L where it is there."""

import importlib.util
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipelines.dataset.build import prepare
from data_pipelines.errors import RunError
from data_pipelines.feff import run
from data_pipelines.feff.campaign import Campaign, run_campaign
from data_pipelines.feff.input import FeffSettings
from data_pipelines.feff.output import read_xmu
from data_pipelines.schema import EnergyGrid
from tests.data_pipelines.feff_standin import STANDIN, contents, make_structures, refused, standin_line

SETTINGS = FeffSettings()


# Imports and warms up once, then forks, so that a kill hits the campaign and not its imports. A campaign that ends
# before its kill is followed by one in a new folder.
VICTIMS = """
import json, os, random, signal, sys, time
from pathlib import Path
from data_pipelines.feff.campaign import Campaign, run_campaign
from data_pipelines.feff.input import FeffSettings
root, line, hanging, seed = sys.argv[1:]
root, generator, settings = Path(root), random.Random(int(seed)), FeffSettings(scf=3.0, fms=3.5, cluster=4.0)

def campaign(out, command):
    return run_campaign(Campaign(root / "structures", out, command, settings, workers=2))

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
    return {"code": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "found": finished(out)}

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
    line = standin_line(root, runs, acts)
    hanging = standin_line(root, runs, {key: ["hang"] for key in acts})
    seed = random.randrange(10**9)
    process = subprocess.run(
        [sys.executable, root / "victims.py", root, line, hanging, str(seed)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=500,  # less than what hangs: Ctrl-C does not wait for it
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
    assert victims.stop["code"] == 130 and not victims.stop["found"]
    assert not victims.stop["left"]
    assert contents(victims.root / "stopped") == contents(victims.root / "whole")


def test_a_newer_campaign_takes_over(structures, command, tmp_path, monkeypatch):
    """The older one stops at its next look, and nothing of it is put in place."""
    out = tmp_path / "runs"
    execute, calls = run.execute, []

    def overtaken(line, folder, time_limit, lease):
        if not calls:
            calls.append(1)
            newer.append(run_campaign(Campaign(structures, out, command(), SETTINGS, ("Ni",))))
        return execute(line, folder, time_limit, lease)

    newer = []
    monkeypatch.setattr(run, "execute", overtaken)
    with pytest.raises(RunError, match="another campaign"):
        run_campaign(Campaign(structures, out, command(), SETTINGS))
    assert newer[0]["done"] == 1
    assert [p.parent.name for p in out.rglob("status.json")] == ["000_Ni"]


def test_a_command_that_breaks_ends_the_campaign(structures, tmp_path):
    with pytest.raises(RunError, match="cannot be run"):
        run_campaign(Campaign(structures, tmp_path / "runs", "true && $NO_SUCH_FOLDER/feff", SETTINGS))
    assert not list(tmp_path.rglob("status.json")), "that is no failure of any site"


def test_the_tree_becomes_a_dataset(structures, command, tmp_path):
    out, dataset = tmp_path / "runs", tmp_path / "dataset"
    run_campaign(Campaign(structures, out, command(LiCoO2_Co=["nothing"]), SETTINGS, workers=2))
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


def test_the_command_line_ends_with_the_nextstandin_line(structures, command, tmp_path, capsys):
    from spt_jax.cli import main

    out = tmp_path / "runs"
    main(
        ["feff", str(structures), "--out", str(out), "--feff-cmd", command(CoO_O=["nothing"]), "--elements", "Ni", "O"]
    )
    text = capsys.readouterr().out
    assert "first CoO/FEFF-XANES/001_O (FEFF's last words: stand-in: CoO O)" in text and "1 of 2 sites" in text
    assert text.rstrip().endswith(f"spt-jax prepare {out} --out dataset")


def test_a_damaged_material_among_others_costs_a_line(structures, command, tmp_path, capsys):
    from spt_jax.cli import main

    (structures / "bad").mkdir()
    (structures / "bad" / "POSCAR").write_text("not a structure\n")
    with pytest.raises(SystemExit) as stop:
        main(["feff", str(structures), "--out", str(tmp_path / "runs"), "--feff-cmd", command(), "--elements", "Ni"])
    found = capsys.readouterr()
    assert stop.value.code == 1 and "1 of 1 sites" in found.out
    assert "1 material(s) left out, the first bad: unreadable" in found.err.splitlines()[-1]


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
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    (tmp_path / "cluster.py").write_text(PARSL_CONFIG)
    line, out = command(LiCoO2_Co=["nothing"], NiO_Ni=["cut", "ok"]), tmp_path / "runs"
    run_campaign(Campaign(structures, tmp_path / "whole", line, SETTINGS))
    run_campaign(Campaign(structures, out, line, SETTINGS, engine=tmp_path / "cluster.py"))
    assert contents(out) == contents(tmp_path / "whole")


def test_engines_that_cannot_be_are_refused(structures, command, tmp_path):
    pytest.importorskip("parsl", reason="needs the extra `campaign`")
    for text, why in ((None, "no such file"), ("x = 1", "no Parsl"), ("config = 1", "not a parsl.Config")):
        if text:
            (tmp_path / "cluster.py").write_text(text)
        with pytest.raises(RunError, match=why):
            run_campaign(Campaign(structures, tmp_path / "runs", command(), SETTINGS, engine=tmp_path / "cluster.py"))


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
    stopped = run_campaign(Campaign(structures, tmp_path / "stopped", ",".join(modules), settings, ("Ni",)))
    assert stopped["failed_by_reason"] == {"no xmu.dat": 1}
    line = f"sed '/COREHOLE/d' feff.inp > cut && mv cut feff.inp && {' && '.join(modules)}"
    summary = run_campaign(Campaign(structures, tmp_path / "runs", line, settings, ("Ni",)))
    assert summary["failed_by_reason"] == {"not a XANES run": 1}
    folder = tmp_path / "runs" / "NiO" / "FEFF-XANES" / "000_Ni"
    table = np.loadtxt(folder / "rejected_xmu.dat")
    assert np.isfinite(table).all() and table[0, 2] == 0 and len(table) > 50, "a whole EXAFS spectrum"
    assert refused(read_xmu, folder / "rejected_xmu.dat") == "not a XANES run"
    assert "Done with module" in (folder / "feff.out").read_text()
