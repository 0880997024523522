"""A stand-in for FEFF that replays recorded FEFF 10 runs and fails as FEFF does, and structures for it to run on."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from data_pipelines.errors import SpectrumError

RUNS = {"CoO_base_O1": ("O", 1), "LiCoO2_base_Co0": ("Co", 0), "LiFePO4_base_P8": ("P", 8), "NiO_base_Ni0": ("Ni", 0)}
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
    time.sleep(900)
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


def standin_line(folder: Path, runs: Path, behaviour: dict) -> str:
    return f"'{sys.executable}' -IS '{folder}/standin.py' '{runs}' '{json.dumps(behaviour)}'"
