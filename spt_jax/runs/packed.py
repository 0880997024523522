"""Models of one training set as one file of weights that can be shipped: safetensors, never pickle.

In the file's header stands, as JSON, what a checkpoint says of each member, how the mean of all is decided, and a card:
what people must know of the model. A checksum over both and over all numbers stands beside them, so a changed byte anywhere is found when it is read.
Parameters lie there in half precision, what is not trained (the noise filter, the input map) in full.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from data_pipelines.errors import CheckpointError, line_of
from data_pipelines.files import write_atomic
from spt_jax.runs.blueprint import Blueprint, Network, path_name
from spt_jax.runs.formats import PACKED, packed_of_today
from spt_jax.scoring.decisions import Decisions
from spt_jax.scoring.domain import Domain

if TYPE_CHECKING:  # who reads a card alone, or predicts by an exported file, need not wait for it
    from flax import nnx

DOCUMENT, CHECKSUM, DOMAIN = "spt_jax", "sha256", "domain/"
DAMAGED = "damaged or altered; get it again"


@dataclass(frozen=True)
class PackedMember:
    """One network: its blueprint, and its numbers as `nnx.split` parts them."""

    blueprint: Blueprint
    params: Any
    constants: Any

    @classmethod
    def of(cls, blueprint: Blueprint, network: nnx.Module) -> PackedMember:
        """Of a model as it was loaded from a run."""
        from flax import nnx

        _, params, constants = nnx.split(network, nnx.Param, ...)
        return cls(blueprint, params, constants)

    def network(self) -> Network:
        """To be called with spectra."""
        from flax import nnx

        return nnx.merge(self.blueprint.abstract()[0], self.params, self.constants)


@dataclass(frozen=True)
class Packed:
    """What such a file holds. decisions: of the members' mean; None leaves each to its own. domain: what the members learnt
    from; None where that was not fitted."""

    members: tuple[PackedMember, ...]
    decisions: Decisions | None
    card: dict
    domain: Domain | None = None


def pack(packed: Packed, path: Path) -> None:
    """Write the file `path`, whole or not at all.

    Raises CheckpointError where a parameter has no half-precision number near it.
    """
    arrays = {}
    for number, member in enumerate(packed.members):
        for kind, tree, dtype in (("params", member.params, np.float16), ("constants", member.constants, np.float32)):
            for name, leaf in _named(tree).items():
                with np.errstate(over="ignore"):
                    arrays[f"{number}/{kind}/{name}"] = stored = np.asarray(leaf).astype(dtype)
                if not np.isfinite(stored).all():
                    raise CheckpointError(f"parameter {name} of member {number} does not fit into half precision")
    document = {
        "format": PACKED,
        "members": [member.blueprint.to_json() for member in packed.members],
        "decisions": packed.decisions and packed.decisions.to_json(),
        "domain": None,
        "card": packed.card,
    }
    if packed.domain:
        document["domain"], own = packed.domain.parts()
        arrays |= {DOMAIN + name: array for name, array in own.items()}
    document = json.dumps(document)
    write_atomic(path, save(arrays, {DOCUMENT: document, CHECKSUM: _checksum(document, arrays)}))


def read_card(path: Path) -> dict:
    """The card alone, without the weights."""
    return _document(path)[0]["card"]


def unscored(card: dict, absorber: str) -> str:
    """A sentence where there were too few test spectra for anyone to know how good answers for "Cu K" are; else ""."""
    if absorber in card.get("scores", {}):
        return ""
    trained = card.get("training_spectra", {}).get(absorber, 0)
    return f"{card.get('name')} learnt {absorber} from {trained} spectra; how good it is there was not measured"


def read_packed(path: Path) -> Packed:
    """Raises CheckpointError where `path` is not such a file, is damaged or of another version."""
    document, text, checksum = _document(path)
    try:
        arrays = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: {DAMAGED} ({_line(error)})") from None
    if _checksum(text, arrays) != checksum:
        raise CheckpointError(f"{path}: {DAMAGED} (its numbers are not those that its checksum is of)")
    members = []
    try:
        for number, each in enumerate(document["members"]):
            blueprint = Blueprint.from_json(each)
            _, params, constants = blueprint.abstract()
            filled = (
                _filled(tree, arrays, f"{number}/{kind}/")
                for kind, tree in (("params", params), ("constants", constants))
            )
            members.append(PackedMember(blueprint, *filled))
        decisions = document["decisions"] and Decisions.from_json(document["decisions"])
        own = {name.removeprefix(DOMAIN): array for name, array in arrays.items() if name.startswith(DOMAIN)}
        domain = document["domain"] and Domain.of_parts(document["domain"], own)
    except Exception as error:  # whatever it runs into that reads what nobody meant
        raise CheckpointError(f"{path}: a model of another version of spt-jax ({line_of(error)})") from None
    return Packed(tuple(members), decisions, document["card"], domain)


def _document(path: Path) -> tuple[dict, str, str]:
    """What the header says, as it is meant today and as it stands there, and the checksum."""
    try:
        with safe_open(path, "numpy") as file:
            said = file.metadata() or {}
        text, checksum = said[DOCUMENT], said[CHECKSUM]
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ValueError("no document")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a packed model, or {DAMAGED} ({_line(error)})") from None
    try:
        document = packed_of_today(document)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: packed model of {error}") from None
    card = document.get("card")
    if not isinstance(card, dict) or not all(
        isinstance(card.get(name, {}), dict) for name in ("scores", "training_spectra")
    ):
        raise CheckpointError(f"{path}: a packed model without a card")
    return document, text, checksum


def _checksum(document: str, arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(document.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _named(tree: Any) -> dict[str, Any]:
    return {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _filled(like: Any, arrays: Mapping[str, np.ndarray], prefix: str) -> Any:
    """The tree of shapes with the numbers in it. Raises ValueError where one is missing or of another shape."""
    leaves, structure = jax.tree.flatten_with_path(like)
    found = []
    for path, leaf in leaves:
        name = prefix + path_name(path)
        if name not in arrays or arrays[name].shape != leaf.shape:
            raise ValueError(f"{name}: missing, or of another shape")
        found.append(jax.numpy.asarray(arrays[name], leaf.dtype))
    return jax.tree.unflatten(structure, found)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
