"""FEFF for every inequivalent site of a tree of structures: restartable, on this machine or on a cluster.

The cluster engine is Parsl: one package speaks to SLURM, PBS, LSF and Kubernetes, its pilot jobs suit thousands of
short external programs, and a configuration is a Python file, of which computing centres publish theirs. (Dask
needs dask-jobqueue for the first and dask-kubernetes with an operator for the last, and moves data nobody has here.)
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from data_pipelines.errors import MissingExtra, RunError, SourceError, SpectrumError
from data_pipelines.feff.input import FeffSettings
from data_pipelines.feff.run import CampaignPlan, SiteJob, read_status, run_site, shell_line
from data_pipelines.files import write_atomic
from data_pipelines.run_tree import POSCAR, PROVENANCE, RUNS, SETTINGS, SITE_FOLDER, STATUS
from data_pipelines.schema import SYMBOLS
from data_pipelines.structures.symmetry import inequivalent_sites

FILE = "campaign.json"
WORK = ".feff"
STOP_SECONDS = 5.0
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Campaign:
    """FEFF for the sites of the tree `structures`, runs and outcomes into the tree `out`.

    command: as of --feff-cmd. elements: the absorbers, all where empty. workers: runs at once, without an engine.
    time_limit: seconds of an attempt. retries: further attempts, with safer settings. engine: a Python file with a
    Parsl `config`. redo_failed: sites again that failed before.
    """

    structures: Path
    out: Path
    command: str
    settings: FeffSettings
    elements: tuple[str, ...] = ()
    workers: int = 1
    time_limit: float = 3600.0
    retries: int = 2
    engine: Path | None = None
    redo_failed: bool = False


def run_campaign(campaign: Campaign, report: Report = lambda stage, done, total: None) -> dict:
    """Run FEFF for all sites that `campaign.out` has no outcome of; the summary, also in OUT/campaign.json.

    `report(stage, done, total)` is called as work goes on. Raises SourceError for what cannot be read, RunError for a
    command or engine that cannot run, for runs of other settings in `out`, and for lost workers.
    """
    # A worker may stand elsewhere.
    campaign = replace(campaign, structures=campaign.structures.absolute(), out=campaign.out.absolute())
    command = shell_line(campaign.command)
    open_engine = _threads(campaign.workers) if campaign.engine is None else _parsl(campaign.engine)
    jobs, unreadable = _find(campaign, report)
    todo = [job for job in jobs if _is_open(job, campaign)]
    lease = _take_lease(campaign.out)
    plan = CampaignPlan(command, campaign.settings, campaign.time_limit, campaign.retries, lease)
    lost: list[str] = []
    try:
        for job in todo:
            _prepare_place(job, campaign, lease)
        report("running", len(jobs) - len(todo), len(jobs))
        if todo:
            with open_engine as submit:
                futures = []
                try:
                    for job in todo:
                        futures.append(submit(run_site, job, plan))
                    for count, future in enumerate(as_completed(futures), start=1):
                        lost += _lost(future)
                        report("running", len(jobs) - len(todo) + count, len(jobs))
                except BaseException:
                    _withdraw(lease)
                    wait(futures, STOP_SECONDS)  # an engine would end its workers before they end their FEFF
                    raise
    finally:
        _withdraw(lease)
    missing = [job for job in jobs if read_status(job.folder) is None]
    if missing:
        why = f" ({lost[0]})" if lost else "; another campaign took over this folder"
        raise RunError(f"{len(missing)} of {len(jobs)} sites have no outcome{why}; run the same command again")
    summary = _summary(jobs, unreadable, campaign)
    write_atomic(campaign.out / FILE, json.dumps(summary, indent=1) + "\n")
    return summary


def _find(campaign: Campaign, report: Report) -> tuple[list[SiteJob], list[dict]]:
    """Every site to run, in a fixed order, and the materials that cannot be read with the reason."""
    structures, out, elements = campaign.structures, campaign.out, campaign.elements
    unknown = sorted(set(elements) - set(SYMBOLS[1:]))
    if unknown:
        raise SourceError(f"no chemical element: {', '.join(unknown)}")
    if not structures.is_dir():
        raise SourceError(f"{structures}: no such folder")
    poscars = sorted(_poscars(structures, out))
    if not poscars:
        raise SourceError(f"{structures}: no POSCAR below this folder; `spt-jax structures` makes such a tree")
    jobs, unreadable = [], []
    for count, poscar in enumerate(poscars, start=1):
        material = poscar.parent.relative_to(structures)
        try:
            for site, element in _sites(poscar):
                if not elements or element in elements:
                    folder = out / material / RUNS / f"{site:03d}_{element}"
                    jobs.append(SiteJob(out / material / POSCAR, site, element, folder))
        except SpectrumError as error:
            unreadable.append({"material": str(material), "reason": error.reason, "detail": error.detail})
        report("reading", count, len(poscars))
    if not jobs:
        wanted = f" of {', '.join(elements)}" if elements else ""
        first = f" ({unreadable[0]['material']}: {unreadable[0]['detail']})" if unreadable else ""
        raise SourceError(f"{structures}: no site{wanted} to run{first}")
    return jobs, unreadable


def _poscars(structures: Path, out: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(structures):
        # Neither site folders with a POSCAR of their own, nor what an earlier campaign copied.
        subfolders[:] = [
            name
            for name in subfolders
            if not name.startswith(".") and not SITE_FOLDER.match(name) and not _same(Path(folder, name), out)
        ]
        if POSCAR in files:
            yield Path(folder, POSCAR)


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


@np.errstate(all="ignore")  # a file may hold any numbers
def _sites(poscar: Path) -> list[tuple[int, str]]:
    """(index, element) of the sites to run: those that provenance.json names, else one of each symmetry orbit."""
    try:
        structure = Structure.from_file(poscar)
        if not structure.is_ordered:
            raise SpectrumError("partial occupancy", "FEFF takes whole atoms only")
        symbols = [site.specie.symbol for site in structure]
        provenance = poscar.with_name(PROVENANCE)
        if not provenance.exists():
            return [(index, symbols[index]) for index, _ in inequivalent_sites(structure)]
        named = [(s["index"], s["element"]) for s in json.loads(provenance.read_text(encoding="utf-8"))["sites"]]
        for index, element in named:
            if not 0 <= index < len(symbols) or symbols[index] != element:
                raise SpectrumError("site mismatch", f"{PROVENANCE} names {element} at site {index}, POSCAR does not")
        return list(dict.fromkeys(named))
    except SpectrumError:
        raise
    except Exception as error:  # pymatgen and a hand-made JSON raise whatever they run into
        raise SpectrumError("unreadable", f"{type(error).__name__}: {error}".splitlines()[0][:200]) from None


def _is_open(job: SiteJob, campaign: Campaign) -> bool:
    """Whether the site is still to run. Raises RunError where its folder holds something that is not ours to replace."""
    status = read_status(job.folder)
    if status is None:
        if job.folder.exists() and not (job.folder / SETTINGS).exists():
            raise RunError(f"{job.folder} was not made by this command; choose another --out")
        return True
    if status["asked"] != json.loads(json.dumps(asdict(campaign.settings))):
        raise RunError(f"{job.folder} was run with other settings; choose another --out")
    return campaign.redo_failed and status["status"] == "failed"


def _take_lease(out: Path) -> Path:
    """A new scratch folder below OUT; whatever another campaign holds there is withdrawn."""
    for old in (out / WORK).glob("*"):
        _withdraw(old)
    lease = out / WORK / uuid.uuid4().hex
    lease.mkdir(parents=True)
    return lease


def _withdraw(lease: Path) -> None:
    """Rename first: from then on nothing can be put in place from it, however long removing it takes."""
    gone = lease.with_suffix(".gone")
    with suppress(FileNotFoundError):
        lease.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
    with suppress(OSError):
        lease.parent.rmdir()


def _prepare_place(job: SiteJob, campaign: Campaign, lease: Path) -> None:
    """POSCAR and provenance beside the runs, as the dataset reads them; what was there of the site moves away."""
    material = job.poscar.parent.relative_to(campaign.out)
    for name in (POSCAR, PROVENANCE):
        given, here = campaign.structures / material / name, job.poscar.with_name(name)
        if given.exists() and not _same(given, here):
            content = given.read_bytes()
            here.parent.mkdir(parents=True, exist_ok=True)
            if here.exists() and here.read_bytes() != content:
                raise RunError(f"{here} differs from {given}; choose another --out")
            if not here.exists():
                write_atomic(here, content)
    if job.folder.exists():
        job.folder.rename(lease / uuid.uuid4().hex)


@contextmanager
def _threads(workers: int) -> Iterator[Callable[..., Future]]:
    """Threads are enough: each waits for a FEFF process."""
    with ThreadPoolExecutor(workers) as pool:
        yield pool.submit


def _parsl(path: Path) -> AbstractContextManager[Callable[..., Future]]:
    """The engine of the `config` in a Python file. Read at once, so that a wrong one ends the command at its start."""
    try:
        import parsl
    except ModuleNotFoundError:
        raise MissingExtra("campaign", "--engine") from None
    if not path.is_file():
        raise RunError(f"{path}: no such file")
    try:
        config = runpy.run_path(str(path))["config"]
    except Exception as error:  # whatever a user's file runs into
        raise RunError(f"{path} gives no Parsl `config`: {type(error).__name__}: {error}".splitlines()[0]) from None
    if not isinstance(config, parsl.Config):
        raise RunError(f"{path}: `config` is a {type(config).__name__}, not a parsl.Config")

    @contextmanager
    def engine() -> Iterator[Callable[..., Future]]:
        # Parsl finds its own programs by PATH, which lacks them where `spt-jax` was called by its full path.
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        # Ctrl-C in a terminal reaches all processes; without its own, Parsl waits for ever. They inherit this.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            kernel = parsl.load(config)
        finally:
            signal.signal(signal.SIGINT, interrupt)
        with kernel:
            yield lambda function, *arguments: parsl.python_app(function, data_flow_kernel=kernel)(*arguments)

    return engine()


def _lost(future: Future) -> list[str]:
    """What went wrong outside FEFF, such as a node that died: the site stays open. A command that cannot run is raised."""
    error = future.exception()
    if isinstance(error, RunError):
        raise error
    return [f"{type(error).__name__}: {error}".splitlines()[0][:200]] if error else []


def _summary(jobs: Iterable[SiteJob], unreadable: list[dict], campaign: Campaign) -> dict:
    """Made of the files alone, in the order of the sites: the same after any number of restarts."""
    versions, tries, failures = Counter(), Counter(), []
    elements: dict[str, Counter] = {}
    for job in jobs:
        status = json.loads((job.folder / STATUS).read_text(encoding="utf-8"))
        elements.setdefault(job.element, Counter())[status["status"]] += 1
        if status["status"] == "done":
            versions[status["feff"]] += 1
            tries[len(status["tries"])] += 1
        else:
            name = str(job.folder.relative_to(campaign.out))
            failures.append({"run": name, "reason": status["reason"], "detail": status["detail"]})
    return {
        "settings": asdict(campaign.settings),
        "time_limit": campaign.time_limit,
        "retries": campaign.retries,
        "sites": sum(count.total() for count in elements.values()),
        "done": tries.total(),
        "failed": len(failures),
        "elements": {name: dict(sorted(elements[name].items())) for name in sorted(elements)},
        "done_at_try": {str(n): tries[n] for n in sorted(tries)},
        "feff": dict(sorted(versions.items())),
        "failed_by_reason": dict(sorted(Counter(f["reason"] for f in failures).items())),
        "failures": failures,
        "materials_left_out": unreadable,
    }
