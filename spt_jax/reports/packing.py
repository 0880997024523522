"""Runs of one dataset -> one packed file that answers with their mean, decided by what the validation split says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import RunError
from spt_jax.config import LabelsConfig
from spt_jax.inference.ensemble import together
from spt_jax.inference.load import load_members, load_packed, load_run
from spt_jax.inference.predict import Model
from spt_jax.objectives.objective import make_objective
from spt_jax.reports.model_card import Words, make_card
from spt_jax.runs.packed import Packed, PackedMember, pack
from spt_jax.scoring.decisions import Decisions
from spt_jax.training.domain import fit_domain


def pack_runs(
    runs: Sequence[Path],
    dataset: Dataset,
    out: Path,
    words: Words,
    names: Mapping[str, str] | None = None,
    report: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> None:
    """Write the file `out`. names: of materials, for people. Raises RunError where the runs are not all of this dataset, or
    do not fit each other."""
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
    decisions, domain = _decisions(model, dataset), fit_domain(dataset, names, report=report)
    with TemporaryDirectory() as scratch:
        # The card is of what is shipped: of the weights in half precision.
        trial = Path(scratch) / out.name
        pack(Packed(packed, decisions, {}), trial)
        card = make_card(words, load_packed(trial), members, dataset)
    pack(Packed(packed, decisions, card, domain), out)


def _decisions(model: Model, dataset: Dataset) -> Decisions:
    """Of the mean, from the validation materials, as training makes them."""
    names, split = tuple(task.name for task in model.blueprint.learnt_tasks), dataset.split("validation")
    objective = make_objective(LabelsConfig(descriptors=names), dataset.statistics("train"), dataset.grid)
    outputs = model.outputs(split.batch.spectrum, split.batch.atomic_number)
    return objective.decisions(outputs, split.batch, split.materials, names)
