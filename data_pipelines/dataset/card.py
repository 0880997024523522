"""The data card: what a dataset holds, where it came from, and every record that is missing and why."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from data_pipelines.dataset import calculations
from data_pipelines.dataset.splits import SPLITS
from data_pipelines.errors import DatasetError
from data_pipelines.files import file_sha256, write_atomic
from data_pipelines.places import Place
from data_pipelines.schema import (
    DESCRIPTORS,
    SHELLS,
    SITE_KINDS,
    SYMBOLS,
    WORDS,
    Descriptor,
    EnergyGrid,
    column_of,
    columned,
    site_kind,
)
from data_pipelines.shells import members
from data_pipelines.signals import named_apart

if TYPE_CHECKING:  # imports more than reading a card needs
    from data_pipelines.dataset.staging import Staged

FILE = "data_card.json"
TEXT_FILE = "data_card.txt"
FORMAT = 2
# What a set of spectrum images has in the place of a card.
IMAGES = "images.json"
ONLY_IMAGES = (
    "holds spectrum images, which `spt-jax train image` learns and `spt-jax image` answers; this is of spectra"
)
# Columns of records that it tells of.
ASKED = ("element", "material", "masked", "settings")
# Contradictions of one kind in the text.
NAMED = 5


def make(sources: Sequence[dict], staged: Staged, grid: EnergyGrid, fingerprint: str) -> dict:
    """The card as a JSON-ready dict, without the files. `sources`: name, sha256, part and more of each."""
    kept = staged.kept
    rows, labels, split = staged.table.select(ASKED).take(kept), staged.labels[kept], staged.split[kept]
    symbols = rows["element"].combine_chunks().dictionary_encode()
    elements, of = symbols.dictionary.to_pylist(), symbols.indices.to_numpy()
    kinds = np.array([site_kind(element) for element in elements])[of]
    lost = staged.table.take(np.flatnonzero(staged.split < 0))
    dropped = [
        {"id": id, "reason": reason, "detail": detail}
        for id, reason, detail in zip(*(lost[name].to_pylist() for name in ("id", "dropped", "detail")), strict=True)
    ]
    found = np.bincount(staged.source, minlength=len(sources))
    return {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "grid": grid.stated(),
        "sources": [
            {
                **source,
                "records": int(found[i]),
                "splits": {
                    name: int(((staged.source[kept] == i) & (split == k)).sum()) for k, name in enumerate(SPLITS)
                },
            }
            for i, source in enumerate(sources)
        ],
        **({"signals": _there(staged.spectra[kept], grid)} if grid.signals else {}),
        "records": {"found": len(staged.split), "kept": len(kept), "dropped": len(dropped)},
        "dropped_by_reason": dict(sorted(Counter(record["reason"] for record in dropped).items())),
        "dropped": dropped,
        "masked_by_reason": _masked(rows["masked"]),
        "contradictions": staged.contradictions,
        "calculations": calculations.of_records(rows),
        "elements": dict(sorted(zip(elements, np.bincount(of).tolist(), strict=True))),
        "splits": {
            name: {
                "examples": int((split == k).sum()),
                "materials": len(pc.unique(rows["material"].filter(split == k))),
            }
            for k, name in enumerate(SPLITS)
        },
        "duplicates": staged.counts,
        "descriptors": {
            d.name: {
                kind: _distribution(d.kind, labels[kinds == kind, column])
                for kind in SITE_KINDS
                if kind in d.sites and (kinds == kind).any()
            }
            for column, d in columned(labels)
            if d in DESCRIPTORS or _says(d, labels[:, column])
        },
        "shells": {
            d.name: {
                kind: _occurrence(labels[kinds == kind][:, column_of(d.name) :][:, :WORDS])
                for kind in SITE_KINDS
                if (kinds == kind).any()
            }
            for d in SHELLS
        },
    }


def _there(spectra: np.ndarray, grid: EnergyGrid) -> dict[str, int]:
    """How many rows have each signal; one that is named several times has a number."""
    there = np.isfinite(spectra.reshape(len(spectra), len(grid.signals), grid.points)[:, :, 0]).sum(axis=0).tolist()
    return dict(zip(named_apart(grid.signals), there, strict=True))


def _says(d: Descriptor, labels: np.ndarray) -> bool:
    """Of a structure: a metal that is in none needs no line."""
    return bool((np.nan_to_num(labels) != 0).any() if d.kind == "regression" else np.isfinite(labels).any())


def _masked(column) -> dict[str, dict[str, int]]:
    """descriptor -> reason -> how often, from the `masked` column, of whose texts few differ."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for entry in pc.value_counts(column).to_pylist():
        for name, reason in json.loads(entry["values"]).items():
            counts[name][reason] += entry["counts"]
    names = [d.name for d in (*DESCRIPTORS, *SHELLS)]
    names += [name for name in counts if name not in names]  # of structures, and signals that are missing
    return {name: dict(sorted(counts[name].items())) for name in names}


def _distribution(kind: str, values: np.ndarray) -> dict:
    values = values[np.isfinite(values)]
    if kind == "class":
        return {
            "labelled": len(values),
            "counts": {str(v): n for v, n in sorted(Counter(values.astype(int).tolist()).items())},
        }
    if not len(values):
        return {"labelled": 0}
    counts, edges = np.histogram(values, bins=20)
    return {
        "labelled": len(values),
        "mean": round(float(values.mean()), 6),
        "std": round(float(values.std()), 6),
        "histogram": {"edges": np.round(edges, 6).tolist(), "counts": counts.tolist()},
    }


