"""What older checkpoints and exported files say, in the words of today: a model that was saved once is read for ever.

Each step takes the document of one format to the next; it writes out every field that its format did not have, with
the value that the model was made with. A format that is left behind keeps a small example in tests/runs/formats.
"""

from __future__ import annotations

from collections.abc import Callable

CHECKPOINT, EXPORT, PACKED = 5, 4, 2


def _third(document: dict) -> dict:
    """Format 3 kept how a network is computed among what it is, and knew no decisions."""
    model = dict(document["model"])
    given = {name: model.pop(name) for name in ("dtype", "remat", "folding") if name in model}
    execution = {"accumulate": 1, "remat": False, "share_parameters": False, "dtype": "float32", "folding": "auto"}
    written = {"learnt": (), "decisions": None, **document}
    return {**written, "model": model, "execution": {**execution, **given}, "format": 4}


def _fourth(document: dict) -> dict:
    """Format 4 told apart how a convolution on a known period was computed; there is one name for it now.

    Its scores of the validation split held macro-F1 of classes. What stands there today is not known of such a model.
    """
    execution = dict(document["execution"])
    if execution["folding"] in ("direct", "separable"):
        execution["folding"] = "spectral"
    return {**document, "execution": execution, "validation": {}, "format": 5}


_CHECKPOINTS: dict[int, Callable[[dict], dict]] = {3: _third, 4: _fourth}
_EXPORTS: dict[int, Callable[[dict], dict]] = {
    1: lambda document: {**_third(document), "format": 2},
    2: lambda document: {**_fourth(document), "format": 3},
    3: lambda document: {"domain": None, **document, "format": 4},
}
_PACKED: dict[int, Callable[[dict], dict]] = {1: lambda document: {"domain": None, **document, "format": 2}}


def execution_of_today(execution: dict) -> dict:
    """How a run is executed, in the words of today: parameters were shared out among all devices, or none."""
    rest = {name: value for name, value in execution.items() if name != "share_parameters"}
    return {"fsdp": 0 if execution["share_parameters"] else 1, **rest} if "share_parameters" in execution else rest


def checkpoint_of_today(document: dict) -> dict:
    """Raises ValueError for a format that is not known."""
    return _migrated(document, _CHECKPOINTS, CHECKPOINT)


def export_of_today(document: dict) -> dict:
    """The same of the document in an exported file."""
    return _migrated(document, _EXPORTS, EXPORT)


def packed_of_today(document: dict) -> dict:
    """The same of the document in a packed model."""
    return _migrated(document, _PACKED, PACKED)


def _migrated(document: dict, steps: dict[int, Callable[[dict], dict]], today: int) -> dict:
    while (found := document.get("format")) != today:
        if found not in steps:
            known = ", ".join(map(str, [*steps, today]))
            raise ValueError(f"format {found}, this version of spt-jax reads {known}")
        document = steps[found](document)
    return document
