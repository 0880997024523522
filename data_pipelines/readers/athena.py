"""Athena projects -> a spectrum for each of their records: gzipped Perl of Demeter and older, JSON of Larch.

Element, edge and energy shift are those of the project. The Perl is read as data and never run.
"""

from __future__ import annotations

import json
import re
import zlib
from typing import Any

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.readers.header import edge_of, element_of
from data_pipelines.readers.measured import Measured
from data_pipelines.readers.text import LARGEST_BYTES, decoded

_WORD = re.compile(r"\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"|(=>|[][(){},])|([-+\w.:]+))", re.DOTALL)
_ARRAY = re.compile(r"^@(args|x|y)\s*=\s*\(", re.MULTILINE)
# Record types that are mu over energy; all else is refused by its name.
_MU = re.compile(r".*(mu|xanes)\(e\)|xmu(\.?dat)?|xanes|norm|merge|")


def is_project(content: bytes) -> bool:
    head = _unpacked(content, 4000) if content[:2] == b"\x1f\x8b" else content[:4000]
    return b"Athena project file" in head


def records(content: bytes, name: str) -> list[tuple[str, Measured | SpectrumError]]:
    """(name, spectrum or why it is none) of each record. Raises SpectrumError for what is no project."""
    if content[:2] == b"\x1f\x8b":
        content = _unpacked(content, LARGEST_BYTES + 1)
    text = decoded(content, name)
    groups = _json_groups(text, name) if text.lstrip()[:1] == "{" else _perl_groups(text, name)
    if not groups:
        raise SpectrumError("empty", f"{name} is an Athena project without records")
    found: list[tuple[str, Measured | SpectrumError]] = []
    taken: set[str] = set()
    for number, (args, arrays) in enumerate(groups, start=1):
        label = own = str(args.get("label") or args.get("name") or args.get("group") or number).strip()
        copy = 1
        while label in taken:
            copy += 1
            label = f"{own} ({copy})"
        taken.add(label)
        try:
            found.append((label, _record(args, arrays, f"{name}#{label}")))
        except SpectrumError as error:
            found.append((label, error))
    records = dict(found)
    return [(label, _with_reference(record, records.get(f"Ref {label}"))) for label, record in found]


def _with_reference(record: Measured | SpectrumError, behind: Measured | SpectrumError | None) -> Any:
    """Athena keeps the reference channel of a scan as a record of its own, and calls it so."""
    if isinstance(record, SpectrumError) or not isinstance(behind, Measured):
        return record
    return record._replace(reference=(behind.energy, behind.mu))


def _unpacked(content: bytes, largest: int) -> bytes:
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(content, largest)
    except zlib.error as error:
        raise SpectrumError("unreadable", f"damaged gzip file ({error})") from None


def _record(args: dict[str, Any], arrays: dict[str, np.ndarray], name: str) -> Measured:
    kind = str(args.get("datatype") or args.get("recordtype") or "").strip().lower()
    stated = {key: _true(args.get(key)) for key in ("is_chi", "is_pixel", "is_qsp", "is_rsp", "not_data", "is_xmudat")}
    energy, mu = arrays.get("x", np.empty(0)), arrays.get("y", np.empty(0))
    if stated["is_chi"] or "chi" in kind:
        raise SpectrumError("chi(k)", f"{name} holds the oscillations over k, not mu over energy")
    pixels = len(energy) > 20 and np.array_equal(energy, np.arange(len(energy)) + energy[0]) and energy[0] < 2
    if stated["is_pixel"] or pixels:
        raise SpectrumError("not energies", f"{name} is a dispersive record over pixels, not over energies")
    if stated["is_qsp"] or stated["is_rsp"] or stated["not_data"] or not _MU.fullmatch(kind):
        what = kind or "a detector, or what was computed"
        raise SpectrumError("not mu(E)", f"{name} is no mu over energy but {what}")
    if len(energy) != len(mu) or not len(mu):
        raise SpectrumError("unreadable", f"{name}: {len(energy)} energies and {len(mu)} values of mu")
    shift = _number(args.get("bkg_eshift"))
    # Athena calls hydrogen what it knows no element of.
    element = element_of(str(args.get("bkg_z") or ""))
    element = None if element == "H" else element
    notes = (f"energies moved by {shift:+g} eV, as the project says",) if shift else ()
    channel = "transmission" if "ln(" in str(args.get("xmu_string") or "") else ""
    if re.match(r"\s*ref\b", str(args.get("label") or ""), re.IGNORECASE):
        channel = "reference"
        notes += ("the reference channel: its foil, not the sample",)
    return Measured(energy + shift, mu, element, edge_of(str(args.get("fft_edge") or "")), channel, shift, "", notes)


def _true(value: Any) -> bool:
    return str(value or "0").strip().lower() not in ("0", "", "false", "none", "0.0")


def _number(value: Any) -> float:
    try:
        found = float(value or 0)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return found if np.isfinite(found) else 0.0


def _array(values: Any, name: str) -> np.ndarray:
    try:
        return np.array([np.nan if value is None else float(value) for value in values], float)
    except (TypeError, ValueError, OverflowError):
        raise SpectrumError("unreadable", f"{name}: a record holds what is no number") from None


def _json_groups(text: str, name: str) -> list[tuple[dict, dict[str, np.ndarray]]]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise SpectrumError("unreadable", f"{name} is a damaged Athena project") from None
    groups = []
    for key, group in document.items():
        if isinstance(group, dict) and "x" in group and "y" in group:
            args = group.get("args") or {}
            if isinstance(args, list):
                args = dict(zip(args[::2], args[1::2], strict=False))
            groups.append(({"group": key, **args}, {each: _array(group[each], name) for each in ("x", "y")}))
    return groups


def _perl_groups(text: str, name: str) -> list[tuple[dict, dict[str, np.ndarray]]]:
    groups = []
    pieces = re.split(r"^\$old_group\s*=\s*'([^']*)';", text, flags=re.MULTILINE)
    for group, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        piece = re.split(r"^\[record\]", piece, maxsplit=1, flags=re.MULTILINE)[0]
        found: dict[str, list] = {}
        for start in _ARRAY.finditer(piece):
            if start[1] == "args":
                found["args"] = _perl_list(piece, start.end(), name)
            else:
                numbers = piece[start.end() :].partition(")")[0]
                found[start[1]] = [number.strip(" '\n") for number in numbers.split(",")] if numbers.strip() else []
        args = found.get("args", [])
        keys = {str(key): value for key, value in zip(args[::2], args[1::2], strict=False)}
        groups.append(({"group": group, **keys}, {each: _array(found.get(each, []), name) for each in ("x", "y")}))
    return groups


def _perl_list(text: str, at: int, name: str) -> list:
    """The items of a Perl list whose bracket opened before `at`; lists, hashes and objects in it become None."""
    items: list = []
    depth = 0
    while True:
        if not (word := _WORD.match(text, at)):
            raise SpectrumError("unreadable", f"{name} is a damaged Athena project, at {text[at : at + 20]!r}")
        at = word.end()
        single, double, sign, bare = word.groups()
        if sign in ("(", "[", "{"):
            if not depth:
                items.append(None)
            depth += 1
        elif sign in (")", "]", "}"):
            if not depth:
                return items
            depth -= 1
        elif not depth and not sign and bare != "bless":
            value = single if single is not None else double if double is not None else bare
            items.append(None if bare == "undef" else re.sub(r"\\(.)", r"\1", value))
