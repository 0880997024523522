"""What surrounds the sites of a dataset, read again from its sources: a dataset itself keeps labels only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from data_pipelines.dataset.sites import reader_of
from data_pipelines.errors import CountedError, SourceError
from data_pipelines.readers.sources import open_source
from data_pipelines.structures.cluster import Cluster, Clusters, cluster

# (id, material, absorber) of a site, the last as "Cu K".
Who = tuple[str, str, str]


def clusters_of(
    sites: Sequence[Who],
    sources: Sequence[Path],
    report: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Clusters:
    """Of each of N sites, none where no source has a structure for it. sources: as `prepare` was given them.

    Raises SourceError or DamagedSource for what is no source, and SourceError where none knows any of the sites.
    """
    found: dict[Who, Cluster | None] = dict.fromkeys(sites)
    with TemporaryDirectory() as scratch:
        tasks = [task for source in sources for task in open_source(source, Path(scratch)).tasks]
        for done, task in enumerate(tasks):
            report("structures", done, len(tasks))
            read = reader_of(task).read
            for member in task.members:
                try:
                    site = read(member)
                except (CountedError, OSError, KeyError, TypeError, ValueError):
                    continue  # `prepare` has told why it is none
                who = site.id, site.material, f"{site.element} {site.edge}"
                if site.structure is not None and who in found and found[who] is None:
                    found[who] = cluster(site.structure, site.index)
        report("structures", len(tasks), len(tasks))
    if not any(found.values()):
        raise SourceError(
            f"{', '.join(map(str, sources))}: no structure of any training site; name what `spt-jax prepare` made the "
            "dataset of"
        )
    return Clusters.of(list(map(found.__getitem__, sites)))
