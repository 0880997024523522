"""A trained model moved to a new system: its scores there by how many labelled spectra it has seen, and where it comes from.

Each point of the curve begins with the model as it came and is a run folder of its own; every point is judged on the same
test split, which nothing was chosen by.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from data_pipelines.dataset.data import Data, Split, take
from data_pipelines.dataset.shots import Drawn, Shots, deal, drawn, labelled
from data_pipelines.errors import RunError
from data_pipelines.files import write_atomic
from data_pipelines.schema import SHELL_NAMES, SITE_KINDS, EnergyGrid
from spt_jax.config import Config, LabelsConfig, TrainConfig
from spt_jax.inference.evaluate import evaluate
from spt_jax.inference.load import load_folder
from spt_jax.inference.predict import Model, load
from spt_jax.runs.fingerprint import model_fingerprint
from spt_jax.runs.folder import name_members
from spt_jax.runs.packed import PackedMember
from spt_jax.scoring.metrics import main_score
from spt_jax.training.adapt import adapt, introduced, starts_of
from spt_jax.training.sharding import Layout, make_mesh
from spt_jax.zoo.shelf import place_of

FILE, PICTURE = "finetune.json", "finetune.svg"
ALL = "all"
NEW, SOURCE = "new", "source"
BATCH, STEPS = 32, 8
"""Rows of a batch at least, a whole number for each device, and batches of an epoch at least."""
Report = Callable[[str, int, int, dict | None], None]


@dataclass(frozen=True)
class FineTuning:
    """What defines the points of a curve, beside the data. freeze, learning_rate: as of TrainConfig."""

    freeze: tuple[str, ...] = ()
    rank: int = 0
    epochs: int = 60
    learning_rate: float = 1e-3
    patience: int = 15
    seed: int = 0


@dataclass(frozen=True)
class Moved:
    """What is to be moved, and where to: the models' parts, and the new data."""

    named: str
    starts: tuple[PackedMember, ...]
    data: Data
    train: Split | None
    validation: Split | None
    absorbers: set[str]
    begun: dict[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """Descriptors that any of the networks learnt."""
        learnt = (task.name for start in self.starts for task in start.blueprint.learnt_tasks)
        return tuple(dict.fromkeys(learnt))

    @property
    def model(self) -> Model:
        """As it came. New elements are answered as those that they begin with."""
        own = load(self.named)
        if not self.begun:
            return own
        alike = [introduced(start, self.absorbers)[0] for start in self.starts]
        if len(alike) > 1:
            from spt_jax.inference.ensemble import together

            return together([Model(each.blueprint, each.network()) for each in alike])
        return Model(alike[0].blueprint, alike[0].network())


def moved(named: str, data: Data) -> Moved:
    """Raises a UserError, in one line, where model and data do not fit."""
    starts = starts_of(named)
    check_grid(data.name, data.grid, starts[0].blueprint.grid)
    data.count("test")
    names = tuple(dict.fromkeys(task.name for start in starts for task in start.blueprint.learnt_tasks))
    test = data.split("test")
    if not len(labelled(test, names)):
        raise RunError(
            f"{data.name}: no test spectrum has a label of {', '.join(names)}, which is what {named} answers"
        )
    train, validation = (_labelled(data, split, names) for split in ("train", "validation"))
    parts = [part for part in (test, train, validation) if part]
    absorbers = {absorber for part in parts for absorber in part.absorbers}
    begun = introduced(starts[0], absorbers)[1]
    return Moved(named, starts, data, train, validation, absorbers, begun)


def check_grid(name: str, grid: EnergyGrid, reads: EnergyGrid) -> None:
    """Raises RunError, with the way out, for a dataset on another grid than the model reads."""
    if grid != reads:
        options = " ".join(f"--grid.{key} {value:g}" for key, value in reads.stated().items())
        raise RunError(
            f"{name} has a grid {grid}; the model reads one {reads}: make the dataset again with "
            f"spt-jax prepare SOURCE... --out OTHER {options}"
        )


def _labelled(data: Data, name: str, names: tuple[str, ...]) -> Split | None:
    if not data.examples.get(name):
        return None
    split = data.split(name)
    rows = labelled(split, names)
    return take(split, rows) if len(rows) else None


def counts_of(asked: tuple[str, ...], there: int, tell: Callable[[str], None]) -> list[tuple[str, int]]:
    """The points by name, from the fewest shots on; `all` last. What there is too little for is told, and left out."""
    numbers = sorted({int(each) for each in asked if each != ALL})
    large = [number for number in numbers if number > there]
    if large:
        tell(f"the data have {there} labelled training spectra: no point with {', '.join(map(str, large))}")
    found = [(str(number), number) for number in numbers if number <= there]
    return found + ([(ALL, there)] if ALL in asked and there else [])


def finetune(
    named: str,
    data: Data,
    out: Path,
    asked: tuple[str, ...],
    settings: FineTuning,
    source: Data | None = None,
    report: Report = lambda title, done, total, line: None,
    tell: Callable[[str], None] = lambda text: None,
) -> dict:
    """Every point of the curve; returns the document of FILE. Points that are there already stay.

    report: gets the point, how many are done, of how many, and lines of training logs. Raises UserError where model and
    data do not fit, or `out` holds another curve; Interrupted after Ctrl-C, when all is safe on disk.
    """
    what = moved(named, data)
    if source:
        check_grid(source.name, source.grid, what.starts[0].blueprint.grid)
        source.count("test")
    there = len(what.train.ids) if what.train else 0
    points = counts_of(asked, there, tell)
    if not points:
        raise RunError(
            f"{data.name}: {there} labelled training spectra, so there is nothing to learn from; --shots 0 works"
        )
    document = _begin(out, what, settings, source)
    for absorber, near in what.begun.items():
        tell(f"{absorber} is new to this model: it begins with what that knows of {near}")
    layout = Layout(make_mesh())
    for number, (name, count) in enumerate(points):
        if name in document["points"]:
            continue
        title = "as it came" if name == "0" else f"{count} shots"
        report(title, number, len(points), None)
        folder = out / f"shots-{name}"
        point = {"shots": count}
        if count:
            found = _dealt(what, count, settings.seed)
            point |= _told(found)
            _fit(
                what,
                found,
                f"{count} shots of seed {settings.seed}",
                settings,
                layout,
                folder,
                lambda line, t=title, n=number: report(t, n, len(points), line),
            )
            model = load_folder(folder)
        else:
            model = what.model
        point["scores"] = {NEW: evaluate(model, data).metrics}
        if source:
            point["scores"][SOURCE] = evaluate(model, source).metrics
        document["points"][name] = point
        _write(out, document)
    name, count = points[-1]
    if count:
        several = len(what.starts) > 1
        name_members(out, tuple(f"shots-{name}/{part}" for part in _parts(what)) if several else (f"shots-{name}",))
    report("done", len(points), len(points), None)
    shown = {name: document["points"][name] for name, _ in points}
    return {**document, "points": shown}


def _begin(out: Path, what: Moved, settings: FineTuning, source: Data | None) -> dict:
    """The document of the folder, a new one where there is none. Raises RunError for one of another curve."""
    wanted = {
        "model": {"name": what.named, "fingerprint": model_fingerprint(place_of(what.named))},
        "data": {"name": what.data.name, "fingerprint": what.data.fingerprint},
        "source": source and {"name": source.name, "fingerprint": source.fingerprint},
        "settings": asdict(settings),
        "new_absorbers": what.begun,
    }
    wanted = json.loads(json.dumps(wanted))
    path = out / FILE
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if document is None and out.exists() and any(out.iterdir()):
        raise RunError(f"{out} is there and holds no fine-tuning; choose another --out")
    # One that was refused before it began has nothing that could be mixed up.
    if document is None or not (document["points"] or any(out.glob("shots-*"))):
        document = {**wanted, "points": {}}
        out.mkdir(parents=True, exist_ok=True)
        _write(out, document)
        return document
    told = [part for part in ("model", "data", "source") if _print_of(document[part]) != _print_of(wanted[part])]
    told += [name for name, value in wanted["settings"].items() if document["settings"].get(name) != value]
    if told:
        raise RunError(f"{out} holds a fine-tuning with another {', '.join(told)}; choose another --out")
    return document


def _print_of(part: dict | None) -> str | None:
    return part and part["fingerprint"]


def _write(out: Path, document: dict) -> None:
    write_atomic(out / FILE, json.dumps(document, indent=1) + "\n")


def _dealt(what: Moved, count: int, seed: int) -> Drawn:
    order = drawn(what.train.materials, np.arange(len(what.train.ids)), seed)
    return deal(take(what.train, order[:count]), what.validation)


def _told(found: Drawn) -> dict:
    """What a reader must know of the shots."""
    return {
        "learnt_from": {"spectra": len(found.train.ids), "materials": len(set(found.train.materials))},
        "stopped_by": {
            "spectra": len(found.validation.ids),
            "materials": len(set(found.validation.materials)),
            "held_out_of_the_shots": list(found.held),
            "only_what_was_learnt_from": found.alone,
        },
        "ids": list(found.train.ids),
    }


def _parts(what: Moved) -> tuple[str, ...]:
    return tuple(f"member{number}" for number in range(len(what.starts)))


def _fit(
    what: Moved,
    found: Drawn,
    about: str,
    settings: FineTuning,
    layout: Layout,
    folder: Path,
    report: Callable[[dict], None],
) -> None:
    """The run of a point, or of each of its networks."""
    batch = layout.devices * -(-BATCH // layout.devices)
    shots = Shots(what.data, found, STEPS * batch, f"{about}, rank {settings.rank}")
    several = len(what.starts) > 1
    for part, start in zip(_parts(what), what.starts, strict=True):
        config = configured(what.named, start, settings, batch)
        adapt(start, config, shots, what.absorbers, settings.rank, layout, folder / part if several else folder, report)
    if several:
        name_members(folder, _parts(what))


def configured(named: str, start: PackedMember, settings: FineTuning, batch: int) -> Config:
    """The configuration of a run that goes on with a network."""
    own = start.blueprint
    names = tuple(task.name for task in own.learnt_tasks)
    objective = LabelsConfig(descriptors=names, energy_shift=0.25, cut=0.25 if own.grid.gaps else 0.0)
    train = TrainConfig(
        epochs=settings.epochs,
        batch_size=batch,
        learning_rate=settings.learning_rate,
        warmup_epochs=min(1, settings.epochs),
        weight_decay=0.01,
        validate_every=1,
        patience=settings.patience,
        seed=settings.seed,
        init=named,
        freeze=settings.freeze,
    )
    return Config(own.model, objective, train, replace(own.execution, accumulate=1, fsdp=1, slices=1))


def scores_of(metrics: dict) -> dict[str, dict[str, dict[str, float | None]]]:
    """By kind of site and descriptor, the main score and of classes macro-F1, from the document of `evaluate`."""
    return {
        kind: {
            name: {"main": main_score(each), "f1_macro": each.get("f1_macro")}
            for name, each in metrics["sites"][kind]["descriptors"].items()
        }
        for kind in SITE_KINDS
        if kind in metrics["sites"]
    }


def mean_of(scores: dict[str, dict], kind: str) -> float | None:
    """Of the main scores of a kind of site: those of shells apart, and without the oxidation state of oxygen, which hardly
    ever varies."""
    left = {*SHELL_NAMES, *(("OS",) if kind == "O" else ())}
    found = [each["main"] for name, each in scores.items() if name not in left and each["main"] is not None]
    return float(np.mean(found)) if found else None
