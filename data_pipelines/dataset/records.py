"""One task -> records: read each spectrum with its structure, check it, put it on the grid, label it.

Runs in worker processes. Every failure becomes a dropped record with a reason; none ends the run.
Spectra that come without a structure have the labels that their source states, or none.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from data_pipelines.dataset.calculations import version
from data_pipelines.dataset.signals import SiteSignals
from data_pipelines.dataset.sites import Site, TaskReader, reader_of
from data_pipelines.errors import CountedError, SpectrumError
from data_pipelines.labels.descriptors import describe
from data_pipelines.readers.sources import SourceTask
from data_pipelines.schema import DESCRIPTORS, LABELS, SHELL_NAMES, SOURCE_COLUMN, EnergyGrid, site_kind
from data_pipelines.spectra.grid import all_to_grid, post_edge
from data_pipelines.spectra.spikes import check_spikes, resolved

# What else is said of a spectrum with a spike.
SPIKY = ("implausible edge step", "glitch")


@dataclass
class Record:
    """What became of one spectrum found in a source: labelled, or dropped for a reason.

    spectrum: (grid.length,) float32, mu with unit edge step, or several signals; None where dropped. labels:
    (grid.labels,) float32, NaN where masked. masked: descriptor -> reason. settings: of the calculation, as JSON, "" where
    the source has none. structure: what the site's is called; asked for where a row holds several signals.
    site: equal for equivalent sites of one structure, "" without one. withheld: of `contradictions`, later.
    """

    id: str
    material: str = ""
    kin: tuple[str, ...] = ()
    element: str = ""
    edge: str = ""
    spectrum: np.ndarray | None = None
    labels: np.ndarray | None = None
    masked: dict[str, str] = field(default_factory=dict)
    settings: str = ""
    site: str = ""
    withheld: str = ""
    dropped: str = ""
    detail: str = ""
    structure: str = ""


def run_task(task: SourceTask, grid: EnergyGrid) -> list[Record]:
    """All records of one task, in its order."""
    reader, share = reader_of(task), SiteSignals(grid) if grid.signals else None
    sites = [_try(reader.read, member) for member in task.members]
    good = [site for site in sites if isinstance(site, Site)]
    spectra = iter(all_to_grid([(site.energy, site.mu, site.element, site.edge) for site in good], grid.alone))
    records = []
    for member, site in zip(task.members, sites, strict=True):
        spectrum = next(spectra) if isinstance(site, Site) else site
        # A spike among the highest points makes the edge step implausible, and says more.
        if isinstance(site, Site) and getattr(spectrum, "reason", SPIKY[0]) in SPIKY:
            spectrum = _try(partial(_without_spikes, spectrum), site)
        found = _try(partial(_told, reader, share, spectrum), site) if isinstance(spectrum, np.ndarray) else spectrum
        if isinstance(found, SpectrumError):
            detail = found.detail.replace(f"{task.root}/", "")
            records.append(Record(_name(task, member), dropped=found.reason, detail=detail))
        else:
            names = (site.id, site.material, site.kin, site.element, site.edge)
            records.append(Record(*names, *found, site.settings, site.place, structure=site.whole))
    return records


def _without_spikes(spectrum: np.ndarray | SpectrumError, site: Site) -> np.ndarray | SpectrumError:
    step = post_edge(site.mu).mean()
    if np.isfinite(site.mu).all() and step > 0:
        check_spikes(site.mu / step, site.id, resolved(site.energy, site.element, site.edge))
    return spectrum


def _try(function: Callable, argument: Any) -> Any:
    """What the function returns, or why it does not."""
    try:
        return function(argument)
    except SpectrumError as error:
        return error
    except CountedError as error:
        return SpectrumError(error.reason, error.detail)
    except Exception as error:  # a file nobody foresaw must not end a run of hours
        return SpectrumError("unreadable", f"{type(error).__name__}: {error}".splitlines()[0][:200])


def _name(task: SourceTask, member: str | int) -> str:
    """What a dropped record is called: its place in the source."""
    place = f"row {task.first_row + member}" if isinstance(member, int) else os.path.relpath(member, task.root)
    return f"{task.source}:{place}"


def _told(
    reader: TaskReader, share: SiteSignals | None, spectrum: np.ndarray, site: Site
) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """The row of a site, its labels, and why some of them are masked."""
    labels, masked = _labels(reader, site)
    labels[SOURCE_COLUMN] = version(site.settings)
    if not share:
        return spectrum, labels, masked
    row, labels, why = share.of(site, spectrum, labels)
    return row, labels, masked | why


def _labels(reader: TaskReader, site: Site) -> tuple[np.ndarray, dict[str, str]]:
    """(LABELS,) and why some of them are masked: of the structure, or those that the source states."""
    return describe(reader.around(), site.index, site.known) if reader.around else _stated(site)


def _stated(site: Site) -> tuple[np.ndarray, dict[str, str]]:
    labels = np.full(LABELS, np.nan, np.float32)
    masked = dict.fromkeys(SHELL_NAMES, "no structure")
    for column, d in enumerate(DESCRIPTORS):
        if site_kind(site.element) in d.sites:
            value = site.known.get(d.name)
            if value is None:
                masked[d.name] = "no structure"
            elif not math.isfinite(value):
                masked[d.name] = "source gives no single value"
            elif not d.accepts(value):
                masked[d.name] = "outside the plausible range"
            else:
                labels[column] = value
    return labels, masked
