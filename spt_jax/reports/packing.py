"""Runs of one dataset -> one packed file that answers with their mean, decided by what the validation split says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from data_pipelines.dataset.clusters import clusters_of
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import RunError
from data_pipelines.structures.cluster import Clusters
from spt_jax.config import LabelsConfig
from spt_jax.inference.ensemble import together
from spt_jax.inference.load import load_members, load_packed, load_run
from spt_jax.inference.predict import Model
from spt_jax.objectives.objective import make_objective
from spt_jax.reports.model_card import Words, make_card
from spt_jax.runs.packed import Packed, PackedMember, pack
from spt_jax.scoring.decisions import Decisions
from spt_jax.scoring.domain import Domain
from spt_jax.scoring.open_end import OpenEnd
from spt_jax.training.domain import fit_domain


def pack_runs(
    runs: Sequence[Path],
    dataset: Dataset,
    out: Path,
    words: Words,
    names: Mapping[str, str] | None = None,
    structures: Sequence[Path] = (),
    report: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> None:
    """Write the file `out`. names: of materials, for people. structures: sources of the dataset, whose structures around the
    absorbers go into the file. Raises RunError where the runs are not all of this dataset, or do not fit each other, and
    SourceError or DamagedSource for what is no source."""
    members: list[Model] = []
    for run in runs:
        own = list(load_members(run).values()) or [load_run(run)]
        members += own
        if any(model.blueprint.dataset.startswith(f"{dataset.fingerprint} ") for model in own):
            raise RunError(
                f"{run} was moved by `spt-jax finetune`: a card would claim all of {dataset.name} for it; give the folder "
                "itself to `spt-jax predict`, or make a file of it with `spt-jax export`"
            )
        if any(model.blueprint.dataset != dataset.fingerprint for model in own):
            raise RunError(
                f"{run} was not trained on {dataset.name}, whose validation and test splits it may have seen"
            )
    try:
        model = together(members) if len(members) > 1 else members[0]
    except ValueError as error:
        raise RunError(f"these runs cannot answer together: {error}") from None
    packed = tuple(PackedMember.of(each.blueprint, each.network) for each in members)
    clusters = _around(dataset, structures, report)  # first, for a wrong name is found there
    decisions, domain = _decisions(model, dataset), fit_domain(dataset, names, report=report)
    domain = replace(domain, clusters=clusters, open_end=_open_end(model, dataset, domain))
    with TemporaryDirectory() as scratch:
        # The card is of what is shipped: of the weights in half precision.
        trial = Path(scratch) / out.name
        pack(Packed(packed, decisions, {}), trial)
        card = make_card(words, load_packed(trial), members, dataset)
    pack(Packed(packed, decisions, card, domain), out)


def _around(dataset: Dataset, structures: Sequence[Path], report: Callable[[str, int, int], None]) -> Clusters | None:
    """What surrounds the absorbers that were learnt from."""
    split = dataset.split("train")
    sites = list(zip(split.ids, split.materials, split.absorbers, strict=True))
    return clusters_of(sites, structures, report) if structures else None


def _open_end(model: Model, dataset: Dataset, domain: Domain) -> OpenEnd | None:
    """What the model expects beyond the end of a spectrum, and how far off it is; None where none may end early."""
    own, batch = model.open_end, dataset.split("train").batch
    return own and own.measured(batch.spectrum, batch.atomic_number, domain.elements, dataset.grid.common)


def _decisions(model: Model, dataset: Dataset) -> Decisions:
    """Of the mean, from the validation materials, as training makes them."""
    names, split = tuple(task.name for task in model.blueprint.learnt_tasks), dataset.split("validation")
    objective = make_objective(LabelsConfig(descriptors=names), dataset.statistics("train"), dataset.grid)
    outputs = model.outputs(split.batch.spectrum, split.batch.atomic_number)
    return objective.decisions(outputs, split.batch, split.materials, names)
