"""The data card: what a dataset holds, where it came from, and every record that is missing and why."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_pipelines import blocks
from data_pipelines.errors import DatasetError
from data_pipelines.files import file_sha256, write_atomic
from data_pipelines.schema import (
    DESCRIPTORS,
    SITE_KINDS,
    EnergyGrid,
    Example,
    site_kind,
)
from data_pipelines.splits import SPLITS

if TYPE_CHECKING:  # both load pymatgen, which reading a card does not need
    from data_pipelines.records import Record
    from data_pipelines.sources import Source

FILE = "data_card.json"
TEXT_FILE = "data_card.txt"
FORMAT = 1


def make(
    sources: Sequence[Source],
    records: Sequence[Record],
    examples: Sequence[Example],
    assigned: Sequence[str],
    split_counts: dict[str, int],
    grid: EnergyGrid,
    fingerprint: str,
) -> dict:
    """The card as a JSON-ready dict."""
    labels = np.stack([example.labels for example in examples])
    kinds = np.array([site_kind(example.element) for example in examples])
    masked: dict[str, Counter] = defaultdict(Counter)
    dropped = [record for record in records if record.dropped]
    for record in records:
        for name, reason in () if record.dropped else record.masked.items():
            masked[name][reason] += 1
    return {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "grid": asdict(grid),
        "sources": [
            {
                "name": source.name,
                "sha256": source.sha256,
                "records": sum(len(task.members) for task in source.tasks),
                "materials_without_spectra": len(source.without_spectra),
            }
            for source in sources
        ],
        "records": {"found": len(records), "kept": len(examples), "dropped": len(dropped)},
        "dropped_by_reason": dict(sorted(Counter(record.dropped for record in dropped).items())),
        "dropped": [{"id": r.id, "reason": r.dropped, "detail": r.detail} for r in dropped],
        "masked_by_reason": {d.name: dict(sorted(masked[d.name].items())) for d in DESCRIPTORS},
        "elements": dict(sorted(Counter(example.element for example in examples).items())),
        "splits": {
            split: {
                "examples": sum(s == split for s in assigned),
                "materials": len({e.material for e, s in zip(examples, assigned, strict=True) if s == split}),
            }
            for split in SPLITS
        },
        "duplicates": split_counts,
        "descriptors": {
            d.name: {
                kind: _distribution(d.kind, labels[kinds == kind, column])
                for kind in SITE_KINDS
                if kind in d.sites and (kinds == kind).any()
            }
            for column, d in enumerate(DESCRIPTORS)
        },
    }


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


def write(out: Path, card: dict) -> None:
    """Write the text card, then the JSON card: its presence says that the dataset is complete."""
    shards = sorted(p for folder in ("spt_xas", blocks.FOLDER) for p in (out / folder).rglob("*") if p.is_file())
    card["files"] = {str(p.relative_to(out)): file_sha256(p) for p in shards}
    write_atomic(out / TEXT_FILE, as_text(card))
    write_atomic(out / FILE, json.dumps(card, indent=1, ensure_ascii=False) + "\n")


def has_blocks(card: dict) -> bool:
    """False for a dataset made before there were blocks to stream from."""
    return any(name.startswith(f"{blocks.FOLDER}/") for name in card["files"])


def read(dataset: Path) -> dict:
    """The card of a dataset folder; raises DatasetError where there is none of this format."""
    path = dataset / FILE
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
            f"{path}: data card of format {card.get('format')}, this version reads {FORMAT}; prepare it again"
        )
    return card


def as_text(card: dict) -> str:
    """The card for reading: at most 80 columns."""
    counts, grid = card["records"], card["grid"]
    stop = grid["start"] + grid["step"] * (grid["points"] - 1)
    lines = ["Data card", "=========", ""]
    lines += [f"source    {s['name']}  {s['records']} records  sha256 {s['sha256'][:16]}" for s in card["sources"]]
    lines += [
        f"grid      {grid['points']} points, {grid['start']:g} to {stop:g} eV above the reference energy, step {grid['step']:g} eV",
        f"records   {counts['found']} found = {counts['kept']} kept + {counts['dropped']} dropped",
    ]
    lines += [f"            dropped {n:6d}  {reason}" for reason, n in card["dropped_by_reason"].items()]
    lonely = sum(s["materials_without_spectra"] for s in card["sources"])
    if lonely:
        lines.append(f"            and {lonely} materials came without any spectrum")
    lines.append("elements  " + "  ".join(f"{element} {n}" for element, n in card["elements"].items()))
    for split, part in card["splits"].items():
        lines.append(f"split     {split:10s} {part['examples']:6d} examples  {part['materials']:6d} materials")
    d = card["duplicates"]
    lines.append(
        f"leakage   {d['near_duplicate_pairs']} near-duplicate pairs; {d['moved_to_their_family']} examples moved to their family's split"
    )
    for name, kinds in card["descriptors"].items():
        lines += [""] if kinds else []
        for kind, stats in kinds.items():
            lines.append(f"{name:6s} {kind:6s} {stats['labelled']:6d} labelled  {_spread(stats)}")
        for reason, n in card["masked_by_reason"][name].items():
            lines.append(f"              {n:6d} masked    {reason}")
    return "\n".join(lines) + "\n"


def _spread(stats: dict) -> str:
    if "counts" in stats:
        total = max(stats["labelled"], 1)
        top = sorted(stats["counts"].items(), key=lambda item: -item[1])[:5]
        return "  ".join(f"{value}: {100 * n / total:.0f} %" for value, n in top)
    return f"mean {stats['mean']:.3f}, std {stats['std']:.3f}" if stats["labelled"] else ""
