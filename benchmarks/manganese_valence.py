"""Valence of manganese by measured Mn L2,3 edges: a model learns those of one source and is asked of images of the other's.

    python -m benchmarks.manganese_valence --spectra FOLDER [--out RUNS] [--doses 10 30 100 1000] [--json results.jsonl]

FOLDER holds the seven digitised spectra of MnEdgeNet, SOURCE_MATERIAL.csv, whose continuum had been taken out. Images are
made of them as of calculated edges (`data_pipelines/spectra/phases.py`), with a power law, drift, plural scattering and
counts, but without a theory error: the other source is one. The model sees spectra of one source and no image; so do its
rivals, which are fits of the known spectra and the ratio of the white lines L3 and L2: above a continuum of two steps of 2 to
1 (Pearson et al. 1993, Phys. Rev. B 47, 8471), the class whose known spectra have the nearest one. same: images of the source that was
learnt, against which the other is to be held. Mn3+ has one material, LaMnO3, in both sources; Mn4+ a different one in each.
Every line is printed as JSON: accuracy over pixels, by the material that a pixel has most of, and the part that is flagged
as unlike what was learnt. `--out` keeps the models, and takes those that are there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import jax
import numpy as np

from benchmarks import measure
from benchmarks.phases import classical
from benchmarks.phases.library import PhaseSet, Structure, edges, write_theory
from benchmarks.phases.task import Labelled, PhaseTask, posed
from data_pipelines.dataset.images import prepare_images
from data_pipelines.dataset.opening import open_data
from data_pipelines.errors import UserError
from data_pipelines.readers.images.open import open_image
from data_pipelines.spectra.phases import CalculatedEdge, PhasePlanting, phase_image, seen_edge
from spt_jax.eels.answer import ImageModel, load_image_model
from spt_jax.presets import live
from spt_jax.training.loop import train

# YBaMn3AlO7 by the balance of its charges: Y3+, Ba2+, Al3+ and seven O2-.
VALENCE = {"MnO": "Mn2+", "YBaMn3AlO7": "Mn2+", "LaMnO3": "Mn3+", "SrMnO3": "Mn4+", "MnO2": "Mn4+"}
SOURCES = ("Data2", "Data3")
DOSES = (10.0, 30.0, 100.0, 1000.0)
# Between the white lines, where the minimum is looked for, and behind them, where the continuum is taken from, eV.
VALLEY, BEHIND = (646.0, 651.0), (657.5, 660.0)
# Channels of 0.2 eV from 550 eV; the digitised spectra are as fine.
HOW = PhasePlanting(
    channels=576, offset=550.0, step=0.2, onset=640.0, window=(636.0, BEHIND[1]), resolution=0.3,
    misplaced=0.0, bent=0.0, blurred=0.0,
)  # fmt: skip
SMALL = {"height": 8, "width": 8, "grain": 1.5}
BACKGROUND = (560.0, 630.0)
# Of a digitised curve in front of the edge: its zero.
FRONT = 10


def measured(folder: Path) -> dict[str, dict[str, list[Structure]]]:
    """By source and valence. Raises UserError where a file is missing or unknown."""
    found: dict[str, dict[str, list[Structure]]] = {
        source: {kind: [] for kind in sorted(set(VALENCE.values()))} for source in SOURCES
    }
    for path in sorted(folder.glob("*.csv")):
        source, _, material = path.stem.partition("_")
        if source not in found or material not in VALENCE:
            raise UserError(f"{path}: a file of {', '.join(SOURCES)} and of {', '.join(VALENCE)} is expected")
        spectrum = open_image(path)
        intensity = spectrum.rows(0, 0, 1)[0, 0].astype(float)
        intensity = np.maximum(intensity - intensity[:FRONT].mean(), 0)
        edge = CalculatedEdge(spectrum.energy, intensity / intensity.max())
        found[source][VALENCE[material]].append(Structure(material, material, edge))
    if not all(len(each) for one in found.values() for each in one.values()):
        raise UserError(f"{folder} does not hold a spectrum of each valence in each source; point --spectra at them")
    return found


def learnt(known: dict[str, list[Structure]], folder: Path, epochs: int, seed: int) -> tuple[ImageModel, float]:
    """The model of these spectra and no image, and seconds that it took, 0 where it was there."""
    began, run = time.perf_counter(), folder / "run"
    if not (run / "model").exists():
        write_theory(folder / "theory", known)
        prepare_images(folder / "theory", [], folder / "data", "Mn L")
        config = live()
        # A validation is as long as several epochs of so few spectra, and nothing stops early.
        schedule = replace(config.train, epochs=epochs, seed=seed, validate_every=20)
        config = replace(config, train=schedule)
        train(config, open_data((str(folder / "data"),)), run)
        return load_image_model(run), time.perf_counter() - began
    return load_image_model(run), 0.0


def white_lines(task: PhaseTask) -> np.ndarray:
    """(P,) the class whose known spectra have the nearest ratio of L3 to L2 above a continuum, by its logarithm."""
    energy, mean = task.energy, task.references.mean(axis=0)
    valley = (energy >= VALLEY[0]) & (energy <= VALLEY[1])
    border = float(energy[valley][np.argmin(mean[valley])])
    third, second = energy < border, (energy >= border) & (energy <= BEHIND[0])
    behind = energy >= BEHIND[0]
    # Two thirds of the continuum begin at the top of L3, the rest at that of L2.
    steps = 2 * (energy >= energy[third][np.argmax(mean[third])]) / 3
    steps += (energy >= energy[second][np.argmax(mean[second])]) / 3

    def ratio(curves: np.ndarray) -> np.ndarray:
        lines = curves - curves[:, behind].mean(axis=1, keepdims=True) * steps
        high, low = lines[:, third].sum(axis=1), lines[:, second].sum(axis=1)
        # A line that is lost in noise is a small one.
        least = 1e-3 * np.abs(high + low) + 1e-9
        return np.log(np.maximum(high, least) / np.maximum(low, least))

    own = ratio(task.references)
    classes = np.array([own[task.labels == number].mean() for number in range(len(task.classes))])
    return np.abs(ratio(task.signal)[:, None] - classes).argmin(axis=1)


def tasks(
    known: dict[str, list[Structure]], asked: dict[str, list[Structure]], how: PhasePlanting, images: int, seed: int
) -> list[tuple[PhaseTask, tuple[str, ...]]]:
    """`images` of every choice of one material a class, with the materials in the order of the classes."""
    spectra = [seen_edge(how, each.edge, 0.0, how.resolution) for own in known.values() for each in own]
    labels = [number for number, own in enumerate(known.values()) for _ in own]
    given = Labelled(np.stack(spectra), np.array(labels))
    phases, found = PhaseSet("Mn", how, BACKGROUND, {}), []
    for chosen in product(*asked.values()):
        curves = edges({kind: [each] for kind, each in zip(asked, chosen, strict=True)})
        materials = tuple(each.material for each in chosen)
        for number in range(images):
            made = phase_image(how, curves, np.random.default_rng((seed, number)))
            found.append((posed(phases, how, made, given, " ".join(materials), seed + number), materials))
    return found


def scores(
    asked: list[tuple[PhaseTask, tuple[str, ...]]], model: ImageModel
) -> dict[str, dict[str, tuple[float, float | None]]]:
    """By method and material, and over all pixels: accuracy and the part that is flagged."""
    hits: dict[str, dict[str, list[np.ndarray]]] = {}
    flagged: dict[str, list[np.ndarray]] = {}
    for task, materials in asked:
        answer = model.answer(task.image)
        order = [model.classes.index(kind) for kind in task.classes]
        probability = answer.probability.reshape(-1, len(order))[:, order]
        own = answer.share.reshape(-1, len(order))[:, order]
        phases = {
            "model": np.where(np.isfinite(probability).all(axis=1), np.nan_to_num(probability).argmax(axis=1), -1),
            "model_share": np.where(np.isfinite(own).all(axis=1), np.nan_to_num(own).argmax(axis=1), -1),
            "fit": classical.nnls_references(task).phase,
            "fit_aligned": classical.nnls_aligned(task).phase,
            "white_lines": white_lines(task),
        }
        truth, unlike = task.truth.phase.ravel(), answer.unlike.ravel() > 1
        for name, at in [("all", truth >= 0), *((m, truth == i) for i, m in enumerate(materials))]:
            flagged.setdefault(name, []).append(unlike[at])
            for method, phase in phases.items():
                hits.setdefault(method, {}).setdefault(name, []).append((phase == truth)[at])
    return {
        method: {
            name: (
                float(np.concatenate(each).mean()),
                float(np.concatenate(flagged[name]).mean()) if method == "model" else None,
            )
            for name, each in by_material.items()
            if sum(map(len, each))
        }
        for method, by_material in hits.items()
    }


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = measure.parser(__doc__)
    parser.add_argument("--spectra", type=Path, required=True, metavar="DIR", help="folder of the seven spectra")
    parser.add_argument("--out", type=Path, default=None, metavar="DIR", help="keep the models here, or take them")
    parser.add_argument(
        "--doses", nargs="+", type=float, default=DOSES, help="mean counts of a channel before the edge"
    )
    parser.add_argument("--images", type=int, default=2, metavar="N", help="of every choice of materials and dose")
    parser.add_argument("--epochs", type=int, default=60, help="of training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            return _run(options, options.out or Path(scratch))
        except UserError as error:
            raise SystemExit(str(error)) from None
        finally:
            jax.clear_caches()


def _run(options: argparse.Namespace, folder: Path) -> list[dict]:
    if options.images < 1 or options.epochs < 1:
        raise UserError("--images and --epochs are 1 or more")
    spectra, lines = measured(options.spectra), []
    how = replace(HOW, **(SMALL if options.small else {}))
    for source in SOURCES:
        known = spectra[source]
        model, seconds = learnt(known, folder / source, options.epochs, options.seed)
        for kind in ("same", "other"):
            asked = known if kind == "same" else next(spectra[other] for other in SOURCES if other != source)
            for dose in options.doses:
                posed_ones = tasks(known, asked, replace(how, dose=dose), options.images, options.seed)
                pixels, length = posed_ones[0][0].signal.shape
                for method, found in scores(posed_ones, model).items():
                    case = f"learnt {source}, {kind} source, dose {dose:g}, {method}"
                    accuracy = {name: round(each[0], 4) for name, each in found.items()}
                    fields: dict = {"accuracy": accuracy, "images": len(posed_ones), "learning_s": seconds}
                    if method == "model":
                        fields["flagged"] = {name: round(each[1] or 0.0, 4) for name, each in found.items()}
                    line = measure.record("manganese_valence", case, options, length=length, batch=pixels, **fields)
                    print(json.dumps({"case": case, **fields}), flush=True)
                    lines.append(line | {"accuracy_all": accuracy["all"]})
    measure.show(lines, {"accuracy_all": "accuracy"})
    return lines


if __name__ == "__main__":
    main()
