"""Calculated edges and the pixels of measured spectrum images side by side, as one set of data to train on.

FOLDER/images.json        grid, classes, what every row came from and what was left out: written last
FOLDER/SPLIT.counts.npy   (N, length) float32 rows as of `LossGrid`: calculated edges first, then pixels
FOLDER/SPLIT.labels.npy   (N, 2) float32, NaN where a pixel's class is not known
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from data_pipelines.dataset.card import IMAGES as CARD
from data_pipelines.dataset.data import Data, Split
from data_pipelines.dataset.pixel_labels import read_pixel_labels
from data_pipelines.dataset.statistics import Statistics
from data_pipelines.dataset.theory import LEAST_REACH, Theory, drawn_edges, on_grid, read_theory
from data_pipelines.errors import DatasetError, UserError
from data_pipelines.files import read_json, replacing, write_atomic
from data_pipelines.loss_grid import CLASS_COLUMN, DOMAIN_COLUMN, LossGrid, grid_of
from data_pipelines.places import Place, RemotePath
from data_pipelines.readers.images.image import SpectrumImage
from data_pipelines.schema import LABELS, Batch, EnergyGrid, number_of
from data_pipelines.spectra.losses import ABOVE, onset_of, windows_of
from data_pipelines.spectra.rebin import detector_of, rebinning

LOCK = ".lock"
SPLITS = ("train", "validation")
# Of an image's lines this one of so many is kept for validation.
EVERY = 10
# Electrons in the front, fewer are no spectrum.
FEWEST_ELECTRONS = 10.0
# Counts of a piece that is read at once.
PIECE = 8_000_000
# eV that energies must reach over behind the onset: less is no edge.
LEAST_BEHIND = 10.0
# Channels of an edge at most, sums in front of it, and where there is no image the step in eV.
MOST_POINTS, GROUPS, STEP = 192, 16, 0.3
# Rows of an epoch at least, and calculated rows of validation: of few edges many exposures are drawn.
EPOCH, JUDGED = 8_192, 1_024


def loss_grid(
    edge: str, energies: dict[str, np.ndarray], classes: tuple[str, ...], most: int = MOST_POINTS
) -> LossGrid:
    """About an edge, as far as all of the (E,) energies go, in `most` channels or fewer: those of the first image, or so many
    of them to one that they are not more. energies: by the image's name. Raises UserError for an edge that lies outside of
    them."""
    onset = onset_of(edge)
    named, ends = energies or {"": np.arange(0.5 * onset, 2 * onset, STEP)}, []
    for name, energy in named.items():
        try:
            ends.append(windows_of(onset, energy))
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        if energy[-1] < onset + LEAST_BEHIND:
            raise UserError(
                f"{name}: its energies end at {energy[-1]:.1f} eV; an edge at {onset:g} eV asks for {onset + LEAST_BEHIND:g} eV "
                "or more"
            )
    energies = list(named.values())
    begin, middle = max(front[0] for front, _ in ends), min(front[1] for front, _ in ends)
    last = min(area[1] for _, area in ends)
    if not begin < middle:
        raise UserError(f"the images have no energies in common in front of {onset:g} eV: {', '.join(named)}")
    channel = float(np.median(np.diff(energies[0])))
    first = energies[0][np.searchsorted(energies[0], middle + channel / 2)]
    step = channel * max(1, int(np.ceil((last - first) / channel / most)))
    # A sum of several channels has its middle between them.
    start, points = float(first + (step - channel) / 2), int((last - first + channel) / step + 1e-6)
    groups = max(4, min(GROUPS, int((middle - begin) / (2 * channel))))
    return LossGrid(start, step, points, edge=edge, front=(begin, middle), groups=groups, classes=classes)


def is_own(path: Path) -> bool:
    """Whether it is a file that this module writes, or half of one."""
    names = {LOCK, CARD, *(f"{split}.{part}.npy" for split in SPLITS for part in ("counts", "labels"))}
    return path.name in names | {f".{name}.partial" for name in names}


def prepare_images(
    theory: Path,
    images: list[tuple[str, SpectrumImage]],
    out: Path,
    edge: str,
    labels: Path | None = None,
    most: int = 20_000,
    points: int = MOST_POINTS,
    report: Callable[[str, int, int], None] | None = None,
) -> dict:
    """Write the set; returns its card. images: by name. labels: a .csv with the columns image,row,column,class and, for a
    series, frame, all from 0. most: pixels of an image that are used, spread evenly over it."""
    edges = read_theory(theory)
    classes = tuple(sorted({each.kind for each in edges}))
    names = [name for name, _ in images]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"two images are named {twice[0]}; rename one, labels and messages go by names")
    onset = onset_of(edge)
    given = {name: image.energy for name, image in images} or {"calculated edges": _within(edges, onset)}
    grid = loss_grid(edge, given, classes, points)
    curves = np.stack([on_grid(each, grid, onset) for each in edges])
    known = read_pixel_labels(labels, names, classes) if labels else {}
    kind = np.array([classes.index(each.kind) for each in edges])
    # Every class as often as the one with most edges.
    most_edges = int(np.bincount(kind).max())
    shown = np.concatenate([np.resize(np.flatnonzero(kind == i), most_edges) for i in range(len(classes))])
    own = np.stack([kind[shown], np.zeros(len(shown))], axis=1).astype(np.float32)
    rows = np.concatenate([np.zeros((len(shown), grid.groups), np.float32), curves[shown]], axis=1)
    times = -(-JUDGED // len(shown))
    parts = {"train": [(rows, own)], "validation": [(np.tile(rows, (times, 1)), np.tile(own, (times, 1)))]}
    card: dict = {
        "version": 1,
        "grid": grid.stated(),
        "theory": [{"class": each.kind, "name": each.name} for each in edges],
        "images": [],
    }
    for number, (name, image) in enumerate(images, 1):
        found, said = _pixels(name, image, grid, number, known.pop(name, {}), most)
        for split in SPLITS:
            parts[split].append(found[split])
        card["images"].append(said)
        if report:
            report("images", number, len(images))
    digest = hashlib.sha256(json.dumps(card, sort_keys=True).encode())
    out.mkdir(parents=True, exist_ok=True)
    # Without its card a half-written set is none.
    (out / CARD).unlink(missing_ok=True)
    for split, pieces in parts.items():
        for name, arrays in zip(("counts", "labels"), zip(*pieces, strict=True), strict=True):
            whole = np.concatenate(arrays)
            digest.update(whole.tobytes())
            with replacing(out / f"{split}.{name}.npy") as partial, open(partial, "wb") as file:
                np.save(file, whole)
    card["rows"] = {
        split: [len(pieces[0][0]), sum(len(each[0]) for each in pieces[1:])] for split, pieces in parts.items()
    }
    card["fingerprint"] = digest.hexdigest()[:16]
    write_atomic(out / CARD, json.dumps(card, indent=1) + "\n")
    return card


def _within(edges: list[Theory], onset: float) -> np.ndarray:
    """(E,) eV where there is no image: as far as an edge is looked at, and no further than the shortest edge where that would
    not do for it."""
    last = min(float(each.energy[-1]) for each in edges)
    enough = last >= onset * (1 + LEAST_REACH * ABOVE)
    return np.arange(0.5 * onset, 2 * onset if enough else last, STEP)


def _pixels(
    name: str, image: SpectrumImage, grid: LossGrid, number: int, known: dict, most: int
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict]:
    """Rows and labels of each split, and what the card says of the image."""
    rebin = rebinning(image.energy, grid, name)
    times, height, width, _ = image.shape
    detector = detector_of(image.sample(), rebin)
    rebin = detector.mended(rebin, name)
    if outside := next((at for at in known if at[0] >= times or at[1] >= height or at[2] >= width), None):
        raise UserError(
            f"{name} has {times} x {height} x {width} frames, rows and columns; a label names frame {outside[0]}, row "
            f"{outside[1]}, column {outside[2]}, which are from 0"
        )
    every = max(1, times * height * width // most)
    # Else it would be the same columns of every row.
    while every > 1 and math.gcd(every, width) > 1:
        every += 1
    rows, labels, held, left = [], [], [], Counter()
    for time, start, counts in image.pieces(PIECE):
        found = rebin(detector.alive(counts)).astype(np.float32) / np.float32(detector.gain)
        bad = ~np.isfinite(found).all(axis=-1)
        few = ~bad & (found[..., : grid.groups].sum(axis=-1) < FEWEST_ELECTRONS)
        for row in range(len(counts)):
            for column in range(width):
                kind = known.get((time, start + row, column))
                place = (time * height + start + row) * width + column
                if kind is None and place % every:
                    continue
                if bad[row, column] or few[row, column]:
                    left["not finite" if bad[row, column] else "few counts"] += 1
                    continue
                rows.append(found[row, column])
                labels.append([np.nan if kind is None else kind, number])
                line = start + row if height >= EVERY else place // every
                held.append(kind is None and line % EVERY == EVERY - 1)
    if not rows:
        raise UserError(f"{name}: no pixel can be used: {', '.join(f'{n} {why}' for why, n in left.items())}")
    counts, own, held = np.stack(rows), np.array(labels, np.float32), np.array(held)
    parts = {"train": (counts[~held], own[~held]), "validation": (counts[held], own[held])}
    said = {
        "name": name,
        "pixels": times * height * width,
        "used": len(counts),
        "labelled": int(np.isfinite(own[:, 0]).sum()),
    }
    said |= {"gain": float(f"{detector.gain:.4g}"), "left_out": dict(left)}
    return parts, said | {"dead": int(sum(detector.dead[slice(*at)].sum() for at in (rebin.front, rebin.edge)))}


class ImageData(Data):
    """What `prepare_images` wrote. Half of each batch are calculated edges, half are pixels where there are any."""

    def __init__(self, folder: Place):
        if isinstance(folder, RemotePath):
            raise DatasetError(f"{folder}: sets of spectrum images are read on this machine; fetch the folder first")
        self.folder, self.name = folder, str(folder)
        card = read_json(folder / CARD)
        try:
            self.grid: EnergyGrid = grid_of(card["grid"])
            if not isinstance(self.grid, LossGrid):
                raise ValueError("no edge")
            self.fingerprint, self._rows = str(card["fingerprint"]), {s: tuple(card["rows"][s]) for s in SPLITS}
            self.images = tuple(each["name"] for each in card["images"])
            self.examples = {split: first + rest for split, (first, rest) in self._rows.items()}
            if not all(isinstance(count, int) for count in self.examples.values()):
                raise ValueError("rows that are no numbers")
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{folder / CARD}: damaged ({error!r}); prepare it again") from None

    def split(self, name: str, most: int | None = None) -> Split:
        self.count(name)
        counts, labels = (self._array(name, part) for part in ("counts", "labels"))
        chosen = np.arange(len(counts))
        if most is not None and len(counts) > most:
            first = self._rows[name][0]
            own = np.linspace(0, first - 1, min(first, most)).astype(int)
            chosen = np.concatenate([own, np.linspace(first, len(counts) - 1, max(0, most - first)).astype(int)])
        counts, labels = np.array(counts[chosen]), np.array(labels[chosen])
        mask = np.isfinite(labels)
        element = self.grid.edge.split()[0] if self.grid.edge.split()[0].isalpha() else ""
        number = np.full(len(counts), number_of(element) if element else 0, np.int32)
        domain = np.nan_to_num(labels[:, DOMAIN_COLUMN], nan=-1).astype(int)
        kind = np.where(mask[:, CLASS_COLUMN], labels[:, CLASS_COLUMN], 0)
        if (
            not (domain >= 0).all()
            or domain.max() > len(self.images)
            or not np.isin(kind, range(len(self.grid.classes))).all()
        ):
            raise DatasetError(f"{self.folder / name}.labels.npy: damaged (no such class or image); prepare it again")
        materials = tuple("calculated" if i == 0 else self.images[i - 1] for i in domain)
        ids = tuple(f"{material} {i}" for i, material in zip(chosen, materials, strict=True))
        batch = Batch(counts, number, np.where(mask, labels, 0).astype(np.float32), mask)
        return Split(ids, materials, (self.grid.edge,) * len(counts), batch)

    def statistics(self, name: str) -> Statistics:
        """Of calculated edges as they may be seen, whatever the pixels are: counted as the whole split."""
        edges = self._array(name, "counts")[: self._rows[name][0], self.grid.groups :]
        seen = drawn_edges(np.asarray(edges, float), self.grid.step).astype(np.float32)
        none = np.zeros((len(seen), LABELS), np.float32)
        rows = Batch(seen, np.zeros(len(seen), np.int32), none, none.astype(bool))
        absorber = self.grid.edge if len(self.grid.edge.split()) == 2 else f"{self.grid.edge} eV"
        return replace(Statistics.of(rows, {absorber: len(seen)}), count=max(self.examples[name], EPOCH))

    def stream(
        self, split: str, batch_size: int, seed: int, shard: int = 0, shards: int = 1, skip_damaged: bool = False
    ) -> NoReturn:
        raise DatasetError(f"{self.name}: spectrum images are held in memory; train with --train.input resident")

    def quotas(self, batch_size: int) -> tuple[int, ...]:
        if not self._rows["train"][1]:
            return (batch_size,)
        return (batch_size // 2, batch_size - batch_size // 2)

    def ranges(self, split: str) -> tuple[range, ...]:
        first, rest = self._rows[split]
        return (range(first), range(first, first + rest)) if rest else (range(first),)

    def _array(self, split: str, part: str) -> np.ndarray:
        path, rows = self.folder / f"{split}.{part}.npy", self.examples[split]
        width = self.grid.length if part == "counts" else 2
        try:
            array = np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise DatasetError(
                f"{path}: missing or damaged ({' '.join(str(error).split())}); prepare it again"
            ) from None
        if array.shape != (rows, width):
            raise DatasetError(f"{path}: holds {array.shape}, {(rows, width)} are expected; prepare it again")
        return array
