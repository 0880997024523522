"""One site's FEFF spectrum: attempts in scratch folders, judged by xmu.dat, put in place whole or not at all.

FEFF exits with 0 on failure, so its exit code says nothing. A site's folder appears by one rename, with status.json
inside, so a kill at any moment leaves either all of it or nothing. Every attempt lies below the `lease`, a folder
that one campaign owns: once it is renamed, running sites stop, and what an older campaign left running can no
longer put anything in place, because the source of its rename is gone.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from data_pipelines.errors import RunError, SpectrumError
from data_pipelines.feff.input import FeffSettings, safer, write_input
from data_pipelines.feff.output import FeffRun, check_scattering, read_xmu
from data_pipelines.files import write_atomic
from data_pipelines.run_tree import INPUT, SETTINGS, STATUS, XMU
from data_pipelines.spectra.grid import check, edge_step

REJECTED = f"rejected_{XMU}"
OUTPUT = "feff.out"
POLL_SECONDS = 0.5
# Other settings change nothing about these.
BEYOND_SETTINGS = ("no input", "not a XANES run", "site mismatch")


@dataclass(frozen=True)
class SiteJob:
    """One site to run: atom `site` of `poscar`, whose records go to `folder`."""

    poscar: Path
    site: int
    element: str
    folder: Path


@dataclass(frozen=True)
class CampaignPlan:
    """What all sites of a campaign share. `command` is a shell line (`shell_line`), `time_limit` seconds an attempt."""

    command: str
    settings: FeffSettings
    time_limit: float
    retries: int
    lease: Path


class Withdrawn(Exception):
    """The lease is gone: stop, and put nothing in place."""


def shell_line(command: str) -> str:
    """--feff-cmd as /bin/sh runs it: one program, modules with commas between, or a shell line left as it is.

    Raises RunError where a program is missing, not executable, or named relative to this folder.
    """
    if not command.strip():
        raise RunError(
            "no FEFF: name your FEFF 9 or 10 with --feff-cmd, one program (/opt/feff10/feff), its modules in order "
            "(rdinp,pot,xsph,...), or a shell line ('rdinp && pot && xsph ...')"
        )
    modules = [command] if os.path.isfile(command) else [word.strip() for word in command.split(",")]
    if all(os.path.isfile(module) or len(module.split()) == 1 for module in modules):
        command = " && ".join(shlex.quote(os.path.abspath(m)) if os.path.isfile(m) else m for m in modules)
    try:
        words = list(shlex.shlex(command, posix=True, punctuation_chars=True))
    except ValueError as error:
        raise RunError(f"--feff-cmd is no shell line ({error}): {command}") from None
    for before, word in zip(["&&", *words], words, strict=False):
        if not set(before) <= set("&|;()") or set(word) <= set("&|;()") or set(word) & set("$=`{}"):
            continue
        if "/" in word and not word.startswith("/"):
            raise RunError(f"--feff-cmd: name {word} by its full path; every run has a folder of its own")
        builtin = "/" not in word and _succeeds(["/bin/sh", "-c", 'command -v -- "$1"', "sh", word])
        if not (builtin or shutil.which(word)):
            raise RunError(f"--feff-cmd: {word} is not there, or is not executable")
    return command


def _succeeds(arguments: list[str]) -> bool:
    return subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def read_status(folder: Path) -> dict | None:
    """status.json of a site's folder; None where there is none, or where what it speaks of is not there."""
    try:
        status = json.loads((folder / STATUS).read_text(encoding="utf-8"))
        whole = status["status"] == "failed" or (folder / XMU).exists()
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return status if whole else None


def run_site(job: SiteJob, plan: CampaignPlan) -> dict | None:
    """Run FEFF for one site until it gives a spectrum or nothing is left to try; the status that was put in place.

    None where the lease was withdrawn. Raises RunError where the command cannot be run at all.
    """
    try:
        scratch = Path(tempfile.mkdtemp(dir=plan.lease))
        status = _attempts(job, plan, scratch)
        shutil.rmtree(scratch)
        return status
    except (Withdrawn, OSError, RunError):
        if plan.lease.exists():
            raise
        return None