def _occurrence(words: np.ndarray) -> dict:
    """How many of the sites have which element in a shell; most frequent first."""
    words = words[np.isfinite(words).all(axis=1)]
    counts = members(words).sum(axis=0)
    found = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    return {"labelled": len(words), "counts": {SYMBOLS[z]: int(counts[z]) for z in found}}


def checksums(dataset: Path, files: Sequence[Path]) -> dict[str, str]:
    """Path in the dataset -> SHA-256 of what is on the disk itself, not only in its cache."""
    sums = {}
    for path in files:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        sums[path.relative_to(dataset).as_posix()] = file_sha256(path)
    return sums


def write(dataset: Place, card: dict) -> None:
    """Write the text card, then the JSON card: with it the dataset is complete."""
    write_atomic(dataset / TEXT_FILE, as_text(card))
    write_atomic(dataset / FILE, json.dumps(card, indent=1, ensure_ascii=False) + "\n")


def read(dataset: Place) -> dict:
    """The card of a dataset folder; raises DatasetError where there is none of this format."""
    path = dataset / FILE
    if not path.exists() and (dataset / IMAGES).exists():
        raise DatasetError(f"{dataset}: {ONLY_IMAGES}")
    if not path.exists():
        raise DatasetError(
            f"{dataset}: no {FILE} here; make a dataset with `spt-jax prepare SOURCE... --out {dataset}`"
        )
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(f"{path}: damaged ({error})") from None
    if card.get("format") != FORMAT:
        raise DatasetError(
            f"{path}: data card of format {card.get('format')}, this version reads {FORMAT}; prepare it again, with --overwrite"
        )
    return card


def as_text(card: dict) -> str:
    """The card for reading: at most 80 columns."""
    counts, grid = card["records"], EnergyGrid(**card["grid"])
    energy = grid.relative()
    stop, common = energy[grid.points - 1], energy[grid.common - 1]
    lines = ["Data card", "=========", ""]
    lines += [f"source    {s['name']}  {s['records']} records  sha256 {s['sha256'][:16]}" for s in card["sources"]]
    lines += [
        f"grid      {grid.points} points, {grid.start:g} to {stop:g} eV above the reference energy, step {grid.step:g} eV",
        *([f"            all have those to {common:g} eV, and beyond it what they have"] if common < stop else []),
        *(_signals(grid, card.get("signals", {}), counts["kept"]) if grid.signals else []),
        f"records   {counts['found']} found = {counts['kept']} kept + {counts['dropped']} dropped",
    ]
    lines += [f"            dropped {n:6d}  {reason}" for reason, n in card["dropped_by_reason"].items()]
    lonely = sum(s["materials_without_spectra"] for s in card["sources"])
    if lonely:
        lines.append(f"            and {lonely} materials came without any spectrum")
    others = Counter[str]()
    for source in card["sources"]:
        others.update(source.get("passed_over", {}))
    if others:
        lines.append(f"            passed over {', '.join(f'{n} {ending}' for ending, n in sorted(others.items()))}")
    lines.append("elements  " + "  ".join(f"{element} {n}" for element, n in card["elements"].items()))
    lines += calculations.as_lines(card.get("calculations", []))
    lines += _contradictions(card.get("contradictions", []))
    for split, part in card["splits"].items():
        lines.append(f"split     {split:10s} {part['examples']:6d} examples  {part['materials']:6d} materials")
    d = card["duplicates"]
    lines.append(
        f"leakage   {d['near_duplicate_pairs']} near-duplicate pairs; {d['moved_to_their_family']} examples moved to their family's split"
    )
    for name, kinds in (card["descriptors"] | card.get("shells", {})).items():
        lines += [""] if kinds else []
        for kind, stats in kinds.items():
            lines.append(f"{name:6s} {kind:6s} {stats['labelled']:6d} labelled  {_spread(stats)}")
        for reason, n in card["masked_by_reason"].get(name, {}).items():
            lines.append(f"              {n:6d} masked    {reason}")
    return "\n".join(lines) + "\n"


def _signals(grid: EnergyGrid, there: dict[str, int], rows: int) -> Iterator[str]:
    heights = {
        "step": "unit edge steps",
        "area": "unit areas",
        "share": "edge steps as the elements' shares of the atoms",
    }
    yield f"rows      a {grid.each} each, with {len(grid.signals)} signals, of {heights[grid.heights]}"
    yield from (f"signal    {name:12s} {n:6d} of {rows}" for name, n in there.items())


def _contradictions(found: Sequence[dict]) -> Iterator[str]:
    """How many there are of each kind, and the first by name."""
    for what, count in Counter(each["what"] for each in found).items():
        yield f"sources contradict each other on {what} of {count} sites, withheld:"
        named = [f"{each['detail']}: {each['records']} records" for each in found if each["what"] == what][:NAMED]
        yield from (line for each in named for line in calculations.wrapped(" " * 10, each))
        if count > NAMED:
            yield f"          and {count - NAMED} more, in {FILE}"


def _spread(stats: dict) -> str:
    if "counts" in stats:
        total = max(stats["labelled"], 1)
        top = sorted(stats["counts"].items(), key=lambda item: -item[1])[:5]
        return "  ".join(f"{value}: {100 * n / total:.0f} %" for value, n in top)
    return f"mean {stats['mean']:.3f}, std {stats['std']:.3f}" if stats["labelled"] else ""