def _attempts(job: SiteJob, plan: CampaignPlan, scratch: Path) -> dict:
    from pymatgen.core import Structure  # slow to import: not for `spt-jax --help`

    settings, tries, failure, run = plan.settings, [], None, None
    while settings is not None:
        work, result = scratch / f"work{len(tries)}", scratch / f"result{len(tries)}"
        work.mkdir()
        result.mkdir()
        try:
            write_input(Structure.from_file(job.poscar), job.site, settings, work)
            try:
                code = execute(plan.command, work, plan.time_limit, plan.lease)
            finally:
                _keep(work, result)
            run = judge(result / XMU, job.element, settings)
            failure = None
        except SpectrumError as error:
            failure = error
            if error.reason == "no xmu.dat":
                said = (result / OUTPUT).read_text(errors="replace").split("\n")
                last = next((line.strip()[:200] for line in reversed(said) if line.strip()), "nothing")
                if code in (126, 127):
                    raise RunError(f"--feff-cmd cannot be run: {last}") from None
                failure = SpectrumError("no xmu.dat", f"FEFF's last words: {last.replace(str(work), '.')}")
        shutil.rmtree(work, ignore_errors=True)
        tries.append({"settings": asdict(settings), "failed": failure.reason if failure else ""})
        if failure is None or failure.reason in BEYOND_SETTINGS or len(tries) > plan.retries:
            break
        settings = safer(settings, failure.reason)
    if failure and (result / XMU).exists():
        # Under its own name it would be read as a spectrum.
        (result / XMU).rename(result / REJECTED)
    status = {
        "status": "failed" if failure else "done",
        "reason": failure.reason if failure else "",
        "detail": failure.detail.replace(f"{result}/", "") if failure else "",
        "site": job.site,
        "element": job.element,
        "asked": asdict(plan.settings),
        "tries": tries,
        "feff": "" if failure else run.version,
    }
    write_atomic(result / STATUS, json.dumps(status, indent=1) + "\n")
    return _put_in_place(result, job.folder, status)


def execute(command: str, folder: Path, time_limit: float, lease: Path) -> int:
    """Run the shell line in `folder`, output to feff.out; its exit code. Nothing that it started lives on.

    Raises SpectrumError after `time_limit` seconds, Withdrawn when the lease is gone.
    """
    deadline = time.monotonic() + time_limit
    with open(folder / OUTPUT, "wb") as log:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while True:
            try:
                return process.wait(max(0.0, min(POLL_SECONDS, deadline - time.monotonic())))
            except subprocess.TimeoutExpired:
                if not lease.exists():
                    raise Withdrawn from None
                if time.monotonic() >= deadline:
                    raise SpectrumError("time limit", f"not finished after {time_limit:g} s") from None
    finally:
        with suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS, when only zombies are left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def judge(xmu: Path, element: str, settings: FeffSettings) -> FeffRun:
    """The spectrum in xmu.dat if it is a whole, usable XANES of `element` as asked for; else SpectrumError."""
    run = read_xmu(xmu)
    if run.element and run.element != element:
        raise SpectrumError("site mismatch", f"{xmu} was computed for {run.element}, not {element}")
    if run.edge and run.edge != settings.edge:
        raise SpectrumError("site mismatch", f"{xmu} holds the {run.edge} edge, not {settings.edge}")
    check(run.energy, run.mu, run.energy)
    if run.k[-1] < settings.k_max - 2 * settings.k_step:
        raise SpectrumError("truncated", f"{xmu} ends at k = {run.k[-1]:g}, not at {settings.k_max:g}")
    check_scattering(run.chi, xmu)
    even = np.linspace(run.energy[0], run.energy[-1], len(run.energy))
    edge_step(np.interp(even, run.energy, run.mu))
    return run


def _keep(work: Path, result: Path) -> None:
    """Copy what a record needs: a straggler of this run may still hold the files of `work`, never these."""
    for name in (INPUT, SETTINGS, OUTPUT, XMU):
        with suppress(FileNotFoundError):
            write_atomic(result / name, (work / name).read_bytes())


def _put_in_place(result: Path, folder: Path, status: dict) -> dict:
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(result, folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # An engine ran this site twice, taking a worker for lost; the first to finish stays.
        return read_status(folder) or status
    return status
